//! The user's own body: JSON with `{{path}}` in it, where a path leads into the record. Pure functions.
//!
//! Within a JSON string a value is written as text, with JSON's escapes, and null as nothing; elsewhere it is written as the
//! JSON that it is. A path that no record of the wanted kinds can have is refused when the template is read.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::wire;

/// A text with places to fill.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Place { path: String, is_in_string: bool },
}

impl Template {
    /// Reads a template for records of `kinds`. What is wrong with it is said in words, with the line.
    pub(super) fn parse(text: &str, kinds: &[&str]) -> Result<Self, String> {
        let schemas = schemas_of(kinds);
        let mut parts = Vec::new();
        let (mut rest, mut is_in_string) = (text, false);
        while let Some((before, behind)) = rest.split_once("{{") {
            let line = 1 + text[..text.len() - behind.len()].matches('\n').count();
            is_in_string = ends_in_string(before, is_in_string);
            let Some((path, behind)) = behind.split_once("}}") else {
                return Err(format!("line {line}: a `{{{{` without its `}}}}`"));
            };
            let path = path.trim();
            if !schemas.iter().any(|schema| knows(schema, schema, path)) {
                return Err(format!(
                    "line {line}: `{{{{{path}}}}}`: no record of these `types` has it; they have {}",
                    fields(&schemas)
                ));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Place { path: path.to_owned(), is_in_string });
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self { parts };
        // Filled with what stands for anything: no value can make it less of a JSON text.
        match serde_json::from_str::<IgnoredAny>(&template.fill(&Value::Null)) {
            Ok(_) => Ok(template),
            Err(error) => Err(format!("line {}: with its places filled it is no JSON: {error}", error.line())),
        }
    }

    /// The body for a record.
    pub(super) fn fill(&self, record: &Value) -> String {
        let mut body = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => body.push_str(text),
                Part::Place { path, is_in_string } => {
                    match (find(record, path).unwrap_or(&Value::Null), is_in_string) {
                        (value, false) => body.push_str(&value.to_string()),
                        (Value::Null, true) => {}
                        (value, true) => {
                            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                            let quoted = Value::from(text).to_string();
                            body.push_str(&quoted[1..quoted.len() - 1]);
                        }
                    }
                }
            }
        }
        body
    }
}

/// Whether a JSON text that began inside or outside a string ends inside one.
fn ends_in_string(text: &str, mut is_in_string: bool) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => is_in_string = !is_in_string,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    is_in_string
}

/// What a path leads to. The name of a tag may have dots in it.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let step = |name: &str| match value {
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => value.get(name),
    };
    step(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        find(step(first)?, rest)
    })
}

fn schemas_of(kinds: &[&str]) -> Vec<Value> {
    let is_wanted = |file: &str| kinds.iter().any(|kind| file.strip_suffix(".schema.json") == Some(*kind));
    let schemas = wire::schemas().into_iter().filter(|(file, _)| is_wanted(file));
    schemas.filter_map(|(_, text)| serde_json::from_str(&text).ok()).collect()
}

/// Whether a value that fits this schema may have something at this path.
fn knows(root: &Value, node: &Value, path: &str) -> bool {
    if let Some(pointer) = node["$ref"].as_str().and_then(|text| text.strip_prefix('#')) {
        return root.pointer(pointer).is_some_and(|node| knows(root, node, path));
    }
    if let Some(choices) = node["anyOf"].as_array() {
        return choices.iter().any(|choice| knows(root, choice, path));
    }
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let below = |node: &Value| rest.is_none_or(|rest| knows(root, node, rest));
    let is_number = first.parse::<usize>().is_ok();
    let anything = node.get("type").is_none() && node.get("properties").is_none() && node.get("oneOf").is_none();
    anything
        || node["properties"].get(first).is_some_and(below)
        || (!first.is_empty() && node["additionalProperties"].is_object())
        || (is_number && node.get("items").is_some_and(|items| items.is_boolean() || below(items)))
}

/// Names of all fields, each once.
fn fields(schemas: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in schemas.iter().filter_map(|schema| schema["properties"].as_object()).flat_map(|all| all.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use base::event::AlertState;
    use serde_json::json;

    use super::*;
    use crate::samples;

    #[test]
    fn filled() {
        let event = samples::alert(&samples::stream("front-door"), 4, AlertState::Opened);
        let mut record: Value = serde_json::from_str(&wire::encode(&event, None)).expect("json");
        record["tags"]["floor.2"] = json!("a\nb");
        let check = |template: &str, expected: &str| {
            let template = Template::parse(template, &["alert"]).expect(template);
            let got = template.fill(&record);
            assert_eq!(got, expected);
            assert!(serde_json::from_str::<Value>(&got).is_ok(), "{got}");
        };
        check(r#"{"a":1}"#, r#"{"a":1}"#);
        check(r#"{"text":"{{stream}}: {{ summary }}"}"#, r#"{"text":"front-door: person in \"yard\" for 3 s"}"#);
        check(r#"{"text":{{summary}}}"#, r#"{"text":"person in \"yard\" for 3 s"}"#);
        check(
            r#"["{{tags.site}}", "{{tags.floor.2}}", {{tags.none}}, "{{tags.none}}"]"#,
            r#"["north", "a\nb", null, ""]"#,
        );
        check(r#"["\"{{rule}}\\", {{revision}}, "{{revision}}"]"#, r#"["\"person-in-yard\\", 0, "0"]"#);
        check(r#"[{{evidence.clip}},"{{evidence.clip}}",{{until}}]"#, r#"[null,"",null]"#);
        check(r#"{"a":{"b":{{evidence.tracks}}},"c":"{{evidence.tracks}}"}"#, r#"{"a":{"b":[7]},"c":"[7]"}"#);
        check(r#"[{{evidence.objects.0.class}},{{evidence.objects.9.class}}]"#, r#"["person",null]"#);
        check(
            r#"[{{evidence.objects.0.box.2}}, "{{evidence.shapes.0.points}}"]"#,
            r#"[32.9, "[[0.1,0.2],[0.9,0.2],[0.5,0.9877]]"]"#,
        );
    }

    #[test]
    fn mistakes() {
        let check = |template: &str, kinds: &[&str], expected: &str| {
            let got = Template::parse(template, kinds).expect_err(template);
            assert!(got.starts_with(expected), "{got}");
        };
        let alert = &["alert"];
        check(
            "{\n\"a\":\n\"{{sumary}}\"}",
            alert,
            "line 3: `{{sumary}}`: no record of these `types` has it; they have type, id, specversion, stream,",
        );
        check(r#"{"a":{{evidence.snapshop}}}"#, alert, "line 1: `{{evidence.snapshop}}`: no record");
        check(r#"{"a":{{evidence.objects.first.class}}}"#, alert, "line 1: `{{evidence.objects.first.class}}`");
        check(r#"{"a":{{summary.text}}}"#, alert, "line 1: `{{summary.text}}`");
        check(r#"{"a":{{}}}"#, alert, "line 1: `{{}}`");
        check(r#"{"a":{{tags.}}}"#, &["gap"], "line 1: `{{tags.}}`");
        check(r#"{"a":{{summary}}}"#, &["status", "gap"], "line 1: `{{summary}}`");
        check("{\"a\":\n{{summary}", alert, "line 2: a `{{` without its `}}`");
        check("{\"a\":\n{{summary}},}", alert, "line 2: with its places filled it is no JSON");
        check("{{stream}}: {{summary}}", alert, "line 1: with its places filled it is no JSON");
        check("", alert, "line 1: with its places filled it is no JSON");
        // Known to one of the kinds is enough: for the others it is null.
        assert!(Template::parse(r#"{"a":{{summary}},"b":{{detail}}}"#, &["alert", "gap"]).is_ok());
        assert!(Template::parse(r#"{"a":{{answer.json.any.thing}}}"#, &["detections"]).is_ok());
    }
}
