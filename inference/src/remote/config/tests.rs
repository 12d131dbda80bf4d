//! An endpoint's keys: addresses, mistakes, secrets.

use super::*;

fn parse(text: &str) -> Result<EndpointConfig, String> {
    let config: EndpointConfig = toml::from_str(text).map_err(|e| e.to_string())?;
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn addresses() {
    let check = |text: &str, url: &str, shown: &str| {
        let config = parse(text).expect(text);
        assert_eq!((config.post_url().expect("url").as_str(), &*config.shown()), (url, shown), "{text}");
    };
    let at = "url = 'http://u:pass-word@h:8080/invocations?k=secret'\nprotocol = 'sagemaker'";
    check(at, "http://u:pass-word@h:8080/invocations?k=secret", "h:8080/invocations");
    let triton = "url = 'http://h:8000/'\nprotocol = 'kserve'\nmodel = 'det'";
    check(triton, "http://h:8000/v2/models/det/infer", "h:8000/v2/models/det/infer");
    let versioned = format!("{triton}\nversion = '3'");
    check(&versioned, "http://h:8000/v2/models/det/versions/3/infer", "h:8000/v2/models/det/versions/3/infer");
    let whole = "url = 'https://h/a/v2/models/x/infer'\nprotocol = 'kserve'";
    check(whole, "https://h/a/v2/models/x/infer", "h/a/v2/models/x/infer");
    check("url = 'http://h/aB3dE5gH7jK9mN1pQ3'\nprotocol = 'raw'", "http://h/aB3dE5gH7jK9mN1pQ3", "h/***");
}

#[test]
fn mistakes_name_their_key() {
    let check = |text: &str, expected: &str| {
        let text = format!("protocol = 'sagemaker'\nurl = 'http://h/'\n{text}");
        let error = parse(&text).expect_err("refused");
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("concurrency = 0", "`concurrency`: is 0 and must be 1 to 256");
    check("quality = 101", "`quality`");
    check("queue = 0", "`queue`");
    check("timeout_secs = 0", "`timeout_secs`");
    check("max_answer_bytes = 1", "`max_answer_bytes`");
    check("kserve = { shape = [2] }", "`kserve.shape`");
    check("kserve = { inptu = 'a' }", "unknown field `inptu`");
    check("headers = { authorization = 'x' }", "`headers.authorization`: looks like a secret");
    check("headers = { accept = 'x' }", "set by eyewitness itself");
    check("headers = { x-a = 'x' }\nheader_env = { X-A = 'V' }", "given twice");
    let of = |url: &str, protocol| EndpointConfig::new(url, protocol).check().expect_err(url).to_string();
    assert!(of("ftp://h", Protocol::Raw).contains("`url`: model servers are reached over"));
    assert!(!of("http://u:hunter2@[x/", Protocol::Raw).contains("hunter2"));
    assert!(of("http://h", Protocol::Kserve).contains("`model`"));
    let read = EndpointConfig { task: Some(Task::Detection), ..EndpointConfig::new("http://h", Protocol::Raw) };
    assert!(read.check().expect_err("raw").to_string().contains("`task`"));
}

#[test]
fn secrets_are_taken_out_of_texts() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), "Bearer swordfish-1\n").expect("write");
    let mut config = EndpointConfig::new("http://u:hunter2x@h/?sig=abcdefgh", Protocol::Raw);
    config.header_files.insert("authorization".into(), file.path().into());
    let secrets = config.secrets().expect("secrets");
    assert_eq!(secrets.headers["authorization"], "Bearer swordfish-1");
    assert_eq!(secrets.scrub("you sent swordfish-1, hunter2x and abcdefgh"), "you sent ***, *** and ***");
}
