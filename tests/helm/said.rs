//! What goes with the chart: the metrics that dashboard, alerts and scaling ask for exist; the README and the Dockerfile say
//! what is so; the pod of `helm test` finds a real service well.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::chart::{CHART, Rendered, cache, check, tool};
use crate::harness::{Done, Process, Scene, wait_for};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every `expr` and `query` in a JSON document.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner {
                    Value::String(text) if key == "expr" || (key == "query" && text.contains("eyewitness_")) => {
                        found.push(text.clone());
                    }
                    inner => expressions(inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| expressions(inner, found)),
        _ => {}
    }
}

/// The words of a text that are metrics' names.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("eyewitness_")).map(str::to_owned).collect()
}

/// The names in the literals of the sources.
fn in_sources(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            in_sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split('"').filter(|word| word.starts_with("eyewitness_"));
            found.extend(names.filter(|word| metrics(word).contains(*word)).map(str::to_owned));
        }
    }
}

#[test]
fn every_metric_that_is_asked_for_exists() {
    let mut known = BTreeSet::new();
    in_sources(&Path::new(ROOT).join("src"), &mut known);
    assert!(known.contains("eyewitness_frames_dropped_total") && !known.contains("eyewitness_frames"), "{known:?}");

    let dashboard = fs::read_to_string(format!("{CHART}/dashboards/eyewitness.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let rendered = Rendered::of(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let keda = Rendered::of(&["--values", &format!("{CHART}/ci/keda-values.yaml")]);
    let mut asked = Vec::new();
    for document in [&dashboard, rendered.one("PrometheusRule", ""), keda.one("ScaledObject", "")] {
        let before = asked.len();
        expressions(document, &mut asked);
        assert!(asked.len() > before + 2, "{document}");
    }
    // Variables of the dashboard are none of PromQL.
    let promql: Vec<_> = asked.iter().filter(|text| !text.starts_with("label_values(")).collect();
    check(&["promql"], &serde_json::to_string(&promql).unwrap());
    // The guide's table and advice, too.
    asked.push(fs::read_to_string(format!("{ROOT}/docs/guide/kubernetes.md")).unwrap());
    for text in &asked {
        for metric in metrics(text) {
            assert!(known.contains(&metric), "nobody writes `{metric}`, which is asked for in: {text}");
        }
    }
}

#[test]
fn the_dashboard_is_whole() {
    let text = fs::read_to_string(format!("{CHART}/dashboards/eyewitness.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "two panels at {cell:?}: {}", panel["title"]);
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            for target in panel["targets"].as_array().unwrap() {
                let expr = target["expr"].as_str().unwrap();
                assert!(expr.contains(r#"namespace="$namespace""#), "{expr}");
            }
        }
    }
    // It goes through the ConfigMap unchanged.
    let rendered = Rendered::of(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let carried = rendered.one("ConfigMap", "-dashboard")["data"]["eyewitness.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(carried).unwrap(), dashboard);
}

#[test]
fn the_readme_is_fresh() {
    let args = ["--chart-search-root", CHART, "--dry-run", "--log-level", "error", "--sort-values-order", "file"];
    let done = Done::from(tool("helm-docs").args(args).current_dir(CHART).output().unwrap()).expect(0);
    let readme = fs::read_to_string(format!("{CHART}/README.md")).unwrap();
    assert_eq!(readme.trim(), done.stdout.trim(), "charts/eyewitness/README.md is stale: run `make docs`");
    for line in fs::read_to_string(format!("{CHART}/values.yaml")).unwrap().lines() {
        let Some((key, _)) = line.split_once(": ").filter(|(key, _)| !key.starts_with([' ', '#', '-'])) else {
            continue;
        };
        assert!(readme.contains(&format!("| {key} |")), "`{key}` has no `# --` comment in values.yaml");
    }
}

#[test]
fn the_pod_of_helm_test_finds_a_real_service_well() {
    let rendered = Rendered::of(&["--values", &format!("{CHART}/ci/minimal-values.yaml")]);
    let command = rendered.one("Pod", "-test")["spec"]["containers"][0]["command"].clone();
    let command: Vec<String> = serde_json::from_value(command).unwrap();

    // The rendered configuration, with the paths and the port of this test.
    let scene = Scene::new();
    let token = "0123456789-of-the-chart";
    scene.file("token", format!("{token}\n"));
    let mut config: toml::Table = toml::from_str(rendered.config()).unwrap();
    config["http"]["listen"] = "127.0.0.1:0".into();
    config["http"]["token_file"] = scene.path("token").to_str().unwrap().into();
    config["sinks"]["events"]["path"] = scene.path("events.jsonl").to_str().unwrap().into();
    scene.file("eyewitness.toml", config.to_string());
    let process = Process::start(scene.command(&["run", "--config", "eyewitness.toml"]));
    let address = wait_for("the address", || {
        let output = process.output();
        let line = output.lines().find(|line| line.contains("the HTTP service listens"))?.to_owned();
        let line: Value = serde_json::from_str(&line).expect("the chart asks for JSON logs");
        Some(line["address"].as_str()?.to_owned())
    });
    let port = address.rsplit(':').next().unwrap();
    let ask = |token_file: &str| {
        let mut bash = Command::new(&command[0]);
        bash.args(&command[1..]).stdin(Stdio::null());
        bash.env("HOST", "127.0.0.1").env("PORT", port).env("TOKEN_FILE", scene.path(token_file));
        Done::from(bash.output().unwrap())
    };
    let done = wait_for("a service that is ready", || Some(ask("token")).filter(|done| done.status.success()));
    for line in
        ["/healthz: HTTP/1.1 200", "/readyz: HTTP/1.1 200", "/v1/streams: HTTP/1.1 401", "/metrics: HTTP/1.1 200"]
    {
        assert!(done.stdout.contains(line), "{line} is missing in:\n{}", done.stdout);
    }
    assert!(!done.stdout.contains(token) && !done.stderr.contains(token));
    scene.file("wrong", "another-token-than-that");
    let done = ask("wrong");
    assert!(
        !done.status.success() && done.stdout.ends_with("/v1/streams: HTTP/1.1 401 Unauthorized\n"),
        "{}",
        done.stdout
    );
}

#[test]
fn the_dockerfile_is_clean() {
    let mut hadolint = Command::new(cache().join("test-venv/bin/hadolint"));
    let done = Done::from(hadolint.args(["--no-color", "Dockerfile"]).current_dir(ROOT).output().unwrap());
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
}

#[test]
fn the_dockerfile_says_what_the_set_up_says() {
    let dockerfile = fs::read_to_string(format!("{ROOT}/Dockerfile")).unwrap();
    let setup = fs::read_to_string(format!("{ROOT}/scripts/setup.sh")).unwrap();
    let of_setup = |key: &str| {
        let line = setup.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_else(|| panic!("{key}"));
        line.split([' ', ';']).next().unwrap().to_owned()
    };
    let version = of_setup("ORT_VERSION=");
    assert!(dockerfile.contains(&format!("ARG ORT_VERSION={version}\n")), "{version}");
    for sum in
        setup.split("_sha=").skip(1).map(|rest| rest.split_whitespace().next().unwrap()).filter(|s| s.len() == 64)
    {
        if setup.contains(&format!("lib_sha={sum}")) {
            assert!(dockerfile.contains(sum), "the ONNX Runtime of the set-up has another checksum: {sum}");
        }
    }
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(format!("{ROOT}/Cargo.toml")).unwrap()).unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(dockerfile.contains(&format!("ARG RUST_VERSION={rust}")), "Rust {rust}");
    let version = manifest["workspace"]["package"]["version"].as_str().unwrap();
    let chart = fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("appVersion: \"{version}\"")), "the chart is of another version than the program");

    // What is copied is there, and is not left out of the context.
    let ignored = fs::read_to_string(format!("{ROOT}/.dockerignore")).unwrap();
    let copies = dockerfile.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from="));
    let mut n_copies = 0;
    for source in copies.flat_map(|line| {
        let words: Vec<_> = line.split_whitespace().skip(1).filter(|word| !word.starts_with("--")).collect();
        words[..words.len() - 1].to_vec()
    }) {
        n_copies += 1;
        assert!(Path::new(ROOT).join(source).exists(), "COPY {source}");
        assert!(!ignored.lines().any(|line| line.trim_end_matches('/') == source.trim_end_matches('/')), "{source}");
    }
    assert!(n_copies >= 8, "{n_copies}");
    for part in ["USER 10001", "org.opencontainers.image.licenses"] {
        assert!(dockerfile.contains(part), "{part}");
    }
    assert!(!dockerfile.contains("HEALTHCHECK"), "Kubernetes asks /healthz");
}
