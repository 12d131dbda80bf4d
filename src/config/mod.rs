//! The configuration file: TOML, read and checked whole before anything starts. Reads the file and the environment, nothing else.
//!
//! The field docs below are the user's documentation: docs/ref/configuration.md is generated from them.

mod places;
pub mod problem;
mod profile;
mod shared;

use std::{collections::BTreeMap, path::Path, time::Duration};

use base::{media::StreamName, redact::SourceUrl};
use inference::{engine::EngineConfig, manifest::Task, speech::config::SpeechPoolConfig, store::ModelStore};
use ingest::SourceConfig;
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_spanned::Spanned;
use sinks::{SinkConfig, SinkError, console::ConsoleConfig, file::FileConfig};

pub use self::profile::{DEFAULT_DETECTOR, DEFAULT_TRANSCRIBER, NO_MODEL, ProfileConfig};
use self::{
    places::Places,
    problem::{Problem, Problems},
};
use crate::{hls::HlsConfig, http::HttpConfig};

/// A configuration file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Streams to attach, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, StreamConfig>")]
    pub streams: BTreeMap<Spanned<String>, StreamConfig>,
    /// What to run on a stream, by profile name. A stream that names no profile uses `default`, which exists even if it is not written here.
    #[serde(default)]
    pub profiles: BTreeMap<String, ProfileConfig>,
    /// Where events go, by sink name. Without any: readable lines on the console, and the file `eyewitness-out/events.jsonl`.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkConfig>,
    /// How detectors run.
    #[serde(default)]
    pub inference: EngineConfig,
    /// How transcribers run.
    #[serde(default)]
    pub speech: SpeechPoolConfig,
    /// The HTTP service: live captions, players, metrics. Without this table there is none, and no open port.
    pub http: Option<HttpConfig>,
    /// The streams' own pictures and sound for players, with the captions; served by the HTTP service.
    #[serde(default)]
    pub hls: HlsConfig,
    /// The service as a whole.
    #[serde(default)]
    pub service: ServiceConfig,
}

/// One attached stream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Where the media comes from, such as `rtsp://user:${CAMERA_PASSWORD}@192.0.2.10/stream1`, `/srv/clip.mp4` or
    /// `https://example.org/live.m3u8`. `${NAME}` is replaced by that environment variable, percent-encoded.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// Which profile to run.
    #[serde(default = "default_profile")]
    #[schemars(with = "String")]
    pub profile: Spanned<String>,
    /// Free key-value pairs, written into every event of the stream.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How to connect.
    #[serde(default)]
    pub source: SourceConfig,
}

/// The service as a whole.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Seconds that each sink has, once the streams have stopped, to deliver what is on its way. What a spool on disk still
    /// holds then waits for the next start.
    pub grace_secs: u64,
    /// Log filter: `error`, `warn`, `info`, `debug`, or directives such as `info,ingest=debug`.
    pub log: String,
    /// Log as JSON lines instead of readable text.
    pub log_json: bool,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self { grace_secs: 10, log: "info".into(), log_json: false }
    }
}

impl ServiceConfig {
    /// The grace period.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_secs)
    }
}

fn default_profile() -> Spanned<String> {
    Spanned::new(0..0, "default".into())
}

/// A stream, checked and ready to be spawned.
pub struct CheckedStream {
    /// Its name.
    pub name: StreamName,
    /// Its URL, environment variables put in.
    pub url: SourceUrl,
    /// Its profile.
    pub profile: ProfileConfig,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// How to connect.
    pub source: SourceConfig,
}

/// A configuration that can be started.
pub struct Checked {
    /// The streams, in name order.
    pub streams: Vec<CheckedStream>,
    /// The sinks.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// How detectors run.
    pub inference: EngineConfig,
    /// How transcribers run.
    pub speech: SpeechPoolConfig,
    /// The HTTP service, if there is to be one.
    pub http: Option<HttpConfig>,
    /// Players.
    pub hls: HlsConfig,
    /// The service.
    pub service: ServiceConfig,
}

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it, each with its place in the file.
pub fn load(path: &Path) -> Result<Checked, Problems> {
    let text = std::fs::read_to_string(path).map_err(|e| Problems::unreadable(path, &e))?;
    parse(&path.display().to_string(), &text, &|name| std::env::var(name).ok())
}

/// Checks a text; `origin` is what messages call it, `env` looks up an environment variable.
///
/// # Errors
/// As [`load`].
pub fn parse(origin: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Checked, Problems> {
    let config: Config =
        toml::from_str(text).map_err(|e| Problems::new(origin, text, vec![Problem::from_toml(text, &e)]))?;
    let places = Places::read(text);
    let mut problems = Vec::new();
    let mut streams = Vec::new();
    let profile_names: Vec<&str> = config.profiles.keys().map(String::as_str).chain(["default"]).collect();
    // A stream with a bad name is checked under this one, so that all mistakes are told at once.
    let fallback = StreamName::new("stream").expect("`stream` is a stream name");
    for (name, stream) in &config.streams {
        let checked_name =
            StreamName::new(name.get_ref()).map_err(|e| problems.push(Problem::at(name.span(), e.to_string()))).ok();
        // Percent-encoded, so that any password fits into a URL.
        let url = expand(stream.url.get_ref(), env, base::redact::percent_encoded)
            .map_err(|e| problems.push(Problem::at(stream.url.span(), e)))
            .ok()
            .and_then(|full| {
                let checked = source_url(&full).and_then(|url| {
                    let name = checked_name.clone().unwrap_or_else(|| fallback.clone());
                    ingest::check(&name, &url, &stream.source).map_err(|e| e.to_string())?;
                    Ok(url)
                });
                checked.map_err(|e| problems.push(Problem::at(stream.url.span(), e))).ok()
            });
        let profile = match config.profiles.get(stream.profile.get_ref()) {
            Some(profile) => Some(profile.clone()),
            None if stream.profile.get_ref() == "default" => Some(ProfileConfig::default()),
            None => {
                let what = format!("no profile is called `{}`", stream.profile.get_ref());
                problems.push(
                    Problem::at(stream.profile.span(), what)
                        .with_suggestion(stream.profile.get_ref(), profile_names.iter().copied()),
                );
                None
            }
        };
        if let (Some(name), Some(url), Some(profile)) = (checked_name, url, profile) {
            streams.push(CheckedStream {
                name,
                url,
                profile,
                tags: stream.tags.clone(),
                source: stream.source.clone(),
            });
        }
    }
    for (name, profile) in &config.profiles {
        let wrong = |cause: String| {
            let place = places.named(&["profiles", name], &cause);
            Problem::at(place, format!("profile `{name}`: {cause}"))
        };
        let checked = profile;
        problems.extend(checked.sampling.check().err().map(|e| wrong(e.to_string())));
        let store = ModelStore::open_default();
        match checked.detector().map(|model| store.resolve(model)) {
            Some(Err(e)) => problems.push(wrong(e.to_string())),
            Some(Ok(model)) => {
                problems.extend(checked.filter().thresholds(&model.manifest).err().map(|e| wrong(e.to_string())));
            }
            None if checked.transcriber().is_none() => {
                problems.push(wrong("neither `detect` nor `transcribe` names a model: nothing would be done".into()));
            }
            None => {}
        }
        match checked.transcriber().map(|model| store.resolve(model)) {
            Some(Err(e)) => problems.push(wrong(e.to_string())),
            Some(Ok(model)) if model.manifest.task != Task::Transcribe => {
                let (name, task) = (&model.manifest.name, model.manifest.task.as_str());
                problems.push(wrong(format!("`transcribe`: model `{name}` is for `{task}`, not for `transcribe`")));
            }
            _ => {}
        }
        problems.extend(checked.speech.check().err().map(|e| wrong(format!("speech: {e}"))));
        problems.extend(checked.captions.check().err().map(|e| wrong(format!("captions: {e}"))));
        problems.extend(checked.tracker.check().err().map(|e| wrong(e.to_string())));
        if checked.min_score.iter().chain(checked.class_scores.values()).any(|s| !(0.0..=1.0).contains(s)) {
            problems.push(wrong("`min_score` and `class_scores` lie between 0 and 1".into()));
        }
    }
    if let Err(e) = config.inference.check() {
        problems.push(Problem::at(places.named(&["inference"], &e.to_string()), e.to_string()));
    }
    if let Err(e) = config.speech.check() {
        problems.push(Problem::at(places.named(&["speech"], &e.to_string()), e.to_string()));
    }
    let mut http = None;
    if let Some(table) = config.http {
        let mut checked = table;
        let wrong = |e: String| Problem::at(places.named(&["http"], &e), format!("http: {e}"));
        if let Some(token) = &checked.token {
            match expand(token.expose_secret(), env, |value| value.to_owned()) {
                Ok(token) => checked.token = Some(token.into()),
                Err(e) => problems.push(wrong(format!("`token`: {e}"))),
            }
        }
        problems.extend(checked.check().err().map(|e| wrong(e.to_string())));
        http = Some(checked);
    }
    if let Err(e) = config.hls.check() {
        problems.push(Problem::at(places.named(&["hls"], &e.to_string()), e.to_string()));
    }
    problems.extend(check_sinks(text, &places, &config.sinks));
    if !problems.is_empty() {
        return Err(Problems::new(origin, text, problems));
    }
    let sinks = if config.sinks.is_empty() {
        default_sinks(FileConfig::new("eyewitness-out/events.jsonl"))
    } else {
        config.sinks
    };
    let Config { inference, speech, hls, service, .. } = config;
    Ok(Checked { streams, sinks, inference, speech, http, hls, service })
}

/// The sinks of a file, checked as [`load`] does; the rest of it is not looked at.
///
/// # Errors
/// As [`load`].
pub fn load_sinks(path: &Path) -> Result<BTreeMap<String, SinkConfig>, Problems> {
    /// What of the file is read.
    #[derive(Deserialize)]
    struct OnlySinks {
        #[serde(default)]
        sinks: BTreeMap<String, SinkConfig>,
    }
    let text = std::fs::read_to_string(path).map_err(|e| Problems::unreadable(path, &e))?;
    let origin = path.display().to_string();
    let wrong = |problems| Problems::new(&origin, &text, problems);
    let OnlySinks { sinks } = toml::from_str(&text).map_err(|e| wrong(vec![Problem::from_toml(&text, &e)]))?;
    let problems = check_sinks(&text, &Places::read(&text), &sinks);
    if problems.is_empty() { Ok(sinks) } else { Err(wrong(problems)) }
}

fn check_sinks(text: &str, places: &Places<'_>, sinks: &BTreeMap<String, SinkConfig>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, sink) in sinks {
        if let Err(e) = sink.validate() {
            let place = match &e {
                SinkError::Config { key, .. } => places.of_dotted(&["sinks", name], key),
                _ => places.of(["sinks", name]),
            };
            problems.push(Problem::at(place, format!("sink `{name}`: {e}")));
        }
    }
    problems.extend(shared::check(text, places, sinks.keys()));
    problems
}

/// The embedded default: no broker needed.
pub fn default_sinks(file: FileConfig) -> BTreeMap<String, SinkConfig> {
    BTreeMap::from([
        ("console".to_owned(), SinkConfig::Console(ConsoleConfig::default())),
        ("file".to_owned(), SinkConfig::File(file)),
    ])
}

/// A URL, or a path on this machine.
///
/// # Errors
/// In words.
pub fn source_url(text: &str) -> Result<SourceUrl, String> {
    ingest::source_url(text).map_err(|e| e.to_string())
}

/// Puts environment variables in, each as `encode` writes it.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>, encode: impl Fn(&str) -> String) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, next) = after.split_once('}').ok_or_else(|| "`${` without its `}`".to_owned())?;
        let value = env(name).ok_or_else(|| format!("environment variable `{name}` is not set"))?;
        out.push_str(before);
        out.push_str(&encode(&value));
        rest = next;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
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
        check("[streams.a]\nurl = 'rtsp://u:${NOT_SET}@x/'", 2, &["`NOT_SET` is not set"]);
        check("[streams.'a b']\nurl = 'test://'", 1, &["no stream name"]);
        check("[profiles.default]\nsampling = { fps = 0 }", 2, &["fps"]);
        check("[profiles.default]\nsampling = { fsp = 1 }", 2, &["fsp", "did you mean `fps`"]);
        check("[sinks.k]\ntype = 'kafak'\nbrokers = 'x'", 2, &["kafak", "did you mean `kafka`"]);
        check("[sinks.f]\ntype = 'file'\npth = 'x'", 3, &["pth", "did you mean `path`"]);
        check("[streams.a]\nurl = 'rtsp://u:hunter2@x/'\n[service]\ngrace_secs = 'ten'", 4, &["grace_secs"]);
        check("[streams.a\nurl = 'rtsp://u:hunter2@x/'", 1, &["expected"]);
        check("[profiles.default]\ntrack = true\n[profiles.default.speech]\nstep_ms = 1", 4, &["step_ms"]);
        check("[hls]\npatience_ms = 1\nwindow = 1", 3, &["window"]);
        check("[speech]\nworkers = 1\nthreads = 0", 3, &["threads"]);
        check("[http]\nmax_clients = 7\nfeed_records = 0", 3, &["feed_records"]);
        let kafka = "[sinks.k]\ntype = 'kafka'\nbrokers = ['h:1']\n";
        check(&format!("{kafka}properties = {{ 'acks' = 0 }}"), 4, &["acks"]);
        check(&format!("{kafka}[sinks.k.spool]\nstore = 'disk'\nmax_bytes = 5"), 6, &["max_bytes"]);
        check(&format!("{kafka}[sinks.k.spool]\nmax_byte = 5"), 5, &["did you mean `max_bytes`"]);
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
}
