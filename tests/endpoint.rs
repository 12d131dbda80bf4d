//! Model servers as programs of their own: one on AWS's package for SageMaker containers, one on KServe's. Both find the
//! ball of the test pattern, a shaded disc on black of which 37 pixels are bright, so that boxes can be checked.

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::harness::{Process, Scene, assert_valid, cache, free_port, of_type, tool, wait_for};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

fn python() -> String {
    cache().join("model-venv/bin/python").to_str().unwrap().to_owned()
}

/// A server on AWS's package, and its URL.
fn sagemaker(scene: &Scene, args: &[&str]) -> (Process, String) {
    let args: Vec<String> =
        [format!("{CLIENTS}/sagemaker_server.py")].into_iter().chain(args.iter().map(ToString::to_string)).collect();
    let server = tool(&python(), &args, &scene.path("."));
    let url = server.line("endpoint http").replace("endpoint ", "");
    (server, url)
}

/// What the server says of each request.
fn requests(server: &Process) -> Vec<Value> {
    server.output().lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

/// The test pattern, to a profile `p` with this endpoint.
fn ball(query: &str, endpoint: &str) -> String {
    format!(
        "[streams.ball]\nurl = \"test://?width=640&height=480&pattern=ball&{query}\"\nprofile = \"p\"\n\
         [profiles.p]\nsampling = \"all\"\nmin_score = 0.5\n[profiles.p.endpoint]\n{endpoint}\n"
    )
}

fn has_ended(records: &[Value]) -> bool {
    of_type(records, "status").iter().any(|status| status["state"] == "ended")
}

/// Decoded, inferred and the text of the drops, as the summary tells of a stream.
fn account(output: &str, stream: &str) -> (u64, u64, String) {
    let row = output.lines().find(|line| line.contains(&format!(" {stream} ")) && line.contains(" ms")).unwrap_or_else(
        || {
            let without_latency = output.lines().rfind(|line| line.contains(&format!(" {stream} ")));
            without_latency.unwrap_or_else(|| panic!("no {stream} in {output}"))
        },
    );
    let words: Vec<&str> = row.split_whitespace().collect();
    let state =
        words.iter().position(|w| ["ended", "stopped", "failed"].contains(w)).unwrap_or_else(|| panic!("{row}"));
    (words[state + 1].parse().unwrap(), words[state + 2].parse().unwrap(), words[state + 3..].join(" "))
}

/// As [`run_through`], where the server is well. A live picture may be given up for newer ones when the machine stands still
/// for half a second: a quarter at most.
fn run(scene: &Scene, config: &str, n_frames: u64) -> Vec<Value> {
    let (records, output) = run_through(scene, config, n_frames);
    assert!(4 * n_seen(&records) as u64 >= 3 * n_frames, "{output}");
    records
}

/// Runs until the pattern of so many frames has ended; gives the records and the output.
fn run_through(scene: &Scene, config: &str, n_frames: u64) -> (Vec<Value>, String) {
    let service = scene.service(config);
    scene.wait_for_records("the end of the pattern", has_ended);
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    let records = scene.records("events.jsonl");
    assert_valid(&records);
    let (n_decoded, n_inferred, drops) = account(&output, "ball");
    assert_eq!((n_decoded, n_inferred), (n_frames, n_seen(&records) as u64), "{output}");
    assert_eq!(n_inferred < n_frames, drops.starts_with(char::is_alphabetic), "{output}");
    (records, output)
}

/// How many frames have results.
fn n_seen(records: &[Value]) -> usize {
    of_type(records, "detections").len()
}

/// Each box is around the ball: as wide as it is, within the picture, moving.
#[track_caller]
fn assert_boxes(records: &[Value], tolerance: f64) {
    let frames = of_type(records, "detections");
    let mut places = Vec::new();
    for frame in &frames {
        let objects = frame["objects"].as_array().unwrap();
        assert_eq!(objects.len(), 1, "the weak one and the suppressed one are not told: {frame}");
        assert_eq!((&objects[0]["class"], &objects[0]["score"]), (&"ball".into(), &0.93.into()), "{frame}");
        let sides: Vec<f64> = objects[0]["box"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
        for side in &sides[2..] {
            assert!((side - 37.0).abs() <= tolerance, "{sides:?} in {frame}");
        }
        assert!(sides[0] >= 0.0 && sides[0] + sides[2] <= 640.0 && sides[1] + sides[3] <= 480.0, "{sides:?}");
        places.push((sides[0] * 10.0) as i64);
    }
    places.dedup();
    assert!(places.len() > frames.len() / 2, "the ball moves: {places:?}");
    let indices: Vec<u64> = frames.iter().map(|frame| frame["frame"]["index"].as_u64().unwrap()).collect();
    assert!(indices.is_sorted_by(|one, next| one < next), "in order, none twice: {indices:?}");
    assert!(frames.iter().any(|frame| frame["objects"][0]["track"].is_u64()), "nothing is followed");
}

#[test]
fn sagemakers_boxes_are_found_in_jpeg_and_png_and_in_smaller_pictures() {
    let scene = Scene::new();
    let (server, url) = sagemaker(&scene, &["detect"]);
    let at = format!("url = \"{url}\"\nprotocol = \"sagemaker\"\nclasses = [\"ball\", \"cube\"]");
    for (image, more, size, tolerance) in [
        ("jpeg", "", [640, 480], 2.0),
        ("png", "model = \"finder\"\nversion = \"7\"", [640, 480], 1.5),
        ("jpeg", "max_width = 320\nquality = 95", [320, 240], 5.0),
    ] {
        let scene = Scene::new();
        let n_before = requests(&server).len();
        let config = ball("fps=10&secs=4", &format!("{at}\nimage = \"{image}\"\n{more}"));
        let kit = "[sinks.kit]\ntype = \"file\"\nformat = \"kit\"\npath = \"kit.jsonl\"\n";
        let records = run(&scene, &format!("{config}{kit}"), 40);
        assert_boxes(&records, tolerance);
        let model = &of_type(&records, "detections")[0]["model"];
        if image == "png" {
            assert_eq!((&model["name"], &model["version"]), (&"finder".into(), &"7".into()));
        } else {
            let host = url.trim_start_matches("http://");
            assert_eq!((&model["name"], &model["version"]), (&host.into(), &"unknown".into()));
        }
        let told = requests(&server).split_off(n_before);
        assert_eq!(told.len(), n_seen(&records));
        for request in told {
            assert_eq!(request["format"].as_str().unwrap().to_lowercase(), image, "{request}");
            assert_eq!(request["content_type"], format!("image/{image}"));
            assert_eq!((&request["size"], &request["accept"]), (&size.into(), &"application/json".into()), "{request}");
        }
        // The same frames as a consumer of KIT reads them.
        let kit = scene.records("kit.jsonl");
        assert_eq!(kit.len(), n_seen(&records));
        for record in kit {
            assert_eq!(record["streamName"], "ball");
            let fragment = record["fragmentMetaData"].as_str().unwrap();
            let values: Vec<&str> =
                fragment[17..fragment.len() - 1].split(',').map(|part| part.split('=').nth(1).unwrap()).collect();
            assert!(
                values[0].len() > 40 && values[1].parse::<i64>().unwrap() >= values[2].parse::<i64>().unwrap(),
                "{fragment}"
            );
            assert!(record["frameMetaData"].is_string());
            let output = STANDARD.decode(record["sageMakerOutput"].as_str().unwrap()).unwrap();
            let output: Value = serde_json::from_slice(&output).unwrap();
            assert_eq!(output["prediction"].as_array().unwrap().len(), 3, "the server's own answer: {output}");
        }
    }
}

#[test]
fn classes_and_any_other_answers_are_told() {
    let scene = Scene::new();
    let (_classifier, url) = sagemaker(&scene, &["classify"]);
    let at = format!(
        "url = \"{url}\"\nprotocol = \"sagemaker\"\ntask = \"classification\"\nclasses = [\"a\", \"b\", \"c\"]"
    );
    let records = run(&scene, &ball("fps=10&secs=1", &at).replace("min_score = 0.5", "min_score = 0.05"), 10);
    let frames = of_type(&records, "detections");
    let labels = serde_json::json!([{ "class": "c", "score": 0.9 }, { "class": "b", "score": 0.07 }]);
    assert!(frames.iter().all(|frame| frame["labels"] == labels && frame["objects"].as_array().unwrap().is_empty()));
    for (mode, expected) in [
        ("classify", serde_json::json!({ "content_type": "application/json", "json": [0.03, 0.07, 0.9] })),
        (
            "text",
            serde_json::json!({ "content_type": "text/plain; charset=utf-8", "base64": STANDARD.encode("a ball") }),
        ),
    ] {
        let scene = Scene::new();
        let (_server, url) = sagemaker(&scene, &[mode]);
        let records = run(&scene, &ball("fps=10&secs=1", &format!("url = \"{url}\"\nprotocol = \"raw\"")), 10);
        let frames = of_type(&records, "detections");
        assert!(frames.iter().all(|frame| frame["answer"] == expected), "{}", frames[0]);
    }
}

#[test]
fn kserve_takes_pixels_in_bytes_and_pictures_in_json() {
    let scene = Scene::new();
    let port = free_port();
    let args = [format!("{CLIENTS}/kserve_server.py"), port.to_string()];
    let server = tool(&python(), &args, &scene.path("."));
    let ready = format!("http://127.0.0.1:{port}/v2/health/ready");
    wait_for("the KServe server", || {
        Command::new("curl").args(["-sf", "-m", "10", &ready]).output().unwrap().status.success().then_some(())
    });
    for (size, tensors, told) in [
        // Small, because KServe makes a list of numbers of it.
        ("max_width = 160", "datatype = \"uint8\"", ("UINT8", [1, 120, 160, 3].as_slice(), true)),
        ("", "binary = false", ("BYTES", [1].as_slice(), false)),
    ] {
        let scene = Scene::new();
        let n_before = requests(&server).len();
        let endpoint = format!(
            "url = \"http://127.0.0.1:{port}\"\nprotocol = \"kserve\"\nmodel = \"ball\"\nclasses = [\"ball\"]\n{size}\n\
             [profiles.p.endpoint.kserve]\nbox_unit = \"pixels\"\n{tensors}"
        );
        let records = run(&scene, &ball("fps=10&secs=2", &endpoint), 20);
        assert_boxes(&records, if size.is_empty() { 2.0 } else { 9.0 });
        let requests = requests(&server).split_off(n_before);
        assert_eq!(requests.len(), n_seen(&records));
        for request in requests {
            assert_eq!((&request["datatype"], &request["binary"]), (&told.0.into(), &told.2.into()), "{request}");
            assert_eq!(request["shape"], serde_json::json!(told.1));
        }
    }
}

#[test]
fn a_server_in_trouble_costs_frames_that_are_counted_and_told() {
    let secret = "hunter2hunter2";
    let check = |server: &[&str], more: &str, expected: Result<(), (&str, &str)>| {
        let scene = Scene::new();
        let (_server, url) = match server {
            [] => (None, format!("http://127.0.0.1:{}/invocations", free_port())),
            args => {
                let (server, url) = sagemaker(&scene, args);
                (Some(server), url)
            }
        };
        scene.file("token", format!("Bearer {secret}\n"));
        let url = url.replace("http://", &format!("http://u:{secret}9@"));
        let endpoint = format!(
            "url = \"{url}\"\nprotocol = \"sagemaker\"\nclasses = [\"ball\"]\nheader_files = {{ authorization = \"token\" }}\n{more}"
        );
        let (records, output) = run_through(&scene, &ball("fps=5&secs=1", &endpoint), 5);
        assert!(!output.contains("hunter2"), "{output}");
        assert!(!records.iter().any(|record| record.to_string().contains("hunter2")));
        let (_, n_inferred, drops) = account(&output, "ball");
        match expected {
            Ok(()) => assert_eq!(n_inferred, 5, "{server:?}: {output}"),
            Err((reason, cause)) => {
                assert!(drops.starts_with(&format!("{reason} 5 ")), "{server:?}: {output}");
                assert!(output.contains(cause), "`{cause}` is missing in {output}");
            }
        }
    };
    // Every other request fails: each frame is tried until it is through.
    check(&["flaky"], "concurrency = 1\nretries = 3", Ok(()));
    let failed = "inference_failed";
    check(
        &["broken"],
        "retries = 1",
        Err((failed, "500 Internal Server Error: out of memory; you sent ***; tried 2 times")),
    );
    check(&["garbage"], "", Err((failed, "its answer is no JSON")));
    check(&["slow", "60"], "timeout_secs = 1\nretries = 0", Err((failed, "no answer within 1 s")));
    check(&[], "retries = 0", Err((failed, "Connection refused")));
}

#[test]
fn a_slow_server_disturbs_nobody_else() {
    let scene = Scene::new();
    let (_server, url) = sagemaker(&scene, &["slow", "1.5"]);
    let endpoint =
        format!("url = \"{url}\"\nprotocol = \"sagemaker\"\nclasses = [\"ball\"]\nconcurrency = 1\nqueue = 3");
    let other = "[streams.other]\nurl = \"test://?width=320&height=240&fps=5\"\n";
    let service = scene.service(&format!("{}{other}", ball("fps=20", &endpoint)));
    let count = |records: &[Value], stream: &str| {
        of_type(records, "detections").iter().filter(|record| record["stream"] == stream).count()
    };
    scene.wait_for_records("results of both", |r| count(r, "ball") >= 2 && count(r, "other") >= 10);
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    let (n_decoded, n_inferred, drops) = account(&output, "ball");
    assert!(drops.contains("superseded"), "{output}");
    // `superseded 10, shutdown 2`, and then the other columns.
    let words: Vec<&str> = drops.split_whitespace().collect();
    let reasons = words.chunks_exact(2).take_while(|pair| pair[0].starts_with(char::is_alphabetic));
    let n_dropped: u64 = reasons.map(|pair| pair[1].trim_end_matches(',').parse::<u64>().unwrap()).sum();
    assert_eq!(n_decoded, n_inferred + n_dropped, "{output}");
    // One that had to wait for the server would be looked at no more often than the one that does.
    let (_, n_of_other, _) = account(&output, "other");
    assert!(n_of_other >= 10 && n_of_other > n_inferred, "{output}");
}
