//! What can go wrong: when the service starts ([`HttpError`]), and in one request ([`Refusal`]).

use std::{io, net::SocketAddr, path::PathBuf};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Why the HTTP service is not started. Never holds the token.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is reachable from outside, and there is no token.
    #[error(
        "others can reach `listen` = {listen}, and no token is set: set `token` (such as \"${{EYEWITNESS_TOKEN}}\"), `token_file` or `users`, or listen on 127.0.0.1:{}",
        listen.port()
    )]
    WideWithoutToken {
        /// The address.
        listen: SocketAddr,
    },
    /// Two tokens.
    #[error("`token` and `token_file` are both set: take one of them out")]
    TwoTokens,
    /// A token that can be guessed.
    #[error("the token has {length} characters and must have at least {least}: make one with `openssl rand -hex 24`")]
    ShortToken {
        /// Its length in bytes.
        length: usize,
        /// Fewest.
        least: usize,
    },
    /// A token that does not fit into a header.
    #[error("the token may only have letters, digits and `-._~+/=`: make one with `openssl rand -hex 24`")]
    TokenCharacters,
    /// Somebody's entry under `users`.
    #[error("user `{name}`: {problem}")]
    User {
        /// As written.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// With one token for two, nobody could say who it was.
    #[error("users `{first}` and `{second}` have the same token: give each one of their own")]
    SameToken {
        /// One of them; `operator` is whoever has `http.token`.
        first: String,
        /// The other.
        second: String,
    },
    /// Neither an address nor a network.
    #[error(
        "`{text}` in `trusted_proxies` is neither an address nor a network: write something like 127.0.0.1 or 10.0.0.0/8"
    )]
    BadProxy {
        /// As written.
        text: String,
    },
    /// The token's file cannot be read.
    #[error("`token_file` {} cannot be read: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an origin.
    #[error(
        "`{origin}` in `allowed_origins` is no origin: write scheme, host and port alone, such as https://wall.example.org"
    )]
    BadOrigin {
        /// As written.
        origin: String,
    },
    /// Not an address that others could use.
    #[error(
        "`advertise` = `{address}` is no address at which others reach this service: write host and port, such as worker-2.lan:8642, or a URL without path, such as https://worker-2.example.org"
    )]
    BadAdvertise {
        /// As written, without secrets.
        address: String,
    },
    /// A limit of zero.
    #[error("`{key}` must be at least 1")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// The address cannot be listened on.
    #[error("the HTTP service cannot listen on {listen}: {}", bind_trouble(source, listen.port()))]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The machine gives us no thread.
    #[error("the HTTP service cannot start its threads: {0}")]
    Start(#[source] io::Error),
}

fn bind_trouble(error: &io::Error, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program uses port {port}; stop it (`ss -ltnp 'sport = :{port}'` names it), or set another `listen` (port 0 takes a free one)"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("this user may not use port {port}; set `listen` to a port above 1023")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address ({error}); `ip address` lists those it has")
        }
        _ => error.to_string(),
    }
}

/// A request that is not served: a status and `{"error": "..."}`, saying what and what to do.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// More members of the answer, for programs.
    more: Vec<(&'static str, serde_json::Value)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None, more: Vec::new() }
    }

    /// 400.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 503, to be tried again.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// What it says.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Says more, for programs.
    pub(super) fn and(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({ "error": self.message });
        for (name, value) in self.more {
            body[name] = value;
        }
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/json")], body.to_string() + "\n").into_response();
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// `value` as an answer in JSON.
pub(super) fn json(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string() + "\n").into_response()
}
