//! `/v1/live`: a WebSocket that follows the records of many streams at once, detections among them.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::{
        RawQuery, State, WebSocketUpgrade,
        ws::{Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use base::media::StreamName;
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::{
    Shared,
    error::Refusal,
    guard::Pass,
    params::{Params, kinds},
    place::{Over, Place},
    socket::{Goodbye, MOST_UNANSWERED, close},
    tail::lost,
};
use crate::feed::{Crowd, Heard, Kind, Kinds, Wanted};

/// What the route understands.
pub(super) const PARAMETERS: [&str; 3] = ["types", "stream", "recent"];
/// Most bytes of a message from the client.
const MOST_FROM_CLIENT: usize = 64 * 1024;
/// Most streams that can be chosen by name.
const MOST_NAMES: usize = 1000;

/// The route.
pub(super) async fn live(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let params = Params::parse_repeated(query.as_deref(), &PARAMETERS, &["stream"])?;
    let types = params.get("types").map(|types| kinds(types.split(',').map(str::trim), &Kind::LIVE)).transpose()?;
    let names: Vec<&str> = params.pairs().filter(|(name, _)| *name == "stream").map(|(_, value)| value).collect();
    let wanted = Wanted {
        streams: if names.is_empty() { None } else { Some(streams(names.into_iter()).map_err(Refusal::bad)?) },
        kinds: types.unwrap_or_else(usual),
        recent: params.number("recent")?.unwrap_or(0),
    };
    let upgrade = upgrade.map_err(|e| {
        Refusal::new(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: connect with ws:// ({e})"))
    })?;
    let mut place = service.place(&pass)?;
    let (mut crowd, keep_alive) = (service.feed.crowd(wanted), service.keep_alive);
    drop(service);
    let upgrade = upgrade.max_message_size(MOST_FROM_CLIENT).max_frame_size(MOST_FROM_CLIENT);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let goodbye = followed(&mut socket, &mut crowd, keep_alive, &mut place).await;
        close(socket, goodbye).await;
    }))
}

/// What a reader gets who names no types.
fn usual() -> Kinds {
    Kinds::of(&[Kind::Caption, Kind::Status, Kind::Gap, Kind::Alert])
}

fn streams<'a>(names: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>, String> {
    let mut streams = BTreeSet::new();
    for name in names {
        // It need not be there: it may come.
        StreamName::new(name).map_err(|e| e.to_string())?;
        streams.insert(name.to_owned());
    }
    if streams.len() > MOST_NAMES {
        return Err(format!("{} streams are named, and {MOST_NAMES} can be; name none for all", streams.len()));
    }
    Ok(streams)
}

async fn followed(socket: &mut WebSocket, crowd: &mut Crowd, keep_alive: Duration, place: &mut Place) -> Goodbye {
    let mut n_unanswered = 0;
    loop {
        let heard = tokio::select! {
            biased;
            over = place.over() => match crowd.try_next() {
                // What is there already is still given.
                Some(heard) if over == Over::Stopping => Ok(heard),
                _ => return over.goodbye(),
            },
            message = socket.recv() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(_)) => return Some((close_code::SIZE, "a message is too big: 64 KiB at most".into())),
                    None => return None,
                };
                n_unanswered = 0;
                match chosen(&message, crowd.wanted()) {
                    Ok(Some(wanted)) => crowd.choose(wanted),
                    Ok(None) => {}
                    Err(goodbye) => return goodbye,
                }
                continue;
            }
            heard = timeout(keep_alive, crowd.next()) => heard,
        };
        let message = match heard {
            Ok(heard) => written(heard),
            Err(_) if n_unanswered >= MOST_UNANSWERED => {
                return Some((close_code::POLICY, "no answer to pings".into()));
            }
            Err(_) => {
                n_unanswered += 1;
                Message::Ping(Bytes::new())
            }
        };
        if socket.send(message).await.is_err() {
            return None;
        }
    }
}

fn written(heard: Heard) -> Message {
    match heard {
        Heard::Record(record) => Message::text(record.json.as_str()),
        Heard::Streams(streams) => {
            Message::text(serde_json::json!({ "type": "streams", "streams": streams }).to_string())
        }
        Heard::Lost { stream, detections: false, n_records } => Message::text(lost(&stream, n_records)),
        Heard::Lost { stream, n_records, .. } => Message::text(
            serde_json::json!({
                "type": "lost",
                "stream": stream,
                "n_records": n_records,
                "detail": "detections: this reader was too slow; it goes on with the newest",
            })
            .to_string(),
        ),
    }
}

/// What a client may say: what it wants from now on. What is left out stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    /// Names; `null` for all.
    #[serde(default, deserialize_with = "given")]
    streams: Option<Option<Vec<String>>>,
    types: Option<Vec<String>>,
}

/// Tells `null` from nothing at all.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What is wanted after this message; none where it says nothing of that.
fn chosen(message: &Message, now: &Wanted) -> Result<Option<Wanted>, Goodbye> {
    let text = match message {
        Message::Text(text) => text,
        Message::Ping(_) | Message::Pong(_) => return Ok(None),
        Message::Close(_) => return Err(None),
        Message::Binary(_) => return Err(Some((close_code::UNSUPPORTED, "nothing binary is understood here".into()))),
    };
    let refused = |why: String| Some((close_code::UNSUPPORTED, why));
    let choice: Choice = serde_json::from_str(text)
        .map_err(|e| refused(format!("not understood: send {{\"streams\":[...] or null,\"types\":[...]}} ({e})")))?;
    let mut wanted = now.clone();
    if let Some(names) = choice.streams {
        let names = names.map(|names| streams(names.iter().map(String::as_str))).transpose();
        wanted.streams = names.map_err(refused)?;
    }
    if let Some(types) = choice.types {
        let types = kinds(types.iter().map(String::as_str), &Kind::LIVE);
        wanted.kinds = types.map_err(|refusal| refused(refusal.message().to_owned()))?;
    }
    Ok(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let now = Wanted { streams: Some(BTreeSet::from(["cam".to_owned()])), kinds: usual(), recent: 3 };
        let check = |text: &str, expected: Result<(Option<&[&str]>, Kinds), &str>| {
            let got = chosen(&Message::text(text), &now);
            match (got, expected) {
                (Ok(Some(got)), Ok((names, kinds))) => {
                    let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
                    assert_eq!(got, Wanted { streams: names, kinds, recent: 3 }, "{text}");
                }
                (Err(Some((1003, got))), Err(part)) => assert!(got.contains(part), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        };
        let detections = Kinds::of(&[Kind::Detections]);
        check("{}", Ok((Some(&["cam"]), usual())));
        check(r#"{"streams":null}"#, Ok((None, usual())));
        check(r#"{"streams":[]}"#, Ok((Some(&[]), usual())));
        check(r#"{"streams":["a","b"],"types":["detections"]}"#, Ok((Some(&["a", "b"]), detections)));
        check(r#"{"types":[]}"#, Ok((Some(&["cam"]), Kinds::of(&[]))));
        check(r#"{"types":["detection"]}"#, Err("did you mean `detections`"));
        check(r#"{"streams":["a b"]}"#, Err("a b"));
        check(r#"{"stream":["a"]}"#, Err("not understood"));
        check("hello", Err("not understood"));
        assert!(matches!(chosen(&Message::Ping(Bytes::new()), &now), Ok(None)));
    }
}
