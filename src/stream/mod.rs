//! One stream's analysis: takes frames and sound from ingest, hands them to the models, publishes what comes back.
//!
//! `frame` and `audio` run on the stream's decoding threads and only enqueue; results come back on the models' threads;
//! `notice` runs on the stream's supervising thread. Never does I/O.

mod account;
pub mod eyes;
mod hearing;
pub mod holdup;
mod options;
pub mod order;
mod pace;
mod sight;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{
    event::{Body, Event, Gap, Status, StreamState},
    ledger::{DropReason, Ledger},
    media::{
        AudioChunk, Frame, GapReason, MediaConsumer, MediaSegment, Notice, SessionId, SourceDescription, StreamInfo,
    },
    time::{Clock, Pts},
};
use inference::{
    InferenceError,
    captions::Captioner,
    engine::LanePolicy,
    filter::DetectionFilter,
    rules::{Carried, Rule, Rules},
    speech::pool::{Ear, EarPolicy, EarReading},
};
use parking_lot::Mutex;

pub use self::{
    account::{Counts, Findings, Outcome, Reached, Standing},
    options::{AnalysisOptions, HearingOptions, SightOptions},
};
use self::{
    account::{Life, Unsure},
    eyes::EyesLane,
    hearing::Hearing,
    holdup::{State, Watch},
    order::Outlet,
    pace::Pace,
    sight::Sight,
};
use crate::{
    control::{
        fence::{Gate, Held},
        report::Figures,
        stage::Earlier,
    },
    evidence,
    hls::HlsStore,
    topology::Fanout,
};

/// One stream's analysis and accounts.
pub struct Analysis {
    info: Arc<StreamInfo>,
    ledger: Ledger,
    /// Emptied at the close, so that the sinks see their last sender go.
    outlet: Mutex<Outlet>,
    lane: Mutex<Option<EyesLane>>,
    ear: Mutex<Option<Arc<Ear>>>,
    hearing: Mutex<Option<Arc<Mutex<Hearing>>>>,
    life: Arc<Mutex<Life>>,
    players: Option<Arc<HlsStore>>,
    /// While it is closed, pictures are not looked at.
    gate: Option<Arc<Gate>>,
    pace: Mutex<Pace>,
    clock: Arc<dyn Clock>,
    is_detached: AtomicBool,
    /// Not yet taken.
    wanted_rules: Mutex<Option<Vec<Arc<Rule>>>>,
    /// Held while they are: the newest are taken last.
    exchanging: Mutex<()>,
    /// What the results have added up to.
    pub findings: Arc<Findings>,
}

impl Analysis {
    /// Opens the stream's ways into the models.
    ///
    /// # Errors
    /// When the filter names a class that the detector does not know, or a language that the transcriber does not.
    pub fn start(options: AnalysisOptions) -> Result<Arc<Self>, InferenceError> {
        let ledger = Ledger::default();
        let findings = Arc::new(Findings::default());
        // What happens before the first session (a refused password, say) belongs to a session too: this one.
        let session = options.session.unwrap_or_else(|| SessionId::live(options.clock.wall()));
        let carried = match (&options.earlier, &options.evidence) {
            (Some(earlier), _) => earlier.alerts.clone(),
            // Nobody else can have had a stream without a lease.
            (None, Some(store)) if options.info.epoch.is_none() => {
                let cooling = options.rules.iter().filter(|rule| rule.settings().cooldown_secs > 0.0);
                let cooling: Vec<String> = cooling.map(|rule| rule.name().to_owned()).collect();
                let records = store.left_behind(options.info.name.as_str(), cooling);
                records.iter().filter_map(evidence::carried).collect()
            }
            _ => Vec::new(),
        };
        let rules = Rules::new(Arc::clone(&options.info), &options.rules, &carried);
        let life = Arc::new(Mutex::new(Life::new(session, options.earlier)));
        let gate = options.fanout.gate().cloned();
        let looks = options.sight.is_some();
        let outlet = if options.recorded {
            Outlet::recorded(options.fanout, options.sight.is_some() && options.hearing.is_some())
        } else {
            let watch = options.sight.as_ref().map(|_| {
                Arc::new(Watch {
                    info: Arc::clone(&options.info),
                    ledger: ledger.clone(),
                    life: Arc::clone(&life),
                    findings: Arc::clone(&findings),
                    clock: Arc::clone(&options.clock),
                    state: Mutex::new(State::new(options.clock.monotonic())),
                })
            });
            Outlet::live(options.fanout, watch)
        };
        // A recording has the rules that it begins with.
        let outlet = match options.recorded && rules.is_empty() {
            true => outlet,
            false => outlet.ruled(rules, options.evidence, options.desk),
        };
        let lane = match options.sight {
            None => None,
            Some(sight) => {
                let mut results = Sight {
                    info: Arc::clone(&options.info),
                    model: sight.engine.model_id(),
                    classes: sight.engine.classes(),
                    thresholds: sight.engine.thresholds(&sight.filter)?,
                    strict: sight.filter.score.is_some() || !sight.filter.per_class.is_empty(),
                    tracker_config: sight.tracker,
                    tracker: None,
                    newest_track: 0,
                    outlet: outlet.clone(),
                    clock: Arc::clone(&options.clock),
                    findings: Arc::clone(&findings),
                    tracer: options.tracer,
                    preview: options.preview,
                };
                // The tracker's second pass lives on detections too weak to be reported by themselves.
                let low_score = results.tracker_config.as_ref().map(|t| t.low_score);
                let filter = DetectionFilter { low_score, ..sight.filter };
                let policy = if options.recorded { LanePolicy::Block } else { LanePolicy::Latest };
                let on_seen = Box::new(move |frame, seen| results.take(frame, seen));
                Some(sight.engine.lane(options.info.name.clone(), policy, ledger.clone(), &filter, on_seen)?)
            }
        };
        let (ear, hearing) = match options.hearing {
            None => (None, None),
            Some(hearing) => {
                let results = Arc::new(Mutex::new(Hearing {
                    info: Arc::clone(&options.info),
                    captioner: Captioner::new(hearing.captions),
                    life: Arc::clone(&life),
                    outlet: outlet.clone(),
                    findings: Arc::clone(&findings),
                    players: options.players.clone(),
                    clock: (!looks).then(|| Arc::clone(&options.clock)),
                    session: None,
                    n_transcripts: 0,
                    n_captions: 0,
                    anchor: None,
                }));
                let policy = if options.recorded { EarPolicy::Block } else { EarPolicy::Live };
                let shared = Arc::clone(&results);
                let on_heard = Box::new(move |heard| shared.lock().take(heard));
                let ear = hearing.pool.ear(options.info.name.clone(), policy, &hearing.speech, on_heard)?;
                (Some(Arc::new(ear)), Some(results))
            }
        };
        Ok(Arc::new(Self {
            info: options.info,
            ledger,
            outlet: Mutex::new(outlet),
            lane: Mutex::new(lane),
            ear: Mutex::new(ear),
            hearing: Mutex::new(hearing),
            life,
            players: options.players,
            gate,
            pace: Mutex::default(),
            clock: options.clock,
            is_detached: AtomicBool::new(false),
            wanted_rules: Mutex::default(),
            exchanging: Mutex::default(),
            findings,
        }))
    }

    /// Name and tags.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// What became of it.
    pub fn outcome(&self) -> Outcome {
        self.life.lock().outcome.clone()
    }

    /// What the source turned out to be, once it played.
    pub fn source(&self) -> Option<SourceDescription> {
        self.life.lock().source.clone()
    }

    /// Its state and how far it has come.
    pub fn standing(&self) -> Standing {
        let life = self.life.lock();
        let (state, detail) = life.state.clone().map_or((None, None), |(state, detail)| (Some(state), detail));
        let earlier = life.earlier.as_ref().map(Reached::from);
        let resumable = life.resumable.unwrap_or(true);
        drop(life);
        Standing { state, detail, resumable, reached: self.findings.counts.lock().reached.clone().or(earlier) }
    }

    /// Its counters, for people. Rates are over the last seconds in which somebody asked for them.
    pub fn figures(&self) -> Figures {
        let ledger = self.ledger.read();
        let dropped = |reason: DropReason| {
            let n = ledger.dropped(reason);
            (n > 0).then(|| (reason.as_str().to_owned(), n))
        };
        Figures {
            fps: self.pace.lock().rate(self.clock.monotonic(), ledger.n_inferred),
            latency_ms: self.findings.latency.quantile_ms(0.5),
            speech_lag_ms: self.hearing().map(|ear| u64::try_from(ear.lag.as_millis()).unwrap_or(u64::MAX)),
            n_decoded: ledger.n_decoded,
            n_inferred: ledger.n_inferred,
            n_dropped: DropReason::ALL.into_iter().filter_map(dropped).collect(),
            n_gaps: self.findings.counts.lock().n_gaps,
        }
    }

    /// Its alerts that are open, or over only just now.
    pub fn open_alerts(&self) -> Vec<Carried> {
        let outlet = self.outlet.lock().clone();
        outlet.open_alerts()
    }

    /// Frames that its rules have not looked at, because later ones had come before.
    pub fn n_late(&self) -> u64 {
        self.outlet.lock().n_late()
    }

    /// It is to have these rules from now on: [`Self::take_rules`] sees to it. Never waits.
    pub fn wish_rules(&self, rules: Vec<Arc<Rule>>) {
        *self.wanted_rules.lock() = Some(rules);
    }

    /// Exchanges the rules for those that were wished last, if any are. May wait for a sink.
    pub fn take_rules(&self) {
        let _one_by_one = self.exchanging.lock();
        let wanted = self.wanted_rules.lock().take();
        if let Some(rules) = wanted {
            tracing::info!(stream = self.info.name.as_str(), n_rules = rules.len(), "its rules have changed");
            let outlet = self.outlet.lock().clone();
            outlet.exchange(&rules);
        }
    }

    /// The run before this one has come to here; if this one plays already, the other one was there when it began.
    pub fn begin_after(&self, earlier: Earlier) {
        let mut life = self.life.lock();
        if life.source.is_none() {
            life.earlier = Some(earlier);
        } else if life.unsure.as_ref().is_some_and(|unsure| earlier.told_at > unsure.told_at) {
            life.unsure = None;
        }
    }

    /// Something is to be told that was held back: at the fence, which is open again, or until it was sure.
    pub fn was_held_back(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.wants_telling())
            || self.life.lock().unsure.as_ref().is_some_and(|unsure| self.clock.monotonic() >= unsure.due)
    }

    /// Tells what was held back, and how the stream is now. May wait for a sink.
    pub fn tell_held_back(&self) {
        let unsure = self.life.lock().unsure.take_if(|unsure| self.clock.monotonic() >= unsure.due);
        if let Some(unsure) = unsure {
            self.tell_absence(unsure.gap);
        }
        let Some(Held { session, from, to }) = self.gate.as_ref().and_then(|gate| gate.reopen()) else { return };
        let stream = self.info.name.as_str();
        tracing::warn!(stream, from_ms = from.millis(), to_ms = to.millis(), "gap: this process was frozen");
        let detail = "this process was frozen; its records were held back until its leases were sure".to_owned();
        let body =
            Body::Gap(Gap { from, to, reason: GapReason::Stalled, n_frames_dropped: None, detail: Some(detail) });
        // The stream may be in another session by now, which counts its own gaps.
        let name = format!("held-{}", from.millis());
        self.findings.counts.lock().n_gaps += 1;
        self.publish(Event::named(&self.info, &session, &name, from, None, body));
        let life = self.life.lock();
        let (state, source) = (life.state.clone(), life.source.clone());
        drop(life);
        if let Some((state, detail)) = state {
            self.status(state, detail, source.filter(|_| state == StreamState::Playing));
        }
    }

    /// Nobody had the stream between an earlier run and this one.
    fn tell_absence(&self, gap: Event) {
        tracing::warn!(stream = self.info.name.as_str(), session = %gap.session, "gap: nobody had the stream");
        self.findings.counts.lock().n_gaps += 1;
        self.publish(gap);
    }

    /// Nobody goes on with it: at its close, what is open is over.
    pub fn detached(&self) {
        self.is_detached.store(true, Relaxed);
    }

    /// After ingest has been joined: infers what is pending, publishes the end, lets go of the model and the sinks.
    pub fn close(&self) {
        if let Some(unsure) = self.life.lock().unsure.as_mut() {
            unsure.due = Duration::ZERO;
        }
        self.tell_held_back();
        self.drain();
        self.lane.lock().take();
        self.ear.lock().take();
        self.hearing.lock().take();
        if self.is_detached.load(Relaxed) {
            let outlet = self.outlet.lock().clone();
            outlet.close_alerts("the stream was detached");
        }
        if self.outcome() == Outcome::Open {
            self.status(StreamState::Stopped, None, None);
        }
        *self.outlet.lock() = Outlet::recorded(Fanout::default(), false);
    }

    fn publish(&self, event: Event) {
        // Not under the lock: a sink may make us wait.
        let outlet = self.outlet.lock().clone();
        outlet.publish_aside(event);
    }

    /// How far behind its speech is, where somebody listens.
    pub fn hearing(&self) -> Option<EarReading> {
        self.ear.lock().as_ref().map(|ear| ear.reading())
    }

    /// Waits until everything that came in has been worked off, and tells it.
    fn drain(&self) {
        if let Some(lane) = &*self.lane.lock() {
            lane.drain();
        }
        // Not under the lock: the words still to come may take a while.
        let ear = self.ear.lock().clone();
        if let Some(ear) = ear {
            ear.end();
            ear.drain();
        }
        if let Some(hearing) = &*self.hearing.lock() {
            hearing.lock().finish();
        }
        // Not under the lock: a sink may make us wait.
        let outlet = self.outlet.lock().clone();
        outlet.flush();
    }

    fn status(&self, state: StreamState, detail: Option<String>, source: Option<SourceDescription>) {
        let mut life = self.life.lock();
        life.pts = life.pts.max(self.findings.counts().pts);
        life.state = Some((state, detail.clone()));
        let event = Event::new(
            &self.info,
            &life.session,
            life.n_status,
            life.pts,
            None,
            Body::Status(Status { state, detail, source }),
        );
        life.n_status += 1;
        drop(life);
        self.publish(event);
    }
}

impl MediaConsumer for Analysis {
    fn frame(&self, frame: Frame) {
        if let Some(gate) = self.gate.as_ref().filter(|gate| !gate.is_open()) {
            gate.hold_back(&frame.session, frame.pts);
            self.ledger.dropped(DropReason::Fenced);
            return;
        }
        if let Some(lane) = &*self.lane.lock() {
            lane.submit(frame);
        }
    }

    fn audio(&self, chunk: AudioChunk) {
        let ear = self.ear.lock().clone();
        if let Some(ear) = ear {
            ear.push(chunk);
        }
    }

    fn segment(&self, segment: MediaSegment) {
        if let Some(players) = &self.players {
            players.segment(&self.info.name, segment);
        }
    }

    fn notice(&self, notice: Notice) {
        let stream = self.info.name.as_str();
        // What was seen before the change is told before the change.
        self.drain();
        match notice {
            Notice::Connecting { attempt } => tracing::debug!(stream, attempt, "connecting"),
            Notice::Playing { session, source, resume } => {
                tracing::info!(stream, %session, source = %describe(&source), "playing");
                let now = self.clock.wall();
                let earlier = {
                    let mut life = self.life.lock();
                    if life.session != session {
                        (life.n_status, life.n_gaps) = (0, 0);
                        life.session = session.clone();
                    }
                    life.pts = Pts::ZERO;
                    life.source = Some(source.clone());
                    let mut counts = self.findings.counts.lock();
                    counts.pts = Pts::ZERO;
                    counts.reached = Some(Reached { session, pts: Pts::ZERO, at: now });
                    life.resumable = Some(resume.resumable);
                    // Whoever goes on where the earlier run was has left nothing out.
                    life.earlier.take().filter(|_| !resume.resumed)
                };
                self.outlet.lock().restart();
                let gap = earlier.and_then(|e| Some((account::gap_since(&e, &self.info, now)?, e)));
                match gap {
                    Some((gap, earlier)) if account::may_be_there(&earlier, now) => {
                        let due = self.clock.monotonic() + account::LAST_WORD;
                        self.life.lock().unsure = Some(Unsure { gap, told_at: earlier.told_at, due });
                    }
                    Some((gap, _)) => self.tell_absence(gap),
                    None => {}
                }
                self.status(StreamState::Playing, None, Some(source));
            }
            Notice::Interrupted { reason, detail, retry_in } => {
                tracing::warn!(stream, reason = reason.as_str(), retry_in_ms = retry_in.as_millis() as u64, "{detail}");
                self.status(StreamState::Interrupted, Some(detail), None);
            }
            Notice::Gap { session, from, to, reason, detail } => {
                let mut life = self.life.lock();
                let session = session.unwrap_or_else(|| life.session.clone());
                let body = Body::Gap(Gap { from, to, reason, n_frames_dropped: None, detail: Some(detail) });
                let event = Event::new(&self.info, &session, life.next_gap(), from, None, body);
                drop(life);
                self.findings.counts.lock().n_gaps += 1;
                let outage = to.since(from);
                tracing::warn!(stream, reason = reason.as_str(), outage_ms = outage.as_millis() as u64, "gap");
                self.publish(event);
            }
            Notice::Ended => {
                tracing::info!(stream, "ended");
                self.life.lock().outcome = Outcome::Ended;
                self.status(StreamState::Ended, None, None);
            }
            Notice::Failed { detail } => {
                tracing::error!(stream, "{detail}");
                self.life.lock().outcome = Outcome::Failed(detail.clone());
                self.status(StreamState::Failed, Some(detail), None);
            }
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// A source in a few words: `h264 768x576, aac`.
pub fn describe(source: &SourceDescription) -> String {
    let tracks: Vec<String> = [&source.video, &source.audio]
        .into_iter()
        .flatten()
        .map(|m| match m.size {
            Some((width, height)) => format!("{} {width}x{height}", m.codec),
            None => m.codec.clone(),
        })
        .collect();
    if tracks.is_empty() { "no media".into() } else { tracks.join(", ") }
}

#[cfg(test)]
mod tests;
