//! Every way to prove who we are, and what is said when it fails.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sinks::SinkConfig;

use crate::{
    BROKER, PATIENCE,
    broker::{Broker, SASL_PASSWORD, SASL_USER},
    config, context, events, open, send, wait_for_trouble,
};

/// Seven records arrive at `address`.
fn check_works(prefix: &str, address: String, more: Value) {
    let config = with(address, more, prefix);
    let report = send(&config, events(&["front-door"], 5), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (7, 0), "{prefix}: {report:?}");
    assert_eq!(BROKER.consume(&format!("{prefix}.detections"), 5, PATIENCE).len(), 5);
}

/// With `on_start = "fail"`, the sink refuses to start and says `expected`, and no secret.
fn check_refused(address: String, more: Value, expected: &[&str]) {
    let error = with(address, more, "refused").build("kafka", context()).err().expect("refused").to_string();
    assert!(expected.iter().any(|expected| error.contains(expected)), "{error}: none of {expected:?}");
    assert!(!error.contains("wr0ng-password") && !error.contains(SASL_PASSWORD), "{error}");
}

fn with(address: String, more: Value, prefix: &str) -> SinkConfig {
    let mut json = json!({ "topic_prefix": prefix, "on_start": "fail" });
    json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    config(&[address], json)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), text).expect("write");
    file
}

fn sasl(mechanism: &str, password: &Path) -> Value {
    json!({
        "password_file": password,
        "properties": {
            "security.protocol": "SASL_SSL", "ssl.ca.location": BROKER.certificate(),
            "sasl.mechanisms": mechanism, "sasl.username": SASL_USER,
        },
    })
}

#[test]
fn passwords() {
    let (right, wrong) = (file(&format!("{SASL_PASSWORD}\n")), file("wr0ng-password"));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let topic = format!("sasl-{}", mechanism.to_lowercase());
        check_works(&topic, BROKER.sasl_address(), sasl(mechanism, right.path()));
        check_refused(BROKER.sasl_address(), sasl(mechanism, wrong.path()), &["uthentication failed"]);
    }
    let mut untrusting = sasl("PLAIN", right.path());
    untrusting["properties"].as_object_mut().expect("object").remove("ssl.ca.location");
    check_refused(BROKER.sasl_address(), untrusting, &["unable to get local issuer certificate: set"]);
}

#[test]
fn a_password_may_be_changed_while_we_run() {
    let password = file("wr0ng-password");
    let mut more = sasl("SCRAM-SHA-512", password.path());
    more["on_start"] = json!("wait");
    let config = with(BROKER.sasl_address(), more, "rotated");
    let (handle, tx) = open(&config, PATIENCE);
    for event in events(&["front-door"], 5) {
        tx.send(event.into());
    }
    wait_for_trouble(&handle, |trouble| trouble.is_some_and(|trouble| trouble.contains("uthentication failed")));
    std::fs::write(password.path(), SASL_PASSWORD).expect("write");
    drop(tx);
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (7, 0), "{report:?}");
}

#[test]
fn certificates() {
    let authority = BROKER.certificate();
    let mutual = json!({ "properties": {
        "security.protocol": "SSL", "ssl.ca.location": authority,
        "ssl.certificate.location": BROKER.client_certificate(), "ssl.key.location": BROKER.client_key(),
    }});
    check_works("mtls", BROKER.mtls_address(), mutual);
    let bare = json!({ "properties": { "security.protocol": "SSL", "ssl.ca.location": authority } });
    check_refused(
        BROKER.mtls_address(),
        bare.clone(),
        &["certificate required", "certificate_required", "bad certificate"],
    );
    check_refused(BROKER.expired_address(), bare, &["certificate has expired"]);
    let no_key = json!({ "properties": {
        "security.protocol": "SSL", "ssl.ca.location": authority,
        "ssl.certificate.location": BROKER.client_certificate(), "ssl.key.location": "/no/such/key.pem",
    }});
    check_refused(BROKER.mtls_address(), no_key, &["ssl.key.location"]);
}

/// A JWT that nobody signed, which is all that the test broker asks for.
fn token(expires_in_secs: i64) -> String {
    let now = context().clock.wall().as_second();
    let claims = json!({ "sub": "camera", "iat": now - 60, "exp": now + expires_in_secs }).to_string();
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn tokens() {
    let properties = json!({ "security.protocol": "SASL_PLAINTEXT" });
    let address = || BROKER.oauth_address();
    let of_file = |text: &str| {
        let file = file(text);
        (json!({ "oauth_token_file": file.path(), "properties": properties }), file)
    };
    let (more, _file) = of_file(&format!("{}\n", token(3600)));
    check_works("token-file", address(), more);
    let (more, _file) = of_file(&token(-10));
    check_refused(address(), more, &["the token has expired"]);
    let missing = json!({ "oauth_token_file": "/no/such/token", "properties": properties });
    check_refused(address(), missing, &["cannot read /no/such/token"]);

    let of_command = |command: &[&str]| json!({ "oauth_token_command": command, "properties": properties });
    let answer = file(&json!({ "access_token": token(3600), "expires_in": 3600 }).to_string());
    check_works("token-command", address(), of_command(&["cat", answer.path().to_str().expect("path")]));
    check_refused(address(), of_command(&["sh", "-c", "echo denied >&2; exit 1"]), &["denied"]);
    check_refused(address(), of_command(&["/no/such/program"]), &["cannot run /no/such/program"]);
}

/// A stopped broker and a new certificate: the sink waits, says why, and goes on.
#[test]
fn an_expired_certificate_is_waited_for() {
    let mut broker = Broker::start();
    let more = json!({
        "on_start": "wait", "topic_prefix": "renewed",
        "properties": { "security.protocol": "SSL", "ssl.ca.location": broker.certificate() },
    });
    let (handle, tx) = open(&config(&[broker.expired_address()], more), PATIENCE);
    for event in events(&["front-door"], 5) {
        tx.send(event.into());
    }
    wait_for_trouble(&handle, |trouble| trouble.is_some_and(|trouble| trouble.contains("certificate has expired")));
    broker.renew_certificate();
    broker.stop();
    broker.restart();
    drop(tx);
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (7, 0), "{report:?}");
    assert_eq!(broker.consume("renewed.detections", 5, Duration::from_secs(30)).len(), 5);
}
