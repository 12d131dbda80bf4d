//! Our own page, from what is built of `console/`. Embedded; loads nothing from elsewhere. It is open to everybody, says nothing
//! by itself, and asks for a token where the API does.

mod files;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};

pub(super) use self::files::file;
use super::{
    Shared,
    guard::{self, Pass},
    session::{Entrance, put_cookie},
};

/// Nothing inline, nothing from elsewhere; `blob:` is how browsers show and play what a script fetched, `data:` its empty
/// subtitles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; \
                      manifest-src 'self'; img-src 'self' blob:; media-src 'self' blob: data:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";
/// Of everything else: it is no page.
pub(super) const NO_PAGE: &str = "default-src 'none'; frame-ancestors 'none'";
/// What no page of ours needs.
pub(super) const PERMISSIONS: &str =
    "camera=(), microphone=(), geolocation=(), display-capture=(), payment=(), usb=(), serial=(), bluetooth=()";

/// The page. A token in its query begins a session, and leaves the address bar.
pub(super) async fn page(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(token) = guard::in_query(&uri) else { return html(files::INDEX) };
    match service.guard.login(&token, &pass, &headers) {
        Ok(login) => {
            let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
            put_cookie(&mut response, login.cookie);
            response.extensions_mut().insert(Entrance(Some(login.who)));
            response
        }
        // The page asks again, with the status and challenge of the refusal.
        Err(refusal) => {
            let refused = refusal.into_response();
            let mut response = html(files::INDEX);
            *response.status_mut() = refused.status();
            for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
                if let Some(value) = refused.headers().get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response.extensions_mut().insert(Entrance(None));
            response
        }
    }
}

fn html(text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    (headers, text).into_response()
}
