//! What can go wrong before a stream runs. What goes wrong while it runs is told as a [`base::media::Notice`].

use base::media::StreamName;

/// Errors of this crate. None of them shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// GStreamer itself cannot be used on this machine.
    #[error("GStreamer cannot be started: {cause}")]
    Init {
        /// From GStreamer.
        cause: String,
    },
    /// A GStreamer element that this source or this stage needs is not installed.
    #[error("GStreamer element `{element}` is missing: install the package {package}")]
    MissingElement {
        /// The element's factory.
        element: String,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// No decoder that works on this machine takes the codec.
    #[error(
        "nothing on this machine decodes the codec `{codec}`: install the package {package}, or have the source send another codec"
    )]
    MissingDecoder {
        /// Short name, or the container's name for what nobody knows.
        codec: String,
        /// The Debian package that most likely holds one.
        package: &'static str,
    },
    /// Nothing knows this kind of URL.
    #[error("stream `{stream}`: `{url}` has a scheme that no source knows; known ones are {known}")]
    UnknownScheme {
        /// The stream.
        stream: StreamName,
        /// Redacted.
        url: String,
        /// Schemes of the registry.
        known: String,
    },
    /// The URL's kind is known, but it is incomplete or has a parameter that cannot be meant.
    #[error("stream `{stream}`: `{url}`: {cause}")]
    BadUrl {
        /// The stream.
        stream: StreamName,
        /// Redacted.
        url: String,
        /// What is wrong and what to write.
        cause: String,
    },
    /// The sampling cannot be meant.
    #[error("sampling: {cause}")]
    BadSampling {
        /// What is wrong and what to write.
        cause: &'static str,
    },
    /// The operating system gave no thread.
    #[error("stream `{stream}`: no thread could be started: {cause}")]
    Thread {
        /// The stream.
        stream: String,
        /// From the operating system.
        cause: String,
    },
    /// A source that was tried does not play.
    #[error("{cause}")]
    Probe {
        /// As a stream of it would say, free of secrets, beginning with the redacted URL.
        cause: String,
    },
    /// Kept media could not be made into a clip, or into a picture.
    #[error("clip: {cause}")]
    Clip {
        /// What is wrong.
        cause: String,
    },
    /// The loopback camera could not be set up.
    #[error("camera: {cause}")]
    Camera {
        /// What is wrong and what to do.
        cause: String,
    },
}
