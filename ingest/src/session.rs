//! One session: a pipeline from its making to its end. The supervising thread runs [`run`]; GStreamer's threads call in
//! through the [`Session`] that all callbacks share. Must never leave a pipeline running, whatever the way out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{
    ledger::DropReason,
    media::{MediaConsumer, SessionId, SourceDescription},
    shutdown::Shutdown,
    time::{Clock, Pts},
};
use gstreamer::{self as gst, prelude::*};
use parking_lot::Mutex;

use crate::{
    announcer::Announcer,
    capture::Captures,
    config::{Mode, StreamOptions},
    pacer::Pacer,
    probe::Findings,
    registry::{EndMeans, Healing, Opening, Pace},
    resume::{self, Beginning, Resume, Step},
    segment::{Offsets, Segmenter},
    sources::file::{self, Truncation},
    timeline::{Origin, Timeline, Track},
    trouble::{Trouble, Troubles},
    video, wiring,
};

/// How often the supervising thread looks at its watchdogs and its stop signal.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// So many times the usual patience with media that comes, but gives no picture or sound: whoever joins a stream between
/// two keyframes waits for the next one, which may be far.
const KEYFRAME_PATIENCE: u32 = 3;
/// The first media waits so long for the other track to be known, so that the announcement can tell of both.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The recording is over.
    Ended,
    /// We were told to stop.
    Stopped,
    /// The source must be opened anew, and played without seeking.
    CannotSeek,
    /// Something went wrong.
    Trouble(Trouble),
}

/// A session that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    pub outcome: Outcome,
    /// The session, if it gave any media.
    pub played: Option<SessionId>,
    /// A session could go on after `last_pts`.
    pub resumable: bool,
    /// PTS of its last media.
    pub last_pts: Pts,
    /// Monotonic time at which the last media came, or at which the try began.
    pub last_media: Duration,
}

/// What all callbacks of one session share. Holds no GStreamer object, so that nothing keeps a pipeline alive.
pub(crate) struct Session {
    pub id: SessionId,
    pub options: Arc<StreamOptions>,
    pub consumer: Arc<dyn MediaConsumer>,
    pub clock: Arc<dyn Clock>,
    pub announcer: Arc<Announcer>,
    pub troubles: Troubles,
    /// Ends this session: on the stream's stop, and when the session is over for any other reason.
    pub stop: Shutdown,
    pub timeline: Timeline,
    pub resume: Resume,
    pub findings: Option<Arc<Findings>>,
    pub captures: Captures,
    pub pacer: Option<Pacer>,
    /// What the source promised before it came.
    pub promised: Arc<Mutex<SourceDescription>>,
    /// What came.
    pub found: Mutex<SourceDescription>,
    pub picture: video::Counts,
    /// Cuts the encoded media, where that is wanted.
    pub segmenter: Option<Segmenter>,
    /// The source has shown all its tracks.
    pub complete: AtomicBool,
    /// Tracks that have their branch.
    pub chosen: [AtomicBool; 2],
    announced: Mutex<bool>,
    played: AtomicBool,
    last_media: AtomicU64,
    n_busy: AtomicUsize,
    trouble: Mutex<Option<Trouble>>,
    /// Why a track was left out without which the session may still play.
    pub left_out: Mutex<Option<Trouble>>,
}

impl Session {
    /// Media came, encoded or decoded: the source lives.
    pub(crate) fn alive(&self) {
        self.last_media.store(nanos(self.clock.monotonic()), Relaxed);
    }

    /// Runs what may take its time through no fault of the source: waiting for a recording's own speed, or a consumer
    /// that blocks.
    pub(crate) fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.n_busy.fetch_add(1, Relaxed);
        let done = work();
        self.alive();
        self.n_busy.fetch_sub(1, Relaxed);
        done
    }

    /// Holds media of a recording back until it is due.
    pub(crate) fn pace(&self, pts: u64) {
        if let Some(pacer) = &self.pacer {
            self.busy(|| pacer.wait(pts, &self.stop));
        }
    }

    /// Before the first media of either track is handed on: tells that the session plays.
    pub(crate) fn announce(&self, track: Track) {
        if self.played.load(Relaxed) {
            return;
        }
        self.busy(|| self.wait_for_other(track));
        let mut announced = self.announced.lock();
        if !*announced {
            *announced = true;
            let promised = self.promised.lock().clone();
            let found = self.found.lock().clone();
            let source =
                SourceDescription { video: found.video.or(promised.video), audio: found.audio.or(promised.audio) };
            let resume =
                base::media::Resume { resumable: self.resume.is_resumable(), resumed: self.resume.is_resumed() };
            if let Some(relay) = &self.options.relay {
                relay.playing(&source);
            }
            self.announcer.playing(self.id.clone(), source, resume, self.clock.monotonic());
            self.played.store(true, Relaxed);
        }
    }

    /// Whether all tracks that the source has are known, as far as the first media of one of them waits for that.
    fn knows(&self, first: Track) -> bool {
        let (promised, found) = (self.promised.lock(), self.found.lock());
        match first {
            Track::Video => {
                !self.options.wants(Track::Audio)
                    || self.complete.load(Relaxed)
                    || promised.audio.is_some()
                    || found.audio.is_some()
            }
            Track::Audio => {
                let expected = promised.video.is_some() || !self.complete.load(Relaxed);
                !self.options.wants(Track::Video) || found.video.as_ref().map_or(!expected, |v| v.size.is_some())
            }
        }
    }

    fn wait_for_other(&self, first: Track) {
        let until = self.clock.monotonic() + WAIT_FOR_OTHER;
        while !self.knows(first) && !self.played.load(Relaxed) && self.clock.monotonic() < until {
            if self.stop.wait_timeout(Duration::from_millis(10)) {
                return;
            }
        }
    }

    /// A callback found out why this cannot go on; the first cause counts.
    pub(crate) fn fail(&self, trouble: Trouble) {
        self.trouble.lock().get_or_insert(trouble);
    }

    /// Whether it may be a recording that is followed live.
    pub(crate) fn may_be_resumed(&self) -> bool {
        self.options.mode == Mode::Live && self.troubles.kind.may_be_resumed()
    }

    /// How running times become stream times; none before the session plays.
    pub(crate) fn offsets(&self) -> Option<Offsets> {
        let (video, audio) = (self.timeline.offset(Track::Video)?, self.timeline.offset(Track::Audio)?);
        self.played.load(Relaxed).then_some(Offsets { video, audio })
    }

    fn last_media(&self) -> Duration {
        Duration::from_nanos(self.last_media.load(Relaxed))
    }

    /// Whether the source has been quiet, or the decoder fruitless, for too long.
    fn watch(&self, started: Duration) -> Option<Trouble> {
        if self.n_busy.load(Relaxed) > 0 {
            return None;
        }
        let config = &self.options.source;
        let now = self.clock.monotonic();
        let played = self.played.load(Relaxed);
        let limit = if played { config.stall_timeout() } else { config.connect_timeout() };
        if now.saturating_sub(self.last_media()) > limit {
            return Some(self.troubles.silent(played, limit));
        }
        let fruitless = match played || self.resume.is_resumed() {
            true => self.picture.fruitless_for().unwrap_or_default(),
            false => now.saturating_sub(started),
        };
        (fruitless > limit * KEYFRAME_PATIENCE).then(|| self.troubles.undecodable(fruitless))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Sets a pipeline to NULL when dropped: no way out leaves one running.
struct Running<'a> {
    pipeline: gst::Pipeline,
    session: &'a Session,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // First, so that no callback waits on while the state change waits for it.
        self.session.stop.trigger();
        if let Err(e) = self.pipeline.set_state(gst::State::Null) {
            tracing::warn!(stream = %self.session.options.info.name, "the pipeline did not stop cleanly: {e}");
        }
        if let Some(bus) = self.pipeline.bus() {
            bus.set_flushing(true);
        }
    }
}

/// One try to play a source.
pub(crate) struct Try<'a> {
    /// Counts since the last session that gave media, from 1.
    pub attempt: u32,
    pub beginning: Beginning,
    /// What is wanted to be known of the source, where it is only looked at.
    pub findings: Option<Arc<Findings>>,
    pub stop: &'a Shutdown,
}

/// Opens the source and plays it until it ends, fails or is stopped.
pub(crate) fn run(
    options: &Arc<StreamOptions>,
    consumer: &Arc<dyn MediaConsumer>,
    announcer: &Arc<Announcer>,
    troubles: &Troubles,
    one: Try<'_>,
) -> Finished {
    let Try { attempt, beginning, findings, stop } = one;
    let clock = Arc::clone(&options.clock);
    let started = clock.monotonic();
    let batch = options.mode == Mode::Batch;
    let id = options.session.clone().filter(|_| batch).unwrap_or_else(|| SessionId::live(clock.wall()));
    let recording = troubles.kind.end != EndMeans::Lost;
    let origin = if recording { Origin::RunningTimeZero } else { Origin::FirstMedia };
    let paced = !batch && troubles.kind.pace == Pace::ByUs;
    let may_be_resumed = !batch && troubles.kind.may_be_resumed();
    let session = Arc::new(Session {
        id,
        options: Arc::clone(options),
        consumer: Arc::clone(consumer),
        announcer: Arc::clone(announcer),
        troubles: troubles.clone(),
        stop: Shutdown::default(),
        timeline: Timeline::new(origin, !batch && troubles.kind.healing == Healing::Retry),
        resume: Resume::new(if may_be_resumed { beginning } else { Beginning::Anew }),
        findings,
        captures: Captures::new(!batch),
        pacer: paced.then(|| Pacer::new(Arc::clone(&clock))),
        promised: Arc::default(),
        found: Mutex::default(),
        picture: video::Counts::default(),
        segmenter: options.segments.map(Segmenter::new),
        complete: AtomicBool::new(false),
        chosen: Default::default(),
        announced: Mutex::new(false),
        played: AtomicBool::new(false),
        last_media: AtomicU64::new(nanos(started)),
        n_busy: AtomicUsize::new(0),
        trouble: Mutex::default(),
        left_out: Mutex::default(),
        clock,
    });
    if let Some(relay) = &options.relay {
        relay.begin(&session.id);
    }
    let outcome = play(&session, attempt, started, stop);
    // The pipeline is down: nothing is on its way any more.
    if let Some(segmenter) = &session.segmenter {
        segmenter.flush(&session);
    }
    let cut_off = if matches!(outcome, Outcome::Trouble(_)) { DropReason::Conversion } else { DropReason::Shutdown };
    session.picture.settle(consumer.ledger(), cut_off);
    Finished {
        outcome,
        played: session.played.load(Relaxed).then(|| session.id.clone()),
        resumable: session.resume.is_resumable(),
        last_pts: Pts::from_nanos(session.timeline.end()),
        last_media: session.last_media(),
    }
}

fn play(session: &Arc<Session>, attempt: u32, started: Duration, stop: &Shutdown) -> Outcome {
    let options = &session.options;
    let path = file::path_of(&options.url);
    let cut_short = path.as_deref().and_then(file::truncation);
    let cause = path.as_deref().and_then(file::unreadable);
    let cause = cause.or_else(|| cut_short.as_ref().filter(|t| !t.playable).map(|t| t.cause.clone()));
    if let Some(cause) = cause {
        return Outcome::Trouble(session.troubles.hopeless(&cause));
    }
    let opening = Opening {
        stream: &options.info.name,
        url: &options.url,
        config: &options.source,
        attempt,
        video: options.wants(Track::Video),
        audio: options.wants(Track::Audio),
        promised: &session.promised,
    };
    let source = match (session.troubles.kind.open)(&opening) {
        Ok(source) => source,
        Err(e) => return Outcome::Trouble(session.troubles.hopeless(&e.to_string())),
    };
    let running = Running { pipeline: gst::Pipeline::new(), session };
    let pipeline = &running.pipeline;
    if pipeline.add(&source).is_err() {
        return Outcome::Trouble(session.troubles.hopeless("its element could not be added to a pipeline"));
    }
    let Some(bus) = pipeline.bus() else {
        return Outcome::Trouble(session.troubles.hopeless("its pipeline has no bus"));
    };
    wiring::connect_source(session, pipeline, &source);
    let failed = pipeline.set_state(gst::State::Playing).is_err();
    loop {
        let seen_enough = session.findings.as_ref().is_some_and(|findings| findings.is_enough());
        if seen_enough || stop.is_triggered() {
            return Outcome::Stopped;
        }
        let message = bus.timed_pop_filtered(TICK, &[gst::MessageType::Error, gst::MessageType::Eos]);
        // A cause that a callback found is clearer than the error that GStreamer makes of it.
        if let Some(trouble) = session.trouble.lock().take() {
            return Outcome::Trouble(trouble);
        }
        match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(e)) => {
                let played = session.played.load(Relaxed);
                let trouble = session.troubles.of_error(&e.error(), e.debug().as_deref(), played);
                return Outcome::Trouble(explain(trouble, cut_short.as_ref()));
            }
            Some(gst::MessageView::Eos(_)) => return ended(session, pipeline, cut_short.as_ref()),
            _ if failed => return Outcome::Trouble(session.troubles.lost(false, "the source could not be started")),
            _ => {}
        }
        match resume::step(session) {
            Step::GoOn => {}
            Step::PastTheEnd => return Outcome::Ended,
            Step::CannotSeek => return Outcome::CannotSeek,
        }
        if let Some(trouble) = session.watch(started) {
            return Outcome::Trouble(explain(trouble, cut_short.as_ref()));
        }
    }
}

/// A truncated file explains every error that GStreamer may have had with it.
fn explain(trouble: Trouble, cut_short: Option<&Truncation>) -> Trouble {
    match cut_short {
        Some(t) => Trouble { detail: format!("{} ({})", trouble.detail, t.cause), ..trouble },
        None => trouble,
    }
}

/// What the end of the stream means.
fn ended(session: &Session, pipeline: &gst::Pipeline, cut_short: Option<&Truncation>) -> Outcome {
    let played = session.played.load(Relaxed);
    if let Some(truncation) = cut_short {
        return Outcome::Trouble(session.troubles.hopeless(&truncation.cause));
    }
    let finite = || pipeline.query_duration::<gst::ClockTime>().is_some();
    let is_end = match session.troubles.kind.end {
        EndMeans::Ended => true,
        EndMeans::EndedIfFinite => finite(),
        EndMeans::Lost => session.options.mode == Mode::Batch,
    };
    match (is_end, played) {
        (true, true) => Outcome::Ended,
        // All of it was seen in an earlier run.
        (true, false) if session.resume.is_resumed() => Outcome::Ended,
        (true, false) if session.troubles.kind.healing == Healing::Never || session.options.mode == Mode::Batch => {
            let cause = match session.chosen.iter().any(|c| c.load(Relaxed)) {
                true => "it ended without a picture or sound that could be decoded",
                false => "it has none of the pictures or sound that are wanted",
            };
            let left_out = session.left_out.lock().take();
            Outcome::Trouble(left_out.unwrap_or_else(|| session.troubles.hopeless(cause)))
        }
        (_, played) => Outcome::Trouble(session.troubles.lost(played, "the source closed the connection")),
    }
}
