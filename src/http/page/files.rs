//! The built files of our page: what lies in `page/dist`, embedded. They are made by `npm run build` in `console/`, never by
//! `cargo build`. Served to everybody: they say nothing of what the service knows.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::LazyLock,
};

use axum::{
    extract::{Path, RawQuery},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::super::{error::Refusal, params::Params};

struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal $kind:literal),* $(,)?) => {
        &[$(File { name: $name, kind: $kind, bytes: include_bytes!(concat!("dist/", $name)) }),*]
    };
}

/// All of them but `index.html`, which is at `/`. A test compares this list with the folder.
const FILES: &[File] = files![
    "app.css" "text/css; charset=utf-8",
    "app.js" "text/javascript; charset=utf-8",
    "chart.js" "text/javascript; charset=utf-8",
    "hls.js" "text/javascript; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "LICENSES.txt" "text/plain; charset=utf-8",
    "shared.js" "text/javascript; charset=utf-8",
];

/// A validator for each, in the order of [`FILES`].
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(|file| tag(file.bytes)).collect());

/// The page itself.
pub(super) const INDEX: &str = include_str!("dist/index.html");

/// The route.
pub(in super::super) async fn file(
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let Some((file, tag)) = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name) else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "the page has no such file; it begins at /"));
    };
    // Asked for anew each time, and not sent again while it is the same: a new version of the service is a new page at once.
    let mut told = HeaderMap::new();
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        told.insert(header::ETAG, tag);
    }
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|known| known.trim() == tag) {
        return Ok((StatusCode::NOT_MODIFIED, told).into_response());
    }
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    Ok((told, file.bytes).into_response())
}

fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn all_that_was_built_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page/dist");
        let there: BTreeSet<String> = fs::read_dir(folder)
            .expect("dist")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .collect();
        let served: BTreeSet<String> =
            FILES.iter().map(|file| file.name.to_owned()).chain(["index.html".to_owned()]).collect();
        assert_eq!(there, served, "put it into FILES");
    }

    #[test]
    fn the_page_names_only_what_is_there_and_nothing_inline() {
        let named: Vec<&str> = INDEX.split("\"/page/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() >= 3, "{named:?}");
        for name in named {
            assert!(FILES.iter().any(|file| file.name == name), "{name}");
        }
        assert!(!INDEX.contains("style=") && !INDEX.contains("<style"), "the policy forbids it");
        for script in INDEX.split("<script").skip(1) {
            assert!(script.split('>').next().is_some_and(|tag| tag.contains("src=\"/page/")), "{script}");
        }
        for file in FILES.iter().filter(|file| file.name.ends_with(".js") || file.name.ends_with(".css")) {
            let text = std::str::from_utf8(file.bytes).expect("text");
            assert!(
                !text.contains("@import \"http") && !text.contains("import(\"http"),
                "{} loads from elsewhere",
                file.name
            );
        }
    }
}
