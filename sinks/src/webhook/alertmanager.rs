//! An alert as Prometheus Alertmanager takes it. Pure functions.
//!
//! Source: Alertmanager's API v2, `postableAlerts`
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>). Alerts with the same labels are the same
//! alert there. One without `endsAt` is over 5 minutes later (`resolve_timeout`) unless it is sent again, which we do not do:
//! so an open one says itself how long it lasts.

use base::time::Timestamp;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use crate::wire::rfc3339;

/// One element of the array. Times are those of the record's clock (`since`, `until`), in UTC.
pub(super) fn alert(record: &Value, link: Option<&str>, resolve_after: SignedDuration) -> Value {
    let time = |key: &str| record[key].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let is_closed = record["state"] == "closed";
    let now = time("published_at").or_else(|| time("captured_at"));
    let ends = match is_closed {
        true => time("until").or_else(|| time("captured_at")).or(now),
        false => now.and_then(|now| now.checked_add(resolve_after).ok()),
    };
    // One that ends before it starts is refused.
    let starts = time("since").or_else(|| time("captured_at")).or(now);
    let starts = starts.map(|starts| ends.map_or(starts, |ends| starts.min(ends)));

    let mut labels = Map::new();
    for (label, key) in [("alertname", "rule"), ("stream", "stream"), ("severity", "severity"), ("alert", "alert")] {
        labels.insert(label.into(), record[key].clone());
    }
    for (tag, value) in record["tags"].as_object().into_iter().flatten() {
        labels.insert(format!("tag_{}", label_name(tag)), value.clone());
    }
    let mut annotations = Map::new();
    let evidence = &record["evidence"];
    let texts = [
        ("summary", &record["summary"]),
        ("closed_because", &record["closed_because"]),
        ("snapshot", &evidence["snapshot"]),
        ("clip", &evidence["clip"]),
    ];
    annotations.extend(texts.into_iter().filter(|(_, v)| v.is_string()).map(|(name, v)| (name.to_owned(), v.clone())));
    let mut alert = json!({ "labels": labels, "annotations": annotations });
    for (key, at) in [("startsAt", starts), ("endsAt", ends)] {
        if let Some(at) = at {
            alert[key] = rfc3339(at).into();
        }
    }
    // It must be a whole URL: the picture, or the page where there is none.
    if let Some(link) = link {
        alert["generatorURL"] = evidence["snapshot"].as_str().unwrap_or(link).into();
    }
    alert
}

/// As Prometheus wants the names of labels, behind a first letter: `[a-zA-Z0-9_]*`.
fn label_name(tag: &str) -> String {
    tag.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use base::event::{AlertState, AlertTime, Body, Event};

    use super::*;
    use crate::{samples, wire};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn of(event: &Event, published_ms: Option<i64>, link: Option<&str>) -> Value {
        let published = published_ms.map(|ms| Timestamp::from_millisecond(ms).expect("date"));
        alert(&serde_json::from_str(&wire::encode(event, published)).expect("json"), link, DAY)
    }

    fn changed(state: AlertState, change: impl FnOnce(&mut base::event::Alert)) -> Event {
        let mut event = samples::alert(&samples::stream("front-door"), 4, state);
        if let Body::Alert(alert) = &mut event.body {
            change(alert);
        }
        event
    }

    #[test]
    fn the_whole_of_it() {
        let event = changed(AlertState::Closed, |_| ());
        let name = format!("{}-alert-person-in-yard-4", event.session);
        let path = format!("/v1/alerts/{name}/snapshot.jpg");
        let expected = json!({
            "labels": {
                "alertname": "person-in-yard", "stream": "front-door", "severity": "warning", "alert": name,
                "tag_site": "north",
            },
            "annotations": {
                "summary": "person in \"yard\" for 3 s", "closed_because": "nobody is there any more", "snapshot": path,
            },
            "startsAt": "2026-09-21T14:13:29.123Z", "endsAt": "2026-09-21T14:13:33.623Z",
        });
        assert_eq!(of(&event, None, None), expected);
        let mut linked = expected;
        linked["generatorURL"] = json!(path);
        assert_eq!(of(&event, None, Some("http://host:8642")), linked);
        let bare = changed(AlertState::Opened, |alert| alert.evidence.snapshot = None);
        assert_eq!(of(&bare, None, Some("http://host:8642"))["generatorURL"], "http://host:8642");
    }

    /// All records of one alert have the same labels, and say when it is over.
    #[test]
    fn one_life() {
        let check = |state: AlertState, published_ms: Option<i64>, expected: [Option<&str>; 2]| {
            let got = of(&changed(state, |_| ()), published_ms, None);
            assert_eq!([got["startsAt"].as_str(), got["endsAt"].as_str()], expected, "{state:?}");
            assert_eq!(got["labels"], of(&changed(AlertState::Opened, |_| ()), None, None)["labels"]);
        };
        let since = Some("2026-09-21T14:13:29.123Z");
        check(AlertState::Opened, None, [since, Some("2026-09-22T14:13:32.123Z")]);
        check(AlertState::Opened, Some(1_790_000_100_000), [since, Some("2026-09-22T14:15:00.000Z")]);
        check(AlertState::Updated, Some(1_790_000_200_000), [since, Some("2026-09-22T14:16:40.000Z")]);
        check(AlertState::Closed, Some(1_790_000_300_000), [since, Some("2026-09-21T14:13:33.623Z")]);
    }

    #[test]
    fn times_that_are_not_known() {
        let check = |state, is_captured: bool, published_ms, expected: [Option<&str>; 2]| {
            let nothing = AlertTime { pts: None, at: None };
            let mut event = changed(state, |alert| {
                alert.since = nothing;
                alert.until = alert.until.map(|_| nothing);
            });
            event.captured = event.captured.filter(|_| is_captured);
            let got = of(&event, published_ms, None);
            assert_eq!([got["startsAt"].as_str(), got["endsAt"].as_str()], expected, "{state:?} {is_captured}");
        };
        let at = "2026-09-21T14:13:34.123Z";
        check(AlertState::Closed, true, None, [Some(at), Some(at)]);
        let published = "2026-09-21T14:15:00.000Z";
        check(AlertState::Closed, false, Some(1_790_000_100_000), [Some(published), Some(published)]);
        let tomorrow = "2026-09-22T14:15:00.000Z";
        check(AlertState::Opened, false, Some(1_790_000_100_000), [Some(published), Some(tomorrow)]);
        check(AlertState::Opened, false, None, [None, None]);
    }

    /// A camera whose clock is ahead of ours: it must not start after its end.
    #[test]
    fn it_starts_before_it_ends() {
        let got = of(&changed(AlertState::Opened, |_| ()), Some(0), None);
        assert_eq!(
            (got["startsAt"].as_str(), got["endsAt"].as_str()),
            (Some("1970-01-02T00:00:00.000Z"), got["startsAt"].as_str())
        );
    }

    #[test]
    fn names_of_labels() {
        let check = |tag: &str, expected: &str| assert_eq!(label_name(tag), expected);
        check("site", "site");
        check("floor-2.west", "floor_2_west");
        check("Étage 1", "_tage_1");
    }
}
