//! Says in one clear sentence why a source does not play, out of GStreamer's error messages, and whether the cause can go
//! away by itself. Runs on the supervising thread. Must never let a secret through.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use base::{media::GapReason, redact::SourceUrl};
use gstreamer::{self as gst, glib};

use url::Url;

use crate::registry::{Healing, SourceKind};

/// A try of our own to connect takes so long at most.
const TRY_FOR: Duration = Duration::from_secs(1);
const REFUSED: &str =
    "the source refused user or password (401); check them: the secret that `credentials` names, or the URL";

/// Why a session is over before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub reason: GapReason,
    /// Free of secrets, beginning with the redacted URL.
    pub detail: String,
    /// Whether another try can help.
    pub healing: Healing,
}

/// Makes troubles of one source.
#[derive(Clone)]
pub(crate) struct Troubles {
    pub url: SourceUrl,
    pub kind: &'static SourceKind,
}

impl std::fmt::Debug for Troubles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Troubles({})", self.url)
    }
}

impl Troubles {
    fn make(&self, reason: GapReason, healing: Healing, cause: &str) -> Trouble {
        Trouble { reason, healing, detail: format!("{}: {}", self.url, self.url.scrub(cause)) }
    }

    /// It can never work.
    pub(crate) fn hopeless(&self, cause: &str) -> Trouble {
        self.make(GapReason::DecodeError, Healing::Never, cause)
    }

    /// The connection was refused or lost.
    pub(crate) fn lost(&self, played: bool, cause: &str) -> Trouble {
        self.make(lost_reason(played), self.kind.healing, cause)
    }

    /// Connected, but no media for so long.
    pub(crate) fn silent(&self, played: bool, after: Duration) -> Trouble {
        let (reason, what) = match played {
            true => (GapReason::Stalled, "no media came for"),
            false => (GapReason::Unreachable, "no media came within the first"),
        };
        self.make(reason, self.kind.healing, &format!("{what} {:.1} s", after.as_secs_f64()))
    }

    /// Media comes, but no picture out of it.
    pub(crate) fn undecodable(&self, after: Duration) -> Trouble {
        let cause = format!("media comes, but nothing could be decoded for {:.1} s", after.as_secs_f64());
        self.make(GapReason::DecodeError, self.kind.healing, &cause)
    }

    /// Why no connection comes about, where a try of our own can tell.
    fn unreachable(&self) -> Option<String> {
        let port = self.kind.tcp_port?;
        let url = Url::parse(self.url.expose()).ok()?;
        let (host, port) =
            (url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default().unwrap_or(port));
        let tried = (host.as_str(), port).to_socket_addrs().and_then(|mut all| match all.next() {
            Some(address) => TcpStream::connect_timeout(&address, TRY_FOR).map(|_| ()),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        match tried {
            Ok(()) if self.url.scheme().ends_with('s') => Some(format!(
                "{host}:{port} answers, but no encrypted connection comes about: check that its certificate is \
                 trusted, or set tls_verify = \"accept_any\""
            )),
            Ok(()) => None,
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                Some(format!("connection refused: nothing listens at {host}:{port}; check host and port"))
            }
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                Some(format!("{host}:{port} does not answer: check the address, the network and its firewalls"))
            }
            Err(e) => Some(format!("{host}:{port} cannot be reached: {e}")),
        }
    }

    /// From GStreamer's error message. `debug` is its text for developers, whose last line often holds the true cause.
    pub(crate) fn of_error(&self, error: &glib::Error, debug: Option<&str>, played: bool) -> Trouble {
        let lost = |cause: &str| self.lost(played, cause);
        let text = said(error.message(), debug);
        if let Some(kind) = error.kind::<gst::ResourceError>() {
            return match kind {
                gst::ResourceError::NotAuthorized => lost(REFUSED),
                gst::ResourceError::NotFound if mentions(&text, &["404", "not found"]) => {
                    lost("the source is reached, but has no such stream (404): check the path in the URL")
                }
                _ if mentions(&text, &["unauthorized", "(401)", "forbidden", "(403)"]) => lost(REFUSED),
                _ if mentions(&text, &["certificate", "tls", "handshake"]) => lost(&format!(
                    "the encrypted connection failed ({text}): check the certificate, or set tls_verify = \"accept_any\""
                )),
                _ if mentions(&text, &["timeout while waiting for server response"]) => {
                    lost("the source takes the connection, but does not answer: check that the port is the right one")
                }
                gst::ResourceError::OpenRead | gst::ResourceError::OpenWrite | gst::ResourceError::OpenReadWrite => {
                    lost(&self.unreachable().unwrap_or(text))
                }
                _ => lost(&text),
            };
        }
        match error.kind::<gst::StreamError>() {
            Some(gst::StreamError::TypeNotFound | gst::StreamError::WrongType) => {
                let cause = match mentions(&text, &["text file"]) {
                    true => "this is a text file, not media: check that the URL names the media itself",
                    false => "this is no media that is known here: check that the URL names a video or sound",
                };
                self.make(GapReason::DecodeError, self.kind.healing, cause)
            }
            Some(gst::StreamError::CodecNotFound) => self.hopeless(&format!("a decoder is missing: {text}")),
            Some(gst::StreamError::Decode | gst::StreamError::Demux | gst::StreamError::Format) => {
                self.make(GapReason::DecodeError, self.kind.healing, &text)
            }
            // What GStreamer says when it does not say anything.
            _ if !played && mentions(&text, &["internal data stream error"]) => {
                lost(&self.unreachable().unwrap_or(text))
            }
            _ => lost(&text),
        }
    }
}

pub(crate) fn lost_reason(played: bool) -> GapReason {
    if played { GapReason::SourceLost } else { GapReason::Unreachable }
}

fn mentions(text: &str, words: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    words.iter().any(|w| lower.contains(w))
}

/// GStreamer's message and the cause below it, on one line, lower case at the start, no full stop.
fn said(message: &str, debug: Option<&str>) -> String {
    let tidy = |t: &str| t.trim().trim_end_matches('.').to_owned();
    let mut text = tidy(message);
    // The first line says where in GStreamer's code; the cause follows.
    if let Some(more) = debug.and_then(|d| d.split_once('\n')).map(|(_, more)| tidy(more)).filter(|m| !m.is_empty()) {
        let more = more.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        if !text.contains(&more) {
            text = format!("{text} ({more})");
        }
    }
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.as_str().starts_with(|c: char| !c.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    #[test]
    fn causes_in_words() {
        crate::init().expect("gstreamer");
        let url = SourceUrl::parse("rtsp://admin:hunter2@cam/1").expect("url");
        let troubles = Troubles { kind: registry::kind_of(&url), url };
        let check = |error: glib::Error, debug: &str, reason, healing, cause: &str| {
            let trouble = troubles.of_error(&error, Some(debug), false);
            assert_eq!(trouble.detail, format!("rtsp://***@cam/1: {cause}"));
            assert_eq!((trouble.reason, trouble.healing), (reason, healing));
        };
        check(
            glib::Error::new(gst::ResourceError::NotAuthorized, "Unauthorized"),
            "x.c(1): f ():\nUnauthorized (401)",
            GapReason::Unreachable,
            Healing::Retry,
            "the source refused user or password (401); check them: the secret that `credentials` names, or the URL",
        );
        check(
            glib::Error::new(gst::ResourceError::Read, "Could not open resource for reading and writing."),
            "x.c(1): f ():\nFailed to connect to rtsp://admin:hunter2@cam/1. (Generic error)",
            GapReason::Unreachable,
            Healing::Retry,
            "could not open resource for reading and writing (Failed to connect to rtsp://***@cam/1. (Generic error))",
        );
        check(
            glib::Error::new(gst::StreamError::CodecNotFound, "No decoder"),
            "x",
            GapReason::DecodeError,
            Healing::Never,
            "a decoder is missing: no decoder",
        );
    }
}
