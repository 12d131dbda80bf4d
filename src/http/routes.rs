//! What happens to every request before and after its route, and which function answers which row of the table.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    RequestExt as _, Router,
    extract::{MatchedPath, RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, delete, get, patch, post, put},
};

use super::{
    Service, Shared, alerts, attach, audit,
    captions::captions,
    error::Refusal,
    guard::{Ask, Pass},
    health, history,
    live::live,
    openapi::{Route, Verb},
    page,
    preview::preview,
    probe, profiles, rules,
    server::Peer,
    session::{self, Entrance},
    silences, streams,
    table::{self, JSON},
    transcribe::transcribe,
    users::Role,
    video::video,
    workers,
};
use crate::metrics::{self, MetricsSource as _, Scrape};

fn handler(verb: Verb, path: &str) -> MethodRouter<Shared> {
    match (verb, path) {
        (Verb::Get, "/") => get(page::page),
        (Verb::Get, "/page/{file}") => get(page::file),
        (Verb::Get, "/v1/streams") => get(streams::list),
        (Verb::Get, "/v1/streams/{name}") => get(streams::one),
        (Verb::Put, "/v1/streams/{name}") => put(attach::attach),
        (Verb::Patch, "/v1/streams/{name}") => patch(attach::change),
        (Verb::Delete, "/v1/streams/{name}") => delete(attach::detach),
        (Verb::Get, "/v1/streams/{name}/rules") => get(rules::list),
        (Verb::Get, "/v1/streams/{name}/captions") => get(captions),
        (Verb::Get, "/v1/streams/{name}/preview.jpg") => get(preview),
        (Verb::Get, "/v1/streams/{name}/live.mp4") => get(video),
        (Verb::Get, "/v1/live") => get(live),
        (Verb::Get, "/v1/alerts") => get(alerts::list),
        (Verb::Get, "/v1/alerts/events") => get(alerts::events),
        (Verb::Get, "/v1/alerts/{id}") => get(alerts::one),
        (Verb::Get, "/v1/alerts/{id}/snapshot.jpg") => get(alerts::snapshot),
        (Verb::Get, "/v1/alerts/{id}/clip.mp4") => get(alerts::clip),
        (Verb::Get, "/v1/history/transcripts") => get(history::transcripts),
        (Verb::Get, "/v1/history/transcripts/{id}/clip.mp4") => get(history::clip),
        (Verb::Get, "/v1/history/series") => get(history::series),
        (Verb::Post, "/v1/alerts/{id}/acknowledge") => post(alerts::acknowledge),
        (Verb::Delete, "/v1/alerts/{id}/acknowledge") => delete(alerts::unacknowledge),
        (Verb::Get, "/v1/silences") => get(silences::list),
        (Verb::Post, "/v1/silences") => post(silences::silence),
        (Verb::Delete, "/v1/silences/{id}") => delete(silences::lift),
        (Verb::Post, "/v1/session") => post(session::login),
        (Verb::Get, "/v1/session") => get(session::who),
        (Verb::Delete, "/v1/session") => delete(session::logout),
        (Verb::Get, "/v1/audit") => get(audit::list),
        (Verb::Get, "/v1/health") => get(health::health),
        (Verb::Get, "/v1/profiles") => get(profiles::list),
        (Verb::Get, "/v1/workers") => get(workers::list),
        (Verb::Post, "/v1/probe") => post(probe::probe),
        (Verb::Get, "/v1/transcribe") => get(transcribe),
        (Verb::Get, "/metrics") => get(metrics),
        (Verb::Get, "/healthz") => get(async || "ok\n"),
        (Verb::Get, "/readyz") => get(readyz),
        (Verb::Get, "/openapi.json") => get(document),
        _ => unreachable!("a test serves every row of the table"),
    }
}

/// Headers that pages of allowed origins may read.
const EXPOSED: &str = "etag, location, retry-after, eyewitness-session, eyewitness-pts-ms, eyewitness-captured-at";

/// The router of the whole service.
pub(super) fn router(service: Shared, extra: Router) -> Router {
    let mut router = Router::new().merge(extra.with_state(()));
    for route in table::rows() {
        router = router.route(route.path, handler(route.verb, route.path));
    }
    router
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; /openapi.json lists what there is")
        })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Shared::clone(&service), front))
        .with_state(service)
}

async fn method_not_allowed(State(service): State<Shared>, request: Request) -> Refusal {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let allowed = allowed(&service, path);
    let message = format!("`{}` is not understood here; allowed: {allowed}", request.method());
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message);
    match HeaderValue::from_str(&allowed) {
        Ok(allowed) => refusal.with(header::ALLOW, allowed),
        Err(_) => refusal,
    }
}

/// The methods of a path: `GET, HEAD, PUT`.
fn allowed(service: &Service, path: &str) -> String {
    let mut methods = Vec::new();
    for route in table::rows().chain(service.extra_routes).filter(|route| route.path == path) {
        methods.push(route.verb.as_str());
        if route.verb == Verb::Get {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() { "GET, HEAD".to_owned() } else { methods.join(", ") }
}

/// What every request passes. What may change something goes on to its end and into the audit also when its client hangs up.
async fn front(State(service): State<Shared>, request: Request, next: Next) -> Response {
    let is_safe = request.method().is_safe();
    if is_safe {
        return answered(service, request, next).await;
    }
    // The service waits for it when it stops. Never closed, so that an error cannot come.
    let begun = Arc::clone(&service.changes).acquire_owned().await;
    let answer = async move {
        let answer = answered(service, request, next).await;
        drop(begun);
        answer
    };
    let broken =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request broke down; this is a bug").into_response();
    tokio::spawn(answer).await.unwrap_or_else(broken)
}

/// The guard before; headers, the count and the audit after. Writes no query anywhere: it may hold the token.
async fn answered(service: Shared, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let row = row(&service, &method, &route);
    let need = match row {
        Some(row) => row.need(),
        None if method.is_safe() => Some(Role::Viewer),
        None => Some(Role::Operator),
    };
    let names = names(&mut request).await;
    let peer = request.extensions().get::<Peer>().map_or(UNKNOWN, |peer| peer.0);
    let ask = Ask { method: &method, uri: request.uri(), headers: request.headers(), peer };
    let (pass, outcome) = service.guard.check(&ask, need);
    let mut response = match outcome {
        Ok(()) if method == Method::OPTIONS && pass.allowed_origin.is_some() => preflight(),
        Ok(()) => {
            request.extensions_mut().insert(pass.clone());
            let refusal = match &names {
                Ok(_) => streams::elsewhere(&service, &route, request.uri().path()),
                Err(()) => Some(Refusal::bad("the path is not UTF-8: names have letters, digits, `.`, `_` and `-`")),
            };
            match refusal {
                Some(refusal) => refusal.into_response(),
                None => next.run(request).await,
            }
        }
        Err(refusal) => refusal.into_response(),
    };
    put_headers(&mut response, pass.allowed_origin.as_deref());
    let status = response.status().as_u16();
    tracing::debug!(%method, route, status, "request");
    let entrance = response.extensions_mut().remove::<Entrance>();
    if entrance.is_some() || row.is_some_and(|row| row.verb != Verb::Get) {
        let subject = response.extensions_mut().remove::<audit::Subject>().map(|subject| vec![subject.0]);
        let names = subject.or(names.ok()).unwrap_or_default();
        note(&service, &pass, entrance, (method.as_str(), &route, &names), status);
    }
    *service.requests.lock().entry((route, status)).or_default() += 1;
    response
}

/// Of a request that came in no connection.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The row of the table that a request is for.
fn row(service: &Service, method: &Method, route: &str) -> Option<&'static Route> {
    let verb = if method == Method::HEAD { Method::GET.as_str() } else { method.as_str() };
    table::rows().chain(service.extra_routes).find(|row| row.path == route && row.verb.as_str() == verb)
}

/// Writes down who would have changed something, or logged in.
fn note(
    service: &Service,
    pass: &Pass,
    entrance: Option<Entrance>,
    (method, route, names): (&str, &str, &[String]),
    status: u16,
) {
    let who = entrance.and_then(|entrance| entrance.0).or_else(|| pass.who.clone());
    let record = audit::AuditRecord {
        at: service.clock.wall(),
        user: who.as_ref().map(|who| who.user.to_string()),
        role: who.as_ref().map(|who| who.role),
        address: pass.address,
        method: method.to_owned(),
        route: route.to_owned(),
        subject: audit::subject(names),
        status,
    };
    service.audit.note(record, service.clock.monotonic());
}

/// What goes with every answer. Nothing of ours is for a frame, a form or a script of another site.
fn put_headers(response: &mut Response, allowed_origin: Option<&str>) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert("permissions-policy", HeaderValue::from_static(page::PERMISSIONS));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(page::NO_PAGE));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let reach = if allowed_origin.is_some() { "cross-origin" } else { "same-origin" };
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static(reach));
    if let Some(origin) = allowed_origin.and_then(|o| HeaderValue::from_str(o).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// The names in the path; an error where one is no text, such as `%ff`: no handler has to look.
async fn names(request: &mut Request) -> Result<Vec<String>, ()> {
    match request.extract_parts::<RawPathParams>().await {
        Ok(params) => Ok(params.iter().map(|(_, value)| value.to_owned()).collect()),
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => Err(()),
        Err(_) => Ok(Vec::new()),
    }
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, PATCH, POST, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, if-match, if-none-match, last-event-id, range",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn document(State(service): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], service.openapi.clone()).into_response()
}

async fn readyz(State(service): State<Shared>) -> Result<&'static str, Refusal> {
    // Everybody may ask, as probes do; who has no token is not told names.
    service.house.ready().map_err(|why| match service.guard.has_token() {
        true => Refusal::busy("not ready; the log says why"),
        false => Refusal::busy(format!("not ready: {why}")),
    })?;
    Ok("ready\n")
}

async fn metrics(State(service): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], scrape(&service).render()).into_response()
}

/// All numbers there are.
pub(super) fn scrape(service: &Service) -> Scrape {
    let mut out = Scrape::default();
    service.house.scrape(&mut out);
    service.feed.scrape(&mut out);
    service.views.scrape(&mut out);
    if let Some(alerts) = &service.alerts {
        alerts.scrape(&mut out);
    }
    if let Some(history) = &service.history {
        history.scrape(&mut out);
    }
    service.disks.scrape(&mut out);
    let n_clients = service.max_clients - service.clients.available_permits();
    out.gauge("eyewitness_http_clients", "Readers and speakers now.", &[], n_clients as f64);
    out.gauge("eyewitness_http_max_clients", "Most readers and speakers.", &[], service.max_clients as f64);
    for ((route, status), n) in service.requests.lock().iter() {
        out.counter(
            "eyewitness_http_requests_total",
            "Requests answered, by route and status.",
            &[("route", route), ("status", &status.to_string())],
            *n as f64,
        );
    }
    out.gauge("eyewitness_build_info", "Always 1.", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    out
}
