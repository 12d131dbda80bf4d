//! The keeper's thread: brings news, wishes and readings to the state machine and does what it says. One thread, `keeper`.
//! It ticks the fence at least every 250 ms, as long as the stage takes no longer than that to start one stream.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{
    queue::{self, Receiver, WhenFull},
    time::Clock,
};
use parking_lot::Mutex;
use sinks::control::{News, Plane};
use tokio::sync::oneshot;

use super::{Action, FixedStream, Input, Keeper, Me, Moment, resolve::Resolve};
use crate::control::{
    desk::{Board, Desk, Granted, MOST_WAITING, Refused, Request},
    fence::Fence,
    stage::Stage,
};

/// So long the keeper waits for news before it looks around.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often streams are read.
const READ_EVERY: Duration = Duration::from_millis(200);
/// Without a tick for so long, the process counts as frozen: [`Fence::new`] is to be given the same.
pub const FROZEN: Duration = Duration::from_secs(3);
/// Wishes taken at a time.
const WISHES_AT_ONCE: usize = 256;

/// Where wishes are handed in, and where the keeper takes them up. Made before the keeper is, so that whoever listens to wishes
/// can be started before the streams are.
pub fn desk() -> (Desk, Receiver<Request>) {
    let (sender, receiver) = queue::queue("wishes", MOST_WAITING, WhenFull::DropNewest);
    (Desk::new(sender, Arc::new(Board::default())), receiver)
}

/// What the keeper needs to know.
pub struct ControlOptions {
    /// The worker's id. No two workers at a time should have the same.
    pub worker: String,
    /// Weight that it can take, next to other workers.
    pub capacity: f32,
    /// How long the plane waits for a silent worker; none where there are no others, so that nothing is ever fenced.
    pub session_timeout: Option<Duration>,
    /// Address of the HTTP service for others, if any.
    pub address: Option<String>,
    /// Version of the program.
    pub version: String,
    /// The streams of the configuration file.
    pub fixed: Vec<FixedStream>,
    /// See [`desk`].
    pub desk: Desk,
    /// See [`desk`].
    pub wishes: Receiver<Request>,
    /// What publishers look at; ticked here.
    pub fence: Arc<Fence>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The running keeper.
pub struct Control<S> {
    desk: Desk,
    fence: Arc<Fence>,
    orders: Arc<Orders>,
    thread: JoinHandle<S>,
}

/// What the keeper is told, and tells, beside news and wishes.
#[derive(Default)]
struct Orders {
    leave: Mutex<Option<Duration>>,
    is_idle: AtomicBool,
    keeps_store: AtomicBool,
    leads: Arc<AtomicBool>,
    is_stopping: Arc<AtomicBool>,
}

impl<S: Stage + 'static> Control<S> {
    /// Starts the thread. Without a plane, the streams of the configuration are run and nothing is kept.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        plane: Option<Box<dyn Plane>>,
        stage: S,
        resolver: Box<dyn Resolve>,
        options: ControlOptions,
    ) -> io::Result<Self> {
        let ControlOptions { worker, capacity, session_timeout, address, version, fixed, desk, wishes, fence, clock } =
            options;
        let n_leases = plane.as_ref().map_or(0, |plane| plane.n_leases());
        let claimant = format!("{worker}#{:016x}", RandomState::new().hash_one(std::process::id()));
        let me = Me { worker, claimant, capacity, address, version, n_leases, session_timeout };
        let orders = Arc::new(Orders::default());
        orders.keeps_store.store(plane.is_some(), Relaxed);
        let generation = resolver.generation();
        let mut office = Office {
            keeper: Keeper::new(me, fixed, resolver, Moment { mono: clock.monotonic(), wall: clock.wall() }),
            ticked_at: clock.monotonic(),
            read_at: None,
            woke: false,
            plane,
            stage,
            desk: desk.clone(),
            wishes,
            fence: Arc::clone(&fence),
            clock,
            orders: Arc::clone(&orders),
            replies: BTreeMap::new(),
            n_wishes: 0,
            n_leases,
            generation,
        };
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
            office.work();
            office.stage
        })?;
        Ok(Self { desk, fence, orders, thread })
    }

    /// Where wishes are handed in.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Whether anything may be published.
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Whether this worker does what one does for all, such as following the watched folder. Kept up to date.
    pub fn leads(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.orders.leads)
    }

    /// Whether nobody is waited for any more: every stream that still runs was told to stop. Kept up to date.
    pub fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.orders.is_stopping)
    }

    /// Every stream of the configuration has ended or failed.
    pub fn idle(&self) -> bool {
        self.orders.is_idle.load(Relaxed)
    }

    /// The same, and no store is kept from which others could come: there is nothing left to do.
    pub fn finished(&self) -> bool {
        self.idle() && !self.orders.keeps_store.load(Relaxed) || self.thread.is_finished()
    }

    /// Begins to leave: gives the leases back, and lets go of each stream once a successor plays, or after ten seconds, if
    /// `grace` is not shorter. Returns at once.
    pub fn leave(&self, grace: Duration) {
        self.orders.leave.lock().get_or_insert(grace);
    }

    /// Leaves, and waits until it has left. Gives the stage back; none where the thread had panicked.
    pub fn close(self, grace: Duration) -> Option<S> {
        self.leave(grace);
        self.thread.join().map_err(|_| tracing::error!("the keeper's thread had panicked; this is a bug")).ok()
    }
}

/// The keeper at work.
struct Office<S> {
    keeper: Keeper,
    plane: Option<Box<dyn Plane>>,
    stage: S,
    desk: Desk,
    wishes: Receiver<Request>,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
    orders: Arc<Orders>,
    replies: BTreeMap<u64, oneshot::Sender<Result<Granted, Refused>>>,
    n_wishes: u64,
    n_leases: u32,
    generation: u64,
    ticked_at: Duration,
    read_at: Option<Duration>,
    woke: bool,
}

impl<S: Stage> Office<S> {
    fn work(&mut self) {
        let mut news: Vec<News> = Vec::new();
        let mut requests: Vec<Request> = Vec::new();
        let mut inputs: Vec<Input> = Vec::new();
        while !self.keeper.has_left() {
            let patience = if self.keeper.is_busy() || !inputs.is_empty() { Duration::ZERO } else { PATIENCE };
            match &mut self.plane {
                Some(plane) => {
                    plane.news(patience, &mut news);
                    let n_leases = plane.n_leases();
                    if n_leases != std::mem::replace(&mut self.n_leases, n_leases) {
                        inputs.push(Input::Leases(n_leases));
                    }
                    self.wishes.recv_many(WISHES_AT_ONCE, Duration::ZERO, &mut requests);
                }
                None => drop(self.wishes.recv_many(WISHES_AT_ONCE, patience, &mut requests)),
            }
            self.tick();
            if std::mem::take(&mut self.woke) {
                inputs.insert(0, Input::Woke);
            }
            inputs.extend(news.drain(..).map(Input::News));
            let generation = self.keeper.generation();
            if self.generation != generation {
                self.generation = generation;
                inputs.push(Input::Profiles);
            }
            let now = self.clock.monotonic();
            if self.read_at.is_none_or(|at| now.saturating_sub(at) >= READ_EVERY) {
                self.read_at = Some(now);
                inputs.push(Input::Readings(self.stage.readings()));
            }
            for request in requests.drain(..) {
                self.n_wishes += 1;
                self.replies.insert(self.n_wishes, request.reply);
                inputs.push(Input::Wish { id: self.n_wishes, wish: request.wish, origin: request.origin });
            }
            if let Some(grace) = *self.orders.leave.lock() {
                inputs.push(Input::Leave { grace });
            }
            let actions = self.keeper.step(self.moment(), inputs.drain(..));
            for action in actions {
                self.act(action, &mut inputs);
            }
            self.orders.is_idle.store(self.keeper.fixed_are_over(), Relaxed);
            self.orders.leads.store(self.keeper.leads(), Relaxed);
            self.orders.is_stopping.store(self.keeper.is_stopping(), Relaxed);
        }
    }

    fn moment(&self) -> Moment {
        Moment { mono: self.clock.monotonic(), wall: self.clock.wall() }
    }

    /// Tells the fence that the keeper is awake. Where it was not for long, the fence is held before it can open.
    fn tick(&mut self) {
        let now = self.clock.monotonic();
        // Where there are no other workers nobody can have taken anything meanwhile.
        if now.saturating_sub(self.ticked_at) > FROZEN && self.keeper.me.session_timeout.is_some() {
            self.woke = true;
            self.fence.hold(true);
        }
        self.ticked_at = now;
        self.fence.tick();
    }

    fn act(&mut self, action: Action, inputs: &mut Vec<Input>) {
        match action {
            Action::Post { ticket, post } => {
                if let Some(plane) = &mut self.plane {
                    plane.post(ticket, post);
                }
            }
            Action::Start(start) => {
                let name = start.stream.name.clone();
                if let Err(detail) = self.stage.start(*start) {
                    inputs.push(Input::NotStarted { name, detail });
                }
                self.tick();
            }
            Action::Earlier { name, earlier } => self.stage.earlier(&name, earlier),
            Action::Rules { name, rules } => self.stage.rules(&name, rules),
            Action::Detached(name) => self.stage.detached(&name),
            Action::Stop(name) => {
                self.stage.stop(&name);
                self.tick();
            }
            Action::Leave => {
                if let Some(plane) = &mut self.plane {
                    plane.leave();
                }
            }
            // One that wakes while it does what was decided before stays held until that is told.
            Action::Hold(held) => self.fence.hold(held || self.woke),
            Action::Answer { id, answer } => {
                // Whoever asked may have gone.
                let _ = self.replies.remove(&id).map(|reply| reply.send(answer));
            }
            Action::Show { name, listed: Some(listed) } => self.desk.board().show(&name, *listed),
            Action::Show { name, listed: None } => self.desk.board().forget(&name),
            Action::ShowWorker { id, listed } => self.desk.board().worker(&id, listed),
            Action::ShowTrouble(trouble) => self.desk.board().set_trouble(trouble),
        }
    }
}
