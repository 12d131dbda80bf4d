//! Our own page, from what is built of `console/`. Embedded; loads nothing from elsewhere.

mod files;

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

pub(super) use self::files::file;
use super::{Shared, guard::Pass};

/// Nothing inline, nothing from elsewhere; `blob:` is how browsers show and play what a script fetched.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; \
                      media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The page. A token in its query becomes a cookie, and leaves the address bar.
pub(super) async fn page(State(service): State<Shared>, Extension(pass): Extension<Pass>) -> Response {
    match service.guard.cookie() {
        Some(cookie) if pass.token_in_query => {
            let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        _ => html(files::INDEX),
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
