//! RTMP: pulls from a server (`rtmp`, `rtmps`).

use gstreamer::{self as gst, prelude::*};

use super::make;
use crate::{
    config::TlsVerify,
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "rtmp",
    schemes: &["rtmp", "rtmps"],
    example: "rtmp://media.lan/live/camera1",
    elements: &["rtmp2src"],
    end: EndMeans::Lost,
    pace: Pace::BySource,
    healing: Healing::Retry,
    tcp_port: Some(1935),
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let url = opening.parsed()?;
    let n_parts = url.path_segments().map_or(0, |s| s.filter(|p| !p.is_empty()).count());
    if url.host_str().is_none_or(str::is_empty) || n_parts < 2 {
        return Err(
            opening.bad_url("an RTMP source has a host, an application and a stream: rtmp://media.lan/live/camera1")
        );
    }
    let source = make("rtmp2src")?;
    source.set_property("location", url.as_str());
    let timeout = opening.config.connect_timeout().as_secs().clamp(1, 3600);
    source.set_property("timeout", timeout as u32);
    if opening.config.tls_verify == TlsVerify::AcceptAny {
        source.set_property_from_str("tls-validation-flags", "");
    }
    Ok(source)
}
