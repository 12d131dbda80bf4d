//! Whether rules can ever fire: what they look and listen for, against what profiles see and hear. Reads models' manifests,
//! nothing else.

use std::{collections::BTreeSet, sync::Arc};

use inference::{
    rules::config::{Condition, Settings},
    store::ModelStore,
};

use super::{CheckedStream, ProfileConfig, RuleBook, places::Places, problem::Problem};
use crate::control::check::Profiles;

/// What the streams of a profile have to be told of by rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Senses {
    /// The profile and its model, in words.
    shown: String,
    /// Classes that can be reported; none where that is not known, as of a model server.
    classes: Option<Vec<Arc<str>>>,
    looks: bool,
    listens: bool,
}

/// What is in the way of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The key under the rule's table.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// A word that nobody knows, and those that are known.
    pub unknown: Option<(String, Vec<String>)>,
}

impl Senses {
    /// Of a profile by this name; none where its model cannot be found, of which others tell.
    pub fn of(name: &str, profile: &ProfileConfig) -> Option<Self> {
        let model = profile.detector().map(|model| ModelStore::open_default().resolve(model)).transpose().ok()?;
        let labels = model.as_ref().and_then(|model| model.manifest.labels.as_ref()).map(|labels| labels.names());
        let reported = profile.classes.iter().map(|class| Arc::from(class.as_str())).collect::<Vec<_>>();
        let classes = if reported.is_empty() { labels } else { Some(reported) };
        let shown = match profile.detector() {
            Some(model) => format!("profile `{name}` (model `{model}`)"),
            None => format!("profile `{name}`"),
        };
        let looks = profile.detector().is_some() || profile.endpoint.is_some();
        Some(Self { shown, classes, looks, listens: profile.transcriber().is_some() })
    }

    fn knows(&self, class: &str) -> bool {
        self.classes.as_ref().is_none_or(|classes| classes.iter().any(|known| **known == *class))
    }
}

/// Holds what a rule says against these. `all`: each of them must do; else one is enough.
pub fn misfits(settings: &Settings, senses: &[Senses], all: bool) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    // The one that does not do, where that is in the way.
    let in_the_way = |does: &dyn Fn(&Senses) -> bool| {
        let fails = senses.iter().find(|senses| !does(senses));
        fails.filter(|_| all || !senses.iter().any(does))
    };
    for (key, condition) in settings.when.keys().into_iter().zip(settings.when.parts()) {
        if condition.listens()
            && let Some(deaf) = in_the_way(&|senses| senses.listens)
        {
            let word = if matches!(condition, Condition::Said { .. }) { "said" } else { "speech" };
            let what =
                format!("`{word}` needs somebody who listens, and {} does not: set `transcribe` there", deaf.shown);
            misfits.push(Misfit { key: format!("{key}.type"), what, unknown: None });
        }
        let Some(objects) = condition.objects() else { continue };
        if let Some(blind) = in_the_way(&|senses| senses.looks) {
            let what =
                format!("it is about objects, and {} does not look at pictures: set `detect` there", blind.shown);
            misfits.push(Misfit { key: format!("{key}.type"), what, unknown: None });
            continue;
        }
        for class in &objects.classes {
            if let Some(ignorant) = in_the_way(&|senses| senses.looks && senses.knows(class)) {
                let what = format!("{} reports no class `{class}`", ignorant.shown);
                let known = ignorant.classes.iter().flatten().map(|known| known.to_string()).collect();
                let unknown = Some((class.clone(), known));
                misfits.push(Misfit { key: format!("{key}.objects.classes"), what, unknown });
            }
        }
    }
    misfits
}

/// Holds the rules of a file against the profiles of the streams that they are for. A rule that selects its streams must fit
/// each of them; one that is for all must fit one. `attachable`: others may be attached, of any profile.
pub(super) fn check(
    places: &Places<'_>,
    rules: &RuleBook,
    streams: &[(CheckedStream, String)],
    profiles: &Profiles,
    attachable: bool,
) -> Vec<Problem> {
    let default = ProfileConfig::default();
    let senses_of = |name: &str| Senses::of(name, profiles.get(name).unwrap_or(&default));
    let mut problems = Vec::new();
    for entry in rules.entries() {
        let (name, select) = (entry.rule.name(), &entry.config.select);
        let is_for = |(stream, _): &&(CheckedStream, String)| entry.is_for(stream.name.as_str(), &stream.tags);
        let mut bound: BTreeSet<&str> = streams.iter().filter(is_for).map(|(_, profile)| profile.as_str()).collect();
        let all = !select.is_empty() && !bound.is_empty();
        if bound.is_empty() || attachable && !all {
            bound.extend(profiles.keys().map(String::as_str));
            bound.insert(crate::control::selectors::DEFAULT_PROFILE);
        }
        // A profile whose model is missing has its own mistake told.
        let Some(senses) = bound.into_iter().map(senses_of).collect::<Option<Vec<_>>>() else { continue };
        for Misfit { key, what, unknown } in misfits(entry.rule.settings(), &senses, all) {
            // A place in a list is a place of the list.
            let known: Vec<&str> = key.split('.').take_while(|part| part.parse::<usize>().is_err()).collect();
            let place = places.of_dotted(&["rules", name], &known.join("."));
            let problem = Problem::at(place, format!("rule `{name}`: `{key}`: {what}"));
            problems.push(match &unknown {
                Some((class, known)) => problem.with_suggestion(class, known.iter().map(String::as_str)),
                None => problem,
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    /// Checks a text; gives everything that is wrong with it.
    fn wrong(text: &str) -> String {
        parse("x.toml", text, &|_| None).err().map(|problems| problems.to_string()).unwrap_or_default()
    }

    #[test]
    fn rules_fit_the_profiles_of_their_streams() {
        let check = |text: &str, line: usize, parts: &[&str]| {
            let told = wrong(text);
            assert_eq!(told.is_empty(), parts.is_empty(), "{text}: {told}");
            assert!(parts.is_empty() || told.contains(&format!("x.toml:{line}:")), "{text}: {told}");
            for part in parts {
                assert!(told.contains(part), "{part}: {told}");
            }
        };
        let stream = "[streams.a]\nurl = 'test://'\n[rules.r]\n";
        let zone =
            |class: &str| format!("{stream}when = {{ type = 'appeared', objects = {{ classes = ['{class}'] }} }}\n");
        check(&zone("person"), 0, &[]);
        check(&zone("persn"), 4, &["rule `r`", "`when.objects.classes`", "`ssdlite-mbv2`", "did you mean `person`?"]);
        check(&format!("{}[profiles.default]\nclasses = ['car']\n", zone("person")), 4, &["reports no class `person`"]);
        // What a model server answers is not known.
        let endpoint = "[profiles.default]\nendpoint = { url = 'http://h/', protocol = 'http' }\n";
        let told = wrong(&format!("{}{endpoint}", zone("forklift")));
        assert!(!told.contains("forklift"), "{told}");
        let listening = "[profiles.p]\ntranscribe = 'whisper-tiny.en'\n";
        let said = "when = { type = 'said', phrases = ['help'] }\n";
        check(&format!("{stream}{said}"), 4, &["rule `r`", "`said`", "profile `default`", "set `transcribe`"]);
        let both = "when = { type = 'all', of = [{ type = 'appeared' }, { type = 'speech', present = true }] }\n";
        check(&format!("{stream}{both}"), 4, &["`when.of.1.type`", "`speech`"]);
        // One that is for all fires where it can; nobody has that profile.
        check(&format!("{stream}{said}{listening}"), 4, &["set `transcribe`"]);
        check(&format!("{stream}{said}{listening}[http]\n"), 0, &[]);
        let hall = "[streams.hall]\nurl = 'test://'\nprofile = 'p'\n";
        check(&format!("{stream}{said}{listening}{hall}"), 0, &[]);
        // One that selects must do for each.
        check(&format!("{stream}{said}select = {{ names = ['hall'] }}\n{listening}{hall}"), 0, &[]);
        check(&format!("{stream}{said}select = {{ names = ['*'] }}\n{listening}{hall}"), 4, &["profile `default`"]);
        // For streams that are to come.
        check(&format!("[http]\n[rules.r]\n{said}"), 3, &["set `transcribe`"]);
        check(&format!("[http]\n[rules.r]\n{said}{listening}"), 0, &[]);
        let deaf = "[profiles.default]\ndetect = 'none'\ntranscribe = 'whisper-tiny.en'\n";
        check(&format!("{}{deaf}", zone("person")), 4, &["does not look at pictures"]);
    }
}
