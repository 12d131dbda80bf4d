//! Media on its way through the house: decoded pictures and sound, and the seam through which ingest hands them on.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    ledger::Ledger,
    time::{CaptureTime, Pts, Timestamp},
};

/// Name of one attached stream: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// Why a text is no stream name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no stream name: use 1 to 128 letters, digits, `.`, `_` or `-`, beginning with a letter or digit")]
pub struct BadStreamName(String);

impl StreamName {
    /// Checks the text.
    pub fn new(text: &str) -> Result<Self, BadStreamName> {
        let ok = (1..=128).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if ok { Ok(Self(text.into())) } else { Err(BadStreamName(text.into())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What stays the same of a stream over all its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The name: the Kafka key of all its events.
    pub name: StreamName,
    /// Free key-value pairs set by whoever attached it.
    pub tags: BTreeMap<String, String>,
    /// Number of the lease under which it is analysed: whoever takes the stream over has a greater one, so that late records
    /// of a worker that has lost it can be told from new ones. None where nobody else could have it.
    pub epoch: Option<u64>,
}

/// One uninterrupted connection to a source: 26 characters in ULID's alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// For a live connection: a ULID (time-ordered, 80 random bits).
    pub fn live(now: Timestamp) -> Self {
        let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(now.as_millisecond().max(0) as u64);
        Self(ulid::Ulid::from_datetime(at).to_string().into())
    }

    /// For a recording: the same parts give the same id, whatever the day, so that two replays are the same bytes.
    pub fn derived<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let bytes: [u8; 32] = hash.finalize().into();
        let mut low = [0; 16];
        low.copy_from_slice(&bytes[..16]);
        Self(ulid::Ulid::from_bytes(low).to_string().into())
    }

    /// An id that was written down; none where the text is no id.
    pub fn from_text(text: &str) -> Option<Self> {
        let ok = text.len() == 26 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        ok.then(|| Self(text.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Order of the colour bytes of a packed 8-bit picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Red first.
    Rgb8,
    /// Blue first.
    Bgr8,
}

/// How a source picture is fitted into the size a model wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Each axis on its own: fills the whole size, changes the aspect ratio.
    Stretch,
    /// Aspect ratio kept: the picture is scaled to the largest size that fits; whoever fills the tensor pads the rest.
    Letterbox,
    /// Aspect ratio kept, and never made larger than the source: for whoever scales it himself.
    Within,
}

/// The picture that a model wants from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PictureRequest {
    /// Width of the model's input in pixels.
    pub width: u32,
    /// Height of the model's input in pixels.
    pub height: u32,
    /// How the source picture gets to that size.
    pub fit: Fit,
    /// Colour order of the model's input.
    pub format: PixelFormat,
}

impl PictureRequest {
    /// Size in pixels of the scaled picture for a source of `source_width` x `source_height` pixels (square pixels).
    ///
    /// Letterbox: `r = min(width/source_width, height/source_height)`, both sides rounded, at least 1, at most the request.
    /// Within: the same, with `r` at most 1.
    pub fn scaled_size(&self, source_width: u32, source_height: u32) -> (u32, u32) {
        match self.fit {
            Fit::Stretch => (self.width, self.height),
            Fit::Letterbox | Fit::Within => {
                let (sw, sh) = (f64::from(source_width.max(1)), f64::from(source_height.max(1)));
                let r = (f64::from(self.width) / sw).min(f64::from(self.height) / sh);
                let r = if self.fit == Fit::Within { r.min(1.0) } else { r };
                let side = |s: f64, most: u32| ((s * r).round() as u32).clamp(1, most);
                (side(sw, self.width), side(sh, self.height))
            }
        }
    }
}

/// Packed 8-bit picture: `u8 [height, width, 3]`, rows `stride` bytes apart, values 0..=255.
#[derive(Clone)]
pub struct Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes from one row's start to the next; at least `3 * width`.
    pub stride: usize,
    /// Colour order.
    pub format: PixelFormat,
    /// The pixels; in live use these are the decoder's own mapped memory, not a copy.
    pub data: Bytes,
}

impl Image {
    /// The bytes of row `y` without padding: `3 * width` of them.
    ///
    /// # Panics
    /// When `y >= height` or `data` is shorter than the geometry says: a bug of whoever made the image.
    pub fn row(&self, y: u32) -> &[u8] {
        let start = y as usize * self.stride;
        &self.data[start..start + 3 * self.width as usize]
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}x{} {:?} stride {})", self.width, self.height, self.format, self.stride)
    }
}

/// One decoded picture, already scaled to what the model asked for.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The connection it came through.
    pub session: SessionId,
    /// Number of the decoded picture within its session, from 0, counting those that sampling left out.
    pub index: u64,
    /// Stream time.
    pub pts: Pts,
    /// When the picture was captured; none for a recording that carries no date.
    pub captured: Option<CaptureTime>,
    /// [`crate::time::Clock::monotonic`] when the decoder gave it out: the origin of the latency we report.
    pub decoded_at: Duration,
    /// Width of the source picture in pixels: the coordinates of published boxes.
    pub source_width: u32,
    /// Height of the source picture in pixels.
    pub source_height: u32,
    /// The scaled pixels.
    pub image: Image,
}

/// Decoded sound: mono `f32`, 16 000 samples a second, values -1.0..=1.0.
#[derive(Debug, Clone)]
pub struct AudioChunk {
    /// The connection it came through: the same one as the pictures'.
    pub session: SessionId,
    /// Stream time of the first sample, on the pictures' clock.
    pub pts: Pts,
    /// When the first sample was captured; none for a recording that carries no date.
    pub captured: Option<CaptureTime>,
    /// The samples.
    pub samples: Arc<[f32]>,
    /// True when the sound before this chunk is missing (a lost packet, a jump of the source's clock).
    pub discontinuity: bool,
}

impl AudioChunk {
    /// Samples a second of every chunk.
    pub const SAMPLE_RATE: u32 = 16_000;

    /// Stream time covered: from the first sample to just after the last.
    pub fn span(&self) -> Range<Pts> {
        let ns = self.samples.len() as u64 * 1_000_000_000 / u64::from(Self::SAMPLE_RATE);
        self.pts..Pts::from_nanos(self.pts.nanos() + ns)
    }
}

/// A stretch of the stream as its source encoded it, in MPEG-TS (ISO/IEC 13818-1): pictures of H.264 and, where the source
/// has it, AAC sound. Begins with a picture that needs no other, and can be played by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaSegment {
    /// The connection it came through.
    pub session: SessionId,
    /// Counts the segments of the session from 0, without holes.
    pub number: u64,
    /// Stream time of the picture shown first.
    pub start: Pts,
    /// From `start` to the start of the next segment: segments that follow each other have neither gap nor overlap.
    pub duration: Duration,
    /// When the first picture was captured; none for a recording that carries no date.
    pub captured: Option<CaptureTime>,
    /// Presentation time of the picture shown first, as it stands in `bytes`: ticks of 90 kHz, 33 bits, so that it begins
    /// anew after 26.5 hours. Stream time 0 is [`Self::MPEGTS_AT_ZERO`].
    pub mpegts: u64,
    /// The transport stream, whole packets of 188 bytes.
    pub bytes: Bytes,
    /// True when it does not go on where the one before it ended: pictures are missing, the source's clock jumped, or its
    /// encoding changed.
    pub discontinuity: bool,
    /// What is in it, as in RFC 6381: `avc1.64001f,mp4a.40.2`.
    pub codecs: String,
    /// Size of the pictures in pixels, where the source tells it.
    pub size: Option<(u32, u32)>,
}

impl MediaSegment {
    /// The presentation time in the transport stream, in ticks of 90 kHz, of stream time 0: ten seconds, so that what
    /// begins a little before it needs no negative number.
    pub const MPEGTS_AT_ZERO: u64 = 900_000;
}

impl fmt::Debug for MediaSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, number, start, duration, codecs, bytes, .. } = self;
        write!(f, "MediaSegment({session}-{number} at {start} for {duration:?}, {codecs}, {} bytes)", bytes.len())
    }
}

/// One of the tracks that a source turned out to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDescription {
    /// Codec, in the field's short name: `h264`, `h265`, `vp8`, `vp9`, `av1`, `mjpeg`, `aac`, `opus`, `pcmu`, `pcma`, `pcm`...
    pub codec: String,
    /// Picture size in pixels; none for sound.
    pub size: Option<(u32, u32)>,
}

/// What a source turned out to be, told once a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceDescription {
    /// The pictures, if the source has any.
    pub video: Option<MediaDescription>,
    /// The sound, if the source has any.
    pub audio: Option<MediaDescription>,
}

/// Whether a session can be gone on with, and whether it goes on with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resume {
    /// The PTS of this session is the source's own time (of a file: its media time), the same in every session and on every
    /// machine: a later session can go on after any of them.
    pub resumable: bool,
    /// This session goes on after the place that it was given. Otherwise it began where the source begins, or is.
    pub resumed: bool,
}

/// Why a stretch of a stream was not analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The connection broke or the server closed it.
    SourceLost,
    /// Connected, but nothing arrived for the stall time.
    Stalled,
    /// The source refused us, or could not be reached at all.
    Unreachable,
    /// What arrived could not be decoded.
    DecodeError,
    /// Speech came faster than it could be transcribed; pictures were not affected.
    SpeechOverload,
    /// The model failed on this speech; pictures were not affected.
    SpeechFailed,
    /// A sink took nothing, so that analysis had to wait.
    SinkBlocked,
    /// It was analysed, but a full spool had to let go of the records.
    SpoolFull,
    /// The worker that had the stream was lost.
    WorkerLost,
    /// The worker that had the stream was stopped, and nobody else had it meanwhile.
    WorkerStopped,
}

impl GapReason {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SourceLost => "source_lost",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
            Self::DecodeError => "decode_error",
            Self::SpeechOverload => "speech_overload",
            Self::SpeechFailed => "speech_failed",
            Self::SinkBlocked => "sink_blocked",
            Self::SpoolFull => "spool_full",
            Self::WorkerLost => "worker_lost",
            Self::WorkerStopped => "worker_stopped",
        }
    }
}

/// What happens to a stream besides media. Details are already free of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A first (`attempt` 1) or further try to open the source begins.
    Connecting {
        /// Counts tries since the last session that gave media, from 1.
        attempt: u32,
    },
    /// Media flows: a new session.
    Playing {
        /// The new session.
        session: SessionId,
        /// What the source is.
        source: SourceDescription,
        /// Where in the source it is.
        resume: Resume,
    },
    /// An outage is over, or is given up: the stretch that was not analysed. Told before the `Playing` that ends it.
    Gap {
        /// The session that broke; none when there never was one.
        session: Option<SessionId>,
        /// Stream time of the last media of that session.
        from: Pts,
        /// `from` plus the length of the outage.
        to: Pts,
        /// Why.
        reason: GapReason,
        /// The cause in words, naming the stream's trouble and what to do.
        detail: String,
    },
    /// The connection was lost or refused; a new try follows after `retry_in`.
    Interrupted {
        /// Why.
        reason: GapReason,
        /// The cause in words.
        detail: String,
        /// Wait before the next try.
        retry_in: Duration,
    },
    /// The source came to its end: a finished recording, never an outage. Nothing follows.
    Ended,
    /// The source can never work as configured (unknown codec, no such file, text named .mp4). Nothing follows.
    Failed {
        /// The cause in words.
        detail: String,
    },
}

/// Takes what one stream's ingest gives. Called on GStreamer's threads: must map, stamp, enqueue and return.
/// In batch mode (a replay) `frame` and `audio` may block, which holds the decoder back; live they never do.
pub trait MediaConsumer: Send + Sync {
    /// One sampled picture.
    fn frame(&self, frame: Frame);
    /// One stretch of sound.
    fn audio(&self, chunk: AudioChunk);
    /// One stretch of encoded media, for those who hand it on to players; in the order of the stream. Comes only when
    /// segments were asked for, after `Playing` and before `Ended`. Never blocks.
    fn segment(&self, segment: MediaSegment) {
        drop(segment);
    }
    /// A change of the stream's state. Never called from two threads at once.
    fn notice(&self, notice: Notice);
    /// The stream's counters, in which ingest enters what it decodes and leaves out.
    fn ledger(&self) -> &Ledger;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names() {
        for good in ["front-door", "cam1", "A.b_c-9", &"x".repeat(128)] {
            assert!(StreamName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(StreamName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn derived_sessions_repeat_and_differ() {
        let id = |parts: &[&[u8]]| SessionId::derived(parts.iter().copied());
        assert_eq!(id(&[b"a", b"b"]), id(&[b"a", b"b"]));
        assert_ne!(id(&[b"ab", b""]), id(&[b"a", b"b"]));
        assert_eq!(id(&[b"a"]).as_str().len(), 26);
    }

    #[test]
    fn letterbox_keeps_the_aspect_ratio() {
        let check = |fit, source: (u32, u32), expected| {
            let request = PictureRequest { width: 416, height: 416, fit, format: PixelFormat::Bgr8 };
            assert_eq!(request.scaled_size(source.0, source.1), expected, "{source:?}");
        };
        check(Fit::Letterbox, (768, 576), (416, 312));
        check(Fit::Letterbox, (1080, 1920), (234, 416));
        check(Fit::Letterbox, (4000, 1), (416, 1));
        check(Fit::Stretch, (768, 576), (416, 416));
        check(Fit::Within, (768, 576), (416, 312));
        check(Fit::Within, (320, 240), (320, 240));
    }

    #[test]
    fn audio_span_counts_samples() {
        let chunk = AudioChunk {
            session: SessionId::derived([]),
            pts: Pts::from_millis(100),
            captured: None,
            samples: vec![0.0; 8000].into(),
            discontinuity: false,
        };
        assert_eq!(chunk.span(), Pts::from_millis(100)..Pts::from_millis(600));
    }
}
