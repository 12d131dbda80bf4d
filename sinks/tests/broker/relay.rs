//! A network that can be cut: a TCP proxy on loopback that stands before a broker.
//!
//! Two threads a connection and one that accepts. Must never pass a byte while it is cut.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::node::free_ports;

/// The proxy. Ends, and all its connections with it, when dropped.
pub(crate) struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    upstream_port: u16,
    cut: bool,
    ended: bool,
    /// Both ends of every connection that was ever made and not yet reset.
    ends: Vec<TcpStream>,
    n_bytes: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the network is cut. False once the relay has ended.
    fn pass(&self) -> bool {
        let uncut = self.changed.wait_while(self.state(), |state| state.cut && !state.ended);
        !uncut.unwrap_or_else(PoisonError::into_inner).ended
    }
}

impl Relay {
    /// Listens on a free port of loopback, and passes everything to and from `upstream_port`; [`Relay::forward_to`]
    /// names another later: a broker that must know the relay's port before it starts has none yet (0: nobody there).
    pub(crate) fn start(upstream_port: u16) -> Self {
        let [port] = free_ports();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let shared = Arc::new(Shared::default());
        shared.state().upstream_port = upstream_port;
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("relay".into()).spawn(move || accept(&listener, &accepting)).expect("thread");
        Self { port, shared }
    }

    pub(crate) fn forward_to(&self, upstream_port: u16) {
        self.shared.state().upstream_port = upstream_port;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` of the relay itself.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Nothing passes from now on, in neither direction. Connections stay open, and new ones are taken and not served:
    /// to both sides it looks like a network that swallows everything.
    pub(crate) fn cut(&self) {
        self.shared.state().cut = true;
    }

    /// Everything passes again, what was held back first.
    pub(crate) fn heal(&self) {
        self.shared.state().cut = false;
        self.shared.changed.notify_all();
    }

    /// Closes every connection; what was on its way is gone. Gives their number.
    pub(crate) fn reset(&self) -> usize {
        let ends = std::mem::take(&mut self.shared.state().ends);
        for end in &ends {
            let _ = end.shutdown(Shutdown::Both);
        }
        ends.len() / 2
    }

    /// Bytes that passed so far, both directions together.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.shared.state().n_bytes
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        self.reset();
        // Wakes the one that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.state().ended {
            return;
        }
        let (Ok(client), shared) = (client, Arc::clone(shared)) else { continue };
        thread::Builder::new().name("relay-connection".into()).spawn(move || connect(client, &shared)).expect("thread");
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    if !shared.pass() {
        return;
    }
    let upstream_port = shared.state().upstream_port;
    // Nobody there: the client sees its connection closed.
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream_port)) else { return };
    let copy = |stream: &TcpStream| stream.try_clone().expect("another handle");
    {
        let mut state = shared.state();
        // Those of whom the broker took leave are of no use any more.
        state.ends.retain(|end| end.peer_addr().is_ok());
        state.ends.extend([copy(&client), copy(&server)]);
    }
    let (back_from, back_to, back_shared) = (copy(&server), copy(&client), Arc::clone(shared));
    let back = thread::Builder::new()
        .name("relay-back".into())
        .spawn(move || pump(back_from, back_to, &back_shared))
        .expect("thread");
    pump(client, server, shared);
    let _ = back.join();
}

/// Copies one direction until either side closes.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    // A write to a side that does not read must not keep the relay from ending.
    let _ = to.set_write_timeout(Some(Duration::from_secs(600)));
    let mut buffer = [0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !shared.pass() || to.write_all(&buffer[..n]).is_err() {
            break;
        }
        shared.state().n_bytes += n as u64;
    }
    // A close is news too, and does not pass while the network is cut.
    shared.pass();
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
