//! Who may ask: Host, Origin and token of every request, before any route sees it. Pure functions of the headers.
//!
//! - Host: on a loopback address only names of this machine are served, so that a web site cannot make a browser read
//!   this service under the site's own name (DNS rebinding).
//! - Origin: a browser's request from another site is refused unless that site is allowed; above all WebSockets, which
//!   browsers let through (cross-site WebSocket hijacking).
//! - Token: RFC 6750, compared in constant time; never written anywhere.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::{
    config::{HttpConfig, authority},
    error::Refusal,
    params::ACCESS_TOKEN,
};

/// Name of the cookie in which our own page's browser keeps the token.
const COOKIE: &str = "eyewitness_token";

/// The rules of one running service.
pub(super) struct Guard {
    token: Option<SecretString>,
    origins: Vec<String>,
    /// Only this machine can reach us: Host is checked.
    private: bool,
}

/// A request that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    /// The origin to be named in `Access-Control-Allow-Origin`.
    pub(super) allowed_origin: Option<String>,
    /// The token came in the query and was right.
    pub(super) token_in_query: bool,
}

impl Guard {
    pub(super) fn new(config: &HttpConfig, token: Option<SecretString>) -> Self {
        Self { token, origins: config.allowed_origins.clone(), private: config.is_private() }
    }

    /// Whether clients need a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Checks a request; `open` routes need no token.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap, open: bool) -> Result<Pass, Refusal> {
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        if self.private && !self.is_our_name(host) {
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this service listens for this machine only and answers to localhost; \
                 if it is published under another name, put that origin into `http.allowed_origins`",
            ));
        }
        let allowed_origin = self.origin(headers, host)?;
        // A browser asks first, without a token, whether it may send one.
        let preflight = method == Method::OPTIONS && allowed_origin.is_some();
        let mut token_in_query = false;
        if let (Some(token), false) = (&self.token, open || preflight) {
            let (given, from_query) = presented(uri, headers)?;
            let equal = bool::from(given.as_bytes().ct_eq(token.expose_secret().as_bytes()));
            if !equal {
                return Err(unauthorized(!given.is_empty()));
            }
            token_in_query = from_query;
        }
        Ok(Pass { allowed_origin, token_in_query })
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
            || name
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.to_canonical().is_loopback());
        local || self.origins.iter().filter_map(|o| authority(o)).any(|a| without_port(a).eq_ignore_ascii_case(&name))
    }

    /// The cookie that keeps the token for our own page.
    pub(super) fn cookie(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref()?.expose_secret();
        let mut value = HeaderValue::from_str(&format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
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

/// The token that a request brings, empty without one, and whether the query held it. A header goes before the query,
/// the query before the cookie.
fn presented(uri: &Uri, headers: &HeaderMap) -> Result<(String, bool), Refusal> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default();
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthorized(true));
        }
        return Ok((token.trim().to_owned(), false));
    }
    let query = uri.query().unwrap_or_default();
    if let Some((_, token)) = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == ACCESS_TOKEN) {
        return Ok((token.into_owned(), true));
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|c| c.to_str().ok()).flat_map(|c| c.split(';'));
    let token = cookies.filter_map(|c| c.trim().split_once('=')).find(|(name, _)| *name == COOKIE);
    Ok((token.map(|(_, token)| token.to_owned()).unwrap_or_default(), false))
}

fn unauthorized(given: bool) -> Refusal {
    // RFC 6750, section 3: no error code when no token was sent.
    let (message, challenge) = if given {
        (
            "the token is wrong: it is the one under `http.token` or in `http.token_file` of the service's configuration",
            r#"Bearer realm="eyewitness", error="invalid_token""#,
        )
    } else {
        (
            "a token is needed: send `Authorization: Bearer <token>`, or `?access_token=<token>` where no header can be sent",
            r#"Bearer realm="eyewitness""#,
        )
    };
    Refusal::new(StatusCode::UNAUTHORIZED, message).with(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(listen: &str, token: bool, origins: &[&str]) -> Guard {
        let config = HttpConfig {
            listen: listen.parse().expect("address"),
            allowed_origins: origins.iter().map(|o| (*o).to_owned()).collect(),
            ..HttpConfig::default()
        };
        Guard::new(&config, token.then(|| TOKEN.into()))
    }

    fn ask(guard: &Guard, uri: &str, headers: &[(&str, &str)], open: bool) -> Result<Pass, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                axum::http::HeaderName::from_bytes(name.as_bytes()).expect("name"),
                HeaderValue::from_str(value).expect("value"),
            );
        }
        let uri: Uri = uri.parse().expect("uri");
        guard.check(&Method::GET, &uri, &map, open).map_err(|r| r.into_response().status().as_u16())
    }

    #[test]
    fn tokens() {
        let guard = guard("0.0.0.0:80", true, &[]);
        let check = |uri: &str, headers: &[(&str, &str)], expected: Result<bool, u16>| {
            let got = ask(&guard, uri, headers, false).map(|pass| pass.token_in_query);
            assert_eq!(got, expected, "{uri} {headers:?}");
        };
        let query = format!("/?access_token={TOKEN}");
        check("/", &[], Err(401));
        check("/", &[("authorization", &format!("Bearer {TOKEN}"))], Ok(false));
        check("/", &[("authorization", &format!("bearer  {TOKEN} "))], Ok(false));
        check("/", &[("authorization", &format!("Bearer {TOKEN}x"))], Err(401));
        check("/", &[("authorization", "Bearer 0123456789abcdeF")], Err(401));
        check("/", &[("authorization", "Bearer")], Err(401));
        check("/", &[("authorization", &format!("Basic {TOKEN}"))], Err(401));
        check("/", &[("authorization", TOKEN)], Err(401));
        check(&query, &[], Ok(true));
        check("/?access_token=", &[], Err(401));
        check("/?access_token=0123", &[], Err(401));
        // One wrong token is enough: a right one beside it does not help.
        check(&query, &[("authorization", "Bearer wrong")], Err(401));
        check("/", &[("cookie", &format!("a=b; eyewitness_token={TOKEN}"))], Ok(false));
        check("/", &[("cookie", "eyewitness_token=wrong")], Err(401));
        assert!(ask(&guard, "/healthz", &[], true).is_ok());
    }

    #[test]
    fn challenge_says_what_was_wrong() {
        for (given, expected) in [(false, r#"Bearer realm="eyewitness""#), (true, "invalid_token")] {
            let response = unauthorized(given).into_response();
            let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().expect("text");
            assert!(challenge.contains(expected), "{challenge}");
            assert_eq!(challenge.contains("error"), given);
        }
    }

    #[test]
    fn hosts_on_loopback() {
        let guard = guard("127.0.0.1:8642", false, &["https://captions.example.org"]);
        let check = |host: &str, expected: Result<(), u16>| {
            assert_eq!(ask(&guard, "/", &[("host", host)], false).map(|_| ()), expected, "{host}");
        };
        for host in ["localhost", "LocalHost:8642", "127.0.0.1:8642", "127.8.0.1", "[::1]:8642", "x.localhost:1"] {
            check(host, Ok(()));
        }
        check("captions.example.org", Ok(()));
        check("captions.example.org:8642", Ok(()));
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1:8642", "[::2]"]
        {
            check(host, Err(421));
        }
    }

    #[test]
    fn hosts_on_a_wide_address_are_free_as_the_token_guards() {
        let guard = guard("0.0.0.0:8642", true, &[]);
        let bearer = format!("Bearer {TOKEN}");
        assert!(ask(&guard, "/", &[("host", "cams.lan"), ("authorization", &bearer)], false).is_ok());
    }

    #[test]
    fn origins() {
        let guard = guard("127.0.0.1:8642", false, &["https://wall.example"]);
        let check = |origin: &str, expected: Result<Option<&str>, u16>| {
            let got = ask(&guard, "/", &[("host", "localhost:8642"), ("origin", origin)], false);
            assert_eq!(got.map(|p| p.allowed_origin), expected.map(|o| o.map(str::to_owned)), "{origin}");
        };
        check("http://localhost:8642", Ok(None));
        check("http://LOCALHOST:8642", Ok(None));
        check("https://wall.example", Ok(Some("https://wall.example")));
        for origin in
            ["http://localhost:3000", "http://localhost", "https://evil.example", "null", "", "http://wall.example"]
        {
            check(origin, Err(403));
        }
    }
}
