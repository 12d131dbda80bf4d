//! The program from outside, as far as that goes without a broker: what it refuses, and how it says so.

use std::process::Command;

#[test]
fn what_is_wrong_is_said() {
    let dir = tempfile::tempdir().expect("directory");
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("write");
    file("lines.properties", "security.protocol = SSL\nssl.ca.location\n");
    file("names.properties", "no.such.thing = 1\n");
    file("notes.txt", "These are notes of somebody's, and no database of anything.\n");
    let check = |args: &[&str], code: i32, expected: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_eyewitness-example-consumer"))
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: `{expected}` is missing in: {text}");
    };
    check(&["--until-idle", "soon"], 2, "--until-idle");
    check(&["--properties", "none.properties"], 1, "none.properties: No such file");
    check(&["--properties", "lines.properties"], 1, "lines.properties: line 2: expected `name = value`");
    check(&["--properties", "names.properties"], 1, "no.such.thing");
    check(&["--state", "notes.txt"], 1, "notes.txt: file is not a database");
    check(&["--state", "no/such/folder.sqlite"], 1, "no/such/folder.sqlite: unable to open");
}
