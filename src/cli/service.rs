//! The service itself, from a checked configuration to the last record: what `run` and `demo` have in common. On the caller's
//! thread, which waits here until all is over.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use base::{
    shutdown::Shutdown,
    time::{Clock, SystemClock},
};
use sinks::control::{ClusterConfig, Embedded, KafkaPlane, Plane};

use crate::{
    config::{self, Checked},
    control::{
        desk::Board,
        fence::Fence,
        folder::Folder,
        keeper::{
            FixedStream,
            thread::{Control, ControlOptions, FROZEN, desk},
        },
        reload::Reloader,
        resolver::{Resolver, Settings},
        selectors::DEFAULT_PROFILE,
    },
    evidence::{AlertDesk, DESK_FILE, EvidenceStore},
    front::{Front, GOODBYE},
    history::History,
    http::{HttpServer, control::Control as HttpControl},
    probing::Probing,
    stream::{Analysis, Outcome},
    topology::{House, ModelSettings, Running, SinkOutcome},
    traces::Traces,
};

/// What became of it.
pub(super) struct Ended {
    /// The streams.
    pub(super) analyses: Vec<Arc<Analysis>>,
    /// The sinks.
    pub(super) sinks: Vec<SinkOutcome>,
    /// What is kept of alerts, where there are rules.
    pub(super) evidence: Option<EvidenceStore>,
    /// A stream has failed, or could not be run.
    pub(super) failed: bool,
}

/// Whether streams can come and go while it runs.
pub(super) fn keeps_store(config: &Checked) -> bool {
    config.attachments.is_some() || config.cluster.is_some() || config.http.is_some()
}

/// Runs until the shutdown, the end of every source, or for as long as `lasts`. `file` is read anew when it changes. Once all
/// stands, `opened` is told where the HTTP service listens.
///
/// # Errors
/// What cannot be started at all; nothing runs then.
pub(super) fn serve(
    config: &Checked,
    file: Option<&Path>,
    shutdown: &Shutdown,
    lasts: Option<Duration>,
    opened: impl FnOnce(Option<SocketAddr>),
) -> anyhow::Result<Ended> {
    let keeps_store = keeps_store(config);
    let models = ModelSettings { engine: config.inference.clone(), speech: config.speech.clone() };
    let clock = SystemClock::new();
    let grace = config.service.grace();
    let worker = Worker::of(config.cluster.as_ref());
    let resolver = resolver(config);
    let (desk, wishes) = desk();
    let fence = Fence::new(Arc::clone(&clock), if config.cluster.is_some() { FROZEN } else { Duration::MAX });
    let fixed = fixed(config);
    let advertised = config.http.as_ref().and_then(|http| http.advertise.clone());
    let mut front = config.http.clone().map(|http| Front::new(http, &config.hls, &clock));
    let kept = front.is_some() && config.history.enabled;
    let players = front.as_ref().and_then(Front::players);
    let history = kept.then(|| History::open(config.history.clone(), players.clone(), &clock));
    if let (Some(front), Some(history)) = (&mut front, &history) {
        front.keep_history(history.clone());
    }
    if let Some(front) = &mut front {
        front.watch_folders(folders(config));
    }
    let onlookers = front.as_ref().map(Front::onlookers);
    let mut house = House::new(models, Arc::clone(&clock));
    house.put_up_fence(Arc::clone(&fence));
    let traces = config.traces.as_ref().map(Traces::start).transpose().context("[traces]")?;
    if let Some(traces) = &traces {
        house.trace(Arc::clone(traces) as _);
    }
    // Every model is loaded, and every profile held against its model, before an output is opened or a stream starts.
    for stream in &config.streams {
        house.prepare(&stream.profile).map_err(|e| e.context(format!("stream `{}`", stream.name)))?;
    }
    if config.cluster.is_some() {
        // A stream may come at any moment, and whoever hands it over does not wait for long.
        for (name, profile) in &config.profiles {
            house.prepare(profile).map_err(|e| e.context(format!("profile `{name}`")))?;
        }
    }
    let evidence = match EvidenceStore::open(config.evidence.clone(), players, Arc::clone(&clock)) {
        Ok(store) => Some(store),
        // The first rule may come while the service runs, or never.
        Err(why) if config.rules.is_empty() => {
            tracing::warn!("nothing will be kept of alerts, should there ever be any: [evidence]: {why:#}");
            None
        }
        Err(why) => return Err(why.context("[evidence]")),
    };
    if let Some(store) = &evidence {
        house.keep_evidence(store.clone());
    }
    let alert_desk = match &front {
        Some(_) => AlertDesk::open(config.evidence.path.join(DESK_FILE), Arc::clone(&clock)),
        None => AlertDesk::in_memory(Arc::clone(&clock)),
    };
    house.listen_to_desk(alert_desk.clone());
    house.connect(&config.sinks, &Running::Live, onlookers, grace)?;
    let profiles = config.streams.iter().map(|s| &s.profile).chain(config.profiles.values());
    let prober = Arc::new(Probing::new(Arc::clone(&resolver), Arc::clone(&clock)));
    let shown = HttpControl::new(desk.clone(), keeps_store, &resolver, Some(prober));
    let server = front
        .map(|front| {
            front.open(
                &house,
                profiles,
                shown,
                (evidence.clone().filter(EvidenceStore::is_enabled), alert_desk.clone()),
                &clock,
            )
        })
        .transpose()?;
    if let Some(server) = &server {
        tracing::info!(address = %server.local_addr(), "the HTTP service listens");
        if config.cluster.is_some() && advertised.is_none() && own_address(server.local_addr()).is_none() {
            tracing::warn!("other workers cannot say where this one is: set `advertise` under [http]");
        }
    }
    let n_streams = fixed.len();
    let options = ControlOptions {
        worker: worker.id,
        capacity: worker.capacity,
        session_timeout: worker.session_timeout,
        address: advertised.or_else(|| own_address(server.as_ref()?.local_addr())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fixed,
        desk: desk.clone(),
        wishes,
        fence,
        clock: Arc::clone(&clock),
    };
    // Not before everything else stands: from here on leases may be granted.
    let plane = if keeps_store { Some(plane(config, &options.worker, &clock)?) } else { None };
    let control = Control::start(plane, house.stage(), Box::new(Arc::clone(&resolver)), options)
        .context("cannot start thread keeper")?;
    let helpers = helpers(file, config, &resolver, &control, shutdown)?;
    house.settle_in();
    tracing::info!(n_streams, "running");
    opened(server.as_ref().map(HttpServer::local_addr));
    let until = lasts.map(|lasts| clock.monotonic() + lasts);
    let is_over = || control.finished() || until.is_some_and(|until| clock.monotonic() >= until);
    while !is_over() && !shutdown.wait_timeout(Duration::from_millis(200)) {}
    shutdown.trigger();
    let has_refused = has_failed(desk.board());
    house.wind_up();
    // What is published until then still needs the outputs.
    let stopping = control.stopping();
    let stage = house.while_streams_go(|| stopping.load(Relaxed), || control.close(grace));
    let (analyses, sinks) = house.close();
    if let Some(traces) = &traces {
        traces.close();
    }
    for helper in helpers {
        if helper.join().is_err() {
            tracing::error!("a thread of the control plane had panicked; this is a bug");
        }
    }
    if let Some(server) = server {
        server.stop(GOODBYE);
    }
    alert_desk.close();
    if let Some(history) = history {
        history.close();
    }
    let failed = stage.is_none() || has_refused || analyses.iter().any(|a| matches!(a.outcome(), Outcome::Failed(_)));
    Ok(Ended { analyses, sinks, evidence, failed })
}

/// Who this process is to the plane.
struct Worker {
    id: String,
    capacity: f32,
    session_timeout: Option<Duration>,
}

impl Worker {
    fn of(cluster: Option<&ClusterConfig>) -> Self {
        match cluster {
            Some(cluster) => Self {
                id: cluster.worker_id(),
                capacity: cluster.capacity,
                session_timeout: Some(cluster.session_timeout()),
            },
            None => Self { id: "local".into(), capacity: 1.0, session_timeout: None },
        }
    }
}

/// Where others reach the service; nobody reaches `0.0.0.0`.
fn own_address(listens_at: SocketAddr) -> Option<String> {
    (!listens_at.ip().is_unspecified()).then(|| listens_at.to_string())
}

fn plane(config: &Checked, worker: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Box<dyn Plane>> {
    if let Some(cluster) = &config.cluster {
        let plane = KafkaPlane::open(cluster, worker, Arc::clone(clock)).context("[cluster]")?;
        return Ok(Box::new(plane));
    }
    let store = config.attachments.clone().unwrap_or_default().store;
    match Embedded::open(&store, Arc::clone(clock)) {
        Ok(plane) => Ok(Box::new(plane)),
        // Nobody asked for a store: then what is attached is not kept.
        Err(why) if config.attachments.is_none() => {
            tracing::warn!("what is attached is not kept over a restart: {why}; or set `store` under [attachments]");
            Ok(Box::new(Embedded::in_memory(Arc::clone(clock))))
        }
        Err(why) => Err(why).context("the store of attachments"),
    }
}

fn resolver(config: &Checked) -> Arc<Resolver> {
    let streams: BTreeMap<_, _> = config.streams.iter().map(|s| (s.name.to_string(), s.clone())).collect();
    Resolver::new(Settings {
        profiles: config.profiles.clone(),
        rules: config.rules.clone(),
        secrets: config.secrets.clone(),
        streams,
    })
}

/// The streams of the file, each with the name of its profile.
fn fixed(config: &Checked) -> Vec<FixedStream> {
    let name_of = |stream: &config::CheckedStream| {
        let is_it = |(_, profile): &(&String, &config::ProfileConfig)| {
            config::ProfileConfig { select: Default::default(), ..(*profile).clone() } == stream.profile
        };
        config.profiles.iter().find(is_it).map_or(DEFAULT_PROFILE, |(name, _)| name.as_str()).to_owned()
    };
    config.streams.iter().map(|stream| FixedStream { profile: name_of(stream), stream: stream.clone() }).collect()
}

/// Folders that are written to, with what each is for.
fn folders(config: &Checked) -> Vec<(String, PathBuf)> {
    let spool = |(name, sink): (&String, &sinks::SinkConfig)| {
        let spool = sink.spool().filter(|spool| spool.store == sinks::delivery::Store::Disk)?;
        Some((format!("spool of {name}"), spool.directory(name)))
    };
    let mut folders: Vec<_> = config.sinks.iter().filter_map(spool).collect();
    if config.evidence.enabled {
        folders.push(("alerts".to_owned(), config.evidence.path.clone()));
    }
    if config.history.enabled {
        folders.push(("history".to_owned(), config.history.dir.clone()));
    }
    if config.cluster.is_none() {
        folders.push(("attachments".to_owned(), config.attachments.clone().unwrap_or_default().store));
    }
    folders
}

/// Threads that look for changes: of the configuration, of the watched folder.
fn helpers<S: crate::control::stage::Stage + 'static>(
    file: Option<&Path>,
    config: &Checked,
    resolver: &Arc<Resolver>,
    control: &Control<S>,
    shutdown: &Shutdown,
) -> anyhow::Result<Vec<std::thread::JoinHandle<()>>> {
    let mut helpers = Vec::new();
    if let Some(file) = file {
        let reloader = Reloader::new(file, Arc::clone(resolver)).map_err(|e| anyhow::anyhow!("{e}"))?;
        helpers.push(reloader.watch(shutdown.clone()).context("cannot start thread reload")?);
    }
    if let Some(path) = config.attachments.as_ref().and_then(|attachments| attachments.folder.clone()) {
        let folder = Folder {
            path,
            resolver: Arc::clone(resolver),
            desk: control.desk(),
            leads: control.leads(),
            shutdown: shutdown.clone(),
        };
        helpers.push(folder.watch().context("cannot start thread folder")?);
    }
    Ok(helpers)
}

fn has_failed(board: &Board) -> bool {
    use crate::control::attachment::Origin;
    let has_failed = |report: &crate::control::report::Report| report.state == "failed";
    board.streams().iter().any(|(_, s)| s.origin == Origin::Config && s.report.as_ref().is_some_and(has_failed))
}
