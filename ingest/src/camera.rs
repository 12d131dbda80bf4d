//! A real RTSP camera on loopback.

use std::path::PathBuf;

use crate::error::IngestError;

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CameraAuth {
    /// RFC 7617: the password travels readable.
    Basic,
    /// RFC 7616 (MD5): the password never travels.
    #[default]
    Digest,
}

/// What a camera serves and where.
#[derive(Debug, Clone)]
pub struct CameraOptions {
    /// MP4 file with H.264 and, if it has sound, AAC.
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

/// A running camera; dropping it hangs up on all clients and ends it.
pub struct Camera {}

impl Camera {
    /// Reads the clip and opens the port.
    pub fn start(options: CameraOptions) -> Result<Self, IngestError> {
        let _ = options;
        Err(IngestError::Camera { cause: "not built yet".into() })
    }

    /// URL without user and password.
    pub fn url(&self) -> String {
        String::new()
    }
}
