//! A file as an answer: whole or one range of it (RFC 9110, section 14), with a validator. Read on blocking threads, a piece
//! at a time.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::PathBuf,
    time::UNIX_EPOCH,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::task::spawn_blocking;

use super::error::Refusal;

/// What is read at once.
const PIECE: u64 = 256 * 1024;

/// Answers with a file that is there, of this media type.
pub(super) async fn serve(path: PathBuf, kind: &'static str, headers: &HeaderMap) -> Result<Response, Refusal> {
    let opened = spawn_blocking(move || -> io::Result<_> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        let changed = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok((file, found.len(), format!("\"{:x}-{:x}\"", changed.as_nanos(), found.len())))
    });
    let cannot = |cause: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("it cannot be read: {cause}"));
    let (file, length, etag) = opened.await.map_err(|e| cannot(e.to_string()))?.map_err(|e| cannot(e.to_string()))?;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let known = text(header::IF_NONE_MATCH).unwrap_or_default().split(',').any(|tag| tag.trim() == etag);
    let etag_value = HeaderValue::from_str(&etag).map_err(|e| cannot(e.to_string()))?;
    // A snapshot is replaced once; browsers ask whether theirs is still the one.
    let common = [(header::ETAG, etag_value), (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let wanted = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|tag| tag == etag));
    let range = match wanted.map_or(Wanted::All, |wanted| range(wanted, length)) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Nothing => {
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("it has {length} bytes"));
            let whole = HeaderValue::from_str(&format!("bytes */{length}")).map_err(|e| cannot(e.to_string()))?;
            return Err(refusal.with(header::CONTENT_RANGE, whole));
        }
    };
    let given = range.clone().unwrap_or(0..length);
    let mut response = Response::new(Body::from_stream(pieces(file, given.clone())));
    let answer = response.headers_mut();
    answer.extend(common.map(|(name, value)| (Some(name), value)).into_iter().filter_map(|(n, v)| Some((n?, v))));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(given.end - given.start));
    if range.is_some() {
        let place = format!("bytes {}-{}/{length}", given.start, given.end.saturating_sub(1));
        answer.insert(header::CONTENT_RANGE, HeaderValue::from_str(&place).map_err(|e| cannot(e.to_string()))?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The bytes of a range. A file that has become shorter breaks the answer off.
fn pieces(file: File, range: Range<u64>) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some((file, range)), |state| async move {
        let (file, range) = state.filter(|(_, range)| !range.is_empty())?;
        let read = spawn_blocking(move || read_piece(file, range)).await;
        Some(match read.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok((bytes, file, rest)) => (Ok(bytes), Some((file, rest))),
            Err(error) => (Err(error), None),
        })
    })
}

fn read_piece(mut file: File, range: Range<u64>) -> io::Result<(Bytes, File, Range<u64>)> {
    let end = range.end.min(range.start + PIECE);
    let mut bytes = vec![0; (end - range.start) as usize];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut bytes)?;
    Ok((bytes.into(), file, end..range.end))
}

/// What a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Everything: it is not understood, or asks for several parts, which nobody has to give.
    All,
    Part(Range<u64>),
    /// It lies outside.
    Nothing,
}

fn range(text: &str, length: u64) -> Wanted {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|rest| rest.trim().split_once('-')) else {
        return Wanted::All;
    };
    let range = match (first, last) {
        ("", last) => match number(last) {
            Some(n) => length.saturating_sub(n)..length,
            None => return Wanted::All,
        },
        (first, "") => match number(first) {
            Some(first) => first..length,
            None => return Wanted::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            _ => return Wanted::All,
        },
    };
    if range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |text: &str, expected: Wanted| assert_eq!(range(text, 1000), expected, "{text}");
        check("bytes=0-", Wanted::Part(0..1000));
        check("bytes=0-0", Wanted::Part(0..1));
        check("bytes=500-2000", Wanted::Part(500..1000));
        check("bytes=-100", Wanted::Part(900..1000));
        check("bytes=-5000", Wanted::Part(0..1000));
        check("bytes=1000-", Wanted::Nothing);
        check("bytes=-0", Wanted::Nothing);
        check("bytes=5-18446744073709551615", Wanted::Part(5..1000));
        for text in
            ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-1", "bytes=0-1,5-6", "items=0-1", "bytes=+1-2"]
        {
            check(text, Wanted::All);
        }
        assert_eq!(range("bytes=0-", 0), Wanted::Nothing);
    }
}
