//! WebSockets: following a stream's records, and the manners common to all our sockets.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{
        WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::Response,
};
use tokio::time::timeout;

use super::tail::{Step, Tail};

/// What a follower may say: control frames and chatter that is ignored.
pub(super) const MOST_FROM_FOLLOWER: usize = 4 * 1024;
/// A follower that answers so many pings not is gone.
pub(super) const MOST_UNANSWERED: u32 = 2;

/// Sends the records of `tail` until one side has enough.
pub(super) fn follow(upgrade: WebSocketUpgrade, mut tail: Tail) -> Response {
    let upgrade = upgrade.max_message_size(MOST_FROM_FOLLOWER).max_frame_size(MOST_FROM_FOLLOWER);
    upgrade.on_upgrade(async move |mut socket| {
        let goodbye = followed(&mut socket, &mut tail).await;
        close(socket, goodbye).await;
    })
}

/// Close code and reason; none when the other side has gone or closed.
pub(super) type Goodbye = Option<(u16, String)>;

async fn followed(socket: &mut WebSocket, tail: &mut Tail) -> Goodbye {
    let mut n_unanswered = 0;
    loop {
        let step = tokio::select! {
            step = tail.step() => step,
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_))) | None => return None,
                Some(Ok(_)) => {
                    n_unanswered = 0;
                    continue;
                }
                Some(Err(_)) => return Some((close_code::SIZE, "a follower has nothing to say".into())),
            },
        };
        let message = match step {
            Step::Record(record) => Message::text(record.json.as_str()),
            Step::Lost(json) => Message::text(json),
            Step::Idle => {
                n_unanswered += 1;
                if n_unanswered > MOST_UNANSWERED {
                    return Some((close_code::POLICY, "no answer to pings".into()));
                }
                Message::Ping(Bytes::new())
            }
            Step::End(why) => return Some((close_code::AWAY, why.into())),
            Step::Over(over) => return over.goodbye(),
        };
        if socket.send(message).await.is_err() {
            return None;
        }
    }
}

/// Says goodbye and waits a moment for the answer, so that the reason is read before the connection ends.
pub(super) async fn close(mut socket: WebSocket, goodbye: Goodbye) {
    const ANSWER_WITHIN: Duration = Duration::from_secs(2);
    if let Some((code, mut reason)) = goodbye {
        // RFC 6455, section 5.5: control frames have at most 125 bytes, two of them for the code.
        while reason.len() > 123 {
            reason.pop();
        }
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = timeout(ANSWER_WITHIN, async {
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(message)) = socket.recv().await {
                    if matches!(message, Message::Close(_)) {
                        break;
                    }
                }
            }
        })
        .await;
    }
}
