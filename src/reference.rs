//! The generated reference under docs/ref: JSON Schemas of the wire, and the configuration's keys. CI fails when it is stale.

use std::fmt::Write as _;

use schemars::{Schema, schema_for};
use serde_json::Value;

use crate::config::Config;

/// Every reference file: name below docs/ref, and text.
pub fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> =
        sinks::wire::schemas().into_iter().map(|(name, text)| (format!("schema/{name}"), text)).collect();
    let schema = schema_for!(Config);
    files.push(("configuration.schema.json".into(), pretty(&schema)));
    files.push(("configuration.md".into(), configuration(&schema)));
    files
}

fn pretty(schema: &Schema) -> String {
    format!("{:#}\n", schema.as_value())
}

/// One table a section of the file, from the field docs.
fn configuration(schema: &Schema) -> String {
    let root = schema.as_value();
    let mut out = String::from(
        "# Configuration reference\n\nGenerated from the types by `make docs`; do not edit. The file is TOML and is refused whole, before anything\n\
         starts, when a key is unknown or a value does not fit: `eyewitness validate FILE` shows every mistake with its line.\n\
         A machine-readable form is in [configuration.schema.json](configuration.schema.json).\n",
    );
    section(&mut out, root, root, "", None, &mut Vec::new());
    out
}

/// `tag` is the value of `type` that chooses this table among others at the same place.
fn section(out: &mut String, root: &Value, node: &Value, path: &str, tag: Option<&str>, seen: &mut Vec<String>) {
    let node = resolve(root, node);
    let Some(properties) = node.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> =
        node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let title = match tag {
        _ if path.is_empty() => "The file".to_owned(),
        Some(tag) => format!("`[{path}]` with `type = \"{tag}\"`"),
        None => format!("`[{path}]`"),
    };
    let _ = writeln!(out, "\n## {title}\n");
    if let Some(text) = node.get("description").and_then(Value::as_str) {
        let _ = writeln!(out, "{text}\n");
    }
    out.push_str("| key | type | default | what it does |\n|---|---|---|---|\n");
    for (key, property) in properties {
        let default = match (
            property.get("default").or_else(|| resolve(root, property).get("default")),
            required.contains(&key.as_str()),
        ) {
            (_, true) => "required".to_owned(),
            // Through f32, which is what the settings are: 0.2, not 0.20000000298023224.
            (Some(Value::Number(n)), _) if n.is_f64() => format!("`{}`", n.as_f64().unwrap_or_default() as f32),
            (Some(value), _) if !value.is_null() && !value.is_object() => format!("`{value}`"),
            _ => "-".to_owned(),
        };
        let text = property
            .get("description")
            .or_else(|| resolve(root, property).get("description"))
            .and_then(Value::as_str)
            .unwrap_or(if key == "type" { "Chooses this kind." } else { "" });
        let _ = writeln!(
            out,
            "| `{key}` | {} | {default} | {} |",
            kind(root, property),
            text.replace('\n', " ").replace('|', "\\|")
        );
    }
    for (key, property) in properties {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let target = resolve(root, property);
        let target = the_table(root, target).unwrap_or(target);
        let entry = target.get("additionalProperties").filter(|v| v.is_object());
        let (child, name) = match entry {
            Some(entry) => (entry, below(&format!("{key}.NAME"))),
            None => (target, below(key)),
        };
        let child = resolve(root, child);
        let mark = name.clone();
        if seen.contains(&mark) {
            continue;
        }
        seen.push(mark);
        for alternative in alternatives(child) {
            let alternative = resolve(root, alternative);
            let tag = alternative.pointer("/properties/type/const").and_then(Value::as_str);
            if tag.is_some() || child.get("properties").is_some() {
                section(out, root, alternative, &name, tag, seen);
            }
        }
    }
}

/// The alternatives of a tagged choice, or the node itself.
fn alternatives(node: &Value) -> Vec<&Value> {
    match node.get("oneOf").and_then(Value::as_array) {
        Some(list) => list.iter().collect(),
        None => vec![node],
    }
}

fn resolve<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let target =
        node.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')).and_then(|p| root.pointer(p));
    target.map_or(node, |found| resolve(root, found))
}

/// Of a choice between a table and nothing, or between a table and a list of such: the table.
fn the_table<'a>(root: &'a Value, node: &'a Value) -> Option<&'a Value> {
    let [table, other] = node.get("anyOf").and_then(Value::as_array)?.as_slice() else { return None };
    let is_same = other.get("type").and_then(Value::as_str) == Some("null") || other.get("items") == Some(table);
    Some(resolve(root, table)).filter(|table| is_same && table.get("properties").is_some())
}

/// The type in a reader's words.
fn kind(root: &Value, node: &Value) -> String {
    let node = resolve(root, node);
    if let Some(list) = node.get("enum").and_then(Value::as_array) {
        return list.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(" or ");
    }
    if let Some(list) = node.get("oneOf").or_else(|| node.get("anyOf")).and_then(Value::as_array) {
        let kinds: Vec<String> = list
            .iter()
            .filter(|v| v.get("type").and_then(Value::as_str) != Some("null"))
            .map(|v| match v.get("const") {
                Some(value) => format!("`{value}`"),
                None => match v.get("properties").and_then(Value::as_object) {
                    Some(p) => format!("`{{ {} = ... }}`", p.keys().cloned().collect::<Vec<_>>().join(", ")),
                    None => kind(root, v),
                },
            })
            .collect();
        return kinds.join(" or ");
    }
    if let Some(value) = node.get("const") {
        return format!("`{value}`");
    }
    let name = match node.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|n| *n != "null").unwrap_or("any"),
        _ => "any",
    };
    match name {
        "object" => "table".into(),
        "array" => format!("list of {}", node.get("items").map_or_else(|| "any".into(), |i| kind(root, i))),
        "integer" => "whole number".into(),
        "boolean" => "true or false".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_fresh() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ref");
        for (name, text) in files() {
            let found = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
            assert!(found == text, "docs/ref/{name} is stale: run `make docs`");
        }
    }

    #[test]
    fn every_key_is_documented() {
        let text = configuration(&schema_for!(Config));
        for line in text.lines().filter(|l| l.starts_with("| `")) {
            let last = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
            assert!(!last.trim().is_empty() && last != "|", "no documentation: {line}");
        }
        for key in [
            "`[streams.NAME]`",
            "`[http]`",
            "`[attachments]`",
            "`[profiles.NAME.select]`",
            "`url`",
            "`grace_secs`",
            "`sampling`",
        ] {
            assert!(text.contains(key), "{key} is missing");
        }
    }
}
