//! Our own small page: the streams, and live captions of one of them. Embedded; loads nothing from elsewhere.

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{Shared, guard::Pass};

/// Nothing inline, nothing from elsewhere; `blob:` is how browsers play what a script fetched, `data:` its empty subtitles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      media-src 'self' blob: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The page. A token in its query becomes a cookie, and leaves the address bar.
pub(super) async fn page(State(service): State<Shared>, Extension(pass): Extension<Pass>) -> Response {
    match service.guard.cookie() {
        Some(cookie) if pass.token_in_query => {
            let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        _ => html(include_str!("page/index.html")),
    }
}

/// The page that asks for the token, with the status and challenge of the refusal.
pub(super) fn login(refused: Response) -> Response {
    let mut response = html(include_str!("page/login.html"));
    *response.status_mut() = refused.status();
    if let Some(challenge) = refused.headers().get(header::WWW_AUTHENTICATE) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    response
}

fn html(text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, text).into_response()
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page/page.css")).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/page.js")).into_response()
}

/// Plays HLS where the browser itself cannot; origin and licence in page/vendor.
pub(super) async fn player() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/vendor/hls.min.js")).into_response()
}
