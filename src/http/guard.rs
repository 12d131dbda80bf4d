//! Who may ask: Host, Origin, token or session of every request, what its route needs, and how often somebody asks; before
//! any route sees it.
//!
//! - Host: on a loopback address only names of this machine are served, so that a web site cannot make a browser read
//!   this service under the site's own name (DNS rebinding).
//! - Origin: a browser's request from another site is refused unless that site is allowed; above all WebSockets, which
//!   browsers let through (cross-site WebSocket hijacking). What changes something comes from our own page where the browser
//!   sends a cookie by itself (cross-site request forgery).
//! - Token: RFC 6750, compared in constant time; never written anywhere. Few may be wrong.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use base::time::{Clock, Timestamp};

use super::{
    config::{HttpConfig, authority},
    error::Refusal,
    limits::{Limiter, network},
    params::ACCESS_TOKEN,
    place::Lease,
    proxies::{Proxies, came_by_https},
    sessions::{self, Sessions},
    users::{LOCAL, Role, User, whose},
};

/// Wrong tokens of one address: so many at once, and so many a minute.
const WRONG_TOKENS: f64 = 5.0;
/// Requests at once are as many as in so many seconds.
const BURST_SECS: f64 = 5.0;
/// Probes of an orchestrator: refusing one may end the process.
const NEVER_TOO_OFTEN: [&str; 2] = ["/healthz", "/readyz"];
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The rules of one running service.
pub(super) struct Guard {
    users: Vec<User>,
    origins: Vec<String>,
    /// Only this machine can reach us: Host is checked.
    private: bool,
    /// We are known by a name of `https`.
    is_https: bool,
    proxies: Proxies,
    sessions: Sessions,
    wrong_tokens: Limiter<IpAddr>,
    /// None where anybody may ask as often as they like.
    requests: Option<Limiter<Asker>>,
    clock: Arc<dyn Clock>,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Asker {
    User(Arc<str>),
    Address(IpAddr),
}

/// What is known of a request before its body.
pub(super) struct Ask<'r> {
    pub(super) method: &'r Method,
    pub(super) uri: &'r Uri,
    pub(super) headers: &'r HeaderMap,
    pub(super) peer: IpAddr,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) user: Arc<str>,
    pub(super) role: Role,
    pub(super) by: By,
}

/// How we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// Everybody is this one.
    Nothing,
    Token,
    /// A session, until then.
    Session(Timestamp),
}

/// A request, as far as it was looked at.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// The origin to be named in `Access-Control-Allow-Origin`.
    pub(super) allowed_origin: Option<String>,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// Who asks; none on open routes, and while nobody knows.
    pub(super) who: Option<Who>,
    /// How long the session lasts by which they came; none where they came by a token.
    pub(super) lease: Option<Lease>,
}

impl Pass {
    /// The user's name.
    pub(super) fn user(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.user)
    }
}

/// Somebody has logged in.
pub(super) struct Login {
    pub(super) who: Who,
    /// None where no token is needed.
    pub(super) cookie: Option<HeaderValue>,
}

impl Guard {
    pub(super) fn new(config: &HttpConfig, users: Vec<User>, clock: Arc<dyn Clock>) -> Self {
        let per_sec = f64::from(config.requests_per_sec);
        Self {
            users,
            origins: config.allowed_origins.clone(),
            private: config.is_private(),
            is_https: config.advertise.as_deref().is_some_and(|address| address.starts_with("https://")),
            // The configuration was checked.
            proxies: Proxies::parse(&config.trusted_proxies).unwrap_or_default(),
            sessions: Sessions::default(),
            wrong_tokens: Limiter::new(WRONG_TOKENS / 60.0, WRONG_TOKENS),
            requests: (per_sec > 0.0).then(|| Limiter::new(per_sec, per_sec * BURST_SECS)),
            clock,
        }
    }

    /// Whether clients need a token.
    pub(super) fn has_token(&self) -> bool {
        !self.users.is_empty()
    }

    /// Checks a request; `need` is the role that its route wants, none for open ones.
    pub(super) fn check(&self, ask: &Ask<'_>, need: Option<Role>) -> (Pass, Result<(), Refusal>) {
        let address = self.proxies.client(ask.peer, ask.headers);
        let mut pass = Pass { allowed_origin: None, address, who: None, lease: None };
        let outcome = self.judge(ask, need, &mut pass);
        (pass, outcome)
    }

    fn judge(&self, ask: &Ask<'_>, need: Option<Role>, pass: &mut Pass) -> Result<(), Refusal> {
        let host = ask.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        if self.private && !self.is_our_name(host) {
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this service listens for this machine only and answers to localhost; \
                 if it is published under another name, put that origin into `http.allowed_origins`",
            ));
        }
        pass.allowed_origin = self.origin(ask.headers, host)?;
        // A browser asks first, without a token, whether it may send one.
        let preflight = ask.method == Method::OPTIONS && pass.allowed_origin.is_some();
        let known = match need {
            Some(_) if !preflight => self.identify(ask, pass).map(Some),
            _ => Ok(None),
        };
        if let Ok(who) = &known {
            pass.who.clone_from(who);
        }
        if !NEVER_TOO_OFTEN.contains(&ask.uri.path()) {
            self.not_too_often(pass)?;
        }
        known?;
        // What is sent through a WebSocket does something, too.
        let speaks = need == Some(Role::Operator) && ask.headers.contains_key(header::UPGRADE);
        if speaks || !ask.method.is_safe() {
            own_page(ask, pass)?;
        }
        match (&pass.who, need) {
            (Some(who), Some(need)) if who.role < need => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                format!(
                    "user `{}` is a {}, and this wants an {}: ask somebody who is, or to be made one under `http.users`",
                    who.user,
                    who.role.as_str(),
                    need.as_str()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Who it is. A header goes before the query, the query before the cookie.
    fn identify(&self, ask: &Ask<'_>, pass: &mut Pass) -> Result<Who, Refusal> {
        if !self.has_token() {
            return Ok(Who { user: LOCAL.into(), role: Role::Operator, by: By::Nothing });
        }
        if let Some(token) = presented(ask.uri, ask.headers) {
            return self.by_token(&token, pass.address);
        }
        let Some(id) = sessions::presented(ask.headers) else { return Err(unauthorized(Missing::Token)) };
        let found = self.sessions.find(id, &*self.clock);
        let (session, lease) = found.ok_or_else(|| unauthorized(Missing::Session))?;
        pass.lease = Some(lease);
        Ok(Who { user: session.user, role: session.role, by: By::Session(session.expires_at) })
    }

    fn by_token(&self, token: &str, address: IpAddr) -> Result<Who, Refusal> {
        let found = self.wrong_tokens.attempt(&network(address), self.clock.monotonic(), || whose(&self.users, token));
        match found {
            Ok(Some(user)) => Ok(Who { user: Arc::clone(&user.name), role: user.role, by: By::Token }),
            Ok(None) => Err(unauthorized(Missing::RightToken)),
            Err(wait) => {
                Err(too_often("too many wrong tokens came from this address: look at the token that is sent", wait))
            }
        }
    }

    fn not_too_often(&self, pass: &Pass) -> Result<(), Refusal> {
        let Some(requests) = &self.requests else { return Ok(()) };
        let asker = match &pass.who {
            Some(who) => Asker::User(Arc::clone(&who.user)),
            None => Asker::Address(network(pass.address)),
        };
        requests
            .take(&asker, self.clock.monotonic())
            .map_err(|wait| too_often("too many requests: ask less often, or raise `http.requests_per_sec`", wait))
    }

    /// Begins a session of whoever has this token.
    pub(super) fn login(&self, token: &str, pass: &Pass, headers: &HeaderMap) -> Result<Login, Refusal> {
        if !self.has_token() {
            let who = Who { user: LOCAL.into(), role: Role::Operator, by: By::Nothing };
            return Ok(Login { who, cookie: None });
        }
        let who = self.by_token(token, pass.address)?;
        let opened = self.sessions.open(&who.user, who.role, &*self.clock);
        let (id, session) = opened.ok_or_else(|| Refusal::busy("this machine gives no random numbers now"))?;
        // Its cookie is overwritten: nobody could end it any more.
        if let Some(before) = sessions::presented(headers) {
            self.sessions.end(before);
        }
        let cookie = sessions::cookie(Some(&id), self.is_https || came_by_https(headers));
        Ok(Login { who: Who { by: By::Session(session.expires_at), ..who }, cookie })
    }

    /// Ends the session of a request, if it has one; gives the cookie that takes the browser's away.
    pub(super) fn logout(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if let Some(id) = sessions::presented(headers) {
            self.sessions.end(id);
        }
        sessions::cookie(None, self.is_https || came_by_https(headers))
    }

    fn origin(&self, headers: &HeaderMap, host: &str) -> Result<Option<String>, Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        let origin = origin.to_str().unwrap_or_default();
        if self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return Ok(Some(origin.to_owned()));
        }
        if authority(origin).is_some_and(|a| a.eq_ignore_ascii_case(host)) {
            return Ok(None);
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "pages of another origin may not use this service; put the origin into `http.allowed_origins` to allow it",
        ))
    }

    fn is_our_name(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let local = name == "localhost"
            || name.ends_with(".localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        local || self.origins.iter().filter_map(|o| authority(o)).any(|a| without_port(a).eq_ignore_ascii_case(&name))
    }
}

/// A request that changes something, and that a browser may have sent by itself, comes from our own page. Origins were
/// checked already: what has one comes from a page of ours, or of an allowed one.
fn own_page(ask: &Ask<'_>, pass: &Pass) -> Result<(), Refusal> {
    let by = pass.who.as_ref().map(|who| &who.by);
    if by == Some(&By::Token) {
        return Ok(());
    }
    let has_cookie = matches!(by, Some(By::Session(_)));
    let site = ask.headers.get(SEC_FETCH_SITE).map(|site| site.to_str().unwrap_or_default());
    let is_own = match site {
        Some("same-origin" | "none") => true,
        Some(_) => pass.allowed_origin.is_some() && !has_cookie,
        // An old browser, or none: what sends no cookie cannot be misused.
        None => !has_cookie || ask.headers.contains_key(header::ORIGIN) && pass.allowed_origin.is_none(),
    };
    if is_own {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "this changes something, and it does not come from this service's own page (`Origin`, `Sec-Fetch-Site`): \
         programs send `Authorization: Bearer <token>` and no cookie",
    ))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// The token that a request brings in a header or in its query. What is of another scheme is for a proxy before us, which may
/// have handed it on.
fn presented(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let bearer = |value: &HeaderValue| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    };
    headers.get_all(header::AUTHORIZATION).iter().find_map(bearer).or_else(|| in_query(uri))
}

/// The token in a query.
pub(super) fn in_query(uri: &Uri) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == ACCESS_TOKEN).map(|(_, token)| token.into_owned())
}

/// What is missing of somebody who is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Token,
    RightToken,
    Session,
}

fn unauthorized(missing: Missing) -> Refusal {
    // RFC 6750, section 3: no error code when no token was sent.
    let (message, challenge) = match missing {
        Missing::RightToken => (
            "the token is wrong: it is one of those under `http` in the service's configuration (`token`, `token_file`, `users`)",
            r#"Bearer realm="eyewitness", error="invalid_token""#,
        ),
        Missing::Token => (
            "a token is needed: send `Authorization: Bearer <token>`, or `?access_token=<token>` where no header can be sent",
            r#"Bearer realm="eyewitness""#,
        ),
        Missing::Session => ("the session is over: log in again (`POST /v1/session`)", r#"Bearer realm="eyewitness""#),
    };
    Refusal::new(StatusCode::UNAUTHORIZED, message).with(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn too_often(message: &str, wait: Duration) -> Refusal {
    let secs = (wait.as_secs_f64().ceil() as u64).max(1);
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, format!("{message}; try again in {secs} s"))
        .with(header::RETRY_AFTER, HeaderValue::from(secs))
}

#[cfg(test)]
mod tests;
