//! A keeper for tests, in place of the real one: it writes down what is wished, on the board and nowhere else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use base::queue::{self, Receiver, WhenFull};
use eyewitness::{
    config::ProfileConfig,
    control::{
        attachment::{Attachment, Origin},
        desk::{Board, Desk, Granted, Listed, Refused, Request, Wish, WorkerListed},
        report::{Announcement, Figures, Report},
    },
    http::control::{Control, ProbeFailed, ProbeRequest, Prober, ProfileShown},
};
use ingest::{ProbeReport, ProbedAudio, ProbedVideo, Snapshot};
use parking_lot::{Condvar, Mutex};

/// What the services of these tests are plugged into.
pub(crate) fn control(prober: Option<Arc<dyn Prober>>) -> Control {
    let (wishes, requests) = queue::queue("wishes", 16, WhenFull::DropNewest);
    let board = Arc::new(Board::default());
    let keeper = Arc::clone(&board);
    thread::Builder::new().name("keeper".into()).spawn(move || keep(&keeper, &requests)).unwrap();
    board.worker("w-1", Some(worker(true, None)));
    board.worker("w-2", Some(worker(false, Some("http://worker-2.lan:8642"))));
    let select = serde_json::json!({ "tags": [{ "key": "Location", "values": ["Front"] }] });
    let people = ProfileConfig { select: serde_json::from_value(select).unwrap(), ..ProfileConfig::default() };
    let profiles = vec![ProfileShown::new("default", &ProfileConfig::default()), ProfileShown::new("people", &people)];
    Control {
        desk: Some(Desk::new(wishes, Arc::clone(&board))),
        board,
        validate: Arc::new(validate),
        profiles: Arc::new(move || profiles.clone()),
        rules: Arc::new(|_, _| Vec::new()),
        prober,
    }
}

fn worker(is_this: bool, address: Option<&str>) -> WorkerListed {
    let announcement = Announcement {
        capacity: 8.0,
        leases: vec![0, 1],
        n_streams: 1,
        draining: false,
        address: address.map(str::to_owned),
        version: "0.1.0".into(),
    };
    WorkerListed { announcement, at_ms: 0, is_this }
}

fn validate(_: &str, attachment: &Attachment) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    if attachment.url.contains('@') {
        reasons.push("`url` holds a password: put it into a secret".to_owned());
    }
    if attachment.profile.as_deref() == Some("peple") {
        reasons.push("no profile is called `peple`; did you mean `people`?".to_owned());
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// A stream on the board, as this worker or another runs it.
pub(crate) fn listed(url: &str, origin: Origin, worker: &str) -> Listed {
    let attachment = serde_json::json!({ "url": url, "tags": { "Location": "Back" }, "credentials": "gate" });
    let report = Report {
        worker: worker.into(),
        epoch: 17,
        state: "playing".into(),
        figures: Figures {
            fps: 4.9,
            latency_ms: Some(30.0),
            speech_lag_ms: Some(120),
            n_decoded: 100,
            n_inferred: 50,
            n_dropped: [("sampling".to_owned(), 48), ("superseded".to_owned(), 2)].into(),
            n_gaps: 1,
        },
        ..Report::default()
    };
    Listed {
        attachment: serde_json::from_value(attachment).unwrap(),
        origin,
        revision: 4,
        profile: "people".into(),
        report: Some(report),
    }
}

fn keep(board: &Board, requests: &Receiver<Request>) {
    while let Some(Request { wish, origin, reply }) = requests.recv() {
        let answer = match wish {
            // Nobody ever answers.
            Wish::Put { name, .. } if name == "lost" => continue,
            Wish::Put { name, .. } if name == "later" => {
                Err(Refused::Unavailable("the store cannot be reached: broker down".into()))
            }
            Wish::Put { name, attachment } => put(board, &name, *attachment, origin),
            Wish::Patch { name, patch } => match board.stream(&name) {
                None => Err(Refused::Missing(format!("stream `{name}` is not attached"))),
                Some(listed) => {
                    let mut attachment = listed.attachment;
                    patch.apply(&mut attachment);
                    put(board, &name, attachment, origin)
                }
            },
            Wish::Remove { name } => match board.stream(&name) {
                None => Err(Refused::Missing(format!("stream `{name}` is not attached"))),
                Some(listed) => allowed(&name, &listed, origin).map(|()| {
                    board.forget(&name);
                    Granted { created: false, changed: true, revision: listed.revision + 1 }
                }),
            },
        };
        let _ = reply.send(answer);
    }
}

fn allowed(name: &str, listed: &Listed, origin: Origin) -> Result<(), Refused> {
    if listed.origin == origin {
        return Ok(());
    }
    Err(Refused::Conflict(format!("stream `{name}` is of the configuration file: change it there")))
}

fn put(board: &Board, name: &str, attachment: Attachment, origin: Origin) -> Result<Granted, Refused> {
    let before = board.stream(name);
    if let Some(before) = &before {
        allowed(name, before, origin)?;
        if before.attachment == attachment {
            return Ok(Granted { created: false, changed: false, revision: before.revision });
        }
    }
    let created = before.is_none();
    let revision = before.map_or(1, |before| before.revision + 1);
    let profile = match &attachment.profile {
        Some(profile) => profile.clone(),
        None if attachment.tags.get("Location").is_some_and(|value| value == "Front") => "people".into(),
        None => "default".into(),
    };
    board.show(name, Listed { attachment, origin, revision, profile, report: None });
    Ok(Granted { created, changed: true, revision })
}

/// Finds pictures at every URL, once it is let.
#[derive(Default)]
pub(crate) struct Pretender {
    held: Mutex<bool>,
    let_go: Condvar,
    pub(crate) n_at_work: AtomicUsize,
}

impl Pretender {
    pub(crate) fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.let_go.notify_all();
    }
}

/// What [`Pretender`] finds.
pub(crate) const PICTURE: &[u8] = b"\xff\xd8\xff\xe0 a picture \xff\xd9";

impl Prober for Pretender {
    fn probe(&self, wanted: &ProbeRequest, patience: Duration) -> Result<ProbeReport, ProbeFailed> {
        self.n_at_work.fetch_add(1, Relaxed);
        let mut held = self.held.lock();
        while *held {
            self.let_go.wait(&mut held);
        }
        self.n_at_work.fetch_sub(1, Relaxed);
        assert!(patience <= Duration::from_secs(20));
        if wanted.url.contains("dead") {
            return Err(ProbeFailed(format!("{}: connection refused", wanted.url)));
        }
        Ok(ProbeReport {
            protocol: "rtsp".into(),
            container: None,
            video: Some(ProbedVideo {
                codec: "h264".into(),
                profile: Some("high".into()),
                width: Some(768),
                height: Some(576),
                stated_fps: Some(10.0),
                measured_fps: Some(9.98),
                bits_per_second: Some(800_000),
            }),
            audio: Some(ProbedAudio {
                codec: "aac".into(),
                channels: Some(2),
                sample_rate: Some(48_000),
                bits_per_second: None,
            }),
            first_picture_ms: Some(312),
            clock: Some("arrival".into()),
            resumable: false,
            left_out: None,
            snapshot: (!wanted.url.contains("deaf")).then(|| Snapshot {
                width: 768,
                height: 576,
                jpeg: PICTURE.to_vec(),
            }),
        })
    }
}
