//! Checks a configuration whole: every mistake is told, with its place. Reads models' manifests and the secrets of
//! configured streams, nothing else.

use std::collections::BTreeMap;

use base::{expand::expand, media::StreamName};
use inference::{InferenceError, manifest::Task, store::ModelStore};
use secrecy::ExposeSecret as _;
use serde_spanned::Spanned;
use sinks::{SinkConfig, SinkError, control::ClusterConfig, file::FileConfig};

use super::{
    Checked, CheckedStream, Config, NO_MODEL, ProfileConfig, RuleBook, StreamConfig, default_sinks,
    places::Places,
    problem::{Problem, Problems},
    shared,
};
use crate::{
    control::{
        check::{check_tags, profile_settings},
        secrets::{self, Secrets},
        selectors::{DEFAULT_PROFILE, profile_for},
    },
    traces::TracesConfig,
};

/// Looks up an environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Checks a text; `origin` is what messages call it, `env` looks up an environment variable.
///
/// # Errors
/// Everything that is wrong with it, each with its place in the text.
pub fn parse(origin: &str, text: &str, env: Env<'_>) -> Result<Checked, Problems> {
    let config: Config =
        toml::from_str(text).map_err(|e| Problems::new(origin, text, vec![Problem::from_toml(text, &e)]))?;
    let places = Places::read(text);
    let mut problems = Vec::new();
    let Config {
        streams,
        profiles,
        rules,
        sinks,
        inference,
        speech,
        http,
        evidence,
        hls,
        traces,
        cluster,
        attachments,
        secrets,
        service,
    } = config;
    for (name, secret) in &secrets {
        let checked = secrets::check_name(name).and_then(|()| secret.check());
        if let Err(e) = checked {
            problems.push(Problem::at(places.named(&["secrets", name], &e), format!("secret `{name}`: {e}")));
        }
    }
    let folder = attachments.as_ref().and_then(|attachments| attachments.secrets_folder.clone());
    let secrets = Secrets::new(secrets, folder);
    let rules = super::rules::check(&places, rules, &mut problems);
    let mut checked_streams = Vec::new();
    for (name, stream) in &streams {
        let checked_name =
            StreamName::new(name.get_ref()).map_err(|e| problems.push(Problem::at(name.span(), e.to_string()))).ok();
        let scene = Scene { env, profiles: &profiles, rules: &rules, secrets: &secrets, places: &places };
        checked_streams.extend(scene.stream(name.get_ref(), checked_name, stream, &mut problems));
    }
    for (name, profile) in &profiles {
        for cause in wrong_with(profile) {
            let place = places.named(&["profiles", name], &cause);
            problems.push(Problem::at(place, format!("profile `{name}`: {cause}")));
        }
        problems.extend(check_endpoint(&places, name, profile));
    }
    if let Err(e) = inference.check() {
        problems.push(Problem::at(places.named(&["inference"], &e.to_string()), e.to_string()));
    }
    if let Err(e) = speech.check() {
        problems.push(Problem::at(places.named(&["speech"], &e.to_string()), e.to_string()));
    }
    if let Some(cluster) = &cluster {
        problems.extend(check_cluster(cluster, &streams, &places));
    }
    let mut checked_http = None;
    if let Some(mut checked) = http {
        let wrong = |e: String| Problem::at(places.named(&["http"], &e), format!("http: {e}"));
        if let Some(token) = &checked.token {
            match expand(token.expose_secret(), env) {
                Ok(token) => checked.token = Some(token.into()),
                Err(e) => problems.push(wrong(format!("`token`: {e}"))),
            }
        }
        if let Some(address) = checked.advertise.take() {
            match expand(&address, env) {
                Ok(address) => checked.advertise = Some(address),
                Err(e) => problems.push(wrong(format!("`advertise`: {e}"))),
            }
        }
        problems.extend(checked.check().err().map(|e| wrong(e.to_string())));
        checked_http = Some(checked);
    }
    if let Err(e) = evidence.check() {
        problems.push(Problem::at(places.named(&["evidence"], &e.to_string()), e.to_string()));
    }
    if let Err(e) = hls.check() {
        problems.push(Problem::at(places.named(&["hls"], &e.to_string()), e.to_string()));
    }
    if let Some(Err(e)) = traces.as_ref().map(TracesConfig::check) {
        problems.push(Problem::at(places.named(&["traces"], &e.to_string()), format!("traces: {e}")));
    }
    problems.extend(check_sinks(text, &places, &sinks));
    problems.extend(unknown_sinks(&places, &profiles, &sinks));
    if !problems.is_empty() {
        return Err(Problems::new(origin, text, problems));
    }
    let sinks = if sinks.is_empty() { default_sinks(FileConfig::new("eyewitness-out/events.jsonl")) } else { sinks };
    Ok(Checked {
        streams: checked_streams,
        profiles,
        rules,
        secrets,
        attachments,
        cluster,
        sinks,
        inference,
        speech,
        http: checked_http,
        evidence,
        hls,
        traces,
        service,
    })
}

fn check_cluster(
    cluster: &ClusterConfig,
    streams: &BTreeMap<Spanned<String>, StreamConfig>,
    places: &Places<'_>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(e) = cluster.check() {
        let place = match &e {
            SinkError::Config { key, .. } => places.of_dotted(&["cluster"], key),
            _ => places.of(["cluster"]),
        };
        problems.push(Problem::at(place, format!("cluster: {e}")));
    }
    if let Some(name) = streams.keys().next() {
        let wrong = format!(
            "stream `{0}`: with [cluster], a stream of this file would be run by every worker that reads it; attach it \
             instead (`eyewitness attach URL --name {0}`, or a file in attachments.folder), and one worker runs it",
            name.get_ref()
        );
        problems.push(Problem::at(name.span(), wrong));
    }
    problems
}

/// What a stream of the file is held against.
struct Scene<'a> {
    env: Env<'a>,
    profiles: &'a BTreeMap<String, ProfileConfig>,
    rules: &'a RuleBook,
    secrets: &'a Secrets,
    places: &'a Places<'a>,
}

impl Scene<'_> {
    /// `name` is none where it is no name of a stream, which was told already.
    fn stream(
        &self,
        written: &str,
        name: Option<StreamName>,
        stream: &StreamConfig,
        problems: &mut Vec<Problem>,
    ) -> Option<CheckedStream> {
        // A stream with a bad name is checked under this one, so that all mistakes are told at once.
        let any_name = || StreamName::new("stream").expect("`stream` is a stream name");
        // Percent-encoded, so that any password fits into a URL.
        let encoded = |name: &str| (self.env)(name).map(|value| base::redact::percent_encoded(&value));
        let full = expand(stream.url.get_ref(), encoded)
            .map_err(|e| problems.push(Problem::at(stream.url.span(), e.to_string())))
            .ok();
        let url = full.and_then(|full| {
            let wrong = |e| Problem::at(stream.url.span(), e);
            let checked = match &stream.credentials {
                None => super::source_url(&full).map_err(wrong),
                Some(secret) => {
                    self.secrets.url_with(&full, secret.get_ref()).map_err(|e| Problem::at(secret.span(), e))
                }
            };
            let checked = checked.and_then(|url| {
                let name = name.clone().unwrap_or_else(any_name);
                ingest::check(&name, &url, &stream.source).map_err(|e| wrong(e.to_string()))?;
                Ok(url)
            });
            checked.map_err(|problem| problems.push(problem)).ok()
        });
        let explicit = stream.profile.as_ref().map(|profile| profile.get_ref().as_str());
        let profile = match profile_for(written, &stream.tags, explicit, self.profiles) {
            Ok(chosen) => Some(profile_settings(chosen, self.profiles)),
            Err(_) => {
                let (found, span) = (explicit.unwrap_or_default(), stream.profile.as_ref().map(|p| p.span()));
                let known = self.profiles.keys().map(String::as_str).chain([DEFAULT_PROFILE]);
                let problem = Problem::at(span.unwrap_or_default(), format!("no profile is called `{found}`"));
                problems.push(problem.with_suggestion(found, known));
                None
            }
        };
        for wrong in check_tags(&stream.tags) {
            problems.push(Problem::at(self.places.named(&["streams", written], "`tags`"), wrong));
        }
        Some(CheckedStream {
            name: name?,
            url: url?,
            profile: profile?,
            tags: stream.tags.clone(),
            source: stream.source.clone(),
            rules: self.rules.of(written, &stream.tags),
        })
    }
}

/// What cannot be meant in a profile, or be run on this machine.
fn wrong_with(profile: &ProfileConfig) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(profile.select.check().err());
    wrong.extend(profile.sampling.check().err().map(|e| e.to_string()));
    let store = ModelStore::open_default();
    match profile.detector().map(|model| store.resolve(model)) {
        Some(Err(e)) => wrong.push(e.to_string()),
        Some(Ok(model)) => {
            wrong.extend(profile.filter().thresholds(&model.manifest).err().map(|e| e.to_string()));
        }
        None if profile.transcriber().is_none() && profile.endpoint.is_none() => {
            wrong.push(
                "neither `detect` nor `transcribe` names a model, and there is no `endpoint`: nothing would be done"
                    .into(),
            );
        }
        None => {}
    }
    match profile.transcriber().map(|model| store.resolve(model)) {
        Some(Err(e)) => wrong.push(e.to_string()),
        Some(Ok(model)) if model.manifest.task != Task::Transcribe => {
            let (name, task) = (&model.manifest.name, model.manifest.task.as_str());
            wrong.push(format!("`transcribe`: model `{name}` is for `{task}`, not for `transcribe`"));
        }
        _ => {}
    }
    wrong.extend(profile.speech.check().err().map(|e| format!("speech: {e}")));
    wrong.extend(profile.captions.check().err().map(|e| format!("captions: {e}")));
    wrong.extend(profile.tracker.check().err().map(|e| e.to_string()));
    if profile.min_score.iter().chain(profile.class_scores.values()).any(|s| !(0.0..=1.0).contains(s)) {
        wrong.push("`min_score` and `class_scores` lie between 0 and 1".into());
    }
    wrong
}

/// An endpoint's mistakes, and whether it stands beside a detector.
fn check_endpoint(places: &Places<'_>, name: &str, profile: &ProfileConfig) -> Vec<Problem> {
    let Some(endpoint) = &profile.endpoint else { return Vec::new() };
    let mut problems = Vec::new();
    if places.text(&["profiles", name, "detect"]).is_some_and(|model| model != NO_MODEL) {
        let message = format!("profile `{name}`: `detect` and `endpoint` both look at the pictures: take one out");
        problems.push(Problem::at(places.of(["profiles", name, "detect"]), message));
    }
    let table = ["profiles", name, "endpoint"];
    if let Err(e) = endpoint.check() {
        let place = match &e {
            InferenceError::Endpoint { key, .. } => places.of_dotted(&table, key),
            _ => places.of(table),
        };
        problems.push(Problem::at(place, format!("profile `{name}`: endpoint: {e}")));
    }
    if let Err(e) = endpoint.thresholds(&profile.filter()) {
        let cause = e.to_string();
        problems.push(Problem::at(places.named(&["profiles", name], &cause), format!("profile `{name}`: {cause}")));
    }
    problems
}

/// Sinks that a profile names and that are not there.
fn unknown_sinks(
    places: &Places<'_>,
    profiles: &BTreeMap<String, ProfileConfig>,
    sinks: &BTreeMap<String, SinkConfig>,
) -> Vec<Problem> {
    let by_default = default_sinks(FileConfig::new("eyewitness-out/events.jsonl"));
    let known = || if sinks.is_empty() { by_default.keys() } else { sinks.keys() }.map(String::as_str);
    let of_profile = |(name, profile): (&String, &ProfileConfig)| {
        let unknown = profile.sinks.iter().filter(|sink| !known().any(|known| known == *sink));
        let problem = |sink: &String| {
            let place = places.of(["profiles", name, "sinks"]);
            let problem = Problem::at(place, format!("profile `{name}`: `sinks`: no sink is called `{sink}`"));
            problem.with_suggestion(sink, known())
        };
        unknown.map(problem).collect::<Vec<_>>()
    };
    profiles.iter().flat_map(of_profile).collect()
}

pub(super) fn check_sinks(text: &str, places: &Places<'_>, sinks: &BTreeMap<String, SinkConfig>) -> Vec<Problem> {
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
