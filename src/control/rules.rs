//! A stream's own rules, as they stand in its attachment: what they mean, and every reason why they cannot be meant. Pure, but
//! for the manifests of models.

use std::{collections::BTreeMap, sync::Arc};

use inference::rules::{Rule, config::RuleError};

use crate::config::{
    BookedRule, ProfileConfig, RULE_NAMES, RuleConfig,
    fit::{Misfit, Senses, misfits},
    is_rule_name,
    problem::candidates,
};

/// Most rules of one stream's own.
pub const MOST_RULES: usize = 50;

/// Those that can be meant, and what is wrong with the others: in words that name the key in backquotes.
pub fn read(rules: &BTreeMap<String, RuleConfig>) -> (Vec<BookedRule>, Vec<String>) {
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    if rules.len() > MOST_RULES {
        wrong.push(format!("`rules` has {} rules; at most {MOST_RULES} can be kept", rules.len()));
    }
    for (name, config) in rules.iter().take(MOST_RULES) {
        if !is_rule_name(name) {
            wrong.push(format!("`rules`: {RULE_NAMES}; `{name}` is none"));
        } else if !config.select.is_empty() {
            wrong.push(format!("`rules.{name}.select`: it is for this stream alone: take it out"));
        } else {
            match Rule::new(name, config.settings()) {
                Ok(rule) => read.push(BookedRule { config: config.clone(), rule: Arc::new(rule) }),
                Err(errors) => wrong
                    .extend(errors.into_iter().map(|RuleError { key, what }| format!("`rules.{name}.{key}`: {what}"))),
            }
        }
    }
    (read, wrong)
}

/// Why rules can never fire on a stream with this profile, likewise.
pub fn unfit(rules: &[BookedRule], profile: &str, settings: &ProfileConfig) -> Vec<String> {
    let Some(senses) = Senses::of(profile, settings) else { return Vec::new() };
    let told = |entry: &BookedRule| {
        let name = entry.rule.name().to_owned();
        let found = misfits(entry.rule.settings(), std::slice::from_ref(&senses), true);
        found.into_iter().map(move |Misfit { key, what, unknown }| {
            let meant = unknown.and_then(|(class, known)| candidates(&class, known.iter().map(String::as_str)));
            let meant = meant.map_or(String::new(), |meant| format!("; {meant}"));
            format!("`rules.{name}.{key}`: {what}{meant}")
        })
    };
    rules.iter().flat_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told_with_its_key() {
        let check = |text: &str, expected: &[&str]| {
            let rules: BTreeMap<String, RuleConfig> = toml::from_str(text).expect(text);
            let (read, mut wrong) = read(&rules);
            wrong.extend(unfit(&read, "default", &ProfileConfig::default()));
            assert_eq!(wrong.len(), expected.len(), "{text}: {wrong:?}");
            for (wrong, expected) in wrong.iter().zip(expected) {
                assert!(wrong.contains(expected), "{expected}: {wrong}");
            }
        };
        let appeared = "when = { type = 'appeared', objects = { classes = ['person'] } }";
        check(&format!("[a]\n{appeared}\n[b]\n{appeared}"), &[]);
        check(
            "[yard]\nwhen = { type = 'in_zone', zone = [[0, 0], [1, 1]] }",
            &["`rules.yard.when.zone`: has 2 points"],
        );
        check(&format!("[a]\n{appeared}\nselect = {{ names = ['x'] }}"), &["`rules.a.select`: it is for this stream"]);
        check(&format!("['a b']\n{appeared}"), &["`rules`: a name has 1 to 64"]);
        check(
            "[a]\nwhen = { type = 'appeared', objects = { classes = ['persn'] } }",
            &[
                "`rules.a.when.objects.classes`: profile `default` (model `ssdlite-mbv2`) reports no class `persn`; did you mean `person`?",
            ],
        );
        check(
            "[a]\nwhen = { type = 'all', of = [{ type = 'appeared' }, { type = 'said', phrases = ['x'] }] }",
            &["`rules.a.when.of.1.type`: `said` needs somebody who listens"],
        );
        let many: String = (0..=MOST_RULES).map(|n| format!("[a{n}]\n{appeared}\n")).collect();
        check(&many, &["`rules` has 51 rules"]);
    }
}
