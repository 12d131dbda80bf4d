//! Configuration files that are taken, and those that are refused, with what is told.

use super::*;

fn no_env(_: &str) -> Option<String> {
    None
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
        [streams.front-door]
        url = "rtsp://admin:${PASSWORD}@192.0.2.10/1"
        profile = "people"
        tags = { Location = "Front" }
        [profiles.people]
        detect = "ssdlite-mbv2"
        sampling = { fps = 2.5 }
        classes = ["person"]
        [sinks.out]
        type = "file"
        path = "x.jsonl"
        [service]
        grace_secs = 3
    "#;
    let env = |name: &str| (name == "PASSWORD").then(|| "p@ss w/rd".to_owned());
    let checked = parse("test.toml", text, &env).map_err(|p| p.to_string()).expect("good");
    assert_eq!(checked.streams.len(), 1);
    let stream = &checked.streams[0];
    assert_eq!(stream.url.expose(), "rtsp://admin:p%40ss%20w%2Frd@192.0.2.10/1");
    assert_eq!(stream.url.to_string(), "rtsp://***@192.0.2.10/1");
    assert_eq!(stream.profile.classes[0], "person");
    assert_eq!(checked.service.grace(), Duration::from_secs(3));
    assert_eq!(checked.sinks.keys().collect::<Vec<_>>(), ["out"]);
}

#[test]
fn every_mistake_is_refused_with_line_key_and_suggestion() {
    let check = |text: &str, line: usize, expected: &[&str]| {
        let Err(problems) = parse("eyewitness.toml", text, &no_env) else { panic!("accepted: {text}") };
        let shown = problems.render(false);
        for part in expected {
            assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
        }
        assert!(shown.contains(&format!("eyewitness.toml:{line}:")), "line {line} is missing in:\n{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    };
    check("[streems.a]\nurl = 'x'", 1, &["streems", "did you mean `streams`"]);
    check("[streams.a]\nurl = 'test://'\nprofil = 'x'", 3, &["profil", "did you mean `profile`"]);
    check("[streams.a]\nurl = 'test://'\nprofile = 'defalt'", 3, &["no profile", "did you mean `default`"]);
    check("[streams.a]\nurl = 'rtsp://u:hunter2@[x/'", 2, &["no URL"]);
    check("[streams.a]\nurl = 'gopher2://u:hunter2@x/'", 2, &["gopher2"]);
    check("[streams.a]\nurl = 'rtsp://u:${NOT_SET}@x/'", 2, &["no variable `NOT_SET`"]);
    check(
        "[streams.a]\nurl = 'rtsp://x/'\ncredentials = 'crd'\n[secrets.cred]\nuser = 'u'",
        3,
        &["did you mean `cred`"],
    );
    check(
        "[streams.a]\nurl = 'test://'\ncredentials = 'cred'\n[secrets.cred]\nuser = 'u'",
        3,
        &["no place for a user"],
    );
    check("[streams.a]\nurl = 'test://'\ntags = { '' = 'x' }", 3, &["a key has 1 to 128"]);
    check("[secrets.cred]\npassword = 'hunter2'", 2, &["unknown key `password`", "did you mean `password_"]);
    check("[secrets.cred]\npassword_env = 'A'\npassword_file = 'b'", 3, &["secret `cred`", "use one"]);
    check("[secrets.cred]", 1, &["secret `cred`: is empty"]);
    check("[secrets.'../x']\nuser = 'a'", 1, &["is no name of a secret"]);
    check("[attachments]\nfoldr = 'x'", 2, &["did you mean `folder`"]);
    check("[cluster]\nbroker = ['h:1']", 2, &["did you mean `brokers`"]);
    check("[cluster]\nbrokers = ['h:1']\nleases = 5000", 3, &["cluster", "use 1 to 1000"]);
    check("[cluster]\nbrokers = ['h:1']\nproperties = { 'group.id' = 'x' }", 3, &["use `group` instead"]);
    let both = "[cluster]\nbrokers = ['h:1']\n[streams.yard]\nurl = 'test://'";
    check(both, 3, &["would be run by every worker", "eyewitness attach URL --name yard"]);
    check("[profiles.p]\nselect = { name = ['x'] }", 2, &["unknown key `name`", "did you mean `names`"]);
    check("[profiles.p]\ntrack = true\nselect = { names = ['a['] }", 3, &["no pattern of names"]);
    check("[profiles.p]\ntrack = true\nselect = [{ names = [] }]", 3, &["profile `p`", "names = [\"*\"]"]);
    check("[profiles.p]\n[[profiles.p.select]]\ntags = [{ kee = 'x' }]", 3, &["did you mean `key`"]);
    check("[streams.'a b']\nurl = 'test://'", 1, &["no stream name"]);
    check("[profiles.default]\nsampling = { fps = 0 }", 2, &["fps"]);
    check("[profiles.default]\nsampling = { fsp = 1 }", 2, &["fsp", "did you mean `fps`"]);
    check(
        "[profiles.p]\ntrack = true\nsinks = ['kafak']\n[sinks.kafka]\ntype = 'console'",
        3,
        &["profile `p`", "no sink is called `kafak`", "did you mean `kafka`"],
    );
    check("[profiles.p]\nsinks = ['file', 'consol']", 2, &["did you mean `console`"]);
    check("[sinks.k]\ntype = 'kafak'\nbrokers = 'x'", 2, &["kafak", "did you mean `kafka`"]);
    check("[sinks.f]\ntype = 'file'\npth = 'x'", 3, &["pth", "did you mean `path`"]);
    check("[streams.a]\nurl = 'rtsp://u:hunter2@x/'\n[service]\ngrace_secs = 'ten'", 4, &["grace_secs"]);
    check("[streams.a\nurl = 'rtsp://u:hunter2@x/'", 1, &["expected"]);
    check("[profiles.default]\ntrack = true\n[profiles.default.speech]\nstep_ms = 1", 4, &["step_ms"]);
    check("[hls]\npatience_ms = 1\nwindow = 1", 3, &["window"]);
    check("[history]\nenabled = true\nkeep_days = 0", 3, &["history", "`keep_days` is 0"]);
    check("[history]\npath = 'x'", 2, &["unknown key `path`", "`dir`"]);
    check("[speech]\nworkers = 1\nthreads = 0", 3, &["threads"]);
    check("[http]\nmax_clients = 7\nfeed_records = 0", 3, &["feed_records"]);
    let endpoint = "[profiles.p.endpoint]\nprotocol = 'sagemaker'\nurl = 'http://u:hunter2@h/invocations'\n";
    check(&format!("{endpoint}concurrency = 0"), 4, &["profile `p`: endpoint: `concurrency`"]);
    check(&format!("{endpoint}concurency = 1"), 4, &["did you mean `concurrency`"]);
    check(&format!("{endpoint}headers = {{ authorization = 'x' }}"), 4, &["looks like a secret"]);
    check(&format!("{endpoint}[profiles.p.endpoint.kserve]\nshape = [3]"), 5, &["`kserve.shape`"]);
    check(&format!("[profiles.p]\ntrack = true\ndetect = 'yolox-nano'\n{endpoint}"), 3, &["`detect` and `endpoint`"]);
    check(&format!("[profiles.p]\nclasses = ['dgo']\n{endpoint}classes = ['dog']"), 1, &["did you mean `dog`"]);
    check("[profiles.p.endpoint]\nprotocol = 'kserve'\nurl = 'http://h'", 1, &["`kserve` needs the model's name"]);
    check("[profiles.p.endpoint]\nprotocol = 'sagmaker'\nurl = 'http://h'", 2, &["did you mean `sagemaker`"]);
    check("[profiles.p]\ndetect = 'none'", 2, &["nothing would be done"]);
    let kafka = "[sinks.k]\ntype = 'kafka'\nbrokers = ['h:1']\n";
    check(&format!("{kafka}properties = {{ 'acks' = 0 }}"), 4, &["acks"]);
    check(&format!("{kafka}[sinks.k.spool]\nstore = 'disk'\nmax_bytes = 5"), 6, &["max_bytes"]);
    check(&format!("{kafka}[sinks.k.spool]\nmax_byte = 5"), 5, &["did you mean `max_bytes`"]);
}

#[test]
fn streams_find_their_profiles_and_secrets() {
    let text = r#"
        [attachments]
        folder = "attachments.d"
        [secrets.cameras]
        user = "viewer"
        password_env = "PATH"
        [streams.gate-1]
        url = "rtsp://192.0.2.10/1"
        credentials = "cameras"
        [streams.yard]
        url = "test://"
        tags = { Location = "Front" }
        [streams.attic]
        url = "test://"
        [streams.gate-2]
        url = "test://"
        profile = "front"
        [profiles.front]
        select = { tags = [{ key = "Location", values = ["Front"] }] }
        classes = ["dog"]
        [profiles.gates]
        select = { names = ["gate-*"] }
        classes = ["person"]
    "#;
    let checked = parse("test.toml", text, &no_env).map_err(|p| p.to_string()).expect("good");
    let chosen: Vec<_> = checked.streams.iter().map(|s| (s.name.as_str(), s.profile.classes.concat())).collect();
    let expected = [("attic", ""), ("gate-1", "person"), ("gate-2", "dog"), ("yard", "dog")];
    assert_eq!(chosen, expected.map(|(name, classes)| (name, classes.to_owned())));
    let gate = checked.streams.iter().find(|s| s.name.as_str() == "gate-1").expect("gate-1");
    let path = std::env::var("PATH").expect("PATH");
    assert_eq!(gate.url.expose(), format!("rtsp://viewer:{}@192.0.2.10/1", base::redact::percent_encoded(&path)));
    let attachments = checked.attachments.expect("attachments");
    assert_eq!(attachments.folder.as_deref(), Some(Path::new("attachments.d")));
    assert_eq!(attachments.store, Path::new("eyewitness-out/attachments"));
}

#[test]
fn two_sinks_never_share_a_place_on_the_disk() {
    let kafka = |name: &str, more: &str| format!("[sinks.{name}]\ntype = 'kafka'\nbrokers = ['h:1']\n{more}\n");
    let file = |name: &str, path: &str| format!("[sinks.{name}]\ntype = 'file'\npath = '{path}'\n");
    let check = |text: String, expected: Option<(usize, &str)>| {
        let shown = parse("x.toml", &text, &no_env).err().map(|problems| problems.render(false));
        match (shown, expected) {
            (None, None) => {}
            (Some(shown), Some((line, said))) => {
                assert!(shown.contains(said) && shown.contains(&format!("x.toml:{line}:")), "{shown}");
            }
            (shown, _) => panic!("{text}: {shown:?}"),
        }
    };
    check(kafka("a", "") + &kafka("b", ""), None);
    check(file("a", "x.jsonl") + &file("b", "y.jsonl"), None);
    check(file("a", "x.jsonl") + &file("b", "./x.jsonl"), Some((6, "`path` of sink `a` (line 3)")));
    check(kafka("a", "") + &kafka("b", "spool.path = 'eyewitness-out/spool/a'"), Some((8, "sink `a` (line 1)")));
    check(kafka("a", "spool = { store = 'memory' }") + &kafka("b", "spool.path = 'eyewitness-out/spool/a'"), None);
    check(
        kafka("a", "dead_letters = 'd.jsonl'") + &kafka("b", "dead_letters = 'd.jsonl'"),
        Some((8, "`dead_letters` of sink `a` (line 4)")),
    );
    check(kafka("a", "dead_letters = 'd.jsonl'") + &file("b", "d.jsonl"), Some((7, "`dead_letters` of sink `a`")));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "[streams.a]\nurl = 'rtsp://u:hunter2@x/${NO}'\nprofile = 'nope'\n[streams.'b c']\nurl = 'test://'";
    let Err(problems) = parse("eyewitness.toml", text, &no_env) else { panic!("accepted") };
    assert_eq!(problems.len(), 3, "{}", problems.render(false));
}
