//! Sources over loopback that are not RTSP: HLS and progressive HTTP from a web server, MPEG-TS over UDP.

use crate::harness::{CLIP, Scene, assert_valid, free_port, of_type, tool, wait_for};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Python's own web server on the scene's folder.
fn web_server(scene: &Scene) -> (crate::harness::Process, u16) {
    let port = free_port();
    let server = tool("python3", &words(&format!("-u -m http.server {port} --bind 127.0.0.1")), &scene.path(""));
    server.line("Serving");
    (server, port)
}

#[test]
fn hls_and_progressive_http_are_seen_to_their_end() {
    let scene = Scene::new();
    let hls = format!("-v error -i {CLIP} -c copy -f hls -hls_time 4 -hls_list_size 0 live.m3u8");
    let (code, output) = tool("ffmpeg", &words(&hls), &scene.path("")).end();
    assert_eq!(code, Some(0), "{output}");
    std::fs::copy(CLIP, scene.path("clip.mp4")).unwrap();
    let (_server, port) = web_server(&scene);
    for path in ["live.m3u8", "clip.mp4"] {
        let url = format!("http://127.0.0.1:{port}/{path}");
        scene.run(&["replay", &url, "--sample", "every=20", "--out", "x.jsonl"]).expect(0);
        let records = scene.records("x.jsonl");
        assert_valid(&records);
        assert_eq!(of_type(&records, "detections").len(), 20, "{path}");
        let _ = std::fs::remove_file(scene.path("x.jsonl"));
    }
    let missing = format!("http://127.0.0.1:{port}/none.m3u8");
    scene.run(&["replay", &missing]).expect(1).complains(&["404"]);
}

#[test]
fn mpeg_ts_over_udp_is_seen_live() {
    let scene = Scene::new();
    let port = free_port();
    let service = scene.service(&format!(
        "[streams.ts]\nurl = \"udp://127.0.0.1:{port}\"\n[profiles.default]\nsampling = {{ fps = 5 }}\n"
    ));
    let send = format!(
        "-q filesrc location={CLIP} ! qtdemux ! h264parse config-interval=-1 ! mpegtsmux alignment=7 ! \
         udpsink host=127.0.0.1 port={port} sync=true"
    );
    let _sender = tool("gst-launch-1.0", &words(&send), &scene.path(""));
    let records = scene.wait_for_records("people over UDP", |r| {
        of_type(r, "detections").iter().filter(|r| !r["objects"].as_array().unwrap().is_empty()).count() >= 10
    });
    assert_valid(&records);
    assert_eq!(of_type(&records, "detections")[0]["clock"], "arrival");
    assert_eq!(service.terminate().0, Some(0));
    wait_for("the last record", || scene.records("events.jsonl").last().filter(|r| r["state"] == "stopped").cloned());
}
