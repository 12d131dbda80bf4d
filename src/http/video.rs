//! `/v1/streams/{name}/live.mp4`: a WebSocket that hands a stream's own pictures and sound on as fragmented MP4, for Media
//! Source Extensions. A client that is too slow is cut to the next keyframe; nothing waits for it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Path, RawQuery, State, WebSocketUpgrade,
        ws::{Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use base::time::Clock;
use ingest::{Piece, Readiness, Relay, Viewer};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Shared,
    error::Refusal,
    guard::Pass,
    params::Params,
    place::Place,
    socket::{Goodbye, MOST_FROM_FOLLOWER, MOST_UNANSWERED, close},
    streams::find,
};

/// What the route understands.
pub(super) const PARAMETERS: [&str; 1] = ["sound"];
/// The words of `sound`.
pub(super) const SOUND: [&str; 2] = ["on", "off"];
/// A client that comes while the stream does not play yet waits so long for it.
const WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Scripts of a page hear nothing of pings: while no picture comes, they are told so often that the connection lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// The route.
pub(super) async fn video(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref(), &PARAMETERS)?;
    let with_sound = params.choice("sound", &SOUND)? != Some("off");
    find(&service, &name)?;
    let unfit = |why: &str| Refusal::new(StatusCode::CONFLICT, format!("stream `{name}` cannot be watched: {why}"));
    let view = service.views.view(&name).ok_or_else(|| unfit("its media are not handed on here"))?;
    match readiness(&view.relay).await {
        Readiness::Ready => {}
        Readiness::NotYet => {
            return Err(Refusal::busy(format!("stream `{name}` does not play yet, or not now; try again")));
        }
        Readiness::Unfit(why) => return Err(unfit(&why)),
        Readiness::Over(why) => return Err(unfit(&format!("it is over: {why}"))),
    }
    let upgrade = upgrade.map_err(|e| {
        Refusal::new(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: connect with ws:// ({e})"))
    })?;
    let place = service.place(&pass)?;
    let woken = Arc::new(Notify::new());
    let wake = Arc::clone(&woken);
    let show = Show {
        viewer: view.relay.watch(with_sound, Arc::new(move || wake.notify_one())),
        woken,
        clock: Arc::clone(&service.clock),
        keep_alive: service.keep_alive,
        place,
    };
    drop((view, service));
    let upgrade = upgrade.max_message_size(MOST_FROM_FOLLOWER).max_frame_size(MOST_FROM_FOLLOWER);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let goodbye = show.run(&mut socket).await;
        close(socket, goodbye).await;
    }))
}

/// Whether it can be watched, once that is known.
async fn readiness(relay: &Relay) -> Readiness {
    let mut waited = Duration::ZERO;
    loop {
        match relay.readiness() {
            Readiness::NotYet if waited < WAIT => {}
            known => return known,
        }
        sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
}

/// One client that watches.
struct Show {
    viewer: Viewer,
    woken: Arc<Notify>,
    clock: Arc<dyn Clock>,
    keep_alive: Duration,
    place: Place,
}

impl Show {
    async fn run(mut self, socket: &mut WebSocket) -> Goodbye {
        let mut n_unanswered = 0;
        // Since the last piece, and since anything was sent.
        let (mut idle, mut told_at) = (Duration::ZERO, Instant::now());
        // What is there already.
        self.woken.notify_one();
        loop {
            let woken = tokio::select! {
                biased;
                over = self.place.over() => {
                    self.end(socket, over.why()).await;
                    return over.goodbye();
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_))) | None => return None,
                    Some(Ok(_)) => {
                        n_unanswered = 0;
                        continue;
                    }
                    Some(Err(_)) => return Some((close_code::SIZE, "a viewer has nothing to say".into())),
                },
                woken = timeout_at(told_at + SIGN_OF_LIFE, self.woken.notified()) => woken,
            };
            if woken.is_ok() {
                let taken = self.viewer.take();
                // Sound wakes also those who do not want it.
                if !taken.pieces.is_empty() {
                    (idle, told_at) = (Duration::ZERO, Instant::now());
                }
                for piece in taken.pieces {
                    self.send(socket, piece).await?;
                }
                if let Some(why) = taken.over {
                    self.end(socket, &why).await;
                    return Some((close_code::NORMAL, why));
                }
                if taken.more {
                    // A client that is behind is listened to in between.
                    self.woken.notify_one();
                }
            }
            if told_at.elapsed() >= SIGN_OF_LIFE {
                (idle, told_at) = (idle + SIGN_OF_LIFE, Instant::now());
                socket.send(Message::text(r#"{"type":"alive"}"#)).await.ok()?;
                if idle >= self.keep_alive {
                    idle = Duration::ZERO;
                    n_unanswered += 1;
                    if n_unanswered > MOST_UNANSWERED {
                        return Some((close_code::POLICY, "no answer to pings".into()));
                    }
                    socket.send(Message::Ping(Bytes::new())).await.ok()?;
                }
            }
        }
    }

    /// None when the client has gone.
    async fn send(&self, socket: &mut WebSocket, piece: Piece) -> Option<()> {
        match piece {
            Piece::Init { session, mime, size, has_audio, bytes } => {
                let init = json!({
                    "type": "init",
                    "session": session.as_str(),
                    "mime": mime,
                    "width": size.0,
                    "height": size.1,
                    "has_audio": has_audio,
                });
                socket.send(Message::text(init.to_string())).await.ok()?;
                socket.send(Message::Binary(bytes)).await.ok()
            }
            Piece::Fragment(bytes) => socket.send(Message::Binary(bytes)).await.ok(),
            Piece::Clock { pts, captured } => {
                let clock = json!({
                    "type": "clock",
                    "pts_ms": pts.millis(),
                    "captured_at": captured.at.to_string(),
                    "quality": captured.quality.as_str(),
                    "sent_at": self.clock.wall().to_string(),
                });
                socket.send(Message::text(clock.to_string())).await.ok()
            }
        }
    }

    async fn end(&self, socket: &mut WebSocket, why: &str) {
        let end = json!({ "type": "end", "detail": why });
        // Whoever has gone need not be told.
        let _ = socket.send(Message::text(end.to_string())).await;
    }
}
