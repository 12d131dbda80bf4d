//! The gate with requests that are headers alone.

use axum::response::IntoResponse as _;
use base::time::SystemClock;
use parking_lot::Mutex;
use secrecy::SecretString;

use super::*;

const TOKEN: &str = "0123456789abcdef";
const VIEWERS: &str = "viewer-0123456789";

/// Time stands still until it is moved.
#[derive(Debug, Default)]
struct Hands(Mutex<Duration>);

impl Clock for Hands {
    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn users() -> Vec<User> {
    let user = |name, role, token: &str| User::new(name, role, SecretString::from(token));
    vec![user("operator", Role::Operator, TOKEN), user("vera", Role::Viewer, VIEWERS)]
}

fn guard(listen: &str, token: bool, origins: &[&str]) -> Guard {
    limited(listen, token, origins, (0, SystemClock::new()))
}

/// With a limit of requests a second, by this clock.
fn limited(listen: &str, token: bool, origins: &[&str], (per_sec, clock): (u32, Arc<dyn Clock>)) -> Guard {
    let config = HttpConfig {
        listen: listen.parse().expect("address"),
        allowed_origins: origins.iter().map(|o| (*o).to_owned()).collect(),
        requests_per_sec: per_sec,
        ..HttpConfig::default()
    };
    Guard::new(&config, if token { users() } else { Vec::new() }, clock)
}

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            axum::http::HeaderName::from_bytes(name.as_bytes()).expect("name"),
            HeaderValue::from_str(value).expect("value"),
        );
    }
    map
}

/// Who it is, or the status of the refusal, for a GET by somebody else each time.
fn ask(guard: &Guard, uri: &str, headers: &[(&str, &str)], need: Option<Role>) -> Result<Pass, u16> {
    ask_as(guard, (Method::GET, "192.0.2.1"), uri, headers, need)
}

fn ask_as(
    guard: &Guard,
    (method, peer): (Method, &str),
    uri: &str,
    headers: &[(&str, &str)],
    need: Option<Role>,
) -> Result<Pass, u16> {
    let (uri, headers) = (uri.parse::<Uri>().expect("uri"), map(headers));
    let ask = Ask { method: &method, uri: &uri, headers: &headers, peer: peer.parse().expect("address") };
    let (pass, outcome) = guard.check(&ask, need);
    outcome.map(|()| pass).map_err(|refusal| refusal.into_response().status().as_u16())
}

const VIEWER: Option<Role> = Some(Role::Viewer);

#[test]
fn tokens() {
    let check = |uri: &str, headers: &[(&str, &str)], expected: Result<&str, u16>| {
        // Afresh each time: so many wrong ones would be too many.
        let guard = guard("0.0.0.0:80", true, &[]);
        let got = ask(&guard, uri, headers, VIEWER).map(|pass| pass.user().to_owned());
        assert_eq!(got, expected.map(str::to_owned), "{uri} {headers:?}");
    };
    let query = format!("/?access_token={TOKEN}");
    check("/", &[], Err(401));
    check("/", &[("authorization", &format!("Bearer {TOKEN}"))], Ok("operator"));
    check("/", &[("authorization", &format!("Bearer {VIEWERS}"))], Ok("vera"));
    check("/", &[("authorization", &format!("bearer  {TOKEN} "))], Ok("operator"));
    check("/", &[("authorization", &format!("Bearer {TOKEN}x"))], Err(401));
    check("/", &[("authorization", "Bearer 0123456789abcdeF")], Err(401));
    check("/", &[("authorization", "Bearer")], Err(401));
    check("/", &[("authorization", &format!("Basic {TOKEN}"))], Err(401));
    check("/", &[("authorization", TOKEN)], Err(401));
    check(&query, &[], Ok("operator"));
    check("/?access_token=", &[], Err(401));
    check("/?access_token=0123", &[], Err(401));
    // One wrong token is enough: a right one beside it does not help.
    check(&query, &[("authorization", "Bearer wrong")], Err(401));
    // A cookie holds no token.
    check("/", &[("cookie", &format!("eyewitness_token={TOKEN}; eyewitness_session={TOKEN}"))], Err(401));
    assert!(ask(&guard("0.0.0.0:80", true, &[]), "/healthz", &[], None).is_ok());
    let local = ask(&guard("127.0.0.1:80", false, &[]), "/", &[("host", "localhost")], Some(Role::Operator));
    assert_eq!(local.expect("pass").user(), "local");
}

#[test]
fn viewers_do_not_what_operators_do() {
    let guard = guard("0.0.0.0:80", true, &[]);
    let check = |token: &str, need: Role, expected: Result<(), u16>| {
        let bearer = format!("Bearer {token}");
        let got = ask(&guard, "/", &[("authorization", &bearer)], Some(need)).map(drop);
        assert_eq!(got, expected, "{token} {need:?}");
    };
    check(VIEWERS, Role::Viewer, Ok(()));
    check(VIEWERS, Role::Operator, Err(403));
    check(TOKEN, Role::Viewer, Ok(()));
    check(TOKEN, Role::Operator, Ok(()));
}

#[test]
fn few_wrong_tokens_of_one_address() {
    let clock = Arc::new(Hands::default());
    let guard = limited("0.0.0.0:80", true, &[], (2, Arc::clone(&clock) as _));
    let check = |peer: &str, token: &str, expected: u16| {
        let bearer = format!("Bearer {token}");
        let got = ask_as(&guard, (Method::GET, peer), "/", &[("authorization", &bearer)], VIEWER);
        assert_eq!(got.map_or_else(|status| status, |_| 200), expected, "{peer} {token}");
    };
    for _ in 0..5 {
        check("192.0.2.1", "wrong", 401);
    }
    check("192.0.2.1", "wrong", 429);
    // Not even the right one, or it could still be guessed.
    check("192.0.2.1", TOKEN, 429);
    check("192.0.2.2", TOKEN, 200);
    *clock.0.lock() = Duration::from_secs(12);
    check("192.0.2.1", TOKEN, 200);
    check("192.0.2.1", "wrong", 401);
    check("192.0.2.1", "wrong", 429);
    let refusal = too_often("why", Duration::from_millis(11_200)).into_response();
    assert_eq!(refusal.headers()[header::RETRY_AFTER], "12");
}

#[test]
fn nobody_asks_too_often() {
    let clock = Arc::new(Hands::default());
    let guard = limited("0.0.0.0:80", true, &[], (2, Arc::clone(&clock) as _));
    let bearer = format!("Bearer {VIEWERS}");
    let check = |peer: &str, path: &str, headers: &[(&str, &str)], expected: u16| {
        let need = if path == "/" { VIEWER } else { None };
        let got = ask_as(&guard, (Method::GET, peer), path, headers, need);
        assert_eq!(got.map_or_else(|status| status, |_| 200), expected, "{peer} {path}");
    };
    for n in 0..10 {
        // A user is one, wherever they are.
        check(&format!("192.0.2.{n}"), "/", &[("authorization", &bearer)], 200);
        check("198.51.100.1", "/", &[], 401);
    }
    check("192.0.2.99", "/", &[("authorization", &bearer)], 429);
    check("198.51.100.1", "/page.css", &[], 429);
    check("198.51.100.2", "/page.css", &[], 200);
    check("198.51.100.1", "/healthz", &[], 200);
    *clock.0.lock() = Duration::from_millis(500);
    check("192.0.2.99", "/", &[("authorization", &bearer)], 200);
    check("192.0.2.99", "/", &[("authorization", &bearer)], 429);
}

#[test]
fn sessions_and_requests_of_other_pages() {
    let guard = guard("0.0.0.0:80", true, &["https://wall.example"]);
    let nobody = Pass { allowed_origin: None, address: [192, 0, 2, 1].into(), who: None, lease: None };
    assert!(guard.login("wrong", &nobody, &HeaderMap::new()).is_err());
    let login = guard.login(VIEWERS, &nobody, &HeaderMap::new()).unwrap_or_else(|_| panic!("refused"));
    let cookie = login.cookie.expect("cookie").to_str().expect("text").to_owned();
    assert!(!cookie.contains(VIEWERS) && !cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().expect("pair");
    let host = ("host", "cams.lan");
    let check = |method: Method, headers: &[(&str, &str)], expected: Result<&str, u16>| {
        let got = ask_as(&guard, (method.clone(), "192.0.2.1"), "/", headers, VIEWER);
        assert_eq!(got.map(|p| p.user().to_owned()), expected.map(str::to_owned), "{method} {headers:?}");
    };
    let with = ("cookie", cookie);
    check(Method::GET, &[host, with], Ok("vera"));
    check(Method::GET, &[host, with, ("sec-fetch-site", "cross-site")], Ok("vera"));
    // Changing something takes a sign that our page did it.
    check(Method::DELETE, &[host, with], Err(403));
    check(Method::DELETE, &[host, with, ("origin", "http://cams.lan")], Ok("vera"));
    check(Method::DELETE, &[host, with, ("sec-fetch-site", "same-origin")], Ok("vera"));
    for site in ["same-site", "cross-site", "nonsense"] {
        check(Method::DELETE, &[host, with, ("sec-fetch-site", site)], Err(403));
    }
    check(Method::DELETE, &[host, with, ("origin", "https://wall.example")], Err(403));
    check(Method::DELETE, &[host, with, ("origin", "https://evil.example")], Err(403));
    // So does what is sent through a WebSocket that only operators may open.
    let speak = |headers: &[(&str, &str)]| {
        let headers = [&[host, ("upgrade", "websocket")], headers].concat();
        ask_as(&guard, (Method::GET, "192.0.2.1"), "/", &headers, Some(Role::Operator)).map(drop)
    };
    let operators = guard.login(TOKEN, &nobody, &HeaderMap::new()).unwrap_or_else(|_| panic!("refused")).cookie;
    let operators = operators.expect("cookie").to_str().expect("text").to_owned();
    let theirs = ("cookie", operators.split(';').next().expect("pair"));
    assert_eq!(speak(&[theirs, ("origin", "http://cams.lan")]), Ok(()));
    assert_eq!(speak(&[theirs, ("origin", "https://wall.example")]), Err(403));
    assert_eq!(speak(&[("authorization", &format!("Bearer {TOKEN}")), ("origin", "https://wall.example")]), Ok(()));
    // What a proxy has asked for is none of ours.
    check(Method::GET, &[host, with, ("authorization", "Basic dXNlcjpwYXNz")], Ok("vera"));
    // Whoever has the token needs no page.
    let bearer = format!("Bearer {VIEWERS}");
    let token = ("authorization", &*bearer);
    check(Method::DELETE, &[host, token], Ok("vera"));
    check(Method::DELETE, &[host, token, ("sec-fetch-site", "cross-site")], Ok("vera"));
    assert!(guard.logout(&map(&[with])).is_some());
    check(Method::GET, &[host, with], Err(401));
    check(Method::GET, &[host, with, token], Ok("vera"));
    // Where nobody needs a token, a browser's word is all there is.
    let open = self::guard("127.0.0.1:80", false, &["https://wall.example"]);
    let check = |headers: &[(&str, &str)], expected: Result<(), u16>| {
        let headers = [&[("host", "localhost")], headers].concat();
        let got = ask_as(&open, (Method::POST, "127.0.0.1"), "/", &headers, Some(Role::Operator));
        assert_eq!(got.map(drop), expected, "{headers:?}");
    };
    check(&[], Ok(()));
    check(&[("sec-fetch-site", "none")], Ok(()));
    check(&[("sec-fetch-site", "same-site")], Err(403));
    check(&[("sec-fetch-site", "cross-site")], Err(403));
    check(&[("sec-fetch-site", "cross-site"), ("origin", "https://wall.example")], Ok(()));
}

#[test]
fn cookies_are_secure_behind_https() {
    let nobody = Pass { allowed_origin: None, address: [192, 0, 2, 1].into(), who: None, lease: None };
    let check = |advertise: Option<&str>, headers: &[(&str, &str)], expected: bool| {
        let config = HttpConfig { advertise: advertise.map(str::to_owned), ..HttpConfig::default() };
        let guard = Guard::new(&config, users(), SystemClock::new());
        let login = guard.login(TOKEN, &nobody, &map(headers)).unwrap_or_else(|_| panic!("refused"));
        let cookie = login.cookie.expect("cookie");
        assert_eq!(cookie.to_str().expect("text").contains("; Secure"), expected, "{advertise:?} {headers:?}");
    };
    check(None, &[], false);
    check(None, &[("x-forwarded-proto", "https")], true);
    check(Some("worker:8642"), &[], false);
    check(Some("https://cams.example.org"), &[], true);
}

#[test]
fn challenge_says_what_was_wrong() {
    for (missing, expected) in [
        (Missing::Token, r#"Bearer realm="eyewitness""#),
        (Missing::Session, r#"Bearer realm="eyewitness""#),
        (Missing::RightToken, "invalid_token"),
    ] {
        let response = unauthorized(missing).into_response();
        let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().expect("text");
        assert!(challenge.contains(expected), "{challenge}");
        assert_eq!(challenge.contains("error"), missing == Missing::RightToken);
    }
}

#[test]
fn hosts_on_loopback() {
    let check = |host: &str, expected: Result<(), u16>| {
        assert_eq!(
            ask(&guard("127.0.0.1:8642", false, &["https://captions.example.org"]), "/", &[("host", host)], VIEWER)
                .map(|_| ()),
            expected,
            "{host}"
        );
    };
    for host in ["localhost", "LocalHost:8642", "127.0.0.1:8642", "127.8.0.1", "[::1]:8642", "x.localhost:1"] {
        check(host, Ok(()));
    }
    check("captions.example.org", Ok(()));
    check("captions.example.org:8642", Ok(()));
    for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1:8642", "[::2]"] {
        check(host, Err(421));
    }
}

#[test]
fn hosts_on_a_wide_address_are_free_as_the_token_guards() {
    let guard = guard("0.0.0.0:8642", true, &[]);
    let bearer = format!("Bearer {TOKEN}");
    assert!(ask(&guard, "/", &[("host", "cams.lan"), ("authorization", &bearer)], VIEWER).is_ok());
}

#[test]
fn origins() {
    let check = |origin: &str, expected: Result<Option<&str>, u16>| {
        let guard = guard("127.0.0.1:8642", false, &["https://wall.example"]);
        let got = ask(&guard, "/", &[("host", "localhost:8642"), ("origin", origin)], VIEWER);
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
