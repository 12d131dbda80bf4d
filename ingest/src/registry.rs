//! The list of source kinds: a new source is one new file under `sources/` and one line in here. Plain data and lookups.

use std::{path::Path, sync::Arc};

use base::{
    media::{SourceDescription, StreamName},
    redact::{BadUrl, SourceUrl},
};
use gstreamer as gst;
use parking_lot::Mutex;
use url::Url;

use crate::{
    config::SourceConfig,
    error::IngestError,
    sources::{file, generic, http, rtmp, rtsp, srt, test, udp, v4l2},
};

/// The registry. The first kind with the URL's scheme takes it; `generic` takes whatever GStreamer knows besides.
const KINDS: &[SourceKind] =
    &[rtsp::KIND, file::KIND, http::KIND, rtmp::KIND, srt::KIND, udp::KIND, test::KIND, v4l2::KIND];

/// What the end of a source's stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndMeans {
    /// The recording is over.
    Ended,
    /// The connection was lost: a camera has no end.
    Lost,
    /// The recording is over if the source knew how long it is; else the connection was lost.
    EndedIfFinite,
}

/// Who keeps live media at its own speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The source gives media as it happens.
    BySource,
    /// The source gives media as fast as we take it: we hold it back.
    ByUs,
}

/// Whether the causes of failure can go away by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Healing {
    /// Cameras and servers come back.
    Retry,
    /// A broken file stays broken.
    Never,
}

/// What a kind gets to open a source.
pub(crate) struct Opening<'a> {
    pub stream: &'a StreamName,
    pub url: &'a SourceUrl,
    pub config: &'a SourceConfig,
    /// Try since the last session that gave media, from 1.
    pub attempt: u32,
    pub video: bool,
    pub audio: bool,
    /// Where the kind notes what the source promises to send, if it can tell before it comes.
    pub promised: &'a Arc<Mutex<SourceDescription>>,
}

impl Opening<'_> {
    pub(crate) fn bad_url(&self, cause: impl Into<String>) -> IngestError {
        IngestError::BadUrl { stream: self.stream.clone(), url: self.url.to_string(), cause: cause.into() }
    }

    /// The parsed URL, secrets included.
    pub(crate) fn parsed(&self) -> Result<Url, IngestError> {
        // A `SourceUrl` has been parsed once already.
        Url::parse(self.url.expose()).map_err(|e| self.bad_url(e.to_string()))
    }
}

/// One kind of source: how its URLs look and how it is opened.
#[derive(Clone, Copy)]
pub(crate) struct SourceKind {
    pub name: &'static str,
    pub schemes: &'static [&'static str],
    pub example: &'static str,
    /// GStreamer elements without which it does not work.
    pub elements: &'static [&'static str],
    pub end: EndMeans,
    pub pace: Pace,
    pub healing: Healing,
    /// The TCP port where the URL has none, for kinds that connect over TCP: where GStreamer only says that a connection
    /// failed, this tells why.
    pub tcp_port: Option<u16>,
    /// Checks the URL and makes the element (state NULL) whose source pads, there now or added later, carry the media:
    /// raw, RTP, or a byte stream still to be parsed.
    pub open: fn(&Opening<'_>) -> Result<gst::Element, IngestError>,
}

impl SourceKind {
    /// A recording on disk, which is whole and stays so.
    pub(crate) fn is_file(&self) -> bool {
        self.name == file::KIND.name
    }

    /// It may be a recording, with a time of its own that is the same for everybody who plays it.
    pub(crate) fn may_be_resumed(&self) -> bool {
        self.is_file() || self.name == http::KIND.name
    }
}

/// One kind of source, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceKindInfo {
    /// Its name.
    pub name: &'static str,
    /// URL schemes it takes.
    pub schemes: &'static [&'static str],
    /// A URL to copy.
    pub example: &'static str,
    /// GStreamer elements without which it does not work.
    pub elements: &'static [&'static str],
}

/// All kinds, in the order in which they are looked through.
pub fn source_kinds() -> Vec<SourceKindInfo> {
    let info =
        |k: &SourceKind| SourceKindInfo { name: k.name, schemes: k.schemes, example: k.example, elements: k.elements };
    KINDS.iter().chain([&generic::KIND]).map(info).collect()
}

/// The kind that takes a URL.
pub(crate) fn kind_of(url: &SourceUrl) -> &'static SourceKind {
    KINDS.iter().find(|k| k.schemes.contains(&url.scheme())).unwrap_or(&generic::KIND)
}

/// All schemes of the registry, for messages.
pub(crate) fn known_schemes() -> String {
    KINDS.iter().flat_map(|k| k.schemes).copied().collect::<Vec<_>>().join(", ")
}

/// The URL of a source as people write it: a URL, the path of a file, or the path of a camera device (`/dev/video0`).
/// Whether there is such a file is told when it is opened.
pub fn source_url(text: &str) -> Result<SourceUrl, BadUrl> {
    if text.contains("://") {
        return SourceUrl::parse(text);
    }
    if text.starts_with("/dev/video") {
        return SourceUrl::parse(&format!("v4l2://{text}"));
    }
    let absolute = std::path::absolute(Path::new(text)).ok().and_then(|path| Url::from_file_path(path).ok());
    match absolute {
        Some(url) => SourceUrl::parse(url.as_str()),
        None => SourceUrl::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_opens_as_its_kind() {
        crate::init().expect("gstreamer");
        for info in source_kinds() {
            let url = SourceUrl::parse(info.example).expect(info.example);
            let kind = kind_of(&url);
            assert_eq!(kind.name, info.name, "{}", info.example);
            let opening = Opening {
                stream: &StreamName::new("s").expect("name"),
                url: &url,
                config: &SourceConfig::default(),
                attempt: 1,
                video: true,
                audio: true,
                promised: &Arc::default(),
            };
            (kind.open)(&opening).expect(info.example);
        }
    }

    #[test]
    fn paths_become_urls() {
        let check = |text: &str, expected: &str| assert_eq!(source_url(text).expect(text).to_string(), expected);
        check("/srv/a clip.mp4", "file:///srv/a%20clip.mp4");
        check("rtsp://h/1", "rtsp://h/1");
        check("/dev/video0", "v4l2:///dev/video0");
        assert!(source_url("clip.mp4").expect("relative").to_string().ends_with("/clip.mp4"));
    }
}
