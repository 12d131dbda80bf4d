//! One attached stream: its supervising thread, which opens the source, watches it and opens it anew after an outage.
//! Must never take another stream down with it: all it shares with others is the process.

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{
    media::{MediaConsumer, Notice, StreamName},
    redact::SourceUrl,
    shutdown::Shutdown,
};

use crate::{
    announcer::{Announcer, Outage},
    config::{Mode, SourceConfig, StreamOptions},
    error::IngestError,
    registry::{self, Healing, Opening},
    resume::Beginning,
    session::{self, Finished, Outcome, Try},
    timeline::Track,
    trouble::{Trouble, Troubles},
};

/// Checks a URL without opening it, as [`Stream::spawn`] does: so that a configuration can be refused whole.
///
/// # Errors
/// A URL that no source takes or that is incomplete, GStreamer missing.
pub fn check(stream: &StreamName, url: &SourceUrl, config: &SourceConfig) -> Result<(), IngestError> {
    crate::init()?;
    let promised = Arc::default();
    let opening = Opening { stream, url, config, attempt: 1, video: true, audio: true, promised: &promised };
    (registry::kind_of(url).open)(&opening).map(drop)
}

/// A running stream. Dropping it stops it and waits for its end.
pub struct Stream {
    stop: Shutdown,
    finished: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Checks the options and starts the supervising thread; media and notices then go to `consumer` until
    /// [`Notice::Ended`], [`Notice::Failed`] or [`Stream::stop`].
    ///
    /// Errors: a URL that no source takes or that is incomplete, a sampling that cannot be meant, GStreamer missing.
    /// Whether the source is there is not known yet: that is told as a notice.
    pub fn spawn(options: StreamOptions, consumer: Arc<dyn MediaConsumer>) -> Result<Self, IngestError> {
        crate::init()?;
        options.sampling.check()?;
        let kind = registry::kind_of(&options.url);
        let opening = Opening {
            stream: &options.info.name,
            url: &options.url,
            config: &options.source,
            attempt: 1,
            video: options.wants(Track::Video),
            audio: options.wants(Track::Audio),
            promised: &Arc::default(),
        };
        // Made once to check the URL, and let go unopened.
        drop((kind.open)(&opening)?);
        let (stop, finished) = (Shutdown::default(), Arc::new(AtomicBool::new(false)));
        let name = options.info.name.to_string();
        let supervisor = Supervisor {
            troubles: Troubles { url: options.url.clone(), kind },
            announcer: Arc::new(Announcer::new(Arc::clone(&consumer))),
            options: Arc::new(options),
            consumer,
            stop: stop.clone(),
        };
        let mark = SetWhenDropped(Arc::clone(&finished));
        let thread = std::thread::Builder::new()
            .name(format!("in-{name}"))
            .spawn(move || {
                let _mark = mark;
                supervisor.run();
                supervisor.close("the stream was detached, or the service is stopping");
            })
            .map_err(|e| IngestError::Thread { stream: name, cause: e.to_string() })?;
        Ok(Self { stop, finished, thread: Some(thread) })
    }

    /// Asks the stream to stop; returns at once. In batch mode a consumer that blocks must go on taking, or refuse,
    /// until [`Stream::join`] returns.
    pub fn stop(&self) {
        self.stop.trigger();
    }

    /// Whether the stream has told its last: it ended, failed or was stopped.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits until the stream is finished; does not stop it. Afterwards its pipeline and its threads are gone.
    pub fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        // A panic of the thread has been printed by the panic hook already; there is nothing more to tell of it.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop();
        self.wait();
    }
}

/// Also when the thread unwinds.
struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Supervisor {
    options: Arc<StreamOptions>,
    consumer: Arc<dyn MediaConsumer>,
    announcer: Arc<Announcer>,
    troubles: Troubles,
    stop: Shutdown,
}

impl Supervisor {
    /// Viewers are told why no more comes; the first cause counts.
    fn close(&self, why: &str) {
        if let Some(relay) = &self.options.relay {
            relay.close(why);
        }
    }

    fn run(&self) {
        let clock = &self.options.clock;
        let mut attempt = 1;
        let mut n_failures = 0;
        let mut waited = Duration::ZERO;
        let mut beginning = self.options.start_at.map_or(Beginning::Anew, |start| Beginning::Sought(start.position));
        loop {
            self.announcer.tell(Notice::Connecting { attempt });
            let began = clock.monotonic();
            let Self { options, consumer, announcer, troubles, stop, .. } = self;
            let one = Try { attempt, beginning, findings: None, stop };
            let finished = session::run(options, consumer, announcer, troubles, one);
            let now = clock.monotonic();
            let trouble = match &finished.outcome {
                Outcome::Ended => {
                    self.close("the source came to its end");
                    return self.announcer.over(None, Some(Notice::Ended), now);
                }
                Outcome::Stopped => return self.announcer.over(None, None, now),
                Outcome::CannotSeek => {
                    if let Beginning::Sought(place) = beginning {
                        beginning = Beginning::Skipped(place);
                    }
                    continue;
                }
                Outcome::Trouble(trouble) => trouble.clone(),
            };
            let outage = outage(&finished, &trouble);
            if trouble.healing == Healing::Never || self.options.mode == Mode::Batch {
                self.close(&trouble.detail);
                let failed = Notice::Failed { detail: trouble.detail };
                // What broke while it played is a gap too; what never played has none.
                let began = finished.played.is_some().then_some(outage);
                return self.announcer.over(began, Some(failed), now);
            }
            if finished.played.is_some() {
                attempt = 0;
                // Only whoever goes on with a recording does so again: the others begin anew, as ever.
                if beginning != Beginning::Anew {
                    let place = Beginning::Sought(finished.last_pts);
                    beginning = if finished.resumable { place } else { Beginning::Anew };
                }
                // A source that comes and goes within moments is not well yet: it waits longer each time.
                if now.saturating_sub(began) > waited {
                    n_failures = 0;
                }
            }
            attempt += 1;
            n_failures += 1;
            waited = self.options.source.reconnect.wait(n_failures, chance());
            self.announcer.interrupted(outage, waited);
            if self.stop.wait_timeout(waited) {
                return self.announcer.over(None, None, clock.monotonic());
            }
        }
    }
}

fn outage(finished: &Finished, trouble: &Trouble) -> Outage {
    Outage {
        session: finished.played.clone(),
        from: finished.last_pts,
        since: finished.last_media,
        reason: trouble.reason,
        detail: trouble.detail.clone(),
    }
}

/// A number from 0 to 1 that differs between streams and processes; not for secrets.
fn chance() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}
