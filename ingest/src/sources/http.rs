//! HTTP and HTTPS: progressive files, endless streams, and HLS (found by its playlist's content, not by its name).

use gstreamer::{self as gst, prelude::*};

use super::{make, take_credentials};
use crate::{
    config::TlsVerify,
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "http",
    schemes: &["http", "https"],
    example: "https://media.lan/live/index.m3u8",
    elements: &["souphttpsrc", "hlsdemux"],
    end: EndMeans::EndedIfFinite,
    pace: Pace::ByUs,
    healing: Healing::Retry,
    tcp_port: Some(80),
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let mut url = opening.parsed()?;
    let source = make("souphttpsrc")?;
    if let Some((user, password)) = take_credentials(&mut url) {
        source.set_property("user-id", user);
        source.set_property("user-pw", password);
    }
    source.set_property("location", url.as_str());
    let timeout = opening.config.connect_timeout().max(opening.config.stall_timeout());
    source.set_property("timeout", u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).clamp(1, 3600));
    source.set_property("ssl-strict", opening.config.tls_verify == TlsVerify::Strict);
    source.set_property("user-agent", concat!("eyewitness/", env!("CARGO_PKG_VERSION"), " "));
    Ok(source)
}
