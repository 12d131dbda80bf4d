//! Who gets in: tokens, hosts, origins, and addresses that others can reach.

use std::sync::atomic::Ordering::Relaxed;

use eyewitness::http::HttpConfig;
use serde_json::Value;

use super::served::{Served, TOKEN};

fn guarded() -> Served {
    Served::start(&format!(r#"{{"token":"{TOKEN}"}}"#))
}

/// Every method and path of the OpenAPI document, and whether it is open.
fn paths(served: &Served) -> Vec<(String, String, bool)> {
    let bearer = format!("Bearer {TOKEN}");
    let document = served.ask("/openapi.json", &[("Authorization", &bearer)]).json();
    let paths = document["paths"].as_object().unwrap();
    let open = |operation: &Value| operation["security"].as_array().unwrap().is_empty();
    let of_path = |(path, operations): (&String, &Value)| -> Vec<_> {
        let path = path.replace("{name}", "cam");
        let operations = operations.as_object().unwrap();
        operations.iter().map(|(verb, one)| (verb.to_ascii_uppercase(), path.clone(), open(one))).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn every_route_wants_the_token() {
    let served = guarded();
    let starting = served.ask("/readyz", &[]);
    starting.refuses(503, &["not ready"]);
    assert!(!starting.body.contains("model `x`"), "names are not for everybody: {starting:?}");
    served.rest.ready.store(true, Relaxed);
    let mut paths = paths(&served);
    assert!(paths.len() >= 18, "{paths:?}");
    let has = |verb: &str, path: &str, open| paths.contains(&(verb.to_owned(), path.to_owned(), open));
    assert!(
        has("GET", "/healthz", true)
            && has("GET", "/readyz", true)
            && has("GET", "/metrics", false)
            && has("PUT", "/v1/streams/cam", false)
    );
    // Routes of others are behind the same gate.
    paths.push(("GET".into(), "/extra".into(), false));
    let bearer = format!("Bearer {TOKEN}");
    for (verb, path, open) in paths {
        let ask = |path: &str, headers: &[(&str, &str)]| served.ask_with(&verb, path, headers);
        let bare = ask(&path, &[]);
        if open {
            assert_eq!(bare.status, 200, "{verb} {path}");
            continue;
        }
        assert_eq!(
            (bare.status, bare.header("www-authenticate")),
            (401, Some(r#"Bearer realm="eyewitness""#)),
            "{verb} {path}"
        );
        for wrong in ["Bearer wrong", "Basic YTpi", &bearer[..bearer.len() - 1], &format!("{bearer}x")] {
            let refused = ask(&path, &[("Authorization", wrong)]);
            assert_eq!(refused.status, 401, "{verb} {path} {wrong}");
            assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"), "{verb} {path} {wrong}");
            assert!(!refused.body.contains(TOKEN), "{verb} {path}");
        }
        for right in [
            ask(&path, &[("Authorization", &bearer)]),
            ask(&format!("{verb} {path}?access_token={TOKEN}"), &[]),
            ask(&path, &[("Cookie", &format!("eyewitness_token={TOKEN}"))]),
        ] {
            assert!(!matches!(right.status, 401 | 403 | 404 | 421), "{verb} {path}: {right:?}");
        }
    }
    let metrics = served.ask("/metrics", &[("Authorization", &bearer)]).body;
    assert!(metrics.contains("status=\"401\"") && !metrics.contains(TOKEN), "{metrics}");
}

#[test]
fn sockets_and_event_streams_want_the_token() {
    let served = guarded();
    let header = format!("Authorization: Bearer {TOKEN}");
    for way in ["sse", "ws"] {
        let path = "/v1/streams/cam/captions";
        let refused = served.follow(way, path, &[]).wait_for("status");
        assert_eq!(refused["status"], 401, "{way}");
        assert!(refused["body"].as_str().unwrap().contains("access_token"), "{way}: {refused}");
        served.follow(way, path, &["--header", &header]).opened();
        served.follow(way, &format!("{path}?access_token={TOKEN}"), &[]).opened();
    }
    let refused = served.follow("ws", "/v1/transcribe", &[]).wait_for("status");
    assert_eq!(refused["status"], 401);
}

#[test]
fn the_page_takes_the_token_once_and_hides_it() {
    let served = guarded();
    let login = served.ask("/", &[("Accept", "text/html")]);
    assert_eq!(login.status, 401);
    assert!(login.body.contains(r#"name="access_token""#), "{login:?}");
    let wrong = served.ask("/?access_token=wrong", &[]);
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let right = served.ask(&format!("/?access_token={TOKEN}"), &[]);
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let cookie = right.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let page = served.ask("/", &[("Cookie", cookie.split(';').next().unwrap())]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.body.contains(r#"aria-live="polite""#) && !page.body.contains(TOKEN));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
}

#[test]
fn other_sites_and_other_names_stay_out() {
    let served = Served::start(r#"{"allowed_origins":["https://wall.example"]}"#);
    let port = served.addr.port();
    let own = format!("http://localhost:{port}");
    // Headers, status.
    let check = |headers: &[(&str, &str)], expected: u16| {
        let answer = served.ask("/v1/streams", headers);
        assert_eq!(answer.status, expected, "{headers:?} {answer:?}");
        answer
    };
    check(&[], 200);
    check(&[("Origin", &own)], 200);
    check(&[("Origin", "https://evil.example")], 403).refuses(403, &["http.allowed_origins"]);
    check(&[("Origin", "null")], 403);
    check(&[("Host", "evil.example")], 421).refuses(421, &["http.allowed_origins"]);
    check(&[("Host", "evil.example"), ("Origin", "http://evil.example")], 421);
    check(&[("Host", "wall.example"), ("Origin", "https://wall.example")], 200);
    let allowed = check(&[("Origin", "https://wall.example")], 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://wall.example"));
    assert_eq!(check(&[], 200).header("access-control-allow-origin"), None);

    let preflight = |origin: &str| {
        let asks = ("Access-Control-Request-Headers", "authorization");
        served.ask_with("OPTIONS", "/v1/streams", &[("Origin", origin), asks])
    };
    let allowed = preflight("https://wall.example");
    assert_eq!(allowed.status, 204);
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(preflight("https://evil.example").status, 403);

    for path in ["/v1/streams/cam/captions", "/v1/transcribe"] {
        let refused = served.follow("ws", path, &["--origin", "https://evil.example"]).wait_for("status");
        assert_eq!(refused["status"], 403, "{path}");
    }
    let own = format!("http://{}", served.addr);
    served.follow("ws", "/v1/streams/cam/captions", &["--origin", &own]).opened();
    served.follow("ws", "/v1/streams/cam/captions", &["--origin", "https://wall.example"]).opened();
}

#[test]
fn an_open_address_needs_a_token() {
    let check = |json: &str, expected: Result<(), &str>| {
        let config: HttpConfig = serde_json::from_str(json).unwrap();
        let got = config.check().map_err(|e| e.to_string());
        match (got, expected) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(part)) => assert!(got.contains(part), "{json}: {got}"),
            (got, expected) => panic!("{json}: {got:?}, not {expected:?}"),
        }
    };
    check(r#"{"listen":"0.0.0.0:0"}"#, Err("no token is set"));
    check(&format!(r#"{{"listen":"0.0.0.0:0","token":"{TOKEN}"}}"#), Ok(()));
    // With a token, it answers under any name.
    let served = Served::start(&format!(r#"{{"listen":"0.0.0.0:0","token":"{TOKEN}"}}"#));
    let headers = [("Host", "cameras.lan"), ("Authorization", &*format!("Bearer {TOKEN}"))];
    assert_eq!(served.ask("/v1/streams", &headers).status, 200);
    assert_eq!(served.ask("/v1/streams", &headers[..1]).status, 401);
}
