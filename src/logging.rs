//! Where our own log goes: standard error, readable or JSON. Events never go here.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging once for the process. `filter` is a level or a directive list such as `info,ingest=debug`.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(filter: &str, json: bool) -> anyhow::Result<()> {
    // The libraries below are talkative, and what matters of it is told by us; who wants to read them names them:
    // `info,gstreamer=info,ort=info`.
    let filter = EnvFilter::try_new(format!("ort=warn,whisper_rs=warn,gstreamer=error,{filter}")).map_err(|e| {
        anyhow::anyhow!("`{filter}` is no log filter ({e}); write a level such as info, or info,ingest=debug")
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if json {
        let _ = builder.json().flatten_event(true).try_init();
    } else {
        let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = builder.with_ansi(ansi).compact().try_init();
    }
    Ok(())
}
