//! Runs helm and the checkers, and gives what they rendered.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::harness::Done;

/// The chart.
pub(super) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/eyewitness");
/// The oldest Kubernetes that the chart allows, and the newest whose schemas we have.
pub(super) const KUBERNETES: [&str; 2] = ["1.27.1", "1.37.0"];

/// What the set-up fetched: `make setup-test`.
pub(super) fn cache() -> PathBuf {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    var("EYEWITNESS_CACHE").unwrap_or_else(|| {
        var("XDG_CACHE_HOME").unwrap_or_else(|| var("HOME").unwrap().join(".cache")).join("eyewitness")
    })
}

/// A tool of the set-up.
pub(super) fn tool(name: &str) -> Command {
    let path = cache().join("bin").join(name);
    assert!(path.exists(), "{} is missing: run `make setup-test`", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).env_remove("HELM_NAMESPACE").env("HELM_PLUGINS", "/nowhere");
    command
}

/// The values files of `ci/`, by name.
pub(super) fn values_files() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(Path::new(CHART).join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().trim_end_matches("-values.yaml").to_owned(), path))
        .collect();
    files.sort();
    files
}

/// `helm lint --strict`.
pub(super) fn lint(args: &[&str]) -> Done {
    let [_, newest] = KUBERNETES;
    Done::from(tool("helm").args(["lint", "--strict", CHART, "--kube-version", newest]).args(args).output().unwrap())
}

/// `helm template`, as the release `cams` in the namespace `site`.
pub(super) fn template(version: &str, args: &[&str]) -> Done {
    let fixed = ["template", "cams", CHART, "--namespace", "site", "--kube-version", version];
    Done::from(tool("helm").args(fixed).args(args).output().unwrap())
}

/// What the chart renders: every object, held against the schemas of every version of [`KUBERNETES`].
pub(super) struct Rendered {
    pub(super) objects: Vec<Value>,
}

impl Rendered {
    #[track_caller]
    pub(super) fn of(args: &[&str]) -> Self {
        let [_, newest] = KUBERNETES;
        let yaml = template(newest, args).expect(0).stdout;
        Self { objects: serde_json::from_str(&check(&[&["objects"], &KUBERNETES[..]].concat(), &yaml)).unwrap() }
    }

    /// All objects of a kind.
    pub(super) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The only object of a kind whose name ends so.
    #[track_caller]
    pub(super) fn one(&self, kind: &str, name_ends: &str) -> &Value {
        let found: Vec<_> = self.all(kind).into_iter().filter(|o| name(o).ends_with(name_ends)).collect();
        let [one] = found[..] else { panic!("{} objects {kind} ...{name_ends}", found.len()) };
        one
    }

    /// The workers, of either kind.
    #[track_caller]
    pub(super) fn workers(&self) -> &Value {
        let mut found = self.objects.iter().filter(|o| o["kind"] == "StatefulSet" || o["kind"] == "Deployment");
        let one = found.next().unwrap();
        assert!(found.next().is_none());
        one
    }

    /// Every pod: the workers' template and the test's.
    pub(super) fn pods(&self) -> Vec<&Value> {
        let test = self.all("Pod").into_iter().map(|pod| &pod["spec"]);
        std::iter::once(&self.workers()["spec"]["template"]["spec"]).chain(test).collect()
    }

    /// The configuration file in it.
    pub(super) fn config(&self) -> &str {
        let files = self.all("ConfigMap").into_iter().filter_map(|map| map["data"]["eyewitness.toml"].as_str());
        let files: Vec<_> = files.collect();
        let [file] = files[..] else { panic!("{} configuration files", files.len()) };
        file
    }
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Runs `check.py`; gives what it prints.
#[track_caller]
pub(super) fn check(args: &[&str], input: &str) -> String {
    let done = run_check(args, input);
    assert!(done.status.success(), "{}", done.stderr);
    done.stdout
}

/// Runs `check.py`; gives what it finds wrong.
pub(super) fn complaints(args: &[&str], input: &str) -> String {
    run_check(args, input).stderr
}

fn run_check(args: &[&str], input: &str) -> Done {
    let mut child = Command::new(cache().join("test-venv/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm/check.py"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Done::from(child.wait_with_output().unwrap())
}
