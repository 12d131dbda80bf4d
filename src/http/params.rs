//! Query parameters, strictly: what nobody reads is refused with a suggestion.

use url::form_urlencoded;

use super::error::Refusal;
use crate::{
    config::problem::nearest,
    feed::{Kind, Kinds},
};

/// Carries the token where a client can send no header (RFC 6750, section 2.3).
pub(super) const ACCESS_TOKEN: &str = "access_token";

/// The decoded parameters of one request.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query and refuses parameters that are not `known`, and those that come twice.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        Self::parse_repeated(query, known, &[])
    }

    /// The same; those of `repeatable` may come several times.
    pub(super) fn parse_repeated(query: Option<&str>, known: &[&str], repeatable: &[&str]) -> Result<Self, Refusal> {
        let mut params: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if name == ACCESS_TOKEN {
                continue;
            }
            if !known.contains(&&*name) {
                return Err(Refusal::bad(unknown("parameter", &name, known.iter().copied())));
            }
            if !repeatable.contains(&&*name) && params.iter().any(|(n, _)| *n == name) {
                return Err(Refusal::bad(format!("parameter `{name}` is there twice")));
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(params))
    }

    /// The value of a parameter; an empty one counts as not there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All that have a value, in their order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        self.get(name)
            .map(|v| v.parse().map_err(|_| Refusal::bad(format!("`{name}={v}` is no whole number"))))
            .transpose()
    }

    /// One of several words.
    pub(super) fn choice(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
        self.get(name).map(|value| one_of(name, value, words)).transpose()
    }

    /// Refuses values of a repeatable parameter that are none of these words.
    pub(super) fn check_words(&self, name: &str, words: &[&'static str]) -> Result<(), Refusal> {
        self.pairs().filter(|(n, _)| *n == name).try_for_each(|(_, value)| one_of(name, value, words).map(drop))
    }

    /// The parameter `types`, of what the feed keeps.
    pub(super) fn kinds(&self) -> Result<Option<Kinds>, Refusal> {
        self.get("types").map(|types| kinds(types.split(',').map(str::trim), &Kind::ALL)).transpose()
    }
}

/// What these words of `types` mean.
pub(super) fn kinds<'a>(words: impl Iterator<Item = &'a str>, known: &[Kind]) -> Result<Kinds, Refusal> {
    let all: Vec<&'static str> = known.iter().map(|kind| kind.plural()).collect();
    let mut kinds = Vec::new();
    for word in words {
        let word = one_of("types", word, &all)?;
        kinds.extend(known.iter().copied().find(|kind| kind.plural() == word));
    }
    Ok(Kinds::of(&kinds))
}

fn one_of(name: &str, value: &str, words: &[&'static str]) -> Result<&'static str, Refusal> {
    let found = words.iter().copied().find(|word| *word == value);
    found.ok_or_else(|| Refusal::bad(unknown(&format!("`{name}` of"), value, words.iter().copied())))
}

/// `unknown stream `front_door`; did you mean `front-door`? known: ...`.
pub(super) fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let shown: String = given.chars().take(64).collect();
    let meant = nearest(&shown, known.iter().copied()).map(|k| format!("; did you mean `{k}`?")).unwrap_or_default();
    let all = match known.as_slice() {
        [] => "there are none".to_owned(),
        some => format!("known: {}", some.join(", ")),
    };
    format!("unknown {what} `{shown}`{meant} ({all})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        let check = |query: &str, expected: Result<&[(&str, &str)], &str>| {
            let got = Params::parse(Some(query), &["types", "recent"]);
            match (got, expected) {
                (Ok(got), Ok(expected)) => {
                    let got: Vec<_> = got.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    assert_eq!(got, expected, "{query}");
                }
                (Err(got), Err(part)) => assert!(format!("{got:?}").contains(part), "{query}: {got:?}"),
                (got, expected) => panic!("{query}: {got:?}, not {expected:?}"),
            }
        };
        check("", Ok(&[]));
        check("types=a%2Cb&recent=3", Ok(&[("types", "a,b"), ("recent", "3")]));
        check("access_token=secret", Ok(&[]));
        check("type=a", Err("did you mean `types`"));
        check("recent=1&recent=2", Err("twice"));
    }

    #[test]
    fn kinds() {
        let check = |value: &str, expected: Result<&[Kind], &str>| {
            let got = Params(vec![("types".into(), value.into())]).kinds();
            match (got, expected) {
                (Ok(Some(got)), Ok(expected)) => assert_eq!(got, Kinds::of(expected), "{value}"),
                (Err(got), Err(part)) => assert!(format!("{got:?}").contains(part), "{value}: {got:?}"),
                (got, expected) => panic!("{value}: {got:?}, not {expected:?}"),
            }
        };
        check("captions", Ok(&[Kind::Caption]));
        check("captions, transcripts,gaps,status,alerts", Ok(&Kind::ALL));
        check("caption", Err("did you mean `captions`"));
        check("detections", Err("known: captions, transcripts, status, gaps, alerts"));
    }
}
