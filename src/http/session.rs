//! `/v1/session`: logging in, who one is, logging out.

use axum::{
    Extension,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    Shared, body,
    config::secret,
    error::{Refusal, json as answer},
    guard::{By, Login, Pass, Who},
    params::Params,
};

/// Body of a login.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// The token of one of the users.
    #[serde(default, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    token: Option<SecretString>,
}

/// Put into an answer: somebody tried to log in, and who it was.
#[derive(Clone)]
pub(super) struct Entrance(pub(super) Option<Who>);

/// `POST`.
pub(super) async fn login(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let headers = request.headers().clone();
    let Credentials { token } = body::read(request).await?;
    if token.is_none() && service.guard.has_token() {
        return Err(Refusal::bad("missing field `token`: one of those under `http` in the service's configuration"));
    }
    let token = token.unwrap_or_default();
    let Login { who, cookie } = service.guard.login(token.expose_secret(), &pass, &headers)?;
    let mut response = described(&service, &who);
    put_cookie(&mut response, cookie);
    response.extensions_mut().insert(Entrance(Some(who)));
    Ok(response)
}

/// `GET`.
pub(super) async fn who(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    // The route is not open: somebody it is.
    let who = pass.who.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "nobody knows who you are"))?;
    Ok(described(&service, &who))
}

/// `DELETE`.
pub(super) async fn logout(
    State(service): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    put_cookie(&mut response, service.guard.logout(&headers));
    Ok(response)
}

/// A cookie goes with the answer.
pub(super) fn put_cookie(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

fn described(service: &super::Service, who: &Who) -> Response {
    let expires_at = match who.by {
        By::Session(until) => Some(format!("{until:.3}")),
        By::Nothing | By::Token => None,
    };
    answer(&json!({
        "user": &*who.user,
        "role": who.role.as_str(),
        "token_needed": service.guard.has_token(),
        "expires_at": expires_at,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}
