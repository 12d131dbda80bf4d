//! HLS from end to end: the bundled clip through a real RTSP camera, served over HTTP, read by ffprobe, by hls.js in a real
//! browser and by an independent WebVTT parser; captions are fed as they would be heard, late and at their true times.

mod theatre;

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use base::{
    event::{Body, Event, Status, StreamState},
    ledger::Ledger,
    media::{MediaDescription, MediaSegment, SessionId, SourceDescription, StreamInfo, StreamName},
    time::{Pts, SystemClock},
};
use eyewitness::hls::{Captions, HlsConfig, HlsStore};
use ingest::{
    Mode,
    camera::{Camera, CameraOptions},
};
use serde_json::Value;

use self::theatre::*;
use crate::browser::Browser;
use crate::harness::{CLIP, python, wait_for};

#[test]
fn ffprobe_finds_every_picture_at_the_time_that_events_tell() {
    let camera = camera();
    let theatre = Theatre::open(&camera.url(), Mode::Live, Captions::None, HlsConfig::default());
    let playlist = theatre.listed(3);
    // The whole way: master, media playlist, segments.
    let probed = run(
        "ffprobe",
        &["-v", "error", "-show_streams", "-of", "json", "-read_intervals", "%+3", &theatre.url("master.m3u8")],
    );
    let probed: Value = serde_json::from_str(&probed).unwrap();
    let streams = probed["streams"].as_array().unwrap();
    let video = streams.iter().find(|s| s["codec_name"] == "h264").expect("pictures");
    assert_eq!((&video["width"], &video["height"]), (&768.into(), &576.into()));
    assert!(streams.iter().any(|s| s["codec_name"] == "aac" && s["channels"] == 1), "{streams:?}");
    let master = theatre.get("master.m3u8").text();
    assert!(master.contains("CODECS=\"avc1.") && master.contains(",mp4a.40.2\",RESOLUTION=768x576"), "{master}");
    assert!(!master.contains("SUBTITLES"), "{master}");

    let dir = tempfile::tempdir().unwrap();
    let segments = theatre.listener.seen.lock().unwrap().segments.clone();
    let mut end = segments[0].start;
    for (file, segment) in files(&playlist).iter().zip(&segments) {
        assert_eq!(*file, format!("{}-{}.ts", segment.session, segment.number));
        let answer = theatre.get(file);
        assert_eq!((answer.status, answer.header("content-type")), (200, "video/mp2t"));
        assert_eq!(answer.body, segment.bytes);
        let path = dir.path().join(file);
        std::fs::write(&path, &answer.body).unwrap();
        let packets = packets(path.to_str().unwrap());
        let pictures: Vec<_> = packets.iter().filter(|p| p.0 == "video").collect();
        assert!(pictures[0].2, "{file} begins with no keyframe");
        assert_eq!(pictures[0].1, segment.mpegts as i64, "{file}");
        // On the pictures that were analysed, one by one.
        let next = Pts::from_nanos(segment.start.nanos() + segment.duration.as_nanos() as u64);
        let analysed: BTreeSet<i64> = wait_for("the pictures of a segment", || {
            let seen = theatre.listener.seen.lock().unwrap();
            let times: Vec<Pts> = seen.pictures.iter().map(|p| p.1).collect();
            let all = times.iter().any(|t| *t >= next);
            all.then(|| times.iter().filter(|t| **t >= segment.start && **t < next).map(|t| ticks(*t)).collect())
        });
        assert_eq!(pictures.iter().map(|p| p.1).collect::<BTreeSet<_>>(), analysed, "{file}");
        assert!(packets.iter().filter(|p| p.0 == "audio").count() > 40, "{file}: hardly any sound");
        // No gap, no overlap.
        assert_eq!(segment.start, end, "{file}");
        end = next;
        let line = format!("#EXTINF:{:.6},\n{file}", segment.duration.as_secs_f64());
        assert!(playlist.contains(&line), "{line} is not in {playlist}");
    }
}

#[test]
fn the_captions_of_a_segment_are_there_when_it_is_listed() {
    let camera = camera();
    // However slow this machine is: they are waited for.
    let patient = HlsConfig { patience_ms: 60_000, ..HlsConfig::default() };
    let theatre = Theatre::open(&camera.url(), Mode::Live, EXPECTED, patient);
    let fed = cues();
    theatre.listed(5);
    // Both playlists name the same segments in the same places; a new one may come in between the two answers.
    let captions = wait_for("two playlists of the same moment", || {
        let (captions, video) = (theatre.get("captions.m3u8"), theatre.get("video.m3u8"));
        assert_eq!(captions.header("content-type"), "application/vnd.apple.mpegurl");
        (captions.text().replace(".vtt", ".ts") == video.text()).then(|| captions.text())
    });
    let master = theatre.get("master.m3u8").text();
    assert!(
        master.contains("#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"captions\",NAME=\"English\",LANGUAGE=\"en\""),
        "{master}"
    );
    let dir = tempfile::tempdir().unwrap();
    let segments = theatre.listener.seen.lock().unwrap().segments.clone();
    let script = "import json, sys, webvtt\nprint(json.dumps([[c.identifier, c.start, c.end, c.text] for c in webvtt.read(sys.argv[1])]))";
    let python = python();
    let mut n_found = 0;
    for file in files(&captions) {
        let answer = theatre.get(&file);
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/vtt; charset=utf-8"));
        let text = answer.text();
        assert!(text.starts_with("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n"), "{text}");
        let segment = segments.iter().find(|s| file == format!("{}-{}.vtt", s.session, s.number)).unwrap();
        let (from, to) = span_ms(segment);
        let expected: Vec<_> = fed.iter().enumerate().filter(|(_, c)| c.0 < to && c.1 > from).collect();
        let path = dir.path().join(&file);
        std::fs::write(&path, &text).unwrap();
        let parsed = run(python.to_str().unwrap(), &["-c", script, path.to_str().unwrap()]);
        let parsed: Vec<[String; 4]> = serde_json::from_str(&parsed).unwrap();
        let clock =
            |ms: u64| format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        let expected: Vec<[String; 4]> = expected
            .into_iter()
            .map(|(n, c)| {
                // What lies in another segment stands there.
                let part = if c.0 < from { format!("-{}", segment.number) } else { String::new() };
                let id = format!("{}-cue-{n}{part}", segment.session);
                [id, clock(c.0.max(from)), clock(c.1.min(to)), c.2.join("\n")]
            })
            .collect();
        assert_eq!(parsed, expected, "{file}");
        n_found += parsed.len();
    }
    assert!(n_found > 3, "{n_found}");
}

/// Fails unless every caption that appeared stands where its words are in the pictures of its session.
fn check_cues(browser: &Browser, theatre: &Theatre) -> usize {
    let fed = cues();
    let segments = theatre.listener.seen.lock().unwrap().segments.clone();
    let fragments = browser.of("fragment");
    let shown = browser.of("cue");
    for cue in &shown {
        // hls.js puts the number of the discontinuity before it; we put the segment's behind it where it is not the first.
        let id = cue["id"].as_str().unwrap().rsplit('_').next().unwrap();
        let (session, n) = id.split_once("-cue-").unwrap();
        let (n, number) = n.split_once('-').map_or((n, None), |(n, number)| (n, Some(number.parse::<u64>().unwrap())));
        let (start, end, lines) = &fed[n.parse::<usize>().unwrap()];
        let of_session = |s: &&MediaSegment| s.session.as_str() == session;
        let (from, to) = segments
            .iter()
            .filter(of_session)
            .find(|s| number.map_or((span_ms(s).0..span_ms(s).1).contains(start), |number| s.number == number))
            .map(span_ms)
            .unwrap_or_else(|| panic!("no segment of {cue}"));
        let (start, end) = (start.max(&from), end.min(&to));
        assert_eq!(cue["text"], lines.join("\n"), "{cue}");
        assert_eq!(cue["language"], "en", "{cue}");
        // A segment of the same session on the player's timeline tells where the session's time 0 is on it. Not the first
        // one: hls.js closes that up with the session before.
        let zero = fragments
            .iter()
            .find_map(|f| {
                let file = f["file"].as_str().unwrap();
                let is_it = |s: &&MediaSegment| s.number > 0 && file == format!("{}-{}.ts", s.session, s.number);
                let segment = segments.iter().find(is_it)?;
                let zero = f["start"].as_f64().unwrap() - segment.start.nanos() as f64 / 1e9;
                (segment.session.as_str() == session).then_some(zero)
            })
            .unwrap_or_else(|| panic!("no fragment of {session} for {cue}"));
        for (key, ms) in [("start", start), ("end", end)] {
            let off = cue[key].as_f64().unwrap() - zero - *ms as f64 / 1e3;
            assert!(off.abs() < 0.05, "{key} is off by {off} s: {cue}");
        }
        // It is on while the player is there.
        let (at, from, to) = (cue["at"].as_f64(), cue["start"].as_f64(), cue["end"].as_f64());
        assert!(at >= from && at < to.map(|t| t + 0.5), "{cue}");
        assert_eq!(cue["n_active"], 1, "{cue}");
    }
    let ids: BTreeSet<&str> = shown.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), shown.len(), "a caption was there twice: {shown:?}");
    shown.len()
}

#[test]
fn hls_js_plays_it_with_captions_in_time_over_a_lost_camera() {
    let first = camera();
    let url = first.url();
    let theatre =
        Theatre::open(&url, Mode::Live, Captions::Expected { language: Some("en".into()) }, HlsConfig::default());
    let browser = Browser::open("hls.cjs", &theatre.url("master.m3u8"));
    browser.wait("captions", |b| (b.of("cue").len() >= 3).then_some(()));
    let playing = browser.at();
    assert!(playing.0 > 0.0 && playing.1 > 0 && playing.2 > 0, "no pictures or no sound: {playing:?}");
    assert!(check_cues(&browser, &theatre) >= 3);

    drop(first);
    let mut options = CameraOptions::new(CLIP);
    options.address = url.trim_start_matches("rtsp://").split('/').next().unwrap().to_owned();
    let _second = wait_for("the port again", || Camera::start(options.clone()).ok());
    let session = wait_for("a second session", || {
        let seen = theatre.listener.seen.lock().unwrap();
        let last = seen.segments.last().unwrap();
        (last.session != seen.segments[0].session).then(|| last.session.to_string())
    });
    wait_for("the discontinuity", || theatre.get("video.m3u8").text().contains("#EXT-X-DISCONTINUITY\n").then_some(()));
    let later = |b: &Browser| b.of("cue").iter().filter(|c| c["id"].as_str().unwrap().contains(&session)).count();
    browser.wait("captions of the second session", |b| (later(b) >= 2).then_some(()));
    check_cues(&browser, &theatre);
    let after = browser.at();
    assert!(after.0 > playing.0 && after.1 > playing.1 && after.2 > playing.2, "{playing:?} {after:?}");
    let end = browser.close();
    assert_eq!((&end["width"], &end["height"]), (&768.into(), &576.into()));
    assert!(end["deviation"].as_f64().unwrap() > 10.0, "the picture is one plain colour: {end}");
}

#[test]
fn a_recording_ends_with_its_playlist() {
    let url = format!("file://{CLIP}");
    let theatre = Theatre::open(&url, Mode::Batch, Captions::None, HlsConfig::default());
    wait_for("the end", || theatre.listener.seen.lock().unwrap().ended.then_some(()));
    let playlist = theatre.get("video.m3u8").text();
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
    assert!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:14\n"), "{playlist}");
    assert_eq!(files(&playlist).len(), 6);
    assert_eq!(theatre.n_segments(), 20);
    let seconds: f64 =
        playlist.lines().filter_map(|l| l.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok()).sum();
    assert!((seconds - 12.0).abs() < 0.11, "{seconds}");
    // To its end, where a player stops: six segments of twenty pictures each.
    let pictures = packets(&theatre.url("master.m3u8")).iter().filter(|p| p.0 == "video").count();
    assert_eq!(pictures, 120);
}

#[test]
fn refusals_tell_why() {
    let theatre = Theatre::open(&format!("file://{CLIP}"), Mode::Batch, Captions::None, HlsConfig::default());
    let playlist = theatre.listed(1);
    let gone = files(&playlist)[0].replace(".ts", "999.ts");
    for (file, status, part) in [
        ("captions.m3u8", 404, "captions"),
        ("other", 404, "no such file"),
        (&gone, 404, "kept for a while"),
        ("x-1.ts", 404, "no such file"),
        ("x.vtt", 404, "no such file"),
    ] {
        let answer = theatre.get(file);
        assert_eq!(answer.status, status, "{file}: {}", answer.text());
        assert!(answer.text().contains(part), "{file}: {}", answer.text());
    }
    assert_eq!(get(theatre.address, "/v1/streams/nobody/hls/master.m3u8").status, 404);
    let name = StreamName::new("vp8").unwrap();
    let info = Arc::new(StreamInfo { name: name.clone(), tags: Default::default(), epoch: None });
    theatre.store.attach(&name, Captions::None);
    let not_yet = get(theatre.address, "/v1/streams/vp8/hls/video.m3u8");
    assert_eq!((not_yet.status, not_yet.header("retry-after")), (503, "1"));
    let video = Some(MediaDescription { codec: "vp8".into(), size: None });
    let source = Some(SourceDescription { video, audio: None });
    let body = Body::Status(Status { state: StreamState::Playing, detail: None, source });
    theatre.store.event(&Event::new(&info, &SessionId::derived([]), 0, Pts::ZERO, None, body));
    let answer = get(theatre.address, "/v1/streams/vp8/hls/master.m3u8");
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("its pictures are vp8") && answer.text().contains("H.264"), "{}", answer.text());
    theatre.store.detach(&name);
    assert_eq!(get(theatre.address, "/v1/streams/vp8/hls/master.m3u8").status, 404);
}

#[test]
fn players_that_hang_or_leave_disturb_nobody() {
    let camera = camera();
    let theatre = Theatre::open(&camera.url(), Mode::Live, Captions::None, HlsConfig::default());
    let file = files(&theatre.listed(1)).remove(0);
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path(&file));
    // Some ask and never read, some leave in the middle, some never finish asking.
    let mut hanging = Vec::new();
    for n in 0..60 {
        let mut socket = TcpStream::connect(theatre.address).unwrap();
        let text = if n % 3 == 0 { &request[..20] } else { &request };
        for _ in 0..(if n % 3 == 1 { 20 } else { 1 }) {
            socket.write_all(text.as_bytes()).unwrap();
        }
        if n % 3 < 2 {
            hanging.push(socket);
        }
    }
    let before = theatre.n_segments();
    wait_for("segments while players hang", || (theatre.n_segments() > before + 2).then_some(()));
    assert_eq!(theatre.get(&file).status, 200);
    let segments = theatre.listener.seen.lock().unwrap().segments.clone();
    assert!(segments.windows(2).all(|p| !p[1].discontinuity), "{segments:?}");
    let usage = theatre.store.usage(&StreamName::new(NAME).unwrap()).unwrap();
    assert_eq!(usage.n_segments, segments.len().min(13));
    drop(hanging);
}

#[test]
fn memory_stays_within_its_bounds_over_a_long_time() {
    let config = HlsConfig { stream_bytes: 4_000_000, ..HlsConfig::default() };
    let store = HlsStore::new(config, SystemClock::new());
    let name = StreamName::new(NAME).unwrap();
    store.attach(&name, EXPECTED);
    let info = Arc::new(StreamInfo { name: name.clone(), tags: Default::default(), epoch: None });
    let listener =
        Listener { info, store: Arc::clone(&store), cues: None, seen: Mutex::default(), ledger: Ledger::default() };
    // A day of segments, with a lost camera every hour, and captions that nobody settles.
    for n in 0..43_200u64 {
        let (hour, number) = (n / 1800, n % 1800);
        let session = SessionId::derived([hour.to_be_bytes().as_slice()]);
        let start = Pts::from_millis(2000 * number);
        let cue = (start.millis(), start.millis() + 1900, vec!["words".to_owned()]);
        listener.caption(&session, number as usize, &cue, false);
        store.segment(
            &name,
            MediaSegment {
                session,
                number,
                start,
                duration: Duration::from_secs(2),
                captured: None,
                mpegts: 0,
                bytes: vec![0; 100_000].into(),
                discontinuity: false,
                codecs: "avc1.64001f".into(),
                size: None,
            },
        );
        let usage = store.usage(&name).unwrap();
        assert!(usage.n_bytes <= 4_000_000 && usage.n_cues <= 1000, "{n}: {usage:?}");
    }
    store.detach(&name);
    assert_eq!(store.usage(&name), None);
}
