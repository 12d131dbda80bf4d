//! `eyewitness tail`: follows the live feeds of a running service. One thread a stream reads its server-sent events; this
//! one prints. A queue between them is bounded and blocks: nothing is lost here, whoever reads slowly is told by the service.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use base::{
    queue::{self, Received, Sender, Sent, WhenFull},
    redact::scrub_urls,
    time::SystemClock,
};
use parking_lot::Mutex;
use reqwest::{Method, blocking::Response};
use serde_json::Value;

use super::{
    remote::{At, Remote, Trouble, plain, query, stream_path, told},
    say_err, streams,
};
use crate::feed::Kind;

/// Follow the captions, transcripts and states of streams, as they come
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness tail
  eyewitness tail --stream front-door --type transcript
  eyewitness tail --stream 'front-*' --json | jq .text

Detections are not followed here: read them from Kafka, a file, or `/v1/live`. Ctrl-C ends it.")]
pub(super) struct Args {
    /// Kinds of records; may be given several times
    #[arg(long = "type", value_name = "TYPE", value_parser = kind, default_values = ["caption", "status", "gap"])]
    types: Vec<Kind>,
    /// Only this stream; `*` and `?` stand for any characters
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Every record whole, one JSON object a line, revisions included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// Streams followed at once.
const MOST_STREAMS: usize = 64;
/// How often is looked for streams that have come, and for those to be taken up again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Lines that may wait to be printed.
const MOST_LINES: usize = 256;

fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.into_iter().find(|kind| text == kind.as_str() || text == kind.plural());
    known.ok_or_else(|| match text {
        "detections" | "detection" => {
            "detections are not followed here: read them from Kafka, a file, or `/v1/live`".into()
        }
        _ => format!("known are {}", Kind::ALL.map(Kind::as_str).join(", ")),
    })
}

/// One stream that is followed.
struct Followed {
    thread: JoinHandle<()>,
    memory: Arc<Memory>,
}

/// What outlasts the single feeds of a stream.
#[derive(Default)]
struct Memory {
    /// Where to go on.
    last_id: Mutex<Option<String>>,
    /// It was said why it cannot be followed.
    is_told: AtomicBool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let remote = args.at.open()?;
    let wanted = args.stream.as_deref().map(|name| query(&[("name", name)])).unwrap_or_default();
    let mut found = match streams::list(&remote, &wanted) {
        Ok(found) => found,
        Err(trouble) => return told(trouble),
    };
    if let (true, Some(name)) = (found.is_empty(), &args.stream)
        && !name.contains(['*', '?'])
    {
        // The service knows which names are near.
        if let Err(trouble) = remote.json::<Value>(Method::GET, &stream_path(name), None) {
            return told(trouble);
        }
    }
    let types: Vec<&str> = args.types.iter().map(|kind| kind.plural()).collect();
    let types = types.join(",");
    let (lines, printed) = queue::queue("tail", MOST_LINES, WhenFull::Block);
    let mut crowd = Crowd { remote: remote.clone(), types, json: args.json, lines, followed: BTreeMap::new() };
    let clock = SystemClock::new();
    let mut out = std::io::stdout();
    let mut n_told = 0;
    loop {
        crowd.follow(&found)?;
        if found.len() > MOST_STREAMS.max(n_told) {
            n_told = found.len();
            say_err(&format!("{n_told} streams fit; {MOST_STREAMS} are followed: narrow it with --stream"));
        }
        let until = clock.monotonic() + LOOK_AGAIN;
        while let Some(left) = until.checked_sub(clock.monotonic()).filter(|left| !left.is_zero()) {
            // A reader that has gone away ends it, as with any other command in a pipe.
            if let Received::Item(line) = printed.recv_timeout(left)
                && writeln!(out, "{line}").and_then(|()| out.flush()).is_err()
            {
                return Ok(ExitCode::SUCCESS);
            }
        }
        match streams::list(&remote, &wanted) {
            Ok(now) => found = now,
            Err(trouble @ (Trouble::Unreachable { .. } | Trouble::Failed { .. })) => {
                if !found.is_empty() {
                    say_err(&format!("{trouble}; waiting for it"));
                    found.clear();
                }
            }
            Err(trouble) => return told(trouble),
        }
    }
}

/// The streams that are followed.
struct Crowd {
    remote: Remote,
    types: String,
    json: bool,
    lines: Sender<String>,
    followed: BTreeMap<String, Followed>,
}

impl Crowd {
    /// Follows those that are not followed yet, and those again whose feed has ended meanwhile, from where it ended.
    fn follow(&mut self, found: &[streams::Shown]) -> anyhow::Result<()> {
        self.followed.retain(|name, one| !one.thread.is_finished() || found.iter().any(|stream| stream.name == *name));
        for stream in found {
            let earlier = self.followed.get(&stream.name);
            let is_followed = earlier.is_some_and(|one| !one.thread.is_finished());
            if is_followed || (earlier.is_none() && self.followed.len() >= MOST_STREAMS) {
                continue;
            }
            let memory = earlier.map(|one| Arc::clone(&one.memory)).unwrap_or_default();
            let follower = Follower {
                remote: self.remote.clone(),
                name: stream.name.clone(),
                types: self.types.clone(),
                json: self.json,
                memory: Arc::clone(&memory),
                lines: self.lines.clone(),
            };
            let thread =
                thread::Builder::new().name("tail".into()).spawn(move || follower.run()).context("a thread")?;
            self.followed.insert(stream.name.clone(), Followed { thread, memory });
        }
        Ok(())
    }
}

/// Reads one stream's feed until it ends.
struct Follower {
    remote: Remote,
    name: String,
    types: String,
    json: bool,
    memory: Arc<Memory>,
    lines: Sender<String>,
}

impl Follower {
    fn run(self) {
        let Some(response) = self.feed() else { return };
        let mut event = EventStream::default();
        for line in BufReader::new(response).lines() {
            let Ok(line) = line else { return };
            let Some((id, data)) = event.line(&line) else { continue };
            if let Some(line) = self.readable(&data)
                && !matches!(self.lines.send(line), Sent::Queued)
            {
                return;
            }
            if id.is_some() {
                *self.memory.last_id.lock() = id;
            }
        }
    }

    /// The feed, from whichever worker has the stream. What goes wrong here is seen by whoever lists the streams; what goes
    /// wrong with another worker is seen here alone, and told once. A feed that cannot be had now is tried again.
    fn feed(&self) -> Option<Response> {
        let path = format!("{}/captions?types={}", stream_path(&self.name), self.types);
        let last_id = self.memory.last_id.lock().clone();
        let headers: Vec<(&str, &str)> = last_id.iter().map(|id| ("Last-Event-ID", id.as_str())).collect();
        let ask = |address: Option<&str>| {
            let remote = self.remote.endless(address)?;
            Ok::<_, anyhow::Error>(remote.send(Method::GET, &path, "text/event-stream", None, &headers))
        };
        let why = match ask(None) {
            Ok(Ok(response)) => return Some(response),
            Ok(Err(Trouble::Elsewhere { address: Some(address), .. })) => match ask(Some(&address)) {
                Ok(Ok(response)) => return Some(response),
                Ok(Err(Trouble::Unreachable { base, cause })) => {
                    format!("its worker does not answer at {base} ({cause})")
                }
                Ok(Err(trouble)) => trouble.to_string(),
                Err(error) => format!("{error:#}"),
            },
            Ok(Err(Trouble::Elsewhere { said, address: None })) => said,
            _ => return None,
        };
        if !self.memory.is_told.swap(true, Relaxed) {
            say_err(&scrub_urls(&plain(&format!("{}: cannot be followed: {why}", self.name))));
        }
        None
    }

    fn readable(&self, data: &str) -> Option<String> {
        if self.json {
            return Some(data.to_owned());
        }
        readable(&serde_json::from_str(data).ok()?)
    }
}

/// Server-sent events, line by line (HTML Living Standard, section 9.2.6), as far as our service writes them.
#[derive(Default)]
struct EventStream {
    id: Option<String>,
    data: Option<String>,
}

impl EventStream {
    /// A whole event's id and data, at the empty line that ends it.
    fn line(&mut self, line: &str) -> Option<(Option<String>, String)> {
        if line.is_empty() {
            let data = self.data.take()?;
            return Some((self.id.take(), data));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

/// A record as a line for people; none for what a later revision replaces.
fn readable(record: &Value) -> Option<String> {
    let text = |key: &str| plain(record[key].as_str().unwrap_or_default());
    let with = |text: String| if text.is_empty() { text } else { format!(": {text}") };
    let said = match record["type"].as_str()? {
        "caption" if record["final"] == true => {
            let lines: Vec<&str> = record["lines"].as_array()?.iter().filter_map(Value::as_str).collect();
            plain(&lines.join(" / "))
        }
        "transcript" if record["final"] == true => text("text"),
        "caption" | "transcript" => return None,
        "status" => format!("[{}{}]", text("state"), with(text("detail"))),
        "gap" => {
            let (from, to) = (record["from_pts_ms"].as_u64()?, record["to_pts_ms"].as_u64()?);
            format!("[gap of {:.1} s: {}]", to.saturating_sub(from) as f64 / 1e3, text("reason"))
        }
        "lost" => format!("[lost{}]", with(text("detail"))),
        other => format!("[{}]", plain(other)),
    };
    if said.is_empty() {
        return None;
    }
    let at = record["captured_at"].as_str().and_then(|at| at.get(11..19)).unwrap_or("        ");
    Some(format!("{}  {}  {said}", plain(at), text("stream")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_put_together() {
        let mut events = EventStream::default();
        let text =
            "retry: 2000\n\n: alive\n\nid: a-1\nevent: caption\ndata: {\"x\":\ndata: 1}\n\nevent: lost\ndata: {}\n\n";
        let got: Vec<_> = text.lines().filter_map(|line| events.line(line)).collect();
        assert_eq!(got, [(Some("a-1".to_owned()), "{\"x\":\n1}".to_owned()), (None, "{}".to_owned())]);
    }

    #[test]
    fn records_are_readable() {
        let check = |mut record: Value, expected: Option<&str>| {
            record["stream"] = "cam".into();
            record["captured_at"] = "2026-11-21T12:03:04.5Z".into();
            assert_eq!(readable(&record).as_deref(), expected, "{record}");
        };
        check(json!({"type":"caption","final":true,"lines":["a","b"]}), Some("12:03:04  cam  a / b"));
        check(json!({"type":"caption","final":false,"lines":["a"]}), None);
        check(json!({"type":"caption","final":true,"lines":[]}), None);
        check(json!({"type":"transcript","final":true,"text":"a\u{1b}[2Jb"}), Some("12:03:04  cam  a [2Jb"));
        check(json!({"type":"status","state":"playing","detail":null}), Some("12:03:04  cam  [playing]"));
        check(json!({"type":"status","state":"failed","detail":"x"}), Some("12:03:04  cam  [failed: x]"));
        let gap = json!({"type":"gap","from_pts_ms":1000,"to_pts_ms":3500,"reason":"stalled"});
        check(gap, Some("12:03:04  cam  [gap of 2.5 s: stalled]"));
    }

    #[test]
    fn kinds_of_records() {
        assert_eq!(kind("caption"), Ok(Kind::Caption));
        assert_eq!(kind("gaps"), Ok(Kind::Gap));
        assert!(kind("detections").is_err_and(|e| e.contains("Kafka")));
        assert!(kind("x").is_err_and(|e| e.contains("transcript")));
    }
}
