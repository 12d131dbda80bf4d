//! Tries a source before it is attached: opens it once, looks at it for a moment, tells what it is and shows a picture, or
//! says why it does not play. Runs on the caller's thread, and GStreamer's. Must leave nothing behind.

use std::{sync::Arc, time::Duration};

use base::{
    ledger::Ledger,
    media::{
        AudioChunk, Fit, Frame, Image, MediaConsumer, Notice, PictureRequest, PixelFormat, StreamInfo, StreamName,
    },
    redact::SourceUrl,
    shutdown::Shutdown,
    time::{Clock, ClockQuality, Pts},
};
use gstreamer::{self as gst, prelude::*};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    announcer::Announcer,
    codecs,
    config::{Mode, RtspTransport, Sampling, SourceConfig, StreamOptions},
    error::IngestError,
    registry,
    resume::Beginning,
    session::{self, Outcome, Try},
    timeline::Track,
    trouble::Troubles,
};

mod jpeg;

/// Media is looked at for so long.
const LOOK_FOR: Duration = Duration::from_secs(2);
/// Width of a snapshot in pixels, at most.
const MOST_WIDTH: u32 = 1280;
/// Bit rates over less media than this say nothing.
const LEAST_SPAN: Duration = Duration::from_millis(500);

/// What a source turned out to be.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ProbeReport {
    /// How it is connected to: `rtsp`, `http`, `file`, `rtmp`, `srt`, `udp`, `test`...
    pub protocol: String,
    /// What the media comes in: `mp4`, `mpegts`, `matroska`, `hls`...; none where it comes as it is.
    pub container: Option<String>,
    /// The pictures, if it has any.
    pub video: Option<ProbedVideo>,
    /// The sound, if it has any.
    pub audio: Option<ProbedAudio>,
    /// Milliseconds from the beginning of the try to the first whole picture.
    pub first_picture_ms: Option<u64>,
    /// Where capture times come from, as far as it showed: `ntp`, `container` or `arrival`. Cameras tell their clock only
    /// some seconds after the first picture.
    pub clock: Option<String>,
    /// It is a recording: a successor could go on where an earlier run left it.
    pub resumable: bool,
    /// What will be left out, and why.
    pub left_out: Option<String>,
    /// The first whole picture.
    #[serde(skip)]
    pub snapshot: Option<Snapshot>,
}

/// The pictures of a source.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ProbedVideo {
    /// Short name: `h264`, `h265`, `mjpeg`...
    pub codec: String,
    /// As the codec calls it: `high`, `main`, `constrained-baseline`...
    pub profile: Option<String>,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Pictures a second, as the source says.
    pub stated_fps: Option<f64>,
    /// Pictures a second, as they came.
    pub measured_fps: Option<f64>,
    /// Bits a second, as they came.
    pub bits_per_second: Option<u64>,
}

/// The sound of a source.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ProbedAudio {
    /// Short name: `aac`, `opus`, `pcma`...
    pub codec: String,
    /// Channels.
    pub channels: Option<u32>,
    /// Samples a second.
    pub sample_rate: Option<u32>,
    /// Bits a second, as they came.
    pub bits_per_second: Option<u64>,
}

/// A picture as JPEG.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Pixels, at most 1280.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The file's bytes.
    pub jpeg: Vec<u8>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({}x{}, {} bytes)", self.width, self.height, self.jpeg.len())
    }
}

/// Opens a source once and looks at it for a moment; gives up after `limit`. Blocks the calling thread meanwhile.
///
/// # Errors
/// [`IngestError::Probe`] says why it does not play, as a stream of it would; [`IngestError::Init`] when GStreamer is missing.
pub fn probe(
    url: &SourceUrl,
    config: &SourceConfig,
    limit: Duration,
    clock: &Arc<dyn Clock>,
) -> Result<ProbeReport, IngestError> {
    let failed = |cause: String| IngestError::Probe { cause };
    let name = StreamName::new("probe").map_err(|e| failed(e.to_string()))?;
    crate::stream::check(&name, url, config).map_err(|error| match error {
        IngestError::Init { .. } => error,
        IngestError::BadUrl { url, cause, .. } => failed(format!("{url}: {cause}")),
        other => failed(other.to_string()),
    })?;
    let mut source = config.clone();
    source.connect_timeout_secs = source.connect_timeout_secs.min(limit.as_secs_f64()).max(0.001);
    let options = Arc::new(StreamOptions {
        info: Arc::new(StreamInfo { name, tags: Default::default(), epoch: None }),
        url: url.clone(),
        source,
        sampling: Sampling::All,
        // The size is taken from the source.
        video: Some(PictureRequest {
            width: MOST_WIDTH,
            height: MOST_WIDTH,
            fit: Fit::Letterbox,
            format: PixelFormat::Rgb8,
        }),
        audio: true,
        segments: None,
        relay: None,
        mode: Mode::Live,
        start_at: None,
        session: None,
        clock: Arc::clone(clock),
    });
    let troubles = Troubles { url: url.clone(), kind: registry::kind_of(url) };
    let began = clock.monotonic();
    let mut attempt = 1;
    loop {
        let findings = Arc::new(Findings::new(Arc::clone(clock), began, began + limit));
        let consumer = Arc::clone(&findings) as Arc<dyn MediaConsumer>;
        let announcer = Arc::new(Announcer::new(Arc::clone(&consumer)));
        let one = Try {
            attempt,
            beginning: Beginning::Anew,
            findings: Some(Arc::clone(&findings)),
            stop: &Shutdown::default(),
        };
        let finished = session::run(&options, &consumer, &announcer, &troubles, one);
        let found = std::mem::take(&mut *findings.found.lock());
        if found.first_picture.is_some() || found.first_sound.is_some() {
            return Ok(found.report(troubles.kind.name, finished.resumable));
        }
        let cause = match finished.outcome {
            Outcome::Trouble(trouble) => trouble.detail,
            _ => troubles.lost(false, &found.in_vain(limit)).detail,
        };
        // Where TCP is not taken, UDP may be.
        let may_be_transport = troubles.kind.name == "rtsp"
            && config.transport == RtspTransport::Auto
            && attempt == 1
            && clock.monotonic() < began + limit
            && !["(401)", "(404)", "refused"].iter().any(|certain| cause.contains(certain));
        if !may_be_transport {
            return Err(failed(cause));
        }
        attempt += 1;
    }
}

/// Size in pixels of the snapshot of a picture.
pub(crate) fn size_of_snapshot((width, height): (u32, u32)) -> (u32, u32) {
    let scaled = u64::from(height) * u64::from(MOST_WIDTH) / u64::from(width.max(1));
    if width <= MOST_WIDTH { (width, height) } else { (MOST_WIDTH, u32::try_from(scaled.max(1)).unwrap_or(height)) }
}

/// Encoded media of one track, as it came.
#[derive(Debug, Default, Clone, Copy)]
struct Encoded {
    n_bytes: u64,
    /// Bytes of the last buffer, whose length in time is not known.
    n_last: u64,
    /// Times of the first and the last buffer.
    span: Option<(gst::ClockTime, gst::ClockTime)>,
}

impl Encoded {
    fn bits_per_second(&self) -> Option<u64> {
        let (first, last) = self.span?;
        let secs = Duration::from(last.checked_sub(first)?);
        (secs >= LEAST_SPAN).then(|| ((self.n_bytes - self.n_last) as f64 * 8.0 / secs.as_secs_f64()).round() as u64)
    }
}

#[derive(Default)]
struct Found {
    container: Option<String>,
    video: Option<ProbedVideo>,
    audio: Option<ProbedAudio>,
    encoded: [Encoded; 2],
    left_out: Option<String>,
    /// Since the beginning.
    first_picture: Option<Duration>,
    first_sound: Option<Duration>,
    picture: Option<Image>,
    source_size: Option<(u32, u32)>,
    pts: Option<(Pts, Pts)>,
    n_pictures: u64,
    clock: Option<ClockQuality>,
}

/// What a session finds out about a source that is only looked at.
pub(crate) struct Findings {
    clock: Arc<dyn Clock>,
    began: Duration,
    until: Duration,
    ledger: Ledger,
    found: Mutex<Found>,
}

impl Findings {
    fn new(clock: Arc<dyn Clock>, began: Duration, until: Duration) -> Self {
        Self { clock, began, until, ledger: Ledger::default(), found: Mutex::default() }
    }

    fn since_beginning(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    /// It was looked at for long enough, or time is over.
    pub(crate) fn is_enough(&self) -> bool {
        let found = self.found.lock();
        let first = match found.video {
            Some(_) => found.first_picture,
            None => found.first_sound,
        };
        let now = self.since_beginning();
        first.is_some_and(|first| now >= first + LOOK_FOR) || self.began + now >= self.until
    }

    /// Something takes the media apart.
    pub(crate) fn part(&self, element: &gst::Element) {
        let Some(factory) = element.factory() else { return };
        if factory.metadata("klass").is_some_and(|class| class.contains("Demux")) {
            let name = factory.name();
            let container = match name.as_str() {
                "qtdemux" => "mp4",
                "tsdemux" => "mpegts",
                other => other.trim_end_matches('2').trim_end_matches("demux").trim_end_matches("parse"),
            };
            self.found.lock().container.get_or_insert_with(|| container.to_owned());
        }
    }

    /// A track was chosen.
    pub(crate) fn track(&self, track: Track, media: &gst::StructureRef) {
        let number = |name| media.get::<i32>(name).ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let codec = codecs::name_of(media);
        let mut found = self.found.lock();
        match track {
            Track::Video => {
                let stated = media.get::<gst::Fraction>("framerate").ok();
                found.video = Some(ProbedVideo {
                    codec,
                    profile: media.get::<String>("profile").ok(),
                    width: number("width"),
                    height: number("height"),
                    stated_fps: stated
                        .filter(|rate| rate.numer() > 0 && rate.denom() > 0)
                        .map(|rate| in_hundredths(f64::from(rate.numer()) / f64::from(rate.denom()))),
                    measured_fps: None,
                    bits_per_second: None,
                });
            }
            Track::Audio => {
                let (channels, sample_rate) = (number("channels"), number("rate"));
                found.audio = Some(ProbedAudio { codec, channels, sample_rate, bits_per_second: None });
            }
        }
    }

    /// A track was left out, without which the rest still plays.
    pub(crate) fn left_out(&self, cause: &str) {
        self.found.lock().left_out.get_or_insert_with(|| cause.to_owned());
    }

    /// Media of a track came, encoded.
    pub(crate) fn encoded(&self, track: Track, buffer: &gst::BufferRef) {
        let mut found = self.found.lock();
        let encoded = &mut found.encoded[track as usize];
        encoded.n_last = buffer.size() as u64;
        encoded.n_bytes += encoded.n_last;
        if let Some(at) = buffer.dts_or_pts() {
            encoded.span = Some((encoded.span.map_or(at, |(first, _)| first), at));
        }
    }
}

impl MediaConsumer for Findings {
    fn frame(&self, frame: Frame) {
        self.ledger.inferred();
        let now = self.since_beginning();
        let mut found = self.found.lock();
        found.n_pictures += 1;
        found.pts = Some((found.pts.map_or(frame.pts, |(first, _)| first), frame.pts));
        found.source_size = Some((frame.source_width, frame.source_height));
        found.learn(frame.captured.map(|captured| captured.quality));
        if found.first_picture.is_none() {
            found.first_picture = Some(now);
            found.picture = Some(frame.image);
        }
    }

    fn audio(&self, chunk: AudioChunk) {
        let now = self.since_beginning();
        let mut found = self.found.lock();
        found.first_sound.get_or_insert(now);
        found.learn(chunk.captured.map(|captured| captured.quality));
    }

    // What goes wrong is in the session's outcome.
    fn notice(&self, _notice: Notice) {}

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

fn in_hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl Found {
    /// The best clock counts: it may show late.
    fn learn(&mut self, clock: Option<ClockQuality>) {
        let rank = |clock: &ClockQuality| match clock {
            ClockQuality::Ntp => 0,
            ClockQuality::Container => 1,
            ClockQuality::Arrival => 2,
        };
        self.clock = self.clock.into_iter().chain(clock).min_by_key(rank);
    }

    /// Why nothing was seen although nothing went wrong.
    fn in_vain(&self, limit: Duration) -> String {
        let secs = limit.as_secs_f64();
        match &self.video {
            Some(video) => format!("{} comes, but no picture of it could be shown within {secs:.1} s", video.codec),
            None => format!("no media came within the first {secs:.1} s"),
        }
    }

    fn report(mut self, protocol: &str, resumable: bool) -> ProbeReport {
        let [of_video, of_audio] = self.encoded.map(|encoded| encoded.bits_per_second());
        if let Some(video) = &mut self.video {
            let is_raw = video.codec == "raw";
            (video.width, video.height) =
                self.source_size.map_or((video.width, video.height), |(w, h)| (Some(w), Some(h)));
            video.bits_per_second = of_video.filter(|_| !is_raw);
            let secs = self.pts.map_or(0.0, |(first, last)| last.since(first).as_secs_f64());
            let n_steps = self.n_pictures.saturating_sub(1);
            video.measured_fps = (n_steps > 0 && secs > 0.0).then(|| in_hundredths(n_steps as f64 / secs));
        }
        if let Some(audio) = &mut self.audio {
            audio.bits_per_second = of_audio.filter(|_| audio.codec != "raw");
        }
        let snapshot = self.picture.as_ref().and_then(|picture| {
            let jpeg = jpeg::encode(picture).map_err(|cause| tracing::warn!(cause, "no snapshot could be made"));
            Some(Snapshot { width: picture.width, height: picture.height, jpeg: jpeg.ok()? })
        });
        ProbeReport {
            protocol: protocol.to_owned(),
            container: self.container,
            // A track without a picture that could be decoded is none.
            video: self.video.filter(|_| self.first_picture.is_some()),
            audio: self.audio.filter(|_| self.first_sound.is_some()),
            first_picture_ms: self.first_picture.map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
            clock: self.clock.map(|clock| clock.as_str().to_owned()),
            resumable,
            left_out: self.left_out,
            snapshot,
        }
    }
}
