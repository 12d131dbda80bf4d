//! SIGINT and SIGTERM: the first asks for an orderly stop, the second ends the process at once with exit code 130.

use std::io;

use base::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code after a second signal.
pub const EXIT_ABORTED: i32 = 130;

/// Watches for signals on a named thread of its own until the process ends.
pub fn watch(shutdown: Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut first = true;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if !first {
                    tracing::error!("second signal: stopping at once, events on their way are lost");
                    std::process::exit(EXIT_ABORTED);
                }
                first = false;
                tracing::info!("stopping: draining what is on its way (a second signal stops at once)");
                shutdown.trigger();
            }
        });
    })?;
    Ok(())
}
