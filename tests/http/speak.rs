//! `/v1/transcribe`: sound in, transcripts out, and everything that can go wrong between them. What listens here counts
//! samples instead of hearing words; words are the business of the tests of `run`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use eyewitness::http::{MOST_AHEAD, SpeechInput, SpeechOutput, SpeechPort, SpeechRefused, SpeechRequest};

use super::served::{Served, transcript};
use crate::harness::{Scene, wait_for};

/// Publishes one transcript a second of sound; hears nothing while `deaf`.
#[derive(Default)]
struct Counting {
    deaf: Arc<AtomicBool>,
    pushed: Arc<AtomicU64>,
    /// The most sound that was waiting when more was pushed.
    most_ahead: Arc<AtomicU64>,
    /// Sessions that ended without being told the end.
    n_given_up: Arc<AtomicUsize>,
}

struct Session {
    deaf: Arc<AtomicBool>,
    pushed: Arc<AtomicU64>,
    most_ahead: Arc<AtomicU64>,
    n_given_up: Arc<AtomicUsize>,
    output: Option<SpeechOutput>,
    loudest: f32,
}

impl SpeechPort for Counting {
    fn open(&self, request: &SpeechRequest, output: SpeechOutput) -> Result<Box<dyn SpeechInput>, SpeechRefused> {
        if let Some(language) = request.language.as_deref().filter(|l| *l != "en") {
            return Err(SpeechRefused::Unsupported(format!("this model does not know `{language}`: it knows en")));
        }
        self.pushed.store(0, SeqCst);
        Ok(Box::new(Session {
            deaf: Arc::clone(&self.deaf),
            pushed: Arc::clone(&self.pushed),
            most_ahead: Arc::clone(&self.most_ahead),
            n_given_up: Arc::clone(&self.n_given_up),
            output: Some(output),
            loudest: 0.0,
        }))
    }
}

impl SpeechInput for Session {
    fn push(&mut self, samples: Arc<[f32]>) -> Result<(), String> {
        self.most_ahead.fetch_max(self.lag().as_millis() as u64, SeqCst);
        self.loudest = samples.iter().fold(self.loudest, |most, s| most.max(s.abs()));
        if self.loudest >= 1.0 {
            return Err("the model broke".into());
        }
        let before = self.pushed.fetch_add(samples.len() as u64, SeqCst);
        let after = before + samples.len() as u64;
        for second in before / 16_000..after / 16_000 {
            self.output.as_ref().unwrap().publish(&Arc::new(transcript("mic", second, "one second")));
        }
        Ok(())
    }

    fn lag(&self) -> Duration {
        let waiting = if self.deaf.load(SeqCst) { self.pushed.load(SeqCst) } else { 0 };
        Duration::from_millis(waiting / 16)
    }

    fn end(mut self: Box<Self>) {
        let text = format!("{} samples, loudest {:.3}", self.pushed.load(SeqCst), self.loudest);
        self.output.take().unwrap().publish(&Arc::new(transcript("mic", 1000, &text)));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.output.is_some() {
            self.n_given_up.fetch_add(1, SeqCst);
        }
    }
}

const END: [&str; 2] = ["--text", r#"{"type":"end"}"#];

fn served(port: Counting) -> Served {
    Served::with("{}", Some(Arc::new(port)))
}

#[test]
fn sound_goes_in_and_transcripts_come_out() {
    let served = served(Counting::default());
    let scene = Scene::new();
    let half = |n: usize| [0x00, 0x40].repeat(n);
    let quarter = |n: usize| 0.25f32.to_le_bytes().repeat(n);
    let check = |path: &str, sound: Vec<u8>, chunk: &str, n_seconds: usize, heard: &str| {
        let file = scene.file("sound", sound);
        let args = [&["--sound", file.to_str().unwrap(), "--chunk", chunk][..], &END].concat();
        let client = served.follow("ws", path, &args);
        let closed = client.wait_for("closed");
        assert_eq!((&closed["closed"], &closed["reason"]), (&1000.into(), &"end".into()), "{path}");
        let records = client.records();
        let (end, transcripts) = records.split_last().unwrap();
        crate::harness::assert_valid(transcripts);
        assert_eq!(end["type"], "end");
        assert_eq!(transcripts.len(), n_seconds + 1, "{path} {chunk}: {records:?}");
        assert_eq!(transcripts[n_seconds]["text"], heard, "{path} {chunk}");
        assert!(heard.starts_with(&format!("{} samples", end["n_samples"])), "{end}");
    };
    check("/v1/transcribe", half(40_000), "6400", 2, "40000 samples, loudest 0.500");
    // Messages need not end where samples do.
    check("/v1/transcribe?language=en", half(16_000), "1601", 1, "16000 samples, loudest 0.500");
    check("/v1/transcribe?format=f32le", quarter(16_000), "9999", 1, "16000 samples, loudest 0.250");
    check("/v1/transcribe", Vec::new(), "1", 0, "0 samples, loudest 0.000");
    // Only what was asked for comes back.
    let client = served.follow("ws", "/v1/transcribe?types=captions", &END);
    client.wait_for("closed");
    assert_eq!(client.records().len(), 1, "the end alone");
}

#[test]
fn a_fast_sender_waits_and_nothing_is_lost() {
    let port = Counting::default();
    let (deaf, pushed, most) = (Arc::clone(&port.deaf), Arc::clone(&port.pushed), Arc::clone(&port.most_ahead));
    deaf.store(true, SeqCst);
    let served = served(port);
    let scene = Scene::new();
    // Ten minutes of sound, far more than sockets hold.
    let n_samples = 600 * 16_000;
    let file = scene.file("sound", [0x00, 0x10].repeat(n_samples));
    let args = [&["--sound", file.to_str().unwrap(), "--chunk", "64000"][..], &END].concat();
    let client = served.follow("ws", "/v1/transcribe", &args);
    wait_for("a full session", || (pushed.load(SeqCst) > MOST_AHEAD.as_secs() * 16_000).then_some(()));
    deaf.store(false, SeqCst);
    assert_eq!(client.wait_for("closed")["closed"], 1000);
    let records = client.records();
    assert_eq!(records.last().unwrap()["n_samples"], n_samples);
    let most = Duration::from_millis(most.load(SeqCst));
    assert!(most <= MOST_AHEAD, "pushed more while {most:?} were waiting");
    let n_lost: u64 = records.iter().filter_map(|r| r["n_records"].as_u64()).sum();
    assert_eq!(records.iter().filter(|r| r["type"] == "transcript").count() as u64 + n_lost, 601);
}

#[test]
fn trouble_is_told_in_the_close_reason() {
    let served = served(Counting::default());
    let scene = Scene::new();
    let loud = scene.file("loud", [0x00, 0x80].repeat(100));
    let odd = scene.file("odd", f32::NAN.to_le_bytes().repeat(100));
    let big = scene.file("big", vec![0; 600_000]);
    let check = |path: &str, args: &[&str], code: u16, part: &str| {
        let closed = served.follow("ws", path, args).wait_for("closed");
        assert_eq!(closed["closed"], code, "{args:?}: {closed}");
        assert!(closed["reason"].as_str().unwrap().contains(part), "{args:?}: {closed}");
    };
    let file = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    check("/v1/transcribe", &["--text", "hello"], 1003, r#"{"type":"end"}"#);
    check("/v1/transcribe", &["--text", r#"{"type":"stop"}"#], 1003, "binary messages");
    check("/v1/transcribe", &["--sound", &file(&loud)], 1011, "the model broke");
    check("/v1/transcribe?format=f32le", &["--sound", &file(&odd)], 1007, "f32le");
    check("/v1/transcribe", &["--sound", &file(&big), "--chunk", "600000"], 1009, "at most 262144 bytes");
    // Those that never get that far.
    let check = |path: &str, status: u16, part: &str| {
        let refused = served.follow("ws", path, &[]).wait_for("status");
        assert_eq!(refused["status"], status, "{path}");
        assert!(refused["body"].as_str().unwrap().contains(part), "{path}: {refused}");
    };
    check("/v1/transcribe?language=de", 400, "it knows en");
    check("/v1/transcribe?format=mp3", 400, "known: s16le, f32le");
    check("/v1/transcribe?languages=en", 400, "did you mean `language`?");
    served.ask("/v1/transcribe", &[]).refuses(426, &["ws://"]);
    let silent = Served::start("{}");
    let refused = silent.follow("ws", "/v1/transcribe", &[]).wait_for("status");
    assert_eq!(refused["status"], 501);
}

#[test]
fn a_client_that_goes_gives_its_session_up() {
    let port = Counting::default();
    let given_up = Arc::clone(&port.n_given_up);
    let served = served(port);
    let client = served.follow("ws", "/v1/transcribe", &[]).opened();
    drop(client);
    wait_for("the session's end", || (given_up.load(SeqCst) == 1).then_some(()));
    // And one that is there when the service stops is told.
    let client = served.follow("ws", "/v1/transcribe", &[]).opened();
    served.stop();
    let closed = client.wait_for("closed");
    assert_eq!(closed["closed"], 1001, "{closed}");
    assert_eq!(given_up.load(SeqCst), 2);
}
