//! The addresses under which a stream is watched. Behind the service's guard, which checks host, origin and token.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;

use super::{
    playlist::Rendition,
    store::{HlsStore, Missing},
};
use crate::http::{
    Route,
    openapi::{Answer, ERROR},
};

/// Path of a stream's playlist, with `{name}` in place of the stream.
pub const PLAYLIST: &str = "/v1/streams/{name}/hls/master.m3u8";
const VIDEO: &str = "/v1/streams/{name}/hls/video.m3u8";
const CAPTIONS: &str = "/v1/streams/{name}/hls/captions.m3u8";
const FILE: &str = "/v1/streams/{name}/hls/{file}";

/// A player that asks before the first segment is there waits so long for it.
const WAIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const M3U8: &str = "application/vnd.apple.mpegurl";
const MPEG_TS: &str = "video/mp2t";
const WEBVTT: &str = "text/vtt; charset=utf-8";
/// Playlists change with every segment; a segment never does, and is the reader's alone.
const FRESH: &str = "no-cache";
const FIXED: &str = "private, max-age=300, immutable";

const fn good(kind: &'static [(&'static str, &'static str)]) -> Answer {
    Answer { status: 200, description: "Good.", content: kind }
}
const ERRORS: &[(&str, &str)] = &[("application/json", ERROR)];
const UNKNOWN: Answer =
    Answer { status: 404, description: "No such stream, or no such file any more.", content: ERRORS };
const UNFIT: Answer = Answer { status: 409, description: "The source's codec cannot be carried.", content: ERRORS };
const NOT_YET: Answer = Answer { status: 503, description: "No segment is there yet.", content: ERRORS };

const fn route(path: &'static str, summary: &'static str, answers: &'static [Answer]) -> Route {
    Route::get(path, summary, answers)
}

/// What [`router`] answers.
pub const ROUTES: &[Route] = &[
    route(PLAYLIST, "HLS: what players open (RFC 8216)", &[good(&[(M3U8, "")]), UNKNOWN, UNFIT, NOT_YET]),
    route(VIDEO, "HLS: the newest segments of video and sound", &[good(&[(M3U8, "")]), UNKNOWN, UNFIT, NOT_YET]),
    route(CAPTIONS, "HLS: the captions of the same segments", &[good(&[(M3U8, "")]), UNKNOWN, UNFIT, NOT_YET]),
    route(
        FILE,
        "HLS: a segment, as the playlists name it",
        &[good(&[(MPEG_TS, ""), ("text/vtt", "")]), UNKNOWN, UNFIT],
    ),
];

/// [`ROUTES`]; has no fallback.
pub fn router(store: Arc<HlsStore>) -> Router {
    Router::new()
        .route(PLAYLIST, get(master))
        .route(VIDEO, get(video))
        .route(CAPTIONS, get(captions))
        .route(FILE, get(file))
        .with_state(store)
}

type Store = State<Arc<HlsStore>>;

async fn master(State(store): Store, Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    let query = token_of(query.as_deref());
    let text = patiently(|| store.master(&name, &query)).await;
    text.map_or_else(|m| refusal(&name, &m), |text| answer(M3U8, FRESH, text.into()))
}

async fn video(State(store): Store, Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    media(&store, &name, Rendition::Video, query.as_deref())
}

async fn captions(State(store): Store, Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    media(&store, &name, Rendition::Captions, query.as_deref())
}

async fn file(State(store): Store, Path((name, file)): Path<(String, String)>) -> Response {
    segment(&store, &name, &file).unwrap_or_else(|missing| refusal(&name, &missing))
}

fn media(store: &HlsStore, name: &str, rendition: Rendition, query: Option<&str>) -> Response {
    let text = store.media(name, rendition, &token_of(query));
    text.map_or_else(|m| refusal(name, &m), |text| answer(M3U8, FRESH, text.into()))
}

/// Asks again until the first segment is there.
async fn patiently<T>(ask: impl Fn() -> Result<T, Missing>) -> Result<T, Missing> {
    let mut waited = Duration::ZERO;
    loop {
        match ask() {
            Err(Missing::NotYet) if waited < WAIT => {}
            answer => return answer,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
}

/// `<session>-<number>.ts` or `.vtt`.
fn segment(store: &HlsStore, name: &str, file: &str) -> Result<Response, Missing> {
    let (rest, rendition, kind) = match file.rsplit_once('.') {
        Some((rest, "ts")) => (rest, Rendition::Video, MPEG_TS),
        Some((rest, "vtt")) => (rest, Rendition::Captions, WEBVTT),
        _ => return Err(Missing::Gone),
    };
    let (session, number) = rest.rsplit_once('-').ok_or(Missing::Gone)?;
    let number = number.parse().map_err(|_| Missing::Gone)?;
    Ok(answer(kind, FIXED, store.file(name, rendition, session, number)?))
}

fn answer(kind: &'static str, cache: &'static str, body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], body).into_response()
}

/// The part of a query that players have to bring along to what a playlist names: they send no headers.
fn token_of(query: Option<&str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~+/=%".contains(c);
    let token = query.unwrap_or_default().split('&').find(|p| p.starts_with("access_token=") && p.chars().all(plain));
    token.map_or_else(String::new, |t| format!("?{t}"))
}

fn refusal(name: &str, missing: &Missing) -> Response {
    let (status, message) = match missing {
        Missing::Stream => (StatusCode::NOT_FOUND, format!("no stream `{name}` is attached")),
        Missing::Unfit(cause) => (StatusCode::CONFLICT, format!("stream `{name}` cannot be watched: {cause}")),
        Missing::NotYet => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("stream `{name}` has no segment yet: one comes with the source's next keyframes; try again"),
        ),
        Missing::Gone => (
            StatusCode::NOT_FOUND,
            format!(
                "stream `{name}` has no such file: segments are kept for a while only, and captions are there for streams that are transcribed"
            ),
        ),
    };
    let body = serde_json::json!({ "error": message }).to_string() + "\n";
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(FRESH));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_brought_along_and_nothing_else() {
        let check = |query: &str, expected: &str| assert_eq!(token_of(Some(query)), expected, "{query}");
        check("", "");
        check("a=1", "");
        check("a=1&access_token=abc-._~+/=%41", "?access_token=abc-._~+/=%41");
        check("access_token=abc\n#EXT", "");
        check("access_token=\"x\"", "");
    }
}
