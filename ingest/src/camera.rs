//! A real RTSP camera on loopback: serves a recording's own encoded pictures and sound in real time, for the demo and for
//! tests. Has one thread for all its clients, and GStreamer's own per client. Must never decode or encode anything.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};

use gstreamer::{self as gst, glib, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_rtsp_server::{self as rtsp, gio, gst_rtsp, prelude::*};
use parking_lot::Mutex;

use crate::{
    clip::{Clip, ClipTrack},
    error::IngestError,
};

/// The one role that may look, of the users that a camera knows.
const ROLE: &str = "viewer";

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CameraAuth {
    /// RFC 7617: the password travels readable.
    Basic,
    /// RFC 7616 with MD5, as cameras do it: the password never travels.
    #[default]
    Digest,
}

/// What a camera serves and where.
#[derive(Clone)]
pub struct CameraOptions {
    /// Recording with H.264 and, if it has sound, AAC (also H.265, MJPEG, VP8, Opus, G.711).
    pub clip: PathBuf,
    /// `address:port`; port 0 takes a free one.
    pub address: String,
    /// Path in the URL, beginning with `/`.
    pub mount: String,
    /// Users and passwords; none for a camera that asks nobody.
    pub users: Vec<(String, String)>,
    /// How they prove it.
    pub auth: CameraAuth,
    /// PEM file with certificate and private key: the camera then speaks `rtsps` only.
    pub tls: Option<PathBuf>,
    /// Whether the clip begins again when it is over, with timestamps going on.
    pub looped: bool,
}

impl CameraOptions {
    /// An open camera on a free loopback port that plays the clip for ever.
    pub fn new(clip: impl Into<PathBuf>) -> Self {
        Self {
            clip: clip.into(),
            address: "127.0.0.1:0".into(),
            mount: "/camera".into(),
            users: Vec::new(),
            auth: CameraAuth::default(),
            tls: None,
            looped: true,
        }
    }
}

/// A running camera. Each client gets the clip from its beginning. Dropping it hangs up on all clients.
pub struct Camera {
    server: rtsp::RTSPServer,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    url: String,
}

impl Camera {
    /// Reads the clip into memory, opens the port and serves.
    pub fn start(options: CameraOptions) -> Result<Self, IngestError> {
        crate::init()?;
        let cannot = |cause: String| IngestError::Camera { cause };
        let address: SocketAddr = options
            .address
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .ok_or_else(|| cannot(format!("`{}` is no address: write 127.0.0.1:8554", options.address)))?;
        let mount = options.mount.as_str();
        if !mount.starts_with('/') {
            return Err(cannot(format!("the path `{mount}` does not begin with /")));
        }
        let clip = Arc::new(Clip::read(&options.clip)?);
        let server = rtsp::RTSPServer::new();
        server.set_address(&address.ip().to_string());
        server.set_service(&address.port().to_string());
        // All clients on the camera's own thread, where it can hang up on them.
        if let Some(pool) = server.thread_pool() {
            pool.set_max_threads(0);
        }
        let factory = factory(&clip, options.looped);
        if let Some(auth) = auth(&options)? {
            server.set_auth(Some(&auth));
            let permissions = gst::Structure::builder(ROLE)
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build();
            factory.add_role_from_structure(&permissions);
        }
        let mounts = server.mount_points().ok_or_else(|| cannot("the server has no mount points".into()))?;
        mounts.add_factory(mount, factory);

        let context = glib::MainContext::new();
        server.attach(Some(&context)).map_err(|_| cannot(format!("cannot listen on {address}: is the port taken?")))?;
        let scheme = if options.tls.is_some() { "rtsps" } else { "rtsp" };
        let bound = SocketAddr::new(address.ip(), u16::try_from(server.bound_port()).unwrap_or(0));
        let url = format!("{scheme}://{bound}{mount}");
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let running = main_loop.clone();
        let thread = std::thread::Builder::new()
            .name("camera".into())
            .spawn(move || running.run())
            .map_err(|e| cannot(format!("no thread could be started: {e}")))?;
        Ok(Self { server, context, main_loop, thread: Some(thread), url })
    }

    /// URL without user and password.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let (server, main_loop) = (self.server.clone(), self.main_loop.clone());
        // On the camera's thread, after which it ends; also when its loop has not begun yet.
        self.context.invoke(move || {
            server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
            main_loop.quit();
        });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn auth(options: &CameraOptions) -> Result<Option<rtsp::RTSPAuth>, IngestError> {
    if options.users.is_empty() && options.tls.is_none() {
        return Ok(None);
    }
    let auth = rtsp::RTSPAuth::new();
    let token = || rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE).build();
    if options.users.is_empty() {
        auth.set_default_token(Some(&mut token()));
    }
    for (user, password) in &options.users {
        match options.auth {
            CameraAuth::Basic => auth.add_basic(rtsp::RTSPAuth::make_basic(user, password).as_str(), &token()),
            CameraAuth::Digest => auth.add_digest(user, password, &token()),
        }
    }
    auth.set_supported_methods(match options.auth {
        CameraAuth::Basic => gst_rtsp::RTSPAuthMethod::Basic,
        CameraAuth::Digest => gst_rtsp::RTSPAuthMethod::Digest,
    });
    if let Some(path) = &options.tls {
        let certificate = gio::TlsCertificate::from_file(path).map_err(|e| IngestError::Camera {
            cause: format!("{} holds no certificate and key in PEM: {e}", path.display()),
        })?;
        auth.set_tls_certificate(Some(&certificate));
    }
    Ok(Some(auth))
}

/// One pipeline a client: the clip's packets out of memory into RTP. The server's sinks keep real time.
fn factory(clip: &Arc<Clip>, looped: bool) -> rtsp::RTSPMediaFactory {
    let launch: Vec<String> = clip
        .tracks
        .iter()
        .enumerate()
        .map(|(i, track)| {
            let (payloader, pt) = (track.payloader, 96 + i);
            // A client that takes only one track leaves the other unlinked: its source just ends, where it would
            // otherwise bring down both.
            format!(
                "appsrc name=track{i} format=time max-bytes=2000000 ! \
                 errorignore ignore-error=false ignore-notlinked=true convert-to=eos ! {payloader} name=pay{i} pt={pt}"
            )
        })
        .collect();
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(&format!("( {} )", launch.join(" ")));
    factory.set_suspend_mode(rtsp::RTSPSuspendMode::None);
    let clip = Arc::clone(clip);
    factory.connect_media_configure(move |_, media| {
        let Ok(bin) = media.element().downcast::<gst::Bin>() else { return };
        for i in 0..clip.tracks.len() {
            if let Some(Ok(source)) = bin.by_name(&format!("track{i}")).map(|e| e.downcast::<gst_app::AppSrc>()) {
                feed(&source, &clip, i, looped);
            }
        }
    });
    factory
}

/// Gives a client the packets of one track as it asks for them.
fn feed(source: &gst_app::AppSrc, clip: &Arc<Clip>, track: usize, looped: bool) {
    let Some(ClipTrack { caps, .. }) = clip.tracks.get(track) else { return };
    source.set_caps(Some(caps));
    let (clip, next) = (Arc::clone(clip), Mutex::new(0));
    let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |source, _| {
        let n = std::mem::replace(&mut *next.lock(), 0);
        *next.lock() = n + 1;
        // A client that has gone refuses, which ends its pipeline; there is nothing else to do.
        let _ = match clip.packet(track, n, looped) {
            Some(packet) => source.push_buffer(packet),
            None => source.end_of_stream(),
        };
    });
    source.set_callbacks(callbacks.build());
}
