//! A record as a line of text for a chat. Pure functions.
//!
//! Source: Slack's incoming webhooks (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>) and its
//! `mrkdwn` (<https://docs.slack.dev/messaging/formatting-message-text>): `&`, `<` and `>` are escaped.

use serde_json::{Value, json};

/// The message.
pub(super) fn message(record: &Value) -> Value {
    json!({ "text": text(record) })
}

fn text(record: &Value) -> String {
    let word = |value: &Value| escaped(value.as_str().unwrap_or_default());
    let stream = word(&record["stream"]);
    let because = |key: &str| match word(&record[key]) {
        text if text.is_empty() => text,
        text => format!(": {text}"),
    };
    match record["type"].as_str() {
        Some("alert") => {
            let mark = match (record["state"].as_str(), record["severity"].as_str()) {
                (Some("closed"), _) => ":white_check_mark:",
                (_, Some("critical")) => ":rotating_light:",
                (_, Some("warning")) => ":warning:",
                _ => ":information_source:",
            };
            let (summary, rule, state) = (word(&record["summary"]), word(&record["rule"]), word(&record["state"]));
            let mut text = format!("{mark} *{stream}*: {summary} ({rule}, {state}{})", because("closed_because"));
            for (key, name) in [("snapshot", "picture"), ("clip", "clip")] {
                // A path alone leads nowhere from there.
                if let Some(url) = record["evidence"][key].as_str().filter(|url| url.starts_with("http")) {
                    text.push_str(&format!(" <{}|{name}>", escaped(url)));
                }
            }
            text
        }
        Some("gap") => {
            let ms = |key: &str| record[key].as_u64().unwrap_or_default();
            let secs = ms("to_pts_ms").saturating_sub(ms("from_pts_ms")) as f64 / 1000.0;
            format!("*{stream}*: {secs:.1} s not analysed ({}){}", word(&record["reason"]), because("detail"))
        }
        _ => format!("*{stream}*: {}{}", word(&record["state"]), because("detail")),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use base::event::{AlertState, Body, Event, Severity, StreamState};

    use super::*;
    use crate::{samples, wire};

    #[test]
    fn lines() {
        let check = |event: Event, expected: &str| {
            let record: Value = serde_json::from_str(&wire::encode(&event, None)).expect("json");
            assert_eq!(message(&record), json!({ "text": expected }));
        };
        let stream = samples::stream("front-door");
        let alert = |state, severity, snapshot: Option<&str>, summary: &str| {
            let mut event = samples::alert(&stream, 4, state);
            if let Body::Alert(alert) = &mut event.body {
                (alert.severity, alert.summary) = (severity, summary.into());
                alert.evidence.snapshot = snapshot.map(str::to_owned);
            }
            event
        };
        check(
            alert(AlertState::Opened, Severity::Critical, Some("/v1/alerts/x"), "2 < 3 & \"so\""),
            ":rotating_light: *front-door*: 2 &lt; 3 &amp; \"so\" (person-in-yard, opened)",
        );
        check(
            alert(AlertState::Updated, Severity::Warning, Some("http://h/x?a&b"), "person"),
            ":warning: *front-door*: person (person-in-yard, updated) <http://h/x?a&amp;b|picture>",
        );
        check(
            alert(AlertState::Opened, Severity::Info, None, "person"),
            ":information_source: *front-door*: person (person-in-yard, opened)",
        );
        check(
            alert(AlertState::Closed, Severity::Critical, None, "person"),
            ":white_check_mark: *front-door*: person (person-in-yard, closed: nobody is there any more)",
        );
        check(
            samples::gap(&stream, 1),
            "*front-door*: 7.5 s not analysed (source_lost): the server closed the connection",
        );
        check(samples::status(&stream, 1, StreamState::Failed, "no <file>"), "*front-door*: failed: no &lt;file&gt;");
        check(samples::playing(&stream), "*front-door*: playing");
    }
}
