//! All streams' windows behind one lock, and what the house tells them. Called on ingest's, the captioner's and the HTTP
//! service's threads; nothing waits in here.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use base::{
    event::{Body, Event, StreamState},
    media::{MediaSegment, SessionId, SourceDescription, StreamName},
    time::{Clock, Pts},
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    HlsConfig,
    playlist::{self, Rendition},
    tap::{NoTap, Tap},
    window::{Captioned, Window},
};

/// Whether a stream is captioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Captions {
    /// Nobody listens: no subtitles, and no waiting for them.
    None,
    /// Somebody transcribes: segments wait for [`HlsStore::settled`].
    Expected {
        /// ISO 639-1, where it is known beforehand; else the captions tell.
        language: Option<String>,
    },
}

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// No such stream.
    Stream,
    /// The stream cannot be carried, for this reason.
    Unfit(String),
    /// No segment is there yet.
    NotYet,
    /// It has been, or there never will be.
    Gone,
}

/// What one stream takes of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Segments kept.
    pub n_segments: usize,
    /// Segments among them that wait for their captions.
    pub n_waiting: usize,
    /// Bytes of media.
    pub n_bytes: usize,
    /// Cues kept.
    pub n_cues: usize,
}

/// The streams that can be watched. Keeps at most [`HlsConfig::stream_bytes`] of media and 1000 cues a stream.
pub struct HlsStore {
    config: HlsConfig,
    clock: Arc<dyn Clock>,
    streams: Mutex<BTreeMap<String, Window>>,
}

impl HlsStore {
    /// An empty one.
    pub fn new(config: HlsConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { config, clock, streams: Mutex::default() })
    }

    /// A stream is attached; what is known of one of this name is forgotten.
    pub fn attach(&self, stream: &StreamName, captions: Captions) {
        let captioned = match captions {
            Captions::None => None,
            Captions::Expected { language } => Some(Captioned::new(language)),
        };
        self.streams.lock().insert(stream.to_string(), Window::new(captioned));
    }

    /// A stream is detached: nothing of it is kept.
    pub fn detach(&self, stream: &StreamName) {
        self.streams.lock().remove(stream.as_str());
    }

    /// A segment of a stream; of streams that are not attached it is let go of.
    pub fn segment(&self, stream: &StreamName, segment: MediaSegment) {
        let now = self.clock.monotonic();
        if let Some(window) = self.streams.lock().get_mut(stream.as_str()) {
            window.push(segment, now, &self.config);
        }
    }

    /// Anything that happens: captions and the stream's state count, all else does not.
    pub fn event(&self, event: &Event) {
        let mut streams = self.streams.lock();
        let Some(window) = streams.get_mut(event.stream.name.as_str()) else { return };
        match &event.body {
            Body::Caption(caption) => {
                let Some(captioned) = &mut window.captioned else { return };
                captioned.language = caption.language.clone().or(captioned.language.take());
                captioned.cues.put(&event.session, caption);
            }
            Body::Status(status) => match status.state {
                StreamState::Playing => {
                    window.over = false;
                    window.unfit = status.source.as_ref().and_then(unfit);
                }
                StreamState::Interrupted => {}
                StreamState::Ended | StreamState::Failed | StreamState::Stopped => {
                    window.over = true;
                    window.taps.end();
                }
            },
            _ => {}
        }
    }

    /// No caption of `session` that begins before `pts` changes or comes any more.
    pub fn settled(&self, stream: &StreamName, session: &SessionId, pts: Pts) {
        let now = self.clock.monotonic();
        if let Some(window) = self.streams.lock().get_mut(stream.as_str()) {
            window.settle(session, pts);
            window.advance(now, &self.config);
        }
    }

    /// The segments of `session` that end after the beginning of `span` and begin before its end: those still kept, whether or not
    /// a playlist shows them, and all that come. Holds at most `most_bytes` that are not yet taken, and never more than
    /// [`HlsConfig::stream_bytes`].
    ///
    /// # Errors
    /// When the stream is not attached, or can have no segments.
    pub fn tap(
        &self,
        stream: &StreamName,
        session: &SessionId,
        span: Range<Pts>,
        most_bytes: usize,
    ) -> Result<Tap, NoTap> {
        let mut streams = self.streams.lock();
        let window = streams.get_mut(stream.as_str()).ok_or_else(|| NoTap("the stream is not attached".into()))?;
        if let Some(cause) = &window.unfit {
            return Err(NoTap(cause.clone()));
        }
        Ok(window.tap(session, span, most_bytes.min(self.config.stream_bytes)))
    }

    /// What a stream takes; none of one that is not attached.
    pub fn usage(&self, stream: &StreamName) -> Option<Usage> {
        let streams = self.streams.lock();
        let window = streams.get(stream.as_str())?;
        let (n_segments, n_bytes, n_waiting) = window.size();
        let n_cues = window.captioned.as_ref().map_or(0, |c| c.cues.len());
        Some(Usage { n_segments, n_waiting, n_bytes, n_cues })
    }

    fn look<T>(
        &self,
        stream: &str,
        read: impl FnOnce(&Window, &HlsConfig) -> Option<T>,
        else_: Missing,
    ) -> Result<T, Missing> {
        let now = self.clock.monotonic();
        let mut streams = self.streams.lock();
        let window = streams.get_mut(stream).ok_or(Missing::Stream)?;
        window.advance(now, &self.config);
        read(window, &self.config).ok_or_else(|| match &window.unfit {
            Some(cause) => Missing::Unfit(cause.clone()),
            None => else_,
        })
    }

    pub(super) fn master(&self, stream: &str, query: &str) -> Result<String, Missing> {
        self.look(stream, |window, config| playlist::master(window, config, query), Missing::NotYet)
    }

    pub(super) fn media(&self, stream: &str, rendition: Rendition, query: &str) -> Result<String, Missing> {
        let captioned = |window: &Window| rendition == Rendition::Video || window.captioned.is_some();
        let text = |window: &Window, config: &HlsConfig| {
            captioned(window).then(|| playlist::media(window, config, rendition, query).ok_or(Missing::NotYet))
        };
        self.look(stream, text, Missing::Gone)?
    }

    pub(super) fn file(
        &self,
        stream: &str,
        rendition: Rendition,
        session: &str,
        number: u64,
    ) -> Result<Bytes, Missing> {
        let bytes = |window: &Window, _: &HlsConfig| {
            let entry = window.find(session, number)?;
            match rendition {
                Rendition::Video => Some(entry.segment.bytes.clone()),
                Rendition::Captions => window.captioned.as_ref().map(|_| entry.captions.clone()),
            }
        };
        self.look(stream, bytes, Missing::Gone)
    }
}

/// Why a source cannot be watched, if so.
fn unfit(source: &SourceDescription) -> Option<String> {
    match &source.video {
        None => Some("it has no pictures; only streams with H.264 video can be watched here".into()),
        Some(video) if video.codec != "h264" => {
            Some(format!("its pictures are {}, which this playlist cannot carry; set the camera to H.264", video.codec))
        }
        Some(_) => None,
    }
}

/// Where a segment ends in stream time.
pub(super) fn end_of(segment: &MediaSegment) -> Pts {
    let length = u64::try_from(segment.duration.as_nanos()).unwrap_or(u64::MAX);
    Pts::from_nanos(segment.start.nanos().saturating_add(length))
}
