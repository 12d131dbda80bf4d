//! Our own page: that it is built of its sources, its own tests, and itself in a real browser, under its own strict policy.

use std::process::Command;

use serde_json::Value;

use super::served::{Follower, Served, TOKEN, caption};
use crate::harness::wait_for;

/// Waits until the page shows what `wanted` looks for.
fn shows(page: &Follower, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || {
        let told = page.told();
        let errors: Vec<&Value> = told.iter().filter(|t| t.get("error").is_some()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        told.into_iter().rev().find(|t| wanted(t))
    })
}

#[test]
fn captions_appear_change_and_become_past() {
    let served = Served::start(&format!(r#"{{"token":"{TOKEN}"}}"#));
    served.captions(0..2);
    let page = Follower::browser(&served.url("http", "/"));
    // What was there before is shown, each line once.
    let shown = shows(&page, "recent captions", |t| t["past"].as_array().is_some_and(|past| past.len() == 2));
    assert_eq!((&shown["past"][0], &shown["past"][1]), (&"line 0".into(), &"line 1".into()));
    assert_eq!(shown["streams"], serde_json::json!(["cam", "hall"]));
    assert!(!shown["url"].as_str().unwrap().contains(TOKEN), "the token left the address bar: {shown}");
    assert_eq!(served.n_readers(), 1);

    served.publish(caption("cam", 2, 0, false, "and"));
    let shown = shows(&page, "a first word", |t| t["caption"] == "and");
    assert_eq!(shown["past"].as_array().unwrap().len(), 2, "what may change is not past");
    served.publish(caption("cam", 2, 1, false, "and so my <b>fellow"));
    shows(&page, "a revision, as text", |t| t["caption"] == "and so my <b>fellow");
    served.publish(caption("cam", 2, 2, true, "and so my fellow"));
    let shown = shows(&page, "a past line", |t| t["past"][2] == "and so my fellow");
    assert_eq!(shown["caption"], "and so my fellow");
    served.publish(caption("cam", 3, 0, false, "ask not"));
    let shown = shows(&page, "the next cue", |t| t["caption"] == "ask not");
    assert_eq!(shown["past"].as_array().unwrap().len(), 3, "told once: {shown}");
    served.publish(caption("cam", 3, 1, true, ""));
    shows(&page, "a cue taken back", |t| t["caption"] == "");
}

/// Runs a script of `console/package.json`; what it needs is there after `make setup-test`.
#[track_caller]
fn npm_run(script: &str) {
    let done = Command::new("npm")
        .args(["run", "--silent", script])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/console"))
        .output()
        .expect("npm: `make setup-test`");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "npm run {script}:\n{}{}", said(&done.stdout), said(&done.stderr));
}

#[test]
fn what_is_embedded_is_what_the_sources_give() {
    npm_run("check");
}

#[test]
fn its_own_unit_tests_pass() {
    npm_run("test");
}
