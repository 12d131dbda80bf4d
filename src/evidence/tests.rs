//! The store as its users see it, on a real disk and with real media.

use std::{fs, path::Path, process::Command};

use base::{
    event::{Body, Status, StreamState},
    ledger::Ledger,
    media::{
        AudioChunk, MediaConsumer, MediaDescription, MediaSegment, Notice, SourceDescription, StreamInfo, StreamName,
    },
    redact::SourceUrl,
    time::{ManualClock, Pts, SystemClock},
};
use ingest::{Mode, Sampling, SegmentOptions, SourceConfig, Stream, StreamOptions};

use super::{
    folder::GATHERED,
    samples::{alert, config, frame, id, session, store, wait_for},
    *,
};
use crate::hls::{Captions, HlsConfig};

const OPENED: AlertState = AlertState::Opened;
const UPDATED: AlertState = AlertState::Updated;
const CLOSED: AlertState = AlertState::Closed;
const NONE: (Option<String>, Option<String>) = (None, None);

fn shared(store: &EvidenceStore) -> &Shared {
    &store.0.as_ref().expect("enabled").shared
}

fn failed(store: &EvidenceStore) -> [u64; 3] {
    shared(store).counts.failures()
}

fn all(store: &EvidenceStore) -> Vec<(String, u64)> {
    let records = store.newest(&AlertFilter::default(), 100);
    let records = records.iter().map(|json| serde_json::from_str::<Value>(json).expect("json"));
    records.map(|r| (r["alert"].as_str().expect("id").to_owned(), r["revision"].as_u64().expect("revision"))).collect()
}

#[test]
fn the_newest_record_is_kept_and_open_ones_are_found_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = store(&folder);
    let mut reader = kept.news(AlertFilter::default(), None).expect("news");
    for (number, revision, state) in [(0, 0, OPENED), (1, 0, OPENED), (0, 1, UPDATED), (2, 0, OPENED), (1, 1, CLOSED)] {
        kept.take(&alert("cam", (number, revision), state, 1000, NONE), None);
    }
    kept.take(&alert("hall", (0, 0), OPENED, 1000, NONE), None);
    // Nobody's.
    let status = Status { state: StreamState::Stopped, detail: None, source: None };
    let info = Arc::clone(&alert("cam", (0, 0), OPENED, 0, NONE).stream);
    kept.take(&Arc::new(Event::new(&info, &session("cam"), 0, Pts::ZERO, None, Body::Status(status))), None);
    kept.clone().close();
    // Too late.
    kept.take(&alert("cam", (9, 0), OPENED, 1000, NONE), None);
    let mut ids = Vec::new();
    while let Some(NextNews::Item(item)) = reader.try_next() {
        ids.push(item.id.clone());
    }
    assert_eq!((ids.len(), reader.try_next()), (6, Some(NextNews::Closed)));

    let again = store(&folder);
    let expected = [("hall", 0, 0), ("cam", 1, 1), ("cam", 2, 0), ("cam", 0, 1)];
    assert_eq!(all(&again), expected.map(|(name, number, revision)| (id(name, number), revision)));
    let open = again.left_behind("cam", Vec::new());
    let open: Vec<_> = open.iter().map(|record| record["alert"].as_str().expect("id").to_owned()).collect();
    assert_eq!(open, [id("cam", 0), id("cam", 2)]);
    // A reader that comes back finds what came meanwhile.
    let mut reader = again.news(AlertFilter::default(), Some(&ids[3])).expect("news");
    let mut later = Vec::new();
    while let Some(NextNews::Item(item)) = reader.try_next() {
        later.push(item.id.clone());
    }
    assert_eq!(later, ids[4..]);
    assert_eq!(again.record("../cam"), None);
    assert_eq!(again.file(&id("cam", 7), AlertFile::Clip), Err(NoFile::Unknown));
    again.close();
}

#[test]
fn an_alert_that_is_told_of_is_kept_or_coming() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = store(&folder);
    let is_known = |id: &str| kept.is_coming(id) || kept.has(id);
    for number in 0..50 {
        kept.take(&alert("cam", (number, 0), OPENED, 1000, NONE), None);
        assert!(is_known(&id("cam", number)));
        assert_ne!(kept.file(&id("cam", number), AlertFile::Snapshot), Err(NoFile::Unknown));
    }
    wait_for("the last", || (!kept.is_coming(&id("cam", 49))).then_some(()));
    assert!((0..50).all(|number| kept.has(&id("cam", number)) && !kept.is_coming(&id("cam", number))));
    assert!(!is_known(&id("cam", 50)));
    kept.close();
}

#[test]
fn what_is_not_enabled_keeps_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let off = EvidenceConfig { enabled: false, ..config(&folder) };
    let store = EvidenceStore::open(off, None, SystemClock::new()).expect("store");
    store.take(&alert("cam", (0, 0), OPENED, 0, NONE), None);
    assert_eq!((store.paths("a", true, true), store.left_behind("cam", Vec::new()).len()), (NONE, 0));
    assert!(!store.is_enabled() && store.news(AlertFilter::default(), None).is_none());
    store.close();
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn paths_and_ids() {
    let folder = tempfile::tempdir().expect("folder");
    let clock = SystemClock::new();
    let media = HlsStore::new(HlsConfig::default(), Arc::clone(&clock));
    let store = EvidenceStore::open(config(&folder), Some(media), clock).expect("store");
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(store.paths("a-1", true, true), (some("/v1/alerts/a-1/snapshot.jpg"), some("/v1/alerts/a-1/clip.mp4")));
    assert_eq!(store.paths("a-1", false, true), (None, some("/v1/alerts/a-1/clip.mp4")));
    assert_eq!(store.paths("a-1", true, false), (some("/v1/alerts/a-1/snapshot.jpg"), None));
    assert_eq!(store.paths("../a", true, true), NONE);
    let mut wild = (*alert("cam", (0, 0), OPENED, 0, NONE)).clone();
    if let Body::Alert(alert) = &mut wild.body {
        alert.alert = "../../etc".into();
    }
    store.take(&Arc::new(wild), None);
    assert_eq!(failed(&store), [1, 0, 0]);
    store.close();
    assert_eq!(fs::read_dir(config(&folder).path).expect("folder").count(), 0);
}

#[test]
fn a_disk_that_cannot_be_written_costs_the_evidence_and_not_the_alert() {
    let folder = tempfile::tempdir().expect("folder");
    let store = store(&folder);
    // A file lies where its folder should be.
    fs::write(config(&folder).path.join(id("cam", 0)), b"").expect("file");
    let mut reader = store.news(AlertFilter::default(), None).expect("news");
    store.take(&alert("cam", (0, 0), OPENED, 0, NONE), Some(&frame("cam", 0)));
    store.take(&alert("cam", (1, 0), OPENED, 0, store.paths(&id("cam", 1), true, false)), Some(&frame("cam", 0)));
    let snapshot = wait_for("the other's snapshot", || store.file(&id("cam", 1), AlertFile::Snapshot).ok());
    assert_eq!(ffprobe(&snapshot)["streams"][0]["width"], 640);
    assert_eq!(failed(&store), [1, 0, 0]);
    assert!(
        matches!(reader.try_next(), Some(NextNews::Item(_))) && matches!(reader.try_next(), Some(NextNews::Item(_)))
    );
    store.close();
}

#[test]
fn old_ones_go_and_what_is_not_ours_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let time = ManualClock::new();
    let clock = Arc::clone(&time) as Arc<dyn Clock>;
    let keep = EvidenceConfig { keep_days: 1, ..config(&folder) };
    let store = EvidenceStore::open(keep.clone(), None, Arc::clone(&clock)).expect("store");
    fs::create_dir(keep.path.join("mine")).expect("folder");
    fs::write(keep.path.join("mine/diary.txt"), b"dear diary").expect("file");
    let hour = Duration::from_secs(3600);
    for number in 0..3 {
        store.take(&alert("cam", (number, 0), OPENED, 0, NONE), Some(&frame("cam", 0)));
        wait_for("the record", || store.record(&id("cam", number)));
        time.advance(10 * hour);
    }
    store.clone().close();
    shared(&store).sweep();
    let numbers = |store: &EvidenceStore| all(store).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    // Thirty hours, twenty and ten ago.
    assert_eq!(numbers(&store), [id("cam", 2), id("cam", 1)]);
    // By their bytes, at a start; a closed one first.
    let one = shared(&store).folder.size(&id("cam", 1));
    assert!(one > 2000, "{one}");
    let again = EvidenceStore::open(keep.clone(), None, Arc::clone(&clock)).expect("store");
    again.take(&alert("cam", (2, 1), CLOSED, 0, NONE), None);
    wait_for("the record", || again.record(&id("cam", 2)).filter(|json| json.contains("\"closed\"")));
    again.close();
    let tight = EvidenceConfig { keep_bytes: one + 100, ..keep.clone() };
    let again = EvidenceStore::open(tight, None, Arc::clone(&clock)).expect("store");
    assert_eq!(numbers(&again), [id("cam", 1)]);
    again.close();
    let left: Vec<_> = fs::read_dir(&keep.path).expect("folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(keep.path.join("mine/diary.txt").exists());
}

/// Keeps the segments.
#[derive(Default)]
struct Cutter {
    segments: Mutex<Vec<MediaSegment>>,
    is_over: Shutdown,
    ledger: Ledger,
}

impl MediaConsumer for Cutter {
    fn frame(&self, _frame: Frame) {}

    fn audio(&self, _chunk: AudioChunk) {}

    fn segment(&self, segment: MediaSegment) {
        self.segments.lock().push(segment);
    }

    fn notice(&self, notice: Notice) {
        if matches!(notice, Notice::Ended | Notice::Failed { .. }) {
            self.is_over.trigger();
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// The bundled clip of 40 s in segments: 768 x 576, H.264 and AAC.
fn segments() -> Vec<MediaSegment> {
    let cutter = Arc::new(Cutter::default());
    let info = StreamInfo { name: StreamName::new("cam").expect("name"), tags: Default::default(), epoch: None };
    let options = StreamOptions {
        info: Arc::new(info),
        url: SourceUrl::parse(&format!("file://{}/media/demo.mp4", env!("CARGO_MANIFEST_DIR"))).expect("url"),
        source: SourceConfig::default(),
        sampling: Sampling::All,
        video: None,
        // Somebody has to tell the stream's time.
        audio: true,
        segments: Some(SegmentOptions { target: Duration::from_secs(2) }),
        relay: None,
        mode: Mode::Batch,
        start_at: None,
        session: Some(session("cam")),
        clock: SystemClock::new(),
    };
    let stream = Stream::spawn(options, Arc::clone(&cutter) as _).expect("stream");
    assert!(cutter.is_over.wait_timeout(Duration::from_secs(60)));
    stream.join();
    std::mem::take(&mut *cutter.segments.lock())
}

fn ffprobe(path: &Path) -> Value {
    let entries = "format=duration:stream=codec_type,codec_name,width,height:packet=stream_index,flags";
    let output =
        Command::new("ffprobe").args(["-v", "error", "-show_entries", entries, "-of", "json"]).arg(path).output();
    let output = output.expect("ffprobe");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("json")
}

/// Red, green and blue at a place of a picture.
fn pixel(path: &Path, width: usize, (x, y): (usize, usize)) -> [u8; 3] {
    let mut command = Command::new("ffmpeg");
    let output = command
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .expect("ffmpeg");
    let at = 3 * (y * width + x);
    [output.stdout[at], output.stdout[at + 1], output.stdout[at + 2]]
}

fn is_orange([red, green, blue]: [u8; 3]) -> bool {
    red > 180 && green < 150 && blue < 90
}

/// A stream `cam` that is watched, and a store that keeps its alerts.
fn scene(folder: &tempfile::TempDir) -> (Arc<HlsStore>, StreamName, EvidenceStore) {
    let clock = SystemClock::new();
    let media = HlsStore::new(HlsConfig::default(), Arc::clone(&clock));
    let cam = StreamName::new("cam").expect("name");
    media.attach(&cam, Captions::None);
    let store = EvidenceStore::open(config(folder), Some(Arc::clone(&media)), clock).expect("store");
    (media, cam, store)
}

#[test]
fn an_alert_gets_its_picture_and_its_clip() {
    let folder = tempfile::tempdir().expect("folder");
    let (media, cam, store) = scene(&folder);
    let segments = segments();
    let (before, after): (Vec<_>, Vec<_>) = segments.into_iter().partition(|s| s.start < Pts::from_millis(12_000));
    before.into_iter().for_each(|segment| media.segment(&cam, segment));
    let id = id("cam", 0);
    let paths = store.paths(&id, true, true);
    store.take(&alert("cam", (0, 0), OPENED, 12_300, paths.clone()), Some(&frame("cam", 12_300)));
    let snapshot = wait_for("the first snapshot", || store.file(&id, AlertFile::Snapshot).ok());
    // The analysed frame, made larger: its box lies over a quarter of it.
    assert_eq!(ffprobe(&snapshot)["streams"][0]["width"], 640);
    assert!(is_orange(pixel(&snapshot, 640, (160, 240))) && !is_orange(pixel(&snapshot, 640, (320, 240))));
    assert_eq!(store.file(&id, AlertFile::Clip), Err(NoFile::NotYet));
    for segment in after {
        if segment.start >= Pts::from_millis(16_000) {
            store.take(&alert("cam", (0, 1), CLOSED, 16_000, paths.clone()), None);
        }
        media.segment(&cam, segment);
    }
    let clip = wait_for("the clip", || store.file(&id, AlertFile::Clip).ok());
    let probed = ffprobe(&clip);
    let duration: f64 = probed["format"]["duration"].as_str().expect("text").parse().expect("seconds");
    // From five seconds before 12.3 to five after 16, and at most a segment more at both ends.
    assert!((13.7..18.5).contains(&duration), "{duration}");
    let tracks: Vec<_> =
        probed["streams"].as_array().expect("tracks").iter().map(|s| s["codec_name"].clone()).collect();
    assert_eq!(tracks, ["h264", "aac"]);
    let first = probed["packets"].as_array().expect("packets").iter().find(|p| p["stream_index"] == 0);
    assert!(first.expect("pictures")["flags"].as_str().expect("flags").starts_with('K'));
    // By now the picture is the camera's own.
    assert_eq!(ffprobe(&snapshot)["streams"][0]["width"], 768);
    assert!(is_orange(pixel(&snapshot, 768, (192, 288))) && !is_orange(pixel(&snapshot, 768, (384, 280))));
    let names = fs::read_dir(clip.parent().expect("folder")).expect("folder").flatten().map(|e| e.file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
    names.sort();
    assert_eq!(names, ["alert.json", "clip.mp4", "snapshot.jpg"]);
    assert_eq!(failed(&store), [0; 3]);
    let mut out = Scrape::default();
    store.scrape(&mut out);
    let text = out.render();
    for line in [
        "eyewitness_evidence_kept_total{what=\"clip\"} 1\n",
        "eyewitness_evidence_kept_total{what=\"snapshot\"} 2\n",
        "eyewitness_evidence_alerts 1\n",
        "eyewitness_evidence_open_alerts 0\n",
        "eyewitness_queue_dropped_total{queue=\"evidence\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    store.close();
}

#[test]
fn a_stream_that_stops_leaves_the_clip_as_far_as_it_came() {
    let folder = tempfile::tempdir().expect("folder");
    let (media, cam, store) = scene(&folder);
    let segments = segments();
    let id = id("cam", 0);
    segments[..4].iter().for_each(|segment| media.segment(&cam, segment.clone()));
    store.take(&alert("cam", (0, 0), OPENED, 5000, store.paths(&id, true, true)), None);
    // The picture comes from the clip alone: nobody has seen a frame.
    wait_for("the snapshot", || store.file(&id, AlertFile::Snapshot).ok());
    media.segment(&cam, segments[4].clone());
    media.detach(&cam);
    let clip = wait_for("the clip", || store.file(&id, AlertFile::Clip).ok());
    let duration: f64 = ffprobe(&clip)["format"]["duration"].as_str().expect("text").parse().expect("seconds");
    let expected: Duration = segments[..5].iter().map(|segment| segment.duration).sum();
    assert!((duration - expected.as_secs_f64()).abs() < 0.2, "{duration} {expected:?}");
    store.close();
}

#[test]
fn a_clip_that_a_lost_process_had_begun_is_made_at_the_next_start() {
    let folder = tempfile::tempdir().expect("folder");
    let first = store(&folder);
    first.take(&alert("cam", (0, 0), OPENED, 5000, NONE), None);
    first.close();
    let part = config(&folder).path.join(id("cam", 0)).join(GATHERED);
    let mut media: Vec<u8> = segments()[2..4].iter().flat_map(|segment| segment.bytes.to_vec()).collect();
    // It was lost while it wrote.
    media.truncate(media.len() - 1000);
    fs::write(&part, media).expect("part");
    let again = store(&folder);
    let clip = wait_for("the clip", || again.file(&id("cam", 0), AlertFile::Clip).ok());
    assert_eq!(ffprobe(&clip)["streams"][0]["codec_name"], "h264");
    wait_for("the end of the part", || (!part.exists()).then_some(()));
    again.close();
}

#[test]
fn what_cannot_be_cut_has_no_clip_and_says_why() {
    let folder = tempfile::tempdir().expect("folder");
    let (media, cam, store) = scene(&folder);
    let (paths, opened) =
        (store.paths(&id("cam", 0), true, true), |number, paths| alert("cam", (number, 0), OPENED, 0, paths));
    let video = MediaDescription { codec: "h265".into(), size: None };
    let source = Some(SourceDescription { video: Some(video), audio: None });
    let status = Body::Status(Status { state: StreamState::Playing, detail: None, source });
    let event = opened(0, paths.clone());
    media.event(&Event::new(&event.stream, &event.session, 0, Pts::ZERO, None, status));
    store.take(&event, Some(&frame("cam", 0)));
    // One whose stream is gone, and one that never had any.
    media.detach(&cam);
    store.take(&opened(1, paths), None);
    store.take(&opened(2, NONE), None);
    wait_for("the last record", || store.record(&id("cam", 2)));
    store.clone().close();
    let why = |number, file| match store.file(&id("cam", number), file) {
        Err(NoFile::None(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(0, AlertFile::Clip).contains("h265"));
    assert!(store.file(&id("cam", 0), AlertFile::Snapshot).is_ok());
    assert!(why(1, AlertFile::Clip).contains("not attached"));
    assert!(why(1, AlertFile::Snapshot).contains("could not be made"));
    assert!(why(2, AlertFile::Clip).contains("not kept"));
}
