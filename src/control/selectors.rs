//! Which profile a stream gets: names, globs and tags. The lists of the HTTP service narrow themselves down with the same
//! patterns and tag filters. Pure, no thread of its own.

use std::{collections::BTreeMap, fmt};

use globset::{GlobBuilder, GlobMatcher};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor, value},
};

use super::desk::Listed;
use crate::config::{
    ProfileConfig,
    problem::{candidates, nearest},
};

/// The profile that exists even if nobody wrote it.
pub const DEFAULT_PROFILE: &str = "default";

/// The state, in lists, of a stream that no worker has.
pub const WAITING: &str = "waiting";

/// Bytes of a pattern, and braces in it.
const LONGEST_PATTERN: usize = 512;
const MOST_BRACES: usize = 8;

/// The name of a stream, exact (`front-door`) or as a pattern: `*` is any text, `?` one character, `[ab]` one of these,
/// `{front,back}` one of these words. Upper and lower case differ.
#[derive(Debug, Clone)]
pub struct NamePattern {
    text: String,
    matcher: GlobMatcher,
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// In words.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty text fits no stream: write a name, or a pattern such as `gate-*`".into());
        }
        // The library recurses into braces, and a request may bring any text.
        if text.len() > LONGEST_PATTERN || text.matches('{').count() > MOST_BRACES {
            return Err(format!(
                "a pattern of {} bytes: at most {LONGEST_PATTERN}, and {MOST_BRACES} pairs of braces",
                text.len()
            ));
        }
        let glob = GlobBuilder::new(text).backslash_escape(false).build();
        let glob = glob.map_err(|e| format!("`{text}` is no pattern of names: {}", e.kind()))?;
        Ok(Self { text: text.into(), matcher: glob.compile_matcher() })
    }

    /// Whether a name fits.
    pub fn fits(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(de)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for NamePattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl JsonSchema for NamePattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NamePattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// A tag that a stream must have, such as `{ key = "Location", values = ["Front", "Yard"] }`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagFilter {
    /// The tag's key; upper and lower case differ.
    pub key: String,
    /// Values of which the tag must have one. Without any, every value will do.
    #[serde(default)]
    pub values: Vec<String>,
}

impl TagFilter {
    /// Whether these tags fit.
    pub fn fits(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(&self.key).is_some_and(|found| self.values.is_empty() || self.values.contains(found))
    }
}

/// Streams that a profile is for: those that fit all that is written here.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    /// Names, exact or as patterns such as `gate-*`; one of them must fit. Without any, every name will do.
    pub names: Vec<NamePattern>,
    /// Tags, all of which must fit. Without any, every tag will do.
    pub tags: Vec<TagFilter>,
}

impl Selector {
    /// Whether a stream of this name with these tags fits.
    pub fn fits(&self, name: &str, tags: &BTreeMap<String, String>) -> bool {
        (self.names.is_empty() || self.names.iter().any(|pattern| pattern.fits(name)))
            && self.tags.iter().all(|filter| filter.fits(tags))
    }

    fn asks_nothing(&self) -> bool {
        self.names.is_empty() && self.tags.is_empty()
    }
}

/// One selector, or a list of which any may fit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selectors(Vec<Selector>);

impl Selectors {
    /// Whether a stream fits; without selectors none does.
    pub fn fit(&self, name: &str, tags: &BTreeMap<String, String>) -> bool {
        self.0.iter().any(|selector| selector.fits(name, tags))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        if self.0.iter().any(Selector::asks_nothing) {
            return Err("`select` has neither `names` nor `tags`; for every stream write names = [\"*\"]".into());
        }
        let empty = self.0.iter().flat_map(|selector| &selector.tags).any(|filter| filter.key.is_empty());
        if empty { Err("`select`: the `key` of a tag is empty".into()) } else { Ok(()) }
    }
}

impl Serialize for Selectors {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(to),
            list => list.serialize(to),
        }
    }
}

impl From<Selector> for Selectors {
    fn from(selector: Selector) -> Self {
        Self(vec![selector])
    }
}

impl<'de> Deserialize<'de> for Selectors {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        // Not an untagged choice: that would not tell which key is wrong.
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Selectors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `names` and `tags`, or a list of such")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selectors, A::Error> {
                Selector::deserialize(value::MapAccessDeserializer::new(map)).map(Selectors::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Selectors, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(list)).map(Selectors)
            }
        }
        de.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for Selectors {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Selectors".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Selector>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// The profile of a stream: the one that it names; else the first, by name, whose selectors fit; else `default`.
///
/// # Errors
/// When it names one that there is not, in words.
pub fn profile_for<'a>(
    name: &str,
    tags: &BTreeMap<String, String>,
    explicit: Option<&'a str>,
    profiles: &'a BTreeMap<String, ProfileConfig>,
) -> Result<&'a str, String> {
    match explicit {
        Some(wanted) if wanted == DEFAULT_PROFILE || profiles.contains_key(wanted) => Ok(wanted),
        Some(wanted) => {
            let known = || profiles.keys().map(String::as_str).filter(|name| *name != DEFAULT_PROFILE);
            let hint = candidates(wanted, known().chain([DEFAULT_PROFILE])).unwrap_or_default();
            Err(format!("no profile is called `{wanted}`; {hint}"))
        }
        None => {
            let chosen = profiles.iter().find(|(_, profile)| profile.select.fit(name, tags));
            Ok(chosen.map_or(DEFAULT_PROFILE, |(name, _)| name.as_str()))
        }
    }
}

/// What a list of streams is narrowed down to. All that is given must fit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    names: Vec<NamePattern>,
    tags: Vec<TagFilter>,
    profiles: Vec<String>,
    states: Vec<String>,
    workers: Vec<String>,
}

/// The parameters that [`Filter::parse`] reads.
pub const FILTER_PARAMETERS: [&str; 5] = ["name", "tag", "profile", "state", "worker"];

/// States that a stream can have in a list.
pub const STATES: [&str; 8] =
    ["starting", "connecting", "playing", "interrupted", "ended", "failed", "stopped", WAITING];

impl Filter {
    /// Reads query parameters: `name=gate-*`, `tag=Location:Front` (or `tag=Location` for any value, or KIT's
    /// `tag={"key":"Location","values":["Front"]}`, or a list of those), `profile=`, `state=`, `worker=`. One that comes
    /// more than once asks for any of its values; tags with different keys must all fit.
    ///
    /// # Errors
    /// In words.
    pub fn parse<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut filter = Self::default();
        for (parameter, value) in parameters {
            match parameter {
                "name" => filter.names.push(NamePattern::new(value).map_err(|e| format!("`name`: {e}"))?),
                "tag" => tags_of(value)?.into_iter().for_each(|tag| filter.add_tag(tag)),
                "profile" => filter.profiles.push(value.to_owned()),
                "worker" => filter.workers.push(value.to_owned()),
                "state" if STATES.contains(&value) => filter.states.push(value.to_owned()),
                "state" => {
                    let hint = candidates(value, STATES.into_iter()).unwrap_or_default();
                    return Err(format!("`state`: there is no state `{value}`; {hint}"));
                }
                other => {
                    let near = nearest(other, FILTER_PARAMETERS.into_iter());
                    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    return Err(format!("unknown parameter `{other}`{hint}"));
                }
            }
        }
        Ok(filter)
    }

    /// Whether a stream is to be shown.
    pub fn fits(&self, name: &str, listed: &Listed) -> bool {
        let any = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|w| w == found);
        let report = listed.report.as_ref();
        (self.names.is_empty() || self.names.iter().any(|pattern| pattern.fits(name)))
            && self.tags.iter().all(|filter| filter.fits(&listed.attachment.tags))
            && any(&self.profiles, &listed.profile)
            && any(&self.states, report.map_or(WAITING, |report| report.state.as_str()))
            && any(&self.workers, report.map_or("", |report| report.worker.as_str()))
    }

    /// The same key once more asks for any of its values.
    fn add_tag(&mut self, tag: TagFilter) {
        match self.tags.iter_mut().find(|known| known.key == tag.key) {
            Some(known) if known.values.is_empty() || tag.values.is_empty() => known.values.clear(),
            Some(known) => known.values.extend(tag.values),
            None => self.tags.push(tag),
        }
    }
}

/// The tags of one parameter.
fn tags_of(value: &str) -> Result<Vec<TagFilter>, String> {
    let json = |e: serde_json::Error| format!("`tag`: {e}; write {{\"key\":\"Location\",\"values\":[\"Front\"]}}");
    let tags = match value.trim_start().chars().next() {
        Some('{') => vec![serde_json::from_str(value).map_err(json)?],
        Some('[') => serde_json::from_str(value).map_err(json)?,
        _ => {
            let (key, values) = match value.split_once(':') {
                Some((key, value)) => (key, vec![value.to_owned()]),
                None => (value, Vec::new()),
            };
            vec![TagFilter { key: key.to_owned(), values }]
        }
    };
    if tags.iter().any(|tag: &TagFilter| tag.key.is_empty()) {
        return Err("`tag`: the key is empty; write tag=Location:Front".into());
    }
    Ok(tags)
}

#[cfg(test)]
mod tests;
