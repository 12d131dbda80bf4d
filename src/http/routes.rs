//! The table of routes, and what happens to every request before and after its route.

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get},
};

use super::{
    Shared,
    captions::{self, captions},
    error::Refusal,
    openapi::{Answer, ERROR, Parameter, Route, Schema},
    page, streams,
    transcribe::{self, transcribe},
};
use crate::{
    feed::Kind,
    metrics::{self, MetricsSource as _, Scrape},
};

const JSON: &str = "application/json";
const KINDS: [&str; 4] = {
    let [a, b, c, d] = Kind::ALL;
    [a.plural(), b.plural(), c.plural(), d.plural()]
};

const fn good(content: &'static [(&'static str, &'static str)]) -> Answer {
    Answer { status: 200, description: "Good.", content }
}

const BAD: Answer = Answer { status: 400, description: "A parameter is unknown or wrong.", content: &[(JSON, ERROR)] };
const UNKNOWN: Answer = Answer { status: 404, description: "There is no such stream.", content: &[(JSON, ERROR)] };
const NO_UPGRADE: Answer =
    Answer { status: 426, description: "The upgrade to a WebSocket went wrong.", content: &[(JSON, ERROR)] };
const BUSY: Answer =
    Answer { status: 503, description: "All places for readers are taken.", content: &[(JSON, ERROR)] };
const SWITCHING: Answer = Answer { status: 101, description: "The WebSocket is open.", content: &[] };

const fn query(name: &'static str, description: &'static str, schema: Schema) -> Parameter {
    Parameter { name, place: "query", description, schema }
}

/// Every route that is ours, in the order of the document.
pub(super) const ROUTES: [Route; 12] = [
    Route {
        path: "/",
        summary: "A page that shows live captions",
        description: "",
        parameters: &[],
        answers: &[
            good(&[("text/html", "")]),
            Answer { status: 303, description: "The token in the query was put into a cookie.", content: &[] },
        ],
        open: false,
    },
    Route {
        path: "/page.css",
        summary: "The page's style",
        description: "",
        parameters: &[],
        answers: &[good(&[("text/css", "")])],
        open: true,
    },
    Route {
        path: "/page.js",
        summary: "The page's script",
        description: "",
        parameters: &[],
        answers: &[good(&[("text/javascript", "")])],
        open: true,
    },
    Route {
        path: "/hls.js",
        summary: "The page's player, for browsers that cannot play HLS themselves",
        description: "",
        parameters: &[],
        answers: &[good(&[("text/javascript", "")])],
        open: true,
    },
    Route {
        path: "/v1/streams",
        summary: "All streams",
        description: "",
        parameters: &[],
        answers: &[good(&[(JSON, "Streams")]), BAD],
        open: false,
    },
    Route {
        path: "/v1/streams/{name}",
        summary: "One stream",
        description: "",
        parameters: &[],
        answers: &[good(&[(JSON, "Stream")]), BAD, UNKNOWN],
        open: false,
    },
    Route {
        path: "/v1/streams/{name}/captions",
        summary: "Captions and transcripts of a stream, live",
        description: "As a WebSocket when asked to upgrade (one record a text message); else as server-sent events, live \
                      WebVTT (final cues only) or JSON (the newest revision of each recent cue), by `format` or `Accept`. \
                      A reader that is too slow, or comes back too late, gets a `lost` record and goes on with the oldest \
                      that is kept.",
        parameters: &[
            query(
                "types",
                "Kinds of records. Default: `captions`, and for SSE and WebSocket also `status` and `gaps`.",
                Schema::SomeOf(&KINDS),
            ),
            query("format", "Goes before `Accept`.", Schema::OneOf(&captions::FORMATS)),
            query(
                "recent",
                "Begin with at most so many of the last records. Default: 100 for JSON, otherwise 0.",
                Schema::Number,
            ),
            query("last_event_id", "Go on after the record of this id. Not for JSON.", Schema::Text),
            Parameter {
                name: "Last-Event-ID",
                place: "header",
                description: "As `last_event_id`, before which it goes.",
                schema: Schema::Text,
            },
        ],
        answers: &[
            good(&[(JSON, "Captions"), ("text/event-stream", ""), ("text/vtt", "")]),
            SWITCHING,
            BAD,
            UNKNOWN,
            NO_UPGRADE,
            BUSY,
        ],
        open: false,
    },
    Route {
        path: "/v1/transcribe",
        summary: "Send sound, get transcripts back (WebSocket)",
        description: "Binary messages hold mono sound of 16 kHz, at most 256 KiB each. The text message `{\"type\":\"end\"}` \
                      says that no more comes: what is pending is transcribed, then `{\"type\":\"end\",\"n_samples\":...}` \
                      comes back and the socket is closed. Answers are transcript records, and gap records for speech that was not transcribed.",
        parameters: &[
            query("language", "ISO 639-1 code of what is spoken. Default: the model tells.", Schema::Text),
            query("format", "Samples, little endian. Default: `s16le`.", Schema::OneOf(&transcribe::FORMATS)),
            query("types", "Kinds of records that come back. Default: `transcripts,gaps`.", Schema::SomeOf(&KINDS)),
        ],
        answers: &[
            SWITCHING,
            BAD,
            NO_UPGRADE,
            Answer { status: 501, description: "No speech model is loaded.", content: &[(JSON, ERROR)] },
            BUSY,
        ],
        open: false,
    },
    Route {
        path: "/metrics",
        summary: "Metrics in Prometheus' text format",
        description: "",
        parameters: &[],
        answers: &[good(&[("text/plain", "")])],
        open: false,
    },
    Route {
        path: "/healthz",
        summary: "Whether the process lives",
        description: "",
        parameters: &[],
        answers: &[good(&[("text/plain", "")])],
        open: true,
    },
    Route {
        path: "/readyz",
        summary: "Whether models are loaded and streams started",
        description: "",
        parameters: &[],
        answers: &[
            good(&[("text/plain", "")]),
            Answer { status: 503, description: "Not yet.", content: &[(JSON, ERROR)] },
        ],
        open: false,
    },
    Route {
        path: "/openapi.json",
        summary: "This document",
        description: "",
        parameters: &[],
        answers: &[good(&[(JSON, "")])],
        open: false,
    },
];

fn handler(path: &str) -> MethodRouter<Shared> {
    match path {
        "/" => get(page::page),
        "/page.css" => get(page::style),
        "/page.js" => get(page::script),
        "/hls.js" => get(page::player),
        "/v1/streams" => get(streams::list),
        "/v1/streams/{name}" => get(streams::one),
        "/v1/streams/{name}/captions" => get(captions),
        "/v1/transcribe" => get(transcribe),
        "/metrics" => get(metrics),
        "/healthz" => get(async || "ok\n"),
        "/readyz" => get(readyz),
        "/openapi.json" => get(document),
        _ => unreachable!("a test serves every row of the table"),
    }
}

/// The router of the whole service.
pub(super) fn router(service: Shared, extra: Router) -> Router {
    let mut router = Router::new().merge(extra.with_state(()));
    for route in &ROUTES {
        router = router.route(route.path, handler(route.path));
    }
    router
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; /openapi.json lists what there is")
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here")
                .with(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
        })
        .layer(from_fn_with_state(Shared::clone(&service), front))
        .with_state(service)
}

/// What every request passes: the guard before, headers and the count after. Writes no query anywhere: it may hold the
/// token.
async fn front(State(service): State<Shared>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let open = ROUTES.iter().any(|r| r.open && r.path == route);
    let pass = service.guard.check(&method, request.uri(), request.headers(), open);
    let mut allowed_origin = None;
    let mut response = match pass {
        Ok(pass) => {
            allowed_origin = pass.allowed_origin.clone();
            if method == Method::OPTIONS && allowed_origin.is_some() {
                preflight()
            } else {
                request.extensions_mut().insert(pass);
                next.run(request).await
            }
        }
        Err(refusal) => {
            let refused = refusal.into_response();
            if refused.status() == StatusCode::UNAUTHORIZED && route == "/" { page::login(refused) } else { refused }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let reach = if allowed_origin.is_some() { "cross-origin" } else { "same-origin" };
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static(reach));
    if let Some(origin) = allowed_origin.and_then(|o| HeaderValue::from_str(&o).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    let status = response.status().as_u16();
    tracing::debug!(%method, route, status, "request");
    *service.requests.lock().entry((route, status)).or_default() += 1;
    response
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, last-event-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn document(State(service): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], service.openapi.clone()).into_response()
}

async fn readyz(State(service): State<Shared>) -> Result<&'static str, Refusal> {
    service.house.ready().map_err(|why| Refusal::busy(format!("not ready: {why}")))?;
    Ok("ready\n")
}

async fn metrics(State(service): State<Shared>) -> Response {
    let mut out = Scrape::default();
    service.house.scrape(&mut out);
    service.feed.scrape(&mut out);
    let n_clients = service.max_clients - service.clients.available_permits();
    out.gauge("eyewitness_http_clients", "Readers and speakers now.", &[], n_clients as f64);
    for ((route, status), n) in service.requests.lock().iter() {
        out.counter(
            "eyewitness_http_requests_total",
            "Requests answered, by route and status.",
            &[("route", route), ("status", &status.to_string())],
            *n as f64,
        );
    }
    out.gauge("eyewitness_build_info", "Always 1.", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], out.render()).into_response()
}
