//! MPEG-TS over UDP, unicast or multicast: `udp://239.0.0.1:5004` joins the group, `udp://0.0.0.0:5004` takes what comes.

use gstreamer::{self as gst, prelude::*};

use super::make;
use crate::{
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "udp",
    schemes: &["udp"],
    example: "udp://239.0.0.1:5004",
    elements: &["udpsrc", "tsdemux"],
    end: EndMeans::Lost,
    pace: Pace::BySource,
    healing: Healing::Retry,
    tcp_port: None,
    open,
};

/// Bytes of the socket's receive buffer: 0.8 s of 20 Mbit/s.
const RECEIVE_BUFFER: i32 = 2 * 1024 * 1024;

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let url = opening.parsed()?;
    let (Some(host), Some(port)) = (url.host_str(), url.port()) else {
        return Err(opening.bad_url("a UDP source has an address and a port: udp://239.0.0.1:5004"));
    };
    // VLC's way of writing it, `udp://@239.0.0.1:5004`, is an empty user here and means the same.
    let source = make("udpsrc")?;
    source.set_property("address", host.trim_matches(['[', ']']));
    source.set_property("port", i32::from(port));
    source.set_property("buffer-size", RECEIVE_BUFFER);
    let caps = gst::Caps::builder("video/mpegts").field("systemstream", true).field("packetsize", 188).build();
    source.set_property("caps", caps);
    Ok(source)
}
