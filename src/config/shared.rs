//! Refuses two sinks that would write the same file, or have the same spool. Pure: looks at the text only.

use std::path::PathBuf;

use super::{
    places::Places,
    problem::{Problem, line_of},
};

/// A place on the disk that a sink wants for itself.
struct Claim {
    sink: String,
    /// As in the file; of a spool that is where it is by default, `spool.path`.
    key: &'static str,
    path: PathBuf,
}

/// One mistake for each sink that wants what an earlier one has.
pub(super) fn check<'a>(text: &str, places: &Places<'_>, names: impl Iterator<Item = &'a String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut claims: Vec<Claim> = Vec::new();
    for name in names {
        for claim in of_sink(places, name) {
            match claims.iter().find(|other| other.path == claim.path) {
                None => claims.push(claim),
                Some(other) => problems.push(refuse(text, places, other, &claim)),
            }
        }
    }
    problems
}

fn of_sink(places: &Places<'_>, name: &str) -> Vec<Claim> {
    let text = |key: &str| places.text(&["sinks", name].into_iter().chain(key.split('.')).collect::<Vec<_>>());
    let claim = |key: &'static str, default: Option<String>| {
        let path = std::path::absolute(text(key).map(str::to_owned).or(default)?).ok()?;
        Some(Claim { sink: name.to_owned(), key, path })
    };
    let has_far_end = !matches!(text("type"), Some("file" | "console" | "captions"));
    let has_spool = has_far_end && text("spool.store") != Some("memory");
    let letters = (text("type") == Some("webhook")).then(|| format!("eyewitness-out/dead-letters/{name}.jsonl"));
    let spool = has_spool.then(|| format!("eyewitness-out/spool/{name}"));
    [claim("path", None), claim("dead_letters", letters), claim("spool.path", spool)].into_iter().flatten().collect()
}

fn refuse(text: &str, places: &Places<'_>, other: &Claim, claim: &Claim) -> Problem {
    let place = |claim: &Claim| places.of_dotted(&["sinks", &claim.sink], claim.key);
    let (of_other, of_this) = (place(other), place(claim));
    let line = line_of(text, of_other.start);
    let message = format!(
        "sink `{}`: `{}` is the same place on disk as `{}` of sink `{}` (line {line}): give each its own",
        claim.sink, claim.key, other.key, other.sink
    );
    Problem::at(of_this, message)
}
