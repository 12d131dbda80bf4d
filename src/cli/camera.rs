//! `eyewitness camera` (hidden): a clip served as an RTSP camera, as a process of its own that can be killed or frozen.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use ingest::camera::{Camera, CameraAuth, CameraOptions};

use super::{begin_media, say};

/// Serve a clip (H.264 and AAC in MP4) as an RTSP camera, in real time, again and again.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The clip
    clip: PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// USER:PASSWORD that a client must give; read from the environment
    #[arg(long, env = "EYEWITNESS_CAMERA_USER", hide_env_values = true)]
    user: Option<String>,
    /// Basic instead of Digest authentication
    #[arg(long)]
    basic: bool,
    /// Serve over TLS (rtsps) with this PEM file of certificate and private key
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
    /// Play once instead of for ever
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let shutdown = begin_media(log.unwrap_or("warn"), false)?;
    let camera = Camera::start(CameraOptions {
        address: args.listen.to_string(),
        users: args.user.iter().filter_map(|u| u.split_once(':')).map(|(u, p)| (u.into(), p.into())).collect(),
        auth: if args.basic { CameraAuth::Basic } else { CameraAuth::Digest },
        tls: args.tls,
        looped: !args.once,
        ..CameraOptions::new(args.clip)
    })?;
    say(&camera.url());
    while !shutdown.wait_timeout(Duration::from_secs(1)) {}
    Ok(ExitCode::SUCCESS)
}
