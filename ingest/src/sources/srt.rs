//! SRT: calls a listener, or listens itself with `?mode=listener`; encrypted with `passphrase=`.

use gstreamer::{self as gst, prelude::*};

use super::make;
use crate::{
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "srt",
    schemes: &["srt"],
    example: "srt://media.lan:9000?mode=caller&latency=120",
    elements: &["srtsrc"],
    end: EndMeans::Lost,
    pace: Pace::BySource,
    healing: Healing::Retry,
    tcp_port: None,
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let url = opening.parsed()?;
    if url.port().is_none() {
        return Err(opening.bad_url("an SRT source has a port: srt://media.lan:9000"));
    }
    for (name, value) in url.query_pairs() {
        if name == "mode" && !["caller", "listener", "rendezvous"].contains(&value.as_ref()) {
            return Err(opening.bad_url(format!("mode `{value}` is none of caller, listener, rendezvous")));
        }
        if name == "passphrase" && !(10..=79).contains(&value.len()) {
            return Err(opening.bad_url("an SRT passphrase has 10 to 79 characters"));
        }
    }
    let source = make("srtsrc")?;
    source.set_property("uri", url.as_str());
    // Outages are ours to see and to heal.
    for property in ["auto-reconnect", "keep-listening"] {
        if source.find_property(property).is_some() {
            source.set_property(property, false);
        }
    }
    Ok(source)
}
