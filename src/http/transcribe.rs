//! `/v1/transcribe`: a WebSocket that takes sound and gives transcripts back.
//!
//! Whoever sends faster than is transcribed is not read for a while: TCP holds the sender back. Everything else that
//! goes wrong closes the socket with a reason.

use std::{sync::Arc, time::Duration};

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
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared,
    error::Refusal,
    guard::Pass,
    house::{MOST_AHEAD, SpeechInput, SpeechOutput, SpeechRefused, SpeechRequest},
    params::Params,
    place::Place,
    socket::{Goodbye, close},
    tail::lost,
};
use crate::feed::{Kind, Kinds, Next, Reader};

/// What the route understands.
pub(super) const PARAMETERS: [&str; 3] = ["language", "format", "types"];
/// The words of `format`.
pub(super) const FORMATS: [&str; 2] = ["s16le", "f32le"];
/// Most bytes of a message: 8 s as `s16le`, 4 s as `f32le`.
const MOST_MESSAGE: usize = 256 * 1024;
/// Most bytes of a message that is read at all. What lies between is refused with a reason; beyond, the connection breaks
/// with the rest of the message unread, and the reason may be lost on the way.
const MOST_READ: usize = 4 * MOST_MESSAGE;
const TOO_BIG: &str = "a message is too big: send at most 262144 bytes at a time";
/// A speaker that sends nothing for so long is closed.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// How often a session that is behind is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The route.
pub(super) async fn transcribe(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref(), &PARAMETERS)?;
    let upgrade = upgrade.map_err(|e| {
        Refusal::new(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: connect with ws:// ({e})"))
    })?;
    let format = match params.choice("format", &FORMATS)? {
        Some("f32le") => Format::F32,
        _ => Format::S16,
    };
    let kinds = params.kinds()?.unwrap_or(Kinds::of(&[Kind::Transcript, Kind::Gap]));
    let request = SpeechRequest { language: params.get("language").map(str::to_owned) };
    let place = service.place(&pass)?;
    let port = service.speech.as_ref().ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "no speech model is loaded: give a profile of the configuration a `transcribe` model",
        )
    })?;
    let (output, answers) = SpeechOutput::new(kinds, Arc::clone(&service.clock));
    let input = port.open(&request, output).map_err(|refused| match refused {
        SpeechRefused::Unsupported(why) => Refusal::bad(why),
        SpeechRefused::Busy(why) => Refusal::busy(why),
    })?;
    let session =
        Session { input: Some(input), answers, sound: Sound { format, rest: Vec::new() }, n_samples: 0, place };
    let upgrade = upgrade.max_message_size(MOST_READ).max_frame_size(MOST_READ);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let goodbye = session.run(&mut socket).await;
        close(socket, goodbye).await;
    }))
}

/// What a client may say in text.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    /// No more sound.
    End {},
}

struct Session {
    /// None after the end was said.
    input: Option<Box<dyn SpeechInput>>,
    answers: Reader,
    sound: Sound,
    n_samples: u64,
    place: Place,
}

impl Session {
    async fn run(mut self, socket: &mut WebSocket) -> Goodbye {
        let mut idle_at = Instant::now() + IDLE_AFTER;
        loop {
            let behind = self.input.as_ref().is_some_and(|input| input.lag() > MOST_AHEAD);
            let event = tokio::select! {
                over = self.place.over() => return over.goodbye(),
                next = self.answers.next() => Event::Answer(next),
                message = timeout_at(idle_at, socket.recv()), if !behind => match message {
                    Ok(Some(message)) => Event::Message(message),
                    Ok(None) => return None,
                    Err(_) => Event::Silence,
                },
                () = sleep(LOOK_AGAIN), if behind => {
                    idle_at = Instant::now() + IDLE_AFTER;
                    continue;
                }
            };
            let ended = match event {
                Event::Answer(next) => self.answer(socket, next).await,
                Event::Message(Ok(message)) => {
                    idle_at = Instant::now() + IDLE_AFTER;
                    self.message(message)
                }
                Event::Message(Err(error)) => {
                    // What axum and tungstenite refuse: too big a message, bad UTF-8, a broken connection.
                    Err(Some((close_code::SIZE, format!("{TOO_BIG} ({error})"))))
                }
                // After the end the client waits for us, not we for it.
                Event::Silence if self.input.is_none() => {
                    idle_at = Instant::now() + IDLE_AFTER;
                    Ok(())
                }
                Event::Silence => {
                    Err(Some((close_code::POLICY, format!("nothing came for {} s", IDLE_AFTER.as_secs()))))
                }
            };
            if let Err(goodbye) = ended {
                return goodbye;
            }
        }
    }

    /// Hands one answer on.
    async fn answer(&mut self, socket: &mut WebSocket, next: Next) -> Result<(), Goodbye> {
        let (text, last) = match next {
            Next::Record(record) => (record.json.clone(), false),
            Next::Lost(n) => (lost("", n), false),
            Next::Closed if self.input.is_some() => {
                return Err(Some((close_code::ERROR, "speech recognition ended; try again".into())));
            }
            Next::Closed => (serde_json::json!({ "type": "end", "n_samples": self.n_samples }).to_string(), true),
        };
        if socket.send(Message::text(text)).await.is_err() {
            return Err(None);
        }
        if last { Err(Some((close_code::NORMAL, "end".into()))) } else { Ok(()) }
    }

    /// Takes one message.
    fn message(&mut self, message: Message) -> Result<(), Goodbye> {
        match message {
            Message::Binary(bytes) if bytes.len() > MOST_MESSAGE => Err(Some((close_code::SIZE, TOO_BIG.into()))),
            Message::Binary(bytes) => {
                let Some(input) = &mut self.input else {
                    return Err(Some((close_code::POLICY, "sound after the end".into())));
                };
                let samples = self.sound.samples(&bytes).map_err(|why| Some((close_code::INVALID, why.to_owned())))?;
                if !samples.is_empty() {
                    self.n_samples += samples.len() as u64;
                    input.push(samples.into()).map_err(|why| Some((close_code::ERROR, why)))?;
                }
                Ok(())
            }
            Message::Text(text) => match serde_json::from_str::<Control>(&text) {
                Ok(Control::End {}) => {
                    if let Some(input) = self.input.take() {
                        input.end();
                    }
                    Ok(())
                }
                Err(_) => Err(Some((
                    close_code::UNSUPPORTED,
                    "text must be {\"type\":\"end\"}; sound goes into binary messages".into(),
                ))),
            },
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(None),
        }
    }
}

enum Event {
    Answer(Next),
    Message(Result<Message, axum::Error>),
    Silence,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    /// Signed 16-bit little endian; full scale is 1.0.
    S16,
    /// 32-bit float, little endian, -1.0..=1.0.
    F32,
}

/// Turns bytes into samples; a sample may be cut in two by the end of a message.
#[derive(Debug)]
struct Sound {
    format: Format,
    /// The beginning of a sample, less than a whole one.
    rest: Vec<u8>,
}

impl Sound {
    fn samples(&mut self, bytes: &Bytes) -> Result<Vec<f32>, &'static str> {
        let width = match self.format {
            Format::S16 => 2,
            Format::F32 => 4,
        };
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let whole = all.len() - all.len() % width;
        self.rest = all.split_off(whole);
        let samples: Vec<f32> = match self.format {
            Format::S16 => all.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect(),
            Format::F32 => all.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        };
        if samples.iter().all(|s| s.is_finite() && s.abs() <= 16.0) {
            Ok(samples.into_iter().map(|s| s.clamp(-1.0, 1.0)).collect())
        } else {
            Err("this is no f32le sound between -1 and 1")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let check = |format, messages: &[&[u8]], expected: Result<&[f32], ()>| {
            let mut sound = Sound { format, rest: Vec::new() };
            let got: Result<Vec<Vec<f32>>, _> =
                messages.iter().map(|m| sound.samples(&Bytes::copy_from_slice(m))).collect();
            assert_eq!(got.map(|parts| parts.concat()).map_err(|_| ()), expected.map(<[f32]>::to_vec), "{messages:?}");
        };
        check(Format::S16, &[&[0, 0, 0, 0x80, 0, 0x40]], Ok(&[0.0, -1.0, 0.5]));
        check(Format::S16, &[&[0], &[0, 0], &[0x80]], Ok(&[0.0, -1.0]));
        check(Format::S16, &[&[]], Ok(&[]));
        check(Format::F32, &[&0.25f32.to_le_bytes()[..3], &0.25f32.to_le_bytes()[3..]], Ok(&[0.25]));
        check(Format::F32, &[&1.5f32.to_le_bytes()], Ok(&[1.0]));
        check(Format::F32, &[&f32::NAN.to_le_bytes()], Err(()));
        // s16le sent by mistake as f32le is mostly far outside.
        check(Format::F32, &[&[0x12, 0x34, 0x56, 0x70]], Err(()));
    }

    #[test]
    fn the_limit_is_told_as_it_is() {
        assert!(TOO_BIG.contains(&MOST_MESSAGE.to_string()));
    }

    #[test]
    fn control() {
        let check = |text: &str, ok: bool| {
            assert_eq!(serde_json::from_str::<Control>(text).is_ok(), ok, "{text}");
        };
        check(r#"{"type":"end"}"#, true);
        check(r#"{"type":"stop"}"#, false);
        check(r#"{"type":"end","x":1}"#, false);
        check("end", false);
    }
}
