//! Which streams are listed: the filters of `GET /v1/streams`. Pure.

use std::collections::BTreeMap;

use super::{error::Refusal, params::Params, streams::STATES};
use crate::control::selectors::{NamePattern, TagFilter};

/// The parameters of a list.
pub(super) const PARAMETERS: [&str; 6] = ["name", "tag", "tags", "profile", "state", "worker"];
/// Those of them that may come several times.
pub(super) const REPEATABLE: [&str; 1] = ["tag"];

/// All that is asked for; everything must fit.
#[derive(Debug, Default)]
pub(super) struct Filter {
    name: Option<NamePattern>,
    tags: Vec<TagFilter>,
    profile: Option<String>,
    state: Option<&'static str>,
    worker: Option<String>,
}

/// What a filter looks at.
pub(super) struct Facts<'a> {
    pub(super) name: &'a str,
    pub(super) tags: &'a BTreeMap<String, String>,
    pub(super) profile: Option<&'a str>,
    pub(super) state: &'a str,
    pub(super) worker: Option<&'a str>,
}

impl Filter {
    pub(super) fn read(params: &Params) -> Result<Self, Refusal> {
        let text = |name: &str| params.get(name).map(str::to_owned);
        let mut tags: Vec<TagFilter> = Vec::new();
        for tag in params.all("tag") {
            let (key, value) = tag
                .split_once(':')
                .ok_or_else(|| Refusal::bad(format!("`tag={tag}` has no colon: write `tag=key:value`")))?;
            match tags.iter_mut().find(|known| known.key == key) {
                Some(known) => known.values.push(value.to_owned()),
                None => tags.push(TagFilter { key: key.to_owned(), values: vec![value.to_owned()] }),
            }
        }
        if let Some(json) = params.get("tags") {
            tags.extend(tag_filters(json)?);
        }
        Ok(Self {
            name: params
                .get("name")
                .map(NamePattern::new)
                .transpose()
                .map_err(|e| Refusal::bad(format!("`name`: {e}")))?,
            tags,
            profile: text("profile"),
            state: params.choice("state", &STATES)?,
            worker: text("worker"),
        })
    }

    pub(super) fn fits(&self, facts: &Facts<'_>) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        self.name.as_ref().is_none_or(|pattern| pattern.fits(facts.name))
            && self.tags.iter().all(|filter| filter.fits(facts.tags))
            && same(&self.profile, facts.profile)
            && self.state.is_none_or(|state| state == facts.state)
            && same(&self.worker, facts.worker)
    }
}

/// One `{"key": ..., "values": [...]}`, or a list of them.
fn tag_filters(json: &str) -> Result<Vec<TagFilter>, Refusal> {
    let wrong = |e| {
        Refusal::bad(format!(
            "`tags` is no tag filter ({e}): write `{{\"key\":\"Location\",\"values\":[\"Front\"]}}`, or a list of such"
        ))
    };
    if json.trim_start().starts_with('[') {
        return serde_json::from_str(json).map_err(wrong);
    }
    Ok(vec![serde_json::from_str(json).map_err(wrong)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_chosen() {
        let tags = BTreeMap::from([("Location".to_owned(), "Front".to_owned()), ("site".to_owned(), "a:b".to_owned())]);
        let facts =
            Facts { name: "front-door", tags: &tags, profile: Some("people"), state: "playing", worker: Some("w-1") };
        let check = |query: &str, expected: bool| {
            let params = Params::parse_repeated(Some(query), &PARAMETERS, &REPEATABLE).expect(query);
            let filter = Filter::read(&params).expect(query);
            assert_eq!(filter.fits(&facts), expected, "{query}");
        };
        check("", true);
        check("name=front-door", true);
        check("name=front-*", true);
        check("name=*-d??r", true);
        check("name=*", true);
        check("name=front", false);
        check("name=*x*", false);
        check("name=?", false);
        check("tag=Location:Front", true);
        check("tag=Location:Back", false);
        check("tag=Location:Back&tag=Location:Front", true);
        check("tag=Location:Front&tag=site:a:b", true);
        check("tag=Location:Front&tag=site:c", false);
        check("tag=location:Front", false);
        check("tags=%7B%22key%22:%22Location%22,%22values%22:%5B%22Back%22,%22Front%22%5D%7D", true);
        check("tags=%5B%7B%22key%22:%22Location%22,%22values%22:%5B%22Back%22%5D%7D%5D", false);
        // Without values, any will do.
        check("tags=%7B%22key%22:%22Location%22,%22values%22:%5B%5D%7D", true);
        check("tags=%7B%22key%22:%22Roof%22%7D", false);
        check("name=%7Bfront,back%7D-door", true);
        check("name=f%5Ba-m%5D*", false);
        check("profile=people&state=playing&worker=w-1", true);
        check("profile=other", false);
        check("state=failed", false);
        check("worker=w-2", false);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let check = |query: &str, part: &str| {
            let read = Params::parse_repeated(Some(query), &PARAMETERS, &REPEATABLE).and_then(|p| Filter::read(&p));
            let refusal = read.expect_err(query);
            assert!(format!("{refusal:?}").contains(part), "{refusal:?}");
        };
        check("tag=Front", "tag=key:value");
        check("tags=Front", "no tag filter");
        check("tags=%7B%22key%22:%22a%22,%22value%22:%22b%22%7D", "unknown field `value`");
        check("name=front%5B", "is no pattern of names");
        check("state=plaing", "did you mean `playing`");
        check("nam=a", "did you mean `name`");
        check("name=a&name=b", "there twice");
    }
}
