//! An HTTP model server in the engine's place: frames are encoded here and looked at there.
//!
//! Threads of one endpoint: `encode-<name>` turn pictures into bodies, `post-<name>` hold one request each and tell the
//! results. Streams only enqueue. Must never: hold one stream for another's sake, count a frame twice or not at all, or
//! show a secret. It knows no protocol but HTTP, and nothing of what a server runs.

mod config;
mod encode;
mod lanes;
mod post;
mod read;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use base::{
    event::{Answer, BoxInImage, Detection, Label, ModelId},
    ledger::Ledger,
    media::{Fit, Frame, Image, PictureRequest, PixelFormat, StreamName},
    queue::QueueReading,
    time::Clock,
};
use bytes::Bytes;
use parking_lot::Mutex;

pub use self::{
    config::{BoxUnit, Datatype, EndpointConfig, ImageFormat, KserveConfig, Layout, Protocol, Task},
    lanes::RemoteLane,
};
use self::{
    lanes::{Job, Lanes, Outcome, Parcel},
    post::{Poster, Trouble},
    read::{Raw, Reading},
};
use crate::{
    InferenceError,
    engine::LanePolicy,
    error::suggestion,
    filter::{DetectionFilter, ReportThresholds},
};

/// What was seen in one frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// Boxes in source pixels, best first.
    pub detections: Vec<Detection>,
    /// Classes of the whole picture, best first.
    pub labels: Vec<Label>,
    /// What the server answered.
    pub answer: Option<Arc<Answer>>,
}

/// Takes a frame, without its pixels, and what was seen in it. Called on one of the endpoint's threads, in the order of the
/// frames, never twice at a time.
pub type OnSeen = Box<dyn FnMut(Frame, Seen) + Send>;

/// Least score of a reported box where the user says nothing.
const DEFAULT_SCORE: f32 = 0.4;
/// The wait before the second try; twice as long each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Failures are told at once, and then no more often than this.
const TELL_AFTER: Duration = Duration::from_secs(10);
/// Pictures encoded at a time.
const MOST_ENCODERS: usize = 2;

/// What of a server's findings one stream wants.
#[derive(Debug, Clone)]
struct Wanted {
    classes: Vec<String>,
    thresholds: ReportThresholds,
    /// From here on boxes are handed to the tracker.
    low_score: f32,
    /// Least score of a label where no class has its own.
    label_score: f32,
}

impl Wanted {
    fn names(&self, class: &str) -> bool {
        self.classes.is_empty() || self.classes.iter().any(|wanted| wanted == class)
    }
}

/// An endpoint at work: shared by all streams that use it.
pub struct RemoteEngine {
    config: EndpointConfig,
    model_id: Arc<ModelId>,
    classes: Arc<[Arc<str>]>,
    lanes: Arc<Lanes>,
}

/// What the posting threads share.
struct Office {
    config: EndpointConfig,
    classes: Arc<[Arc<str>]>,
    lanes: Arc<Lanes>,
    poster: Poster,
    clock: Arc<dyn Clock>,
    told: Mutex<Told>,
}

/// How failures have been told.
#[derive(Default)]
struct Told {
    at: Option<Duration>,
    n_since: u64,
}

impl RemoteEngine {
    /// Reads the secrets and starts the threads. The server need not be there yet.
    ///
    /// # Errors
    /// [`InferenceError::Endpoint`], [`InferenceError::Thread`].
    pub fn start(config: &EndpointConfig, clock: Arc<dyn Clock>) -> Result<Self, InferenceError> {
        config.check()?;
        let shown = config.shown();
        let model_id = Arc::new(ModelId {
            name: config.model.clone().unwrap_or_else(|| shown.clone()),
            version: config.version.clone().unwrap_or_else(|| "unknown".into()),
        });
        let classes: Arc<[Arc<str>]> = config.classes.iter().map(|class| Arc::from(class.as_str())).collect();
        let (capacity, n_bytes, window) = (config.queue, config.queue_max_bytes, config.concurrency);
        let name = format!("endpoint:{}", model_id.name);
        let lanes = Arc::new(Lanes::new(name, capacity, n_bytes, window, Arc::clone(&clock)));
        // Made on a thread of its own: the client may not be made where nothing may block.
        let made = spawn("post-start", {
            let (config, clock) = (config.clone(), Arc::clone(&clock));
            move || Poster::new(&config, clock)
        })?;
        let poster = made.join().unwrap_or_else(|_| {
            Err(InferenceError::Endpoint { key: "url".into(), problem: "the http client could not be made".into() })
        })?;
        let (told, of_office) = (Mutex::default(), (Arc::clone(&classes), Arc::clone(&lanes)));
        let office = Office { config: config.clone(), classes: of_office.0, lanes: of_office.1, poster, clock, told };
        let engine = Self { config: config.clone(), model_id, classes, lanes };
        // Whoever starts only half is stopped by the drop. Nobody waits for these: they end with their last request.
        let office = Arc::new(office);
        for _ in 0..config.concurrency {
            let office = Arc::clone(&office);
            spawn(&format!("post-{}", engine.model_id.name), move || office.work())?;
        }
        let n_encoders = thread::available_parallelism().map_or(1, usize::from).min(MOST_ENCODERS);
        for _ in 0..n_encoders {
            let (config, lanes) = (config.clone(), Arc::clone(&engine.lanes));
            spawn(&format!("encode-{}", engine.model_id.name), move || encode_all(&config, &lanes))?;
        }
        tracing::info!(endpoint = shown, concurrency = config.concurrency, queue = capacity, "endpoint ready");
        Ok(engine)
    }

    /// The picture that frames must carry: the source's own size, up to the configured one.
    pub fn picture_request(&self) -> PictureRequest {
        let (width, height) = (self.config.max_width, self.config.max_height);
        PictureRequest { width, height, fit: Fit::Within, format: PixelFormat::Rgb8 }
    }

    /// Name and version for the wire.
    pub fn model_id(&self) -> Arc<ModelId> {
        Arc::clone(&self.model_id)
    }

    /// The classes that the configuration names, in the server's order.
    pub fn classes(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.classes)
    }

    /// The figures of the queue of encoded frames, later too.
    pub fn probe(&self) -> impl Fn() -> QueueReading + Send + use<> {
        let lanes = Arc::clone(&self.lanes);
        move || lanes.read()
    }

    /// The scores from which on a stream with this filter reports detections: for its tracker.
    ///
    /// # Errors
    /// [`InferenceError::UnknownClass`], [`InferenceError::BadSetting`].
    pub fn thresholds(&self, filter: &DetectionFilter) -> Result<ReportThresholds, InferenceError> {
        self.config.thresholds(filter)
    }

    /// Opens a stream's way to the server. `ledger` counts each submitted frame exactly once: inferred, or dropped with its
    /// reason.
    ///
    /// # Errors
    /// [`InferenceError::UnknownClass`], [`InferenceError::BadSetting`].
    pub fn lane(
        &self,
        stream: StreamName,
        policy: LanePolicy,
        ledger: Ledger,
        filter: &DetectionFilter,
        on_seen: OnSeen,
    ) -> Result<RemoteLane, InferenceError> {
        let wanted = Wanted {
            classes: filter.classes.clone(),
            thresholds: self.thresholds(filter)?,
            low_score: filter.low_score.unwrap_or(1.0),
            label_score: filter.score.unwrap_or(0.0),
        };
        Ok(self.lanes.open(stream, policy, ledger, wanted, on_seen))
    }

    /// Stops: what has not been told is dropped as [`base::ledger::DropReason::Shutdown`]. Drain the lanes first to lose
    /// less. A request that is out ends by itself; nobody waits for it, nor for its answer. Never call it from a callback.
    pub fn shutdown(&self) {
        self.lanes.stop();
    }
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, InferenceError> {
    let failed = |source| InferenceError::Thread { name: name.to_owned(), source };
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(failed)
}

impl EndpointConfig {
    /// The report thresholds of a filter on this endpoint's findings.
    ///
    /// # Errors
    /// [`InferenceError::UnknownClass`] where the classes are configured, and [`InferenceError::BadSetting`].
    pub fn thresholds(&self, filter: &DetectionFilter) -> Result<ReportThresholds, InferenceError> {
        for class in filter.classes.iter().chain(filter.per_class.keys()) {
            if !self.classes.is_empty() && !self.classes.contains(class) {
                return Err(InferenceError::UnknownClass {
                    name: self.model.clone().unwrap_or_else(|| self.shown()),
                    class: class.clone(),
                    suggestion: suggestion(class, self.classes.iter().map(String::as_str)),
                    known: self.classes.join(", "),
                });
            }
        }
        let per_class: BTreeMap<_, _> = filter.per_class.iter().map(|(c, s)| (Arc::from(c.as_str()), *s)).collect();
        let score = filter.score.unwrap_or(DEFAULT_SCORE);
        if let Some(score) = [score].iter().chain(per_class.values()).find(|s| !(0.0..=1.0).contains(*s)) {
            return Err(InferenceError::BadSetting { key: "score", value: score.to_string(), expected: "0 to 1" });
        }
        Ok(ReportThresholds { score, per_class })
    }
}

/// Turns frames into parcels until the end.
fn encode_all(config: &EndpointConfig, lanes: &Lanes) {
    while let Some((lane, mut frame)) = lanes.take_to_encode() {
        let parcel = match encode::body(config, &frame) {
            Ok(body) => {
                // The pixels are the decoder's memory, which it wants back.
                let format = frame.image.format;
                frame.image = Image { width: 0, height: 0, stride: 0, format, data: Bytes::new() };
                Some(Parcel { frame, body })
            }
            Err(error) => {
                tracing::error!(pts = frame.pts.nanos(), "frame dropped, it cannot be encoded: {error}");
                None
            }
        };
        lanes.encoded(lane, parcel);
    }
}

impl Office {
    /// Posts parcels, one at a time, until the end.
    fn work(&self) {
        while let Some(job) = self.lanes.take_to_post() {
            // What a server answers is not ours: a bug in reading it costs this frame, not the endpoint.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.ask(&job)))
                .unwrap_or_else(|_| Some(Err("reading its answer panicked, which is a bug".into())));
            let Job { lane, number, stream, parcel, .. } = job;
            match outcome {
                Some(Ok(seen)) => {
                    self.is_well();
                    self.lanes.finish(lane, number, Outcome::Seen(parcel.frame, seen));
                }
                Some(Err(cause)) => {
                    self.tell(&stream, &cause);
                    self.lanes.finish(lane, number, Outcome::Failed);
                }
                // Nobody wants it any more, and it was counted.
                None => {}
            }
        }
    }

    /// Asks the server, again and again where that may help. None when nobody wants the answer any more.
    fn ask(&self, job: &Job) -> Option<Result<Seen, String>> {
        let mut n_tries = 0;
        loop {
            let trouble = match self.poster.post(&job.parcel.body) {
                Ok(raw) => match self.see(job, raw) {
                    Ok(seen) => return Some(Ok(seen)),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            n_tries += 1;
            if !trouble.may_pass {
                return Some(Err(trouble.cause));
            }
            if n_tries > self.config.retries {
                return Some(Err(format!("{}; tried {n_tries} times", trouble.cause)));
            }
            let pause = pause_after(n_tries, job.number).max(trouble.asked.unwrap_or_default());
            if !self.lanes.pause(job, pause) {
                return None;
            }
        }
    }

    /// Reads an answer, and keeps of it what the stream wants.
    fn see(&self, job: &Job, raw: Raw) -> Result<Seen, Trouble> {
        let Job { wanted, parcel: Parcel { frame, body }, .. } = job;
        let reading = read::read(&self.config, &self.classes, &raw, body.size).map_err(|problem| {
            let beginning = post::one_line(&self.poster.scrub(&String::from_utf8_lossy(&raw.body)));
            let beginning = beginning.map(|text| format!(" (it begins: {text})")).unwrap_or_default();
            Trouble::for_good(self.poster.told_of(&format!("{problem}{beginning}")))
        })?;
        let mut seen = Seen::default();
        let is_result = reading == Reading::Unread;
        match reading {
            Reading::Boxes(found) => {
                let (width, height) = (frame.source_width as f32, frame.source_height as f32);
                let detection = |found: read::Found| {
                    let [left, top, right, bottom] = found.corners;
                    let floor = wanted.thresholds.of(&found.class).min(wanted.low_score);
                    let is_wanted = wanted.names(&found.class) && found.score >= floor && right > left && bottom > top;
                    let box_in_image = BoxInImage {
                        x: left * width,
                        y: top * height,
                        width: (right - left) * width,
                        height: (bottom - top) * height,
                    };
                    is_wanted.then_some(Detection { class: found.class, score: found.score, box_in_image })
                };
                seen.detections = found.into_iter().filter_map(detection).collect();
            }
            Reading::Labels(labels) => {
                let least = |class: &str| wanted.thresholds.per_class.get(class).copied().unwrap_or(wanted.label_score);
                let labels = labels.into_iter().filter(|(class, score)| wanted.names(class) && *score >= least(class));
                seen.labels = labels.take(self.config.top).map(|(class, score)| Label { class, score }).collect();
            }
            Reading::Unread => {}
        }
        seen.answer = Some(Arc::new(Answer { content_type: raw.content_type, body: raw.body, is_result }));
        Ok(seen)
    }

    /// Tells a frame's failure, but not each of many.
    fn tell(&self, stream: &StreamName, cause: &str) {
        let now = self.clock.monotonic();
        let mut told = self.told.lock();
        told.n_since += 1;
        if told.at.is_none_or(|at| now.saturating_sub(at) >= TELL_AFTER) {
            let n_failed = std::mem::take(&mut told.n_since);
            told.at = Some(now);
            drop(told);
            tracing::error!(stream = stream.as_str(), n_failed, "frames dropped, the endpoint failed: {cause}");
        }
    }

    fn is_well(&self) {
        let mut told = self.told.lock();
        if told.at.take().is_some() {
            let n_untold = std::mem::take(&mut told.n_since);
            drop(told);
            tracing::info!(endpoint = self.config.shown(), n_untold, "the endpoint answers again");
        }
    }
}

/// Doubles with each try; spread over its upper half, so that many do not come back all at once.
fn pause_after(n_tries: u32, seed: u64) -> Duration {
    let doubled = 1_u32.checked_shl(n_tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
    // Knuth's multiplicative hash.
    let spread = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    pause.mul_f64(0.5 + 0.5 * f64::from(spread) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
