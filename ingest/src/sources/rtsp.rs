//! RTSP cameras: TCP or UDP, Basic and Digest, TLS. Only the tracks that are wanted are set up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base::media::{MediaDescription, SourceDescription};
use gstreamer::{self as gst, prelude::*};
use parking_lot::Mutex;

use super::{make, take_credentials};
use crate::{
    codecs,
    config::{RtspTransport, TlsVerify},
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "rtsp",
    schemes: &["rtsp", "rtsps"],
    example: "rtsp://user:password@camera.lan:554/stream1",
    elements: &["rtspsrc"],
    // A server that is killed closes its TCP connection, which looks like an orderly end.
    end: EndMeans::Lost,
    pace: Pace::BySource,
    healing: Healing::Retry,
    tcp_port: Some(554),
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let mut url = opening.parsed()?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(opening.bad_url("no host: write rtsp://camera.lan:554/path"));
    }
    let source = make("rtspsrc")?;
    // User and password go into properties of their own, so that the address in GStreamer's messages has none.
    if let Some((user, password)) = take_credentials(&mut url) {
        source.set_property("user-id", user);
        source.set_property("user-pw", password);
    }
    source.set_property("location", url.as_str());
    let transport = match opening.config.transport {
        RtspTransport::Tcp => "tcp",
        RtspTransport::Udp => "udp-mcast+udp",
        // Odd tries TCP, even ones UDP.
        RtspTransport::Auto if opening.attempt % 2 == 1 => "tcp",
        RtspTransport::Auto => "udp-mcast+udp",
    };
    source.set_property_from_str("protocols", transport);
    source.set_property("latency", opening.config.latency_ms);
    source.set_property("tcp-timeout", micros(opening.config.connect_timeout()));
    source.set_property("timeout", micros(opening.config.connect_timeout()));
    source.set_property("add-reference-timestamp-meta", true);
    if opening.config.tls_verify == TlsVerify::AcceptAny {
        source.set_property_from_str("tls-validation-flags", "");
    }
    let chosen = Chosen { video: AtomicBool::new(!opening.video), audio: AtomicBool::new(!opening.audio) };
    let promised = Arc::clone(opening.promised);
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
        let wanted = caps.is_some_and(|caps| select(&caps, &chosen, &promised));
        Some(wanted.to_value())
    });
    Ok(source)
}

/// Kinds of media that need no (further) track: already chosen, or never wanted.
struct Chosen {
    video: AtomicBool,
    audio: AtomicBool,
}

/// Takes the first wanted track of each kind; ONVIF metadata and second tracks are not even set up.
fn select(caps: &gst::CapsRef, chosen: &Chosen, promised: &Mutex<SourceDescription>) -> bool {
    let Some(rtp) = caps.structure(0) else { return false };
    let codec = codecs::name_of_rtp(rtp.get::<&str>("encoding-name").unwrap_or_default());
    let description = Some(MediaDescription { codec, size: None });
    match rtp.get::<&str>("media") {
        Ok("video") if !chosen.video.swap(true, Relaxed) => promised.lock().video = description,
        Ok("audio") if !chosen.audio.swap(true, Relaxed) => promised.lock().audio = description,
        _ => return false,
    }
    true
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
