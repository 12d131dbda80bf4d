//! The commands that talk to a service, through the real binary, with a keeper of the tests behind the desk.

use std::{net::TcpListener, sync::Arc};

use eyewitness::control::{attachment::Origin, desk::WorkerListed, report::Announcement};
use serde_json::Value;

use super::{
    desk::{PICTURE, Pretender, control, listed},
    served::{Served, TOKEN, caption},
};
use crate::harness::{Done, Process, Scene};

fn run(scene: &Scene, served: &Served, args: &[&str]) -> Done {
    let mut command = scene.command(args);
    command.env("EYEWITNESS_SERVICE", served.url("http", "")).env_remove("EYEWITNESS_TOKEN");
    Done::from(command.output().unwrap())
}

#[test]
fn streams_are_attached_listed_and_detached() {
    let served = Served::controlled("{}", control(None));
    let scene = Scene::new();
    let attach = ["attach", "rtsp://192.0.2.10/1", "--name", "yard", "--tag", "Location=Front", "--tag", "a=b=c"];
    let done = run(&scene, &served, &attach).expect(0);
    assert_eq!(done.stdout, "yard: attached (revision 1, profile people)\n");
    let done = run(&scene, &served, &[&attach[..], &["--weight", "2.5", "--credentials", "yard"]].concat()).expect(0);
    assert_eq!(done.stdout, "yard: is attached as this (revision 2, profile people)\n");
    let listed = run(&scene, &served, &["streams", "--name", "y*", "--tag", "a=b=c", "--json"]).expect(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (listed[0]["weight"].as_f64(), listed[0]["credentials"].as_str()),
        (Some(2.5), Some("yard")),
        "{listed}"
    );
    let table = run(&scene, &served, &["streams"]).expect(0).stdout;
    for part in ["yard", "waiting", "people", "Location=Front", "rtsp://192.0.2.10/1", "hall"] {
        assert!(table.contains(part), "`{part}` is missing in:\n{table}");
    }
    let nothing = run(&scene, &served, &["streams", "--tag", "Location=Back"]).expect(0).stdout;
    assert_eq!(nothing, "no stream fits\n");
    assert_eq!(run(&scene, &served, &["detach", "yard"]).expect(0).stdout, "yard: detached\n");
    run(&scene, &served, &["detach", "yard"]).expect(1).complains(&["stream `yard` is not attached"]);
    // The service judges the weight; this one takes any.
    run(&scene, &served, &["attach", "rtsp://h/", "--name", "light", "--weight", "-1"]).expect(0);
    assert_eq!(served.board.stream("light").unwrap().attachment.weight, -1.0);
    // A file is named as the shell sees it.
    scene.file("clip.mp4", "");
    run(&scene, &served, &["attach", "clip.mp4", "--name", "clip"]).expect(0);
    let url = served.board.stream("clip").unwrap().attachment.url;
    assert!(url.starts_with("file:///") && url.ends_with("/clip.mp4"), "{url}");
}

#[test]
fn what_goes_wrong_is_told_plainly() {
    let served = Served::controlled("{}", control(None));
    served.board.show("gate", listed("rtsp://192.0.2.1/", Origin::Config, "w-1"));
    let scene = Scene::new();
    let wrong = ["attach", "rtsp://u:hunter2@h/", "--name", "a", "--profile", "peple"];
    let done = run(&scene, &served, &wrong).expect(2);
    assert_eq!(
        done.stderr,
        "error: the service refuses: stream `a` cannot be attached like this:\n  `url` holds a password: put it into a secret\n  \
         no profile is called `peple`; did you mean `people`?\n"
    );
    run(&scene, &served, &["detach", "gate"]).expect(2).complains(&["configuration file"]);
    run(&scene, &served, &["attach", "rtsp://h/", "--name", "a b"]).expect(2).complains(&["`a b` is no stream name"]);
    run(&scene, &served, &["detach", "a b"]).expect(2).complains(&["`a b` is no stream name"]);
    let twice = ["attach", "rtsp://h/", "--name", "a", "--tag", "x=1", "--tag", "x=2"];
    run(&scene, &served, &twice).expect(2).complains(&["tag `x` is given twice"]);
    assert!(served.board.stream("a").is_none());
    run(&scene, &served, &["attach", "rtsp://h/", "--name", "later"]).expect(1).complains(&["broker down"]);
    run(&scene, &served, &["streams", "--state", "plaing"]).expect(2).complains(&["did you mean `playing`"]);
    run(&scene, &served, &["tail", "--stream", "hal"]).expect(1).complains(&["did you mean `hall`"]);
    run(&scene, &served, &["tail", "--type", "detections"]).expect(2).complains(&["Kafka"]);
    run(&scene, &served, &["attach", "rtsp://h/", "--name", "a", "--tag", "x"]).expect(2).complains(&["key=value"]);

    // A port that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in [&["streams"][..], &["top", "--once"], &["tail"], &["detach", "a"], &["probe", "rtsp://h/"]] {
        let mut command = scene.command(command);
        let done = Done::from(command.args(["--service", &format!("http://{free}")]).output().unwrap()).expect(1);
        done.complains(&["no service answers", &free.to_string(), "eyewitness run", "--service"]);
    }
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let served = Served::controlled(&format!(r#"{{"token":"{TOKEN}"}}"#), control(None));
    let scene = Scene::new();
    run(&scene, &served, &["streams"]).expect(1).complains(&["a token is needed", "--token-file", "EYEWITNESS_TOKEN"]);
    scene.file("token", format!("{TOKEN}\n"));
    run(&scene, &served, &["streams", "--token-file", "token"]).expect(0);
    scene.file("token", "wrong-wrong-wrong");
    let done = run(&scene, &served, &["streams", "--token-file", "token"]).expect(1).complains(&["token is wrong"]);
    assert!(!done.stderr.contains("wrong-wrong"), "{}", done.stderr);
    run(&scene, &served, &["streams", "--token-file", "nowhere"]).expect(1).complains(&["nowhere"]);
    let mut command = scene.command(&["top", "--once", "--service", &served.url("http", "/")]);
    Done::from(command.env("EYEWITNESS_TOKEN", TOKEN).output().unwrap()).expect(0);
}

#[test]
fn a_url_is_tried_through_the_service() {
    let served = Served::controlled("{}", control(Some(Arc::new(Pretender::default()))));
    let scene = Scene::new();
    let done = run(&scene, &served, &["probe", "rtsp://192.0.2.10/1", "--snapshot", "yard.jpg"]).expect(0);
    let said = [
        "source   rtsp",
        "video    h264 (high), 768x576, 9.98 fps, 800 kbit/s",
        "audio    aac, 48000 Hz, 2 channels",
        "after    312 ms",
        "yard.jpg",
    ];
    for part in said {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    assert_eq!(std::fs::read(scene.path("yard.jpg")).unwrap(), PICTURE);
    // Nothing is wrong with what was asked: the source cannot be played.
    let done = run(&scene, &served, &["probe", "rtsp://u:hunter2@dead/"]).expect(1);
    assert!(done.stderr.starts_with("error: rtsp://"), "{}", done.stderr);
    let done = done.complains(&["connection refused"]);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    let done = run(&scene, &served, &["probe", "nonsense://x", "--local"]).expect(1);
    done.complains(&["error: `nonsense://x` has a scheme"]);
}

#[test]
fn top_draws_streams_and_workers_once() {
    let served = Served::controlled("{}", control(None));
    served.board.show("far", listed("rtsp://192.0.2.2/", Origin::Api, "w-2"));
    let drawn = run(&Scene::new(), &served, &["top", "--once"]).expect(0).stdout;
    for part in [
        "3 streams: 2 connecting, 1 playing; 4.9 fps; decoded 100, analysed 50, dropped 50; 1 gap",
        "sampling 48, superseded 2",
        "http://worker-2.lan:8642",
        "0.1 s",
    ] {
        assert!(drawn.contains(part), "`{part}` is missing in:\n{drawn}");
    }
    assert!(!drawn.contains('\u{1b}'), "no escape sequences where nobody asked for them:\n{drawn}");
}

#[test]
fn what_is_told_of_a_stream_that_plays_is_shown() {
    let served = Served::controlled("{}", control(None));
    let mut told = listed("rtsp://192.0.2.2/", Origin::Api, "w-2");
    told.report.as_mut().unwrap().detail = Some("without its sound".into());
    served.board.show("far", told);
    let table = run(&Scene::new(), &served, &["streams"]).expect(0).stdout;
    assert!(table.contains("playing: without its sound"), "{table}");
}

#[test]
fn feeds_of_other_workers_are_followed_there() {
    let (served, other) = (Served::controlled("{}", control(None)), Served::controlled("{}", control(None)));
    other.feed.attach(super::served::stream("far"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Workers tell host and port alone.
    for (worker, address) in [("w-3", other.addr), ("w-4", free)] {
        let announcement = Announcement {
            capacity: 8.0,
            leases: Vec::new(),
            n_streams: 1,
            draining: false,
            address: Some(address.to_string()),
            version: "0.1.0".into(),
        };
        served.board.worker(worker, Some(WorkerListed { announcement, at_ms: 0, is_this: false }));
    }
    for (name, worker) in [("far", "w-3"), ("dead", "w-4"), ("lost", "w-9")] {
        served.board.show(name, listed("rtsp://192.0.2.2/", Origin::Api, worker));
    }
    let scene = Scene::new();
    let mut command = scene.command(&["tail"]);
    command.env("EYEWITNESS_SERVICE", served.url("http", ""));
    let followed = Process::start(command);
    other.wait_for_readers(1);
    other.publish(caption("far", 0, 0, true, "far words"));
    followed.line("          far");
    let dead = followed.line("dead: ");
    assert!(dead.contains("cannot be followed") && dead.contains(&format!("at http://{free}")), "{dead}");
    let lost = followed.line("lost: ");
    assert!(lost.contains("cannot be followed") && lost.contains("`w-9`"), "{lost}");
    let n_told = followed.output().lines().filter(|line| line.contains("cannot be followed")).count();
    assert_eq!(n_told, 2, "{}", followed.output());
}

#[test]
fn feeds_are_followed() {
    let served = Served::controlled("{}", control(None));
    let scene = Scene::new();
    let tail = |args: &[&str]| {
        let mut command = scene.command(&[&["tail"], args].concat());
        command.env("EYEWITNESS_SERVICE", served.url("http", ""));
        Process::start(command)
    };
    let readable = tail(&[]);
    let whole = tail(&["--stream", "cam", "--type", "captions", "--json"]);
    served.wait_for_readers(3);
    served.publish(caption("cam", 0, 0, false, "the first"));
    served.publish(caption("cam", 0, 1, true, "the first words"));
    served.publish(caption("hall", 0, 0, true, "other words"));
    let line = readable.line("          cam");
    assert_eq!(line.trim(), "cam  the first words");
    readable.line("          hall");
    whole.line("{");
    crate::harness::wait_for("both revisions", || (whole.output().lines().count() == 2).then_some(()));
    assert!(!readable.output().contains("the first\n"), "{}", readable.output());
    for line in whole.output().lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["stream"], "cam");
    }
    // A stream that comes later is followed as well.
    served.feed.attach(super::served::stream("late"));
    served.wait_for_readers(4);
    served.publish(caption("late", 0, 0, true, "late words"));
    readable.line("          late");
}
