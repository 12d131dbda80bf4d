//! Any other URL for which GStreamer has a source element (`ftp`, `mms`, `rist`, `dvb`...).

use gstreamer as gst;

use crate::{
    error::IngestError,
    registry::{self, EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "generic",
    schemes: &[],
    example: "rtp://239.0.0.1:5004",
    elements: &[],
    end: EndMeans::EndedIfFinite,
    pace: Pace::BySource,
    healing: Healing::Retry,
    tcp_port: None,
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    gst::Element::make_from_uri(gst::URIType::Src, opening.url.expose(), None).map_err(|e| match e.kind() {
        Some(gst::URIError::UnsupportedProtocol) => IngestError::UnknownScheme {
            stream: opening.stream.clone(),
            url: opening.url.to_string(),
            known: registry::known_schemes(),
        },
        _ => opening.bad_url(opening.url.scrub(e.message())),
    })
}
