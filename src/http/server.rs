//! Listening, connections and the end: `serve` binds and starts, [`HttpServer::stop`] ends politely.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    AppState, HttpConfig, HttpError, Service,
    audit::AuditLog,
    guard::Guard,
    health, history, openapi,
    patient::Patient,
    probe, routes,
    seats::{Seat, Seats},
    told,
};
use crate::evidence::EvidenceStore;

/// A client has so long to send a request's head, also between two requests of one connection.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// A client that takes nothing of its answer for so long is given up.
const TAKEN_WITHIN: Duration = Duration::from_secs(120);
/// Most bytes of a request's head, and of what waits to be written to one connection.
const BUFFER: usize = 32 * 1024;
/// Connections beyond those of readers: for short requests.
const SPARE_CONNECTIONS: usize = 64;
/// Pause after the machine refused us a connection (no file descriptor left).
const AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// The running service. Dropping it ends it at once.
pub struct HttpServer {
    local_addr: SocketAddr,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// Everything that has to end: connections, and readers that outlive theirs (WebSockets).
    pending: [(Arc<Semaphore>, u32); 3],
}

/// Checks the configuration, listens and serves.
///
/// # Errors
/// What [`HttpConfig::check`] refuses, a token file that cannot be read, an address that cannot be listened on.
pub fn serve(config: &HttpConfig, app: AppState) -> Result<HttpServer, HttpError> {
    config.check()?;
    let guard = Guard::new(config, config.read_users()?, Arc::clone(&app.clock));
    let bind = |source| HttpError::Bind { listen: config.listen, source };
    let listener = std::net::TcpListener::bind(config.listen).map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    let local_addr = listener.local_addr().map_err(bind)?;

    let n_threads = AtomicUsize::new(0);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        // Probes and searches wait on them; four more for files of alerts, and what the runtime itself needs.
        .max_blocking_threads(probe::MOST_AT_ONCE + history::MOST_AT_ONCE + 4)
        .thread_name_fn(move || format!("http-{}", n_threads.fetch_add(1, Relaxed)))
        .enable_all()
        .build()
        .map_err(HttpError::Start)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).map_err(bind)?
    };

    let (stop, stopping) = watch::channel(false);
    let n_clients = config.max_clients.min(Semaphore::MAX_PERMITS / 4).min(u32::MAX as usize / 4);
    let n_connections = n_clients + SPARE_CONNECTIONS;
    let clients = Arc::new(Semaphore::new(n_clients));
    let connections = Arc::new(Semaphore::new(n_connections));
    let changes = Arc::new(Semaphore::new(n_connections));
    let service = Arc::new(Service {
        feed: app.feed,
        views: app.views,
        house: app.house,
        speech: app.speech,
        alerts: app.alerts.filter(EvidenceStore::is_enabled),
        history: app.history.clone(),
        lookups: Arc::new(Semaphore::new(history::MOST_AT_ONCE)),
        control: app.control,
        probes: Arc::new(Semaphore::new(probe::MOST_AT_ONCE)),
        clock: app.clock,
        playlist: app.playlist,
        extra_routes: app.extra_routes,
        openapi: openapi::document(guard.has_token(), app.extra_routes),
        guard,
        clients: Arc::clone(&clients),
        changes: Arc::clone(&changes),
        max_clients: n_clients,
        keep_alive: config.keep_alive(),
        stopping: stopping.clone(),
        requests: Mutex::default(),
        audit: AuditLog::new(app.history),
        desk: app.desk,
        disks: health::Disks::new(app.folders),
        past: Mutex::default(),
    });
    runtime.spawn(health::watch(Arc::clone(&service)));
    let router = routes::router(service, app.extra);
    let seats = Seats::new(n_connections, config);
    runtime.spawn(accept(listener, router, (Arc::clone(&connections), seats), stopping));
    let pending = [(connections, n_connections as u32), (clients, n_clients as u32), (changes, n_connections as u32)];
    Ok(HttpServer { local_addr, runtime, stop, pending })
}

impl HttpServer {
    /// The address it listens on, with the port that port 0 became.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more connections, lets answers in progress end, tells readers and speakers goodbye; cuts off what is
    /// still there after `grace`. Must not be called from the service's own threads.
    pub fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let pending = self.pending;
        let all = async {
            for (permits, n) in &pending {
                // Never closed, so that an error cannot come.
                let _ = permits.acquire_many(*n).await;
            }
        };
        let ended = self.runtime.block_on(async { timeout(grace, all).await });
        if ended.is_err() {
            tracing::info!("clients of the HTTP service did not hang up in time and were cut off");
        }
        self.runtime.shutdown_background();
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    (connections, seats): (Arc<Semaphore>, Seats),
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let accepted = tokio::select! {
            biased;
            () = told(&mut stopping) => return,
            accepted = next => accepted,
        };
        match accepted {
            Some((Ok((stream, peer)), permit)) => {
                let Some(seat) = seats.take(peer.ip()) else {
                    tracing::debug!(peer = %peer.ip(), "it has too many connections: one more is refused");
                    continue;
                };
                tokio::spawn(connection((stream, peer.ip()), router.clone(), (permit, seat), stopping.clone()));
            }
            Some((Err(error), _)) => {
                tracing::warn!(%error, "connection not accepted");
                sleep(AFTER_TROUBLE).await;
            }
            None => return,
        }
    }
}

/// Where a request's connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

async fn connection(
    (stream, peer): (TcpStream, IpAddr),
    router: Router,
    permit: (OwnedSemaphorePermit, Seat),
    mut stopping: watch::Receiver<bool>,
) {
    // A caption is small and must not wait for another one.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Patient::new(stream, TAKEN_WITHIN)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke");
    }
    drop(permit);
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpServer({})", self.local_addr)
    }
}
