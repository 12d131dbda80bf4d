//! The history with a real file and a clock of the tests' own.

use std::{collections::BTreeMap, fs, path::Path, sync::atomic::Ordering::Relaxed};

use base::{
    event::{BoxInImage, Detection, Detections, ModelId, StreamState, TrackedObject},
    queue::{self, WhenFull},
    time::{ManualClock, Pts, Timestamp},
};
use sinks::history::{Phrase, Search, Series, Stretch};
use tempfile::TempDir;

use super::*;
use crate::{
    control::report::Figures,
    feed::samples::{session, status, stream, transcript},
    metrics::{MetricsSource as _, Scrape},
};

/// A house that tells what it is told to tell.
#[derive(Default)]
struct Told {
    figures: Mutex<BTreeMap<String, Figures>>,
    lag: Mutex<Option<Duration>>,
}

impl HouseView for Told {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn speech_lag(&self, _stream: &str) -> Option<Duration> {
        *self.lag.lock()
    }

    fn figures(&self, stream: &str) -> Option<Figures> {
        self.figures.lock().get(stream).cloned()
    }

    fn scrape(&self, _out: &mut Scrape) {}
}

struct Scene {
    dir: TempDir,
    time: Arc<ManualClock>,
    house: Arc<Told>,
    history: History,
}

impl Scene {
    fn new() -> Self {
        Self::at(tempfile::tempdir().expect("folder"))
    }

    fn at(dir: TempDir) -> Self {
        let time = ManualClock::new();
        let history = open(dir.path(), &time);
        Self { dir, time, house: Arc::default(), history }
    }

    /// The thread's work, done by hand.
    fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.history.0), Arc::clone(&self.house) as _, self.history.0.store.lock().take())
    }

    fn seconds(&self, recorder: &mut Recorder, n: u64) {
        for _ in 0..n {
            self.time.advance(Duration::from_secs(1));
            recorder.tick();
        }
    }

    fn series(&self, to_secs: i64) -> Series {
        let stretch = Stretch { stream: "cam".into(), from_ms: 0, to_ms: to_secs * 1000, step_ms: 10_000 };
        self.history.look_up(&Stop::default(), |reader| reader.series(&stretch)).expect("series")
    }

    fn n_found(&self) -> Result<usize, Unread> {
        found_by(&self.history)
    }

    fn metric(&self, line: &str) -> bool {
        let mut out = Scrape::default();
        self.history.scrape(&mut out);
        let text = out.render();
        text.contains(&format!("\neyewitness_history_{line}\n"))
    }
}

/// How many of the transcripts are found.
fn found_by(history: &History) -> Result<usize, Unread> {
    let search = Search { words: Phrase::parse("word"), limit: 100, ..Search::default() };
    history.look_up(&Stop::default(), |reader| reader.transcripts(&search)).map(|page| page.found.len())
}

fn open(dir: &Path, time: &Arc<ManualClock>) -> History {
    let config = HistoryConfig { dir: dir.join("history"), ..HistoryConfig::default() };
    History::open(config, None, &(Arc::clone(time) as Arc<dyn Clock>))
}

/// A frame with these objects.
fn frame(number: u64, classes: &[&str]) -> Arc<Event> {
    let object = |class: &&str| TrackedObject {
        detection: Detection { class: (*class).into(), score: 0.9, box_in_image: BoxInImage::default() },
        track: None,
    };
    let body = Body::Detections(Detections {
        width: 640,
        height: 480,
        index: number,
        model: Arc::new(ModelId { name: "m".into(), version: "0".into() }),
        objects: classes.iter().map(object).collect(),
        labels: Vec::new(),
        answer: None,
        classes: Arc::from([]),
    });
    Arc::new(Event::new(&stream("cam"), &session("one"), number, Pts::from_millis(number * 100), None, body))
}

fn dropped(n_decoded: u64, reasons: &[(&str, u64)]) -> Figures {
    let n_dropped = reasons.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect();
    Figures { n_decoded, n_dropped, ..Figures::default() }
}

#[test]
fn streams_are_sampled() {
    let scene = Scene::new();
    let mut recorder = scene.recorder();
    let set = |figures: Figures| scene.house.figures.lock().insert("cam".into(), figures);
    scene.history.attach(&stream("cam"));
    // Ten seconds with four frames a second.
    for number in 0..40 {
        scene.history.event(&frame(number, if number < 20 { &["person", "dog", "person"] } else { &["person"] }));
    }
    set(dropped(100, &[("superseded", 7)]));
    scene.seconds(&mut recorder, 3);
    *scene.house.lag.lock() = Some(Duration::from_millis(700));
    scene.seconds(&mut recorder, 1);
    *scene.house.lag.lock() = Some(Duration::from_millis(200));
    scene.seconds(&mut recorder, 6);
    // Ten with none, while frames were dropped: the difference is told.
    set(dropped(200, &[("superseded", 9), ("fenced", 1)]));
    *scene.house.lag.lock() = None;
    scene.seconds(&mut recorder, 10);
    // It is detached, and attached again with counters that begin anew.
    scene.history.detach(&stream("cam"));
    scene.history.attach(&stream("cam"));
    set(dropped(5, &[("superseded", 3)]));
    scene.seconds(&mut recorder, 10);
    // It is gone, half way.
    for number in 0..10 {
        scene.history.event(&frame(number, &[]));
    }
    scene.time.advance(Duration::from_secs(5));
    scene.history.detach(&stream("cam"));
    scene.house.figures.lock().clear();
    scene.seconds(&mut recorder, 20);
    let series = scene.series(60);
    assert_eq!(series.fps, [Some(4.0), Some(0.0), Some(0.0), Some(1.0), None, None]);
    assert_eq!(series.speech_lag_ms, [Some(700), None, None, None, None, None]);
    assert_eq!(series.drops["superseded"], [Some(7), Some(2), Some(3), Some(0), None, None]);
    assert_eq!(series.drops["fenced"], [Some(0), Some(1), Some(0), Some(0), None, None]);
    assert_eq!(series.objects["person"].most, [Some(2), Some(0), Some(0), Some(0), None, None]);
    assert_eq!(series.objects["person"].mean, [Some(1.5), Some(0.0), Some(0.0), Some(0.0), None, None]);
    assert_eq!(series.objects["dog"].mean[0], Some(0.5));
    assert!(scene.history.0.streams.read().is_empty(), "it is forgotten");
    assert!(scene.metric("rows{table=\"samples\"} 4"));
}

#[test]
fn what_is_told_is_written_and_found_after_a_restart() {
    let scene = Scene::new();
    let (sender, receiver) = queue::queue("history", 16, WhenFull::DropOldest);
    scene.history.start(sender, receiver, Arc::clone(&scene.house) as _).expect("thread");
    scene.history.attach(&stream("cam"));
    scene.history.event(&Arc::new(status("cam", "one", 0, StreamState::Playing)));
    for number in 0..3 {
        scene.history.event(&Arc::new(transcript("cam", "one", number)));
    }
    let entry = Audit {
        at: Timestamp::from_millisecond(77).expect("time"),
        user: "ann".into(),
        role: "viewer".into(),
        address: "192.0.2.7".into(),
        method: "DELETE".into(),
        route: "/v1/streams/{name}".into(),
        subject: Some("cam".into()),
        status: 403,
    };
    scene.history.audit(entry.clone());
    scene.history.close();
    // Nothing is taken any more, and nobody is held up.
    scene.history.event(&Arc::new(transcript("cam", "one", 9)));
    let again = Scene::at(scene.dir);
    assert_eq!(again.n_found(), Ok(3));
    assert_eq!(again.history.audits(10), Ok(vec![entry]));
    assert!(again.metric("rows{table=\"status\"} 1"));
}

#[test]
fn without_a_file_it_goes_on_and_comes_back() {
    let scene = Scene::new();
    let other = open(scene.dir.path(), &scene.time);
    let mut recorder = Recorder::new(Arc::clone(&other.0), Arc::clone(&scene.house) as _, other.0.store.lock().take());
    let refused = other.audits(1).expect_err("in use").to_string();
    assert!(refused.contains("in use by another process") && refused.contains("`dir`"), "{refused}");
    recorder.take(Item::Event(Arc::new(transcript("cam", "one", 0))));
    scene.seconds(&mut recorder, 1);
    assert_eq!((other.0.counts.n_lost.load(Relaxed), other.0.counts.is_troubled.load(Relaxed)), (1, true));
    // The other one ends.
    scene.history.0.store.lock().take();
    scene.seconds(&mut recorder, 60);
    recorder.take(Item::Event(Arc::new(transcript("cam", "one", 1))));
    scene.seconds(&mut recorder, 1);
    assert!(!other.0.counts.is_troubled.load(Relaxed));
    assert_eq!(found_by(&other), Ok(1));
}

#[test]
fn a_file_that_a_search_finds_damaged_is_put_aside() {
    let scene = Scene::new();
    let mut recorder = scene.recorder();
    for number in 0..100 {
        recorder.take(Item::Event(Arc::new(transcript("cam", "one", number))));
    }
    scene.seconds(&mut recorder, 1);
    assert_eq!(scene.n_found(), Ok(100));
    drop(recorder);
    // What was said is broken, and nothing that is looked at when it is opened.
    let path = scene.dir.path().join("history/history.db");
    let mut bytes = fs::read(&path).expect("read");
    for page in bytes.chunks_mut(8192).skip(1).filter(|page| page.windows(9).any(|w| w == b"\"words\":[")) {
        page[..8].fill(0xff);
    }
    fs::write(&path, bytes).expect("written");
    let scene = Scene::at(scene.dir);
    let mut recorder = scene.recorder();
    assert!(scene.n_found().is_err_and(|why| why.to_string().contains("the file is damaged")));
    scene.seconds(&mut recorder, 1);
    assert!(scene.dir.path().join("history/history.db.damaged").exists());
    assert_eq!(scene.n_found(), Ok(0));
    recorder.take(Item::Event(Arc::new(transcript("cam", "one", 1))));
    scene.seconds(&mut recorder, 1);
    assert_eq!((scene.n_found(), scene.history.0.counts.n_lost.load(Relaxed)), (Ok(1), 0));
    // Somebody who still had the old one says so late: the new one is left alone.
    scene.history.0.damaged.store(1, Relaxed);
    scene.seconds(&mut recorder, 1);
    assert_eq!(scene.n_found(), Ok(1));
}

#[test]
fn a_look_up_is_stopped_before_it_begins() {
    let scene = Scene::new();
    let stop = Stop::default();
    stop.stop();
    let search = Search { limit: 1, ..Search::default() };
    let looked = scene.history.look_up(&stop, |reader| reader.transcripts(&search)).map(drop);
    assert_eq!(looked, Err(Unread::Stopped));
    assert!(fs::read_dir(scene.dir.path()).is_ok_and(|mut files| files.next().is_some()));
}
