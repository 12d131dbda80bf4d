//! Who gets in: tokens, hosts, origins, and addresses that others can reach.

use std::{
    process::Command,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use eyewitness::http::{HttpConfig, control::Prober};
use serde_json::Value;

use super::{
    desk::{Pretender, control},
    served::{Answer, Served, TOKEN},
};
use crate::harness::wait_for;

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

fn guarded() -> Served {
    Served::start(&format!(r#"{{"token":"{TOKEN}"}}"#))
}

/// A route of the OpenAPI document.
#[derive(Debug)]
struct Row {
    verb: String,
    path: String,
    /// Needs no token.
    open: bool,
    /// Who may.
    role: Option<String>,
}

fn rows(served: &Served) -> Vec<Row> {
    let bearer = format!("Bearer {TOKEN}");
    let document = served.ask("/openapi.json", &[("Authorization", &bearer)]).json();
    let paths = document["paths"].as_object().unwrap();
    let row = |verb: &String, path: &String, operation: &Value| Row {
        verb: verb.to_ascii_uppercase(),
        path: path.replace("{name}", "cam").replace("{id}", "some"),
        open: operation["security"].as_array().unwrap().is_empty(),
        role: operation["x-role"].as_str().map(str::to_owned),
    };
    let of_path = |(path, operations): (&String, &Value)| -> Vec<Row> {
        operations.as_object().unwrap().iter().map(|(verb, one)| row(verb, path, one)).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn every_route_wants_a_token_and_the_role_that_it_says() {
    let viewers = "the-token-of-a-viewer";
    let served =
        Served::start(&format!(r#"{{"token":"{TOKEN}","users":{{"vera":{{"role":"viewer","token":"{viewers}"}}}}}}"#));
    let starting = served.ask("/readyz", &[]);
    starting.refuses(503, &["not ready"]);
    assert!(!starting.body.contains("model `x`"), "names are not for everybody: {starting:?}");
    served.rest.ready.store(true, Relaxed);
    let mut rows = rows(&served);
    assert!(rows.len() >= 33, "{rows:?}");
    let who = |verb: &str, path: &str| {
        let row = rows.iter().find(|row| row.verb == verb && row.path == path).unwrap();
        assert_eq!(row.open, row.role.is_none(), "{row:?}");
        row.role.clone().unwrap_or_default()
    };
    // What is open says nothing: the list is here once more, so that nobody opens a route by mistake.
    let open: Vec<&str> = rows.iter().filter(|row| row.open).map(|row| &*row.path).collect();
    assert_eq!(open, ["/", "/page/{file}", "/healthz", "/readyz", "/v1/session"]);
    for (verb, path, role) in [
        ("GET", "/metrics", "viewer"),
        ("GET", "/v1/streams/cam", "viewer"),
        ("PUT", "/v1/streams/cam", "operator"),
        ("POST", "/v1/probe", "operator"),
        ("GET", "/v1/transcribe", "operator"),
        ("GET", "/v1/audit", "operator"),
        ("GET", "/v1/silences", "viewer"),
        ("POST", "/v1/alerts/some/acknowledge", "operator"),
        ("DELETE", "/v1/session", "viewer"),
    ] {
        assert_eq!(who(verb, path), role, "{verb} {path}");
    }
    // Routes of others are behind the same gate.
    rows.push(Row { verb: "GET".into(), path: "/extra".into(), open: false, role: Some("viewer".into()) });
    let (operators, viewers) = (format!("Bearer {TOKEN}"), format!("Bearer {viewers}"));
    for Row { verb, path, open, role } in &rows {
        let ask = |path: &str, headers: &[(&str, &str)]| served.ask_with(verb, path, headers);
        let bare = ask(&path.replace("{file}", "app.js"), &[]);
        if *open {
            let expected = if *path == "/v1/session" { 415 } else { 200 };
            assert_eq!(bare.status, expected, "{verb} {path}");
            continue;
        }
        assert_eq!(
            (bare.status, bare.header("www-authenticate")),
            (401, Some(r#"Bearer realm="eyewitness""#)),
            "{verb} {path}"
        );
        let viewer = ask(path, &[("Authorization", &viewers)]);
        if role.as_deref() == Some("operator") {
            viewer.refuses(403, &["`vera` is a viewer", "operator", "http.users"]);
        } else {
            assert!(!matches!(viewer.status, 401 | 403), "{verb} {path}: {viewer:?}");
        }
        // An alert or a silence called `some` is not there, nor is a picture where nobody looks, which is another matter.
        for right in [ask(path, &[("Authorization", &operators)]), ask(&format!("{path}?access_token={TOKEN}"), &[])] {
            let is_missing = right.status == 404 && (path.contains("/some") || path.ends_with("/preview.jpg"));
            assert!(!matches!(right.status, 401 | 403 | 404 | 421) || is_missing, "{verb} {path}: {right:?}");
        }
    }
    // What is not in the table is for operators, if it would change anything.
    assert_eq!(served.ask_with("POST", "/extra", &[("Authorization", &viewers)]).status, 403);
    assert_eq!(served.ask_with("POST", "/extra", &[("Authorization", &operators)]).status, 405);
    let metrics = served.ask("/metrics", &[("Authorization", &operators)]).body;
    assert!(metrics.contains("status=\"401\"") && !metrics.contains(TOKEN), "{metrics}");
}

#[test]
fn few_wrong_tokens_may_come_from_an_address() {
    let served = guarded();
    let bearer = format!("Bearer {TOKEN}");
    for wrong in ["Bearer wrong", &bearer[..bearer.len() - 1], &format!("{bearer}x"), "Bearer x", "Bearer y"] {
        let refused = served.ask("/v1/streams", &[("Authorization", wrong)]);
        assert_eq!(refused.status, 401, "{wrong}");
        assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"), "{wrong}");
        assert!(!refused.body.contains(TOKEN) && !refused.body.contains(wrong), "{refused:?}");
    }
    for path in ["/v1/streams", "/v1/streams?access_token=z"] {
        let refused = served.ask(path, &[("Authorization", "Bearer z")]);
        refused.refuses(429, &["too many wrong tokens"]);
        let secs: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=12).contains(&secs), "{secs}");
    }
    let login = served.ask_body("POST", "/v1/session", &JSON, r#"{"token":"wrong"}"#);
    assert_eq!(login.status, 429);
    // Who needs no token is served.
    assert_eq!(served.ask("/healthz", &[]).status, 200);
}

#[test]
fn nobody_may_ask_too_often() {
    let served = Served::start(r#"{"requests_per_sec":1}"#);
    let answers: Vec<_> = (0..20).map(|_| served.ask("/v1/streams", &[])).collect();
    let n_served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((5..20).contains(&n_served), "{n_served}");
    let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
    refused.refuses(429, &["too many requests", "http.requests_per_sec"]);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(served.ask("/healthz", &[]).status, 200);
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

/// The cookie of an answer as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn a_token_in_the_page_s_address_becomes_a_session() {
    let served = guarded();
    let wrong = served.ask("/?access_token=wrong", &[]);
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.body.contains("/page/app.js") && wrong.header("www-authenticate").is_some(), "{wrong:?}");
    let right = served.ask(&format!("/?access_token={TOKEN}"), &[]);
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let cookie = cookie(&right);
    assert_eq!(served.ask("/v1/streams", &[("Cookie", &cookie)]).status, 200);
    assert_eq!(served.ask("/v1/streams", &[("Cookie", &cookie[..cookie.len() - 1])]).status, 401);
    assert_eq!(served.ask("/v1/streams", &[("Cookie", &format!("eyewitness_session={TOKEN}"))]).status, 401);
}

#[test]
fn sessions_begin_and_end() {
    let served = guarded();
    let who = served.ask("/v1/session", &[]);
    who.refuses(401, &["a token is needed"]);
    let login = |body: &str, headers: &[(&str, &str)]| {
        served.ask_body("POST", "/v1/session", &[&JSON[..], headers].concat(), body)
    };
    login(r#"{"token":"wrong"}"#, &[]).refuses(401, &["the token is wrong"]);
    login("{}", &[]).refuses(400, &["`token`"]);
    login(r#"{"tokn":"hunter2hunter2"}"#, &[]).refuses(400, &["did you mean `token`"]);
    let right = format!(r#"{{"token":"{TOKEN}"}}"#);
    // A form of another site cannot log anybody in.
    login(&right, &[("Sec-Fetch-Site", "cross-site")]).refuses(403, &["own page"]);
    let opened = login(&right, &[]);
    assert_eq!((opened.status, opened.header("cache-control")), (200, Some("no-store")), "{opened:?}");
    assert!(!opened.body.contains(TOKEN) && !opened.header("set-cookie").unwrap().contains("Secure"), "{opened:?}");
    assert!(login(&right, &[("X-Forwarded-Proto", "https")]).header("set-cookie").unwrap().contains("; Secure"));
    let cookie = cookie(&opened);
    let session = served.ask("/v1/session", &[("Cookie", &cookie)]).json();
    assert_eq!(session, opened.json());
    assert_eq!((&session["user"], &session["role"]), (&"operator".into(), &"operator".into()));
    assert_eq!((&session["token_needed"], &session["version"]), (&true.into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(session["expires_at"].as_str().unwrap().ends_with('Z'), "{session}");
    let by_token = served.ask("/v1/session", &[("Authorization", &format!("Bearer {TOKEN}"))]).json();
    assert_eq!(by_token["expires_at"], Value::Null);

    // With a cookie, what changes something comes from our own page.
    let own = format!("http://localhost:{}", served.addr.port());
    let end = |headers: &[(&str, &str)]| {
        served.ask_with("DELETE", "/v1/session", &[&[("Cookie", &*cookie)], headers].concat())
    };
    for headers in [&[][..], &[("Sec-Fetch-Site", "same-site")], &[("Origin", &*own), ("Sec-Fetch-Site", "cross-site")]]
    {
        end(headers).refuses(403, &["own page", "Authorization: Bearer"]);
    }
    end(&[("Origin", "https://evil.example")]).refuses(403, &["another origin"]);
    assert_eq!(served.ask("/v1/session", &[("Cookie", &cookie)]).status, 200);
    let ended = end(&[("Origin", &own), ("Sec-Fetch-Site", "same-origin")]);
    assert_eq!(ended.status, 204);
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"), "{ended:?}");
    served.ask("/v1/session", &[("Cookie", &cookie)]).refuses(401, &["the session is over"]);
}

#[test]
fn whoever_logs_out_is_told_nothing_more() {
    let served = guarded();
    let login = served.ask_body("POST", "/v1/session", &JSON, &format!(r#"{{"token":"{TOKEN}"}}"#));
    let cookie = cookie(&login);
    let (with, bearer) = (format!("Cookie: {cookie}"), format!("Authorization: Bearer {TOKEN}"));
    let follow = |way: &str, path: &str, header: &str| served.follow(way, path, &["--header", header]).opened();
    let by_cookie = [
        follow("ws", "/v1/live", &with),
        follow("ws", "/v1/streams/cam/captions", &with),
        follow("sse", "/v1/streams/cam/captions", &with),
    ];
    let by_token = follow("ws", "/v1/live", &bearer);
    let own = format!("http://localhost:{}", served.addr.port());
    let ended = served.ask_with("DELETE", "/v1/session", &[("Cookie", &cookie), ("Origin", &own)]);
    assert_eq!(ended.status, 204, "{ended:?}");
    for follower in &by_cookie {
        follower.wait_for("closed");
    }
    assert_eq!(by_cookie[0].wait_for("closed")["closed"], 1008);
    served.captions(0..1);
    wait_for("a caption", || by_token.told().iter().any(|t| t.to_string().contains("line 0")).then_some(()));
}

#[test]
fn what_was_begun_is_written_down_though_its_client_hung_up() {
    let prober = Arc::new(Pretender::default());
    let served = Served::controlled("{}", control(Some(Arc::clone(&prober) as Arc<dyn Prober>)));
    prober.hold(true);
    let hurried = Command::new("curl")
        .args(["-s", "-m", "1", "-d", r#"{"url":"rtsp://192.0.2.1/1"}"#, "-H", "Content-Type: application/json"])
        .arg(served.url("http", "/v1/probe"))
        .status();
    assert_eq!(hurried.unwrap().code(), Some(28), "it waits in vain");
    prober.hold(false);
    wait_for("a record of it", || {
        let records = served.ask("/v1/audit", &[]).json();
        (records["records"][0]["route"] == "/v1/probe").then_some(())
    });
}

#[test]
fn where_no_token_is_needed_everybody_is_local() {
    let served = Served::start("{}");
    let session = served.ask("/v1/session", &[]).json();
    let expected = serde_json::json!({ "user": "local", "role": "operator", "token_needed": false, "expires_at": null,
                                       "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(session, expected);
    let login = served.ask_body("POST", "/v1/session", &JSON, "{}");
    assert_eq!((login.status, login.json(), login.header("set-cookie")), (200, expected, None));
    // A browser's word is all that tells another page's request from our own.
    let put = |site: &str| served.ask_with("PUT", "/v1/streams/cam", &[("Sec-Fetch-Site", site)]);
    for site in ["cross-site", "same-site"] {
        put(site).refuses(403, &["own page"]);
    }
    for site in ["same-origin", "none"] {
        assert_eq!(put(site).status, 409, "there is no store");
    }
}

#[test]
fn pages_and_answers_have_strict_policies() {
    let served = guarded();
    let page = served.ask("/", &[("Accept", "text/html")]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    // Nothing inline, which the policy would stop.
    for piece in page.body.split("<script").skip(1) {
        let (head, rest) = piece.split_once('>').unwrap();
        assert!(head.contains(" src=\"/page/") && rest.starts_with("</script>"), "{piece}");
    }
    assert!(!page.body.contains("<style") && !page.body.contains(" style=") && !page.body.contains(" onclick="));
    for path in ["/", "/page/app.js", "/healthz", "/v1/streams", "/nothing", "/openapi.json"] {
        let answer = served.ask(path, &[]);
        for (name, part) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("permissions-policy", "camera=(), microphone=()"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert!(answer.header(name).is_some_and(|value| value.contains(part)), "{path}: {name} of {answer:?}");
        }
    }
}

#[test]
fn who_changed_what_is_written_down() {
    let viewers = "the-token-of-a-viewer";
    let served = Served::start(&format!(
        r#"{{"token":"{TOKEN}","trusted_proxies":["127.0.0.1"],"users":{{"vera":{{"role":"viewer","token":"{viewers}"}}}}}}"#
    ));
    let (operators, viewer) = (format!("Bearer {TOKEN}"), format!("Bearer {viewers}"));
    let operator = [("Authorization", &*operators)];
    served.ask_with("PUT", "/v1/streams/gate?access_token=hunter2hunter2", &operator);
    served.ask_with("DELETE", "/v1/alerts/x-1/acknowledge", &[("Authorization", &*viewer)]);
    served.ask_with("POST", "/v1/silences", &[("X-Forwarded-For", "198.51.100.7, 127.0.0.1")]);
    served.ask_body("POST", "/v1/session", &JSON, &format!(r#"{{"token":"{viewers}"}}"#));
    served.ask_body("POST", "/v1/session", &JSON, r#"{"token":"hunter2hunter2"}"#);
    served.ask(&format!("/?access_token={TOKEN}"), &[]);
    served.ask("/v1/streams", &operator);
    served.ask("/v1/audit", &[("Authorization", &*viewer)]).refuses(403, &["operator"]);
    let answer = served.ask("/v1/audit?limit=10", &operator);
    for secret in [TOKEN, viewers, "hunter2"] {
        assert!(!answer.body.contains(secret), "{answer:?}");
    }
    let mut records: Vec<Value> = answer.json()["records"].as_array().unwrap().clone();
    records.reverse();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let short = |r: &Value| {
        let [user, role, method, route] = ["user", "role", "method", "route"].map(|key| text(&r[key]));
        format!("{user} {role} {method} {route} {}", r["status"])
    };
    let told: Vec<String> = records.iter().map(short).collect();
    assert_eq!(
        told,
        [
            "operator operator PUT /v1/streams/{name} 409",
            "vera viewer DELETE /v1/alerts/{id}/acknowledge 403",
            "- - POST /v1/silences 401",
            "vera viewer POST /v1/session 200",
            "- - POST /v1/session 401",
            "operator operator GET / 303",
        ]
    );
    let names: Vec<String> = records.iter().map(|r| format!("{} {}", text(&r["kind"]), text(&r["subject"]))).collect();
    assert_eq!(names, ["stream gate", "alert x-1", "- -", "- -", "- -", "- -"]);
    assert_eq!((&records[0]["address"], &records[2]["address"]), (&"127.0.0.1".into(), &"198.51.100.7".into()));
    assert!(records.iter().all(|r| text(&r["at"]).ends_with('Z')), "{records:?}");
    served.ask("/v1/audit?limit=1001", &operator).refuses(400, &["more than 1000"]);
    assert_eq!(served.ask("/v1/audit?limit=1", &operator).json()["records"].as_array().unwrap().len(), 1);
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
