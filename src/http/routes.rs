//! What happens to every request before and after its route, and which function answers which row of the table.

use axum::{
    RequestExt as _, Router,
    extract::{MatchedPath, RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, delete, get, patch, post, put},
};

use super::{
    Service, Shared, alerts, attach,
    captions::captions,
    error::Refusal,
    openapi::Verb,
    page, probe, profiles, rules, streams,
    table::{JSON, ROUTES},
    transcribe::transcribe,
    workers,
};
use crate::metrics::{self, MetricsSource as _, Scrape};

fn handler(verb: Verb, path: &str) -> MethodRouter<Shared> {
    match (verb, path) {
        (Verb::Get, "/") => get(page::page),
        (Verb::Get, "/page.css") => get(page::style),
        (Verb::Get, "/page.js") => get(page::script),
        (Verb::Get, "/hls.js") => get(page::player),
        (Verb::Get, "/v1/streams") => get(streams::list),
        (Verb::Get, "/v1/streams/{name}") => get(streams::one),
        (Verb::Put, "/v1/streams/{name}") => put(attach::attach),
        (Verb::Patch, "/v1/streams/{name}") => patch(attach::change),
        (Verb::Delete, "/v1/streams/{name}") => delete(attach::detach),
        (Verb::Get, "/v1/streams/{name}/rules") => get(rules::list),
        (Verb::Get, "/v1/streams/{name}/captions") => get(captions),
        (Verb::Get, "/v1/alerts") => get(alerts::list),
        (Verb::Get, "/v1/alerts/events") => get(alerts::events),
        (Verb::Get, "/v1/alerts/{id}") => get(alerts::one),
        (Verb::Get, "/v1/alerts/{id}/snapshot.jpg") => get(alerts::snapshot),
        (Verb::Get, "/v1/alerts/{id}/clip.mp4") => get(alerts::clip),
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

/// The router of the whole service.
pub(super) fn router(service: Shared, extra: Router) -> Router {
    let mut router = Router::new().merge(extra.with_state(()));
    for route in ROUTES {
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
    for route in ROUTES.iter().chain(service.extra_routes).filter(|route| route.path == path) {
        methods.push(route.verb.as_str());
        if route.verb == Verb::Get {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() { "GET, HEAD".to_owned() } else { methods.join(", ") }
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
                let refusal = match unreadable(&mut request).await {
                    None => streams::elsewhere(&service, &route, request.uri().path()),
                    unreadable => unreadable,
                };
                match refusal {
                    Some(refusal) => refusal.into_response(),
                    None => next.run(request).await,
                }
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
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag, location"));
    }
    let status = response.status().as_u16();
    tracing::debug!(%method, route, status, "request");
    *service.requests.lock().entry((route, status)).or_default() += 1;
    response
}

/// A refusal where a name in the path is no text, such as `%ff`: no handler has to look.
async fn unreadable(request: &mut Request) -> Option<Refusal> {
    match request.extract_parts::<RawPathParams>().await {
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => {
            Some(Refusal::bad("the path is not UTF-8: names have letters, digits, `.`, `_` and `-`"))
        }
        _ => None,
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
    let mut out = Scrape::default();
    service.house.scrape(&mut out);
    service.feed.scrape(&mut out);
    if let Some(alerts) = &service.alerts {
        alerts.scrape(&mut out);
    }
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
