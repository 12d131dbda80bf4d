//! Rules on real media: lines against people whose ways are known, phrases against real speech, the same alerts from a
//! recording and from its events, an alert that outlives a kill, and mistakes in rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
};

use serde_json::Value;

use crate::harness::{CLIP, CameraProcess, Done, Scene, assert_valid, of_type, wait_for, whole_machine};

/// Who crosses which upright line of the bundled clip, to the right or to the left, in which of its 400 frames; the first is
/// number one. From the ground truth of PETS09-S2L1 (see media/README.md): the middle of a box's lower edge passes from more than a
/// hundredth of the picture on one side to more than that on the other.
const CROSSINGS: [(&str, &[(u64, char)]); 3] = [
    (
        "0.4",
        &[
            (8, 'R'),
            (72, 'L'),
            (93, 'R'),
            (170, 'L'),
            (191, 'L'),
            (233, 'L'),
            (271, 'L'),
            (293, 'L'),
            (301, 'R'),
            (308, 'L'),
            (321, 'R'),
            (333, 'R'),
            (339, 'R'),
            (379, 'L'),
        ],
    ),
    (
        "0.5",
        &[
            (28, 'R'),
            (61, 'L'),
            (105, 'R'),
            (160, 'L'),
            (181, 'L'),
            (221, 'L'),
            (256, 'L'),
            (280, 'L'),
            (291, 'L'),
            (314, 'R'),
            (335, 'R'),
            (348, 'R'),
            (352, 'R'),
            (363, 'L'),
        ],
    ),
    (
        "0.6",
        &[
            (17, 'L'),
            (22, 'L'),
            (115, 'R'),
            (151, 'L'),
            (158, 'R'),
            (170, 'R'),
            (170, 'L'),
            (209, 'L'),
            (242, 'L'),
            (268, 'L'),
            (276, 'L'),
            (327, 'R'),
            (348, 'L'),
            (348, 'R'),
            (364, 'R'),
            (364, 'R'),
        ],
    ),
];

fn opened<'a>(records: &'a [Value], rule: &str) -> Vec<&'a Value> {
    of_type(records, "alert").into_iter().filter(|r| r["rule"] == rule && r["state"] == "opened").collect()
}

/// Every alert is opened once, first, and closed once, last; revisions count.
#[track_caller]
fn assert_lives(records: &[Value]) {
    let alerts = of_type(records, "alert");
    let ids: BTreeSet<&str> = alerts.iter().map(|r| r["alert"].as_str().unwrap()).collect();
    for id in ids {
        let life: Vec<&&Value> = alerts.iter().filter(|r| r["alert"] == id).collect();
        let states: Vec<&str> = life.iter().map(|r| r["state"].as_str().unwrap()).collect();
        assert_eq!((states[0], states[states.len() - 1]), ("opened", "closed"), "{id}: {states:?}");
        assert!(states[1..states.len() - 1].iter().all(|state| *state == "updated"), "{id}: {states:?}");
        for (revision, record) in life.iter().enumerate() {
            assert_eq!(record["revision"], revision, "{id}");
            assert_eq!(record["id"], format!("{id}-{revision}"));
        }
    }
}

#[test]
fn lines_are_crossed_by_those_who_cross_them() {
    let _machine = whole_machine();
    let scene = Scene::new();
    let mut rules = String::new();
    for (x, _) in CROSSINGS {
        for (name, direction) in [("L", "to_left"), ("R", "to_right")] {
            let name = format!("{name}{}", x.replace('.', "-"));
            rules += &format!(
                "[rules.{name}]\nclose_after_secs = 1\nwhen = {{ type = \"crosses\", line = [[{x}, 1.0], [{x}, 0.0]], \
                 direction = \"{direction}\", objects = {{ classes = [\"person\"] }} }}\n"
            );
        }
    }
    scene.file("rules.toml", rules);
    scene.run(&["replay", CLIP, "--rules", "rules.toml", "--out", "a.jsonl"]).expect(0);
    let records = scene.records("a.jsonl");
    assert_valid(&records);
    assert_lives(&records);
    let (mut n_true, mut n_found, mut n_known) = (0, 0, 0);
    for (x, crossings) in CROSSINGS {
        for way in ['L', 'R'] {
            let rule = format!("{way}{}", x.replace('.', "-"));
            let mut left: Vec<u64> = crossings.iter().filter(|(_, to)| *to == way).map(|(frame, _)| *frame).collect();
            n_known += left.len();
            for alert in opened(&records, &rule) {
                n_found += 1;
                // Ten frames a second.
                let frame = alert["since_ms"].as_u64().unwrap() / 100 + 1;
                let nearest = (0..left.len()).min_by_key(|at| left[*at].abs_diff(frame));
                if let Some(at) = nearest.filter(|at| left[*at].abs_diff(frame) <= 10) {
                    left.swap_remove(at);
                    n_true += 1;
                }
            }
        }
    }
    // The default detector loses some people behind the lamp post, and no rule can find them again: 37 of 44.
    assert_eq!(n_known, 44);
    assert!(n_true >= 36 && n_found - n_true <= 1, "{n_true} of {n_known} found, {n_found} told");
}

/// What is said in the clip, and what sounds like it. The clip's words are in media/demo_speech.json.
const PHRASES: &str = r#"
[rules.said]
when = { type = "said", phrases = ["ask not what your country"] }
[rules.said-nearly]
when = { type = "said", phrases = ["ask what you can do for your county"], matching = "fuzzy" }
[rules.term]
when = { type = "said", terms = { people = ["fellow Americans", "mr john dashwood"] } }
[rules.negated-is-left]
when = { type = "said", phrases = ["what your country"], negated = "left" }
[rules.d1]
when = { type = "said", phrases = ["task", "now", "knot", "county", "mellow", "fella", "American", "dash", "would"] }
[rules.d2]
when = { type = "said", phrases = ["ask now", "your county", "yellow Americans", "ask what your county"] }
[rules.d3]
when = { type = "said", phrases = ["you can too", "lesser", "mulch"], matching = "fuzzy" }
"#;

#[test]
fn phrases_are_heard_and_what_sounds_like_them_is_not() {
    let _machine = whole_machine();
    let scene = Scene::new();
    scene.file("rules.toml", PHRASES);
    let listen = ["--transcribe", "whisper-tiny.en"];
    scene.run(&[&["replay", CLIP, "--rules", "rules.toml", "--out", "a.jsonl"], &listen[..]].concat()).expect(0);
    let records = scene.records("a.jsonl");
    assert_valid(&records);
    assert_lives(&records);
    let n = |rule: &str| opened(&records, rule).len();
    assert_eq!((n("said"), n("said-nearly"), n("term"), n("negated-is-left")), (1, 1, 2, 0));
    assert_eq!((n("d1"), n("d2"), n("d3")), (0, 0, 0));
    let words = opened(&records, "said")[0]["evidence"]["words"].as_array().unwrap();
    assert_eq!(words.len(), 5, "{words:?}");
}

#[test]
fn a_recording_and_its_events_give_the_same_alerts_every_time() {
    let _machine = whole_machine();
    let scene = Scene::new();
    let rules = r#"
[rules.crosses]
when = { type = "crosses", line = [[0.5, 1.0], [0.5, 0.0]] }
[rules.said]
when = { type = "said", phrases = ["country", "fellow Americans"] }
[rules.together]
when = { type = "all", within_secs = 4, of = [{ type = "said", phrases = ["country"] }, { type = "in_zone", zone = [[0, 0], [1, 0], [1, 1], [0, 1]] }] }
[rules.quiet]
when = { type = "speech", present = false, for_secs = 1 }
[rules.many]
when = { type = "count", over = 4, for_secs = 1 }
"#;
    scene.file("rules.toml", rules);
    let replay =
        ["replay", CLIP, "--detect", "ssdlite-mbv2", "--transcribe", "whisper-tiny.en", "--rules", "rules.toml"];
    for out in ["a.jsonl", "b.jsonl"] {
        scene.run(&[&replay[..], &["--out", out]].concat()).expect(0);
    }
    let bytes = std::fs::read(scene.path("a.jsonl")).unwrap();
    assert!(bytes == std::fs::read(scene.path("b.jsonl")).unwrap(), "two replays differ");
    let records = scene.records("a.jsonl");
    assert_lives(&records);
    let told: Vec<&Value> = of_type(&records, "alert");
    let rules_told: BTreeSet<&str> = told.iter().map(|r| r["rule"].as_str().unwrap()).collect();
    assert_eq!(rules_told, BTreeSet::from(["crosses", "many", "quiet", "said", "together"]));
    let tried = scene.run(&["rules", "test", "rules.toml", "--events", "a.jsonl", "--json"]).expect(0);
    let tried: Vec<Value> = tried.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(tried.len(), told.len());
    for (tried, told) in tried.iter().zip(&told) {
        assert_eq!(tried, *told);
    }
}

#[test]
fn near_misses_say_why() {
    let _machine = whole_machine();
    let scene = Scene::new();
    let rules = r#"
[rules.wrong-way]
when = { type = "crosses", line = [[0.5, 1.0], [0.5, 0.0]], direction = "to_left" }
[rules.too-short]
when = { type = "in_zone", zone = [[0.45, 0], [0.55, 0], [0.55, 1], [0.45, 1]], for_secs = 20 }
[rules.elsewhere]
only_if = 'tags.site == "north"'
when = { type = "appeared" }
"#;
    scene.file("rules.toml", rules);
    let Done { stdout, stderr, .. } = scene.run(&["rules", "test", "rules.toml", "--media", CLIP]).expect(0);
    for part in [
        "near     wrong-way: crossed to the right",
        "near     too-short: in the zone for",
        "near     elsewhere: `only_if`",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(stderr.contains("too-short") && stderr.contains("0 alerts"), "{stderr}");
}

/// Every line of a trial that tells of an alert that opens, or of a near miss, names a picture; gives the pictures.
#[track_caller]
fn illustrated(stdout: &str) -> Vec<PathBuf> {
    let is_to_have_one = |line: &&str| [" opened ", " near "].iter().any(|word| line.contains(word));
    let picture = |line: &str| {
        let path = line.rsplit("  ").next().unwrap();
        assert!(path.ends_with(".jpg"), "no picture: {line}");
        PathBuf::from(path)
    };
    stdout.lines().filter(is_to_have_one).map(picture).collect()
}

/// Width and height of a JPEG, from its frame header (ITU-T T.81, B.2.2).
fn jpeg_size(bytes: &[u8]) -> (u16, u16) {
    assert_eq!(bytes[..2], [0xff, 0xd8], "a JPEG");
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let mut at = 2;
    while !matches!(bytes[at + 1], 0xc0..=0xc2) {
        at += 2 + usize::from(word(at + 2));
    }
    (word(at + 7), word(at + 5))
}

#[test]
fn alerts_and_near_misses_have_pictures() {
    let _machine = whole_machine();
    let scene = Scene::new();
    let rules = r#"
[rules.wrong-way]
when = { type = "crosses", line = [[0.5, 1.0], [0.5, 0.0]], direction = "to_left" }
[rules.in-the-middle]
when = { type = "in_zone", zone = [[0.45, 0], [0.55, 0], [0.55, 1], [0.45, 1]], for_secs = 3 }
"#;
    scene.file("rules.toml", rules);
    let test = |args: &[&str]| scene.run(&[&["rules", "test", "rules.toml"], args].concat());
    let done = test(&["--media", CLIP, "--pictures", "near"]).expect(0);
    let pictures = illustrated(&done.stdout);
    for kind in ["wrong-way_alert", "wrong-way_near", "in-the-middle_near"] {
        assert!(pictures.iter().any(|path| path.display().to_string().contains(kind)), "{kind}: {}", done.stdout);
    }
    let files = |folder: &str| -> BTreeMap<OsString, Vec<u8>> {
        let entries = std::fs::read_dir(scene.path(folder)).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    };
    let written = files("near");
    assert_eq!(written.len(), pictures.len());
    assert!(pictures.iter().all(|path| scene.path("").join(path).is_file()));
    // Their names are in the order of what they show.
    let time = |path: &PathBuf| path.file_name().unwrap().to_string_lossy()[..12].to_owned();
    assert!(pictures.iter().map(time).is_sorted(), "{pictures:?}");
    for bytes in written.values() {
        assert_eq!(jpeg_size(bytes), (768, 576));
    }
    // From recorded events the same, as long as somebody has the pictures.
    scene.run(&["replay", CLIP, "--out", "a.jsonl"]).expect(0);
    let again = test(&["--events", "a.jsonl", "--media", CLIP, "--pictures", "again"]).expect(0);
    assert_eq!(again.stdout.replace("again/", "near/"), done.stdout);
    assert!(files("again") == written, "other pictures");
    test(&["--events", "a.jsonl", "--pictures", "none"]).expect(2).complains(&["--media"]);
    test(&["--events", "a.jsonl", "--media", CLIP]).expect(1).complains(&["--pictures"]);
    test(&["--events", "a.jsonl", "--media", "no-such.mp4", "--pictures", "none"])
        .expect(1)
        .complains(&["no-such.mp4"]);
}

#[test]
fn rules_come_and_go_while_the_stream_goes_on() {
    let _machine = whole_machine();
    let scene = Scene::new();
    // There is never anybody in the test picture.
    let empty =
        |name: &str| format!("[rules.{name}]\nclose_after_secs = 86400\nwhen = {{ type = \"count\", under = 1 }}\n");
    let config = "[http]\nlisten = \"127.0.0.1:0\"\n[attachments]\nstore = \"store\"\n[evidence]\npath = \"alerts\"\n\
                  [streams.yard]\nurl = \"test://\"\n[profiles.default]\nsampling = { fps = 5 }\n";
    let process = scene.service(config);
    scene.wait_for_records("detections", |r| !of_type(r, "detections").is_empty());
    let reload = |rules: &str| {
        let sink = "[sinks.file]\ntype = \"file\"\npath = \"events.jsonl\"\n";
        scene.file("eyewitness.toml", format!("{config}{rules}{sink}"));
        process.signal("HUP");
    };
    let told = |what: &str, rule: &str, state: &str| -> Value {
        let is_it = |r: &&Value| r["rule"] == rule && r["state"] == state;
        let records = scene.wait_for_records(what, |r| of_type(r, "alert").iter().any(is_it));
        of_type(&records, "alert").into_iter().find(is_it).unwrap().clone()
    };
    // The first rule that there ever is: its alert has its evidence.
    reload(&empty("a"));
    let opened = told("an alert of the first rule", "a", "opened");
    assert!(opened["evidence"]["snapshot"].is_string(), "{opened}");
    let folder = scene.path("alerts").join(opened["alert"].as_str().unwrap());
    wait_for("its picture", || folder.join("snapshot.jpg").is_file().then_some(()));
    // Another one beside it, and then that alone.
    reload(&(empty("a") + &empty("b")));
    told("an alert of the second rule", "b", "opened");
    reload(&empty("b"));
    let closed = told("the end of the first", "a", "closed");
    assert_eq!((&closed["alert"], &closed["closed_because"]), (&opened["alert"], &"its rule was taken away".into()));
    reload("");
    told("the end of the second", "b", "closed");
    // Nobody has interrupted the stream for that.
    let records = scene.records("events.jsonl");
    let sessions: BTreeSet<&str> = records.iter().map(|r| r["session"].as_str().unwrap()).collect();
    let states: Vec<&Value> = of_type(&records, "status").iter().map(|r| &r["state"]).collect();
    assert_eq!((sessions.len(), states), (1, vec![&Value::from("playing")]));
    assert_eq!(of_type(&records, "alert").iter().filter(|r| r["state"] == "opened").count(), 2);
    // A rule whose end nobody could tell: the next run does.
    reload(&empty("c"));
    let opened = told("an alert", "c", "opened");
    wait_for("its record", || {
        folder.with_file_name(opened["alert"].as_str().unwrap()).join("alert.json").is_file().then_some(())
    });
    process.signal("KILL");
    drop(process);
    let _service = scene.service(config);
    let closed = told("its end", "c", "closed");
    assert_eq!((&closed["alert"], &closed["closed_because"]), (&opened["alert"], &"its rule was taken away".into()));
    assert_valid(&scene.records("events.jsonl"));
}

#[test]
fn an_alert_outlives_a_kill_and_keeps_its_evidence() {
    let _machine = whole_machine();
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    // There is always somebody in the clip.
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[streams.yard]\nurl = \"{}\"\n[profiles.default]\nsampling = {{ fps = 5 }}\n\
         [evidence]\npath = \"alerts\"\npre_roll_secs = 1\npost_roll_secs = 1\n\
         [rules.somebody]\nper = \"stream\"\nupdate_every_secs = 1\nwhen = {{ type = \"appeared\" }}\n\
         [rules.crossing]\nclose_after_secs = 1\nwhen = {{ type = \"crosses\", line = [[0.5, 1.0], [0.5, 0.0]] }}\n",
        camera.url(None)
    );
    let of = |records: &[Value]| -> Vec<Value> {
        of_type(records, "alert").into_iter().filter(|r| r["rule"] == "somebody").cloned().collect()
    };
    let process = scene.service(&config);
    let before = scene.wait_for_records("an update", |r| of(r).len() >= 2);
    let first = of(&before)[0].clone();
    process.signal("KILL");
    drop(process);
    let _service = scene.service(&config);
    let n_sessions = |records: &[Value]| -> usize {
        of(records).iter().map(|r| r["session"].to_string()).collect::<BTreeSet<_>>().len()
    };
    let after = scene.wait_for_records("an update after the kill", |r| n_sessions(r) == 2);
    let alerts = of(&after);
    assert!(alerts.iter().all(|r| r["alert"] == first["alert"] && r["since"] == first["since"]), "{alerts:#?}");
    assert_eq!(alerts.iter().filter(|r| r["state"] == "opened").count(), 1);
    // One that is over has its record, its picture and its clip.
    let crossing = scene.wait_for_records("a crossing that is over", |r| {
        of_type(r, "alert")
            .iter()
            .any(|r| r["rule"] == "crossing" && r["state"] == "closed" && r["evidence"]["clip"].is_string())
    });
    let is_over = |r: &&&Value| r["rule"] == "crossing" && r["state"] == "closed";
    let crossings: Vec<&Value> = of_type(&crossing, "alert");
    let id = crossings.iter().rfind(is_over).unwrap()["alert"].as_str().unwrap();
    let folder = scene.path("alerts").join(id);
    let clip = wait_for("its clip", || Some(folder.join("clip.mp4")).filter(|clip| clip.is_file()));
    let picture = std::fs::read(folder.join("snapshot.jpg")).unwrap();
    assert_eq!(picture[..2], [0xff, 0xd8], "a JPEG");
    let probed = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=flags:stream=codec_name", "-of", "json"])
        .arg(&clip)
        .output()
        .unwrap();
    let probed: Value = serde_json::from_slice(&probed.stdout).unwrap();
    assert_eq!(probed["streams"][0]["codec_name"], "h264");
    assert!(probed["packets"][0]["flags"].as_str().unwrap().starts_with('K'), "it begins with a keyframe");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let check = |rules: &str, parts: &[&str]| {
        let scene = Scene::new();
        scene.file("rules.toml", rules);
        scene.run(&["rules", "test", "rules.toml", "--events", "none.jsonl"]).expect(2).complains(parts);
        let config = format!("[streams.a]\nurl = \"test://\"\n{rules}");
        scene.file("eyewitness.toml", config);
        scene.run(&["validate", "eyewitness.toml"]).expect(2).complains(&parts[1..]);
    };
    let zone = "[rules.a]\nwhen = { type = \"in_zone\", zone = [[0, 0], [640, 0], [640, 480]] }\n";
    check(zone, &["rules.toml:2", "`when.zone`", "640", "0 to 1"]);
    check(
        "[rules.a]\nwhen = { type = \"said\", phrases = [] }\n",
        &["rules.toml:2", "rule `a`", "nothing could be said"],
    );
    check("[rules.a]\nseverity = \"high\"\nwhen = { type = \"appeared\" }\n", &["rules.toml:2", "critical"]);
    check("[rules.a]\ncooldown = 3\nwhen = { type = \"appeared\" }\n", &["rules.toml:2", "cooldown_secs"]);
    check(
        "[rules.a]\nonly_if = \"tag.site == 1\"\nwhen = { type = \"appeared\" }\n",
        &["rules.toml:2", "`only_if`", "tag"],
    );
    check(
        "[rules.a]\nschedule = { time_zone = \"Mars\", times = [\"mon 08:00-18:00\"] }\nwhen = { type = \"appeared\" }\n",
        &["rules.toml:2", "no time zone"],
    );
    // What the stream's profile does not see or hear.
    let unfit = |rule: &str, parts: &[&str]| {
        let scene = Scene::new();
        scene.file("eyewitness.toml", format!("[streams.a]\nurl = \"test://\"\n[rules.a]\n{rule}\n"));
        scene.run(&["validate", "eyewitness.toml"]).expect(2).complains(parts);
        scene.run(&["run"]).expect(2).complains(parts);
    };
    unfit(
        "when = { type = \"appeared\", objects = { classes = [\"persn\"] } }",
        &["eyewitness.toml:4", "`when.objects.classes`", "`persn`", "did you mean `person`?"],
    );
    unfit(
        "when = { type = \"said\", phrases = [\"help\"] }",
        &["eyewitness.toml:4", "rule `a`", "profile `default`", "set `transcribe`"],
    );
    let scene = Scene::new();
    scene.file("rules.toml", "[rules.a]\nwhen = { type = \"appeared\" }\n");
    scene.file("bad.jsonl", "{\"type\":\"detections\"\n");
    let test = |events: &str| scene.run(&["rules", "test", "rules.toml", "--events", events]).expect(1);
    test("none.jsonl").complains(&["none.jsonl"]);
    test("bad.jsonl").complains(&["bad.jsonl", "line 1"]);
}
