//! What rules make of what happens, as data.

use base::event::{AlertState, Severity};

use super::{
    config::{Confirm, Settings},
    samples::{Object, frame, frame_in, said, status, stream},
    *,
};

pub(super) const YARD: &str = "[[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]";

/// A rule as it stands in a file, with the settings that tests do not care about.
pub(super) fn rule(when: &str) -> Settings {
    let when: toml::Table = toml::from_str(&format!("when = {when}")).expect(when);
    Settings {
        when: when["when"].clone().try_into().expect("a condition"),
        severity: Severity::Warning,
        summary: None,
        confirm: Confirm { frames: 2, of: 3 },
        close_after_secs: 2.0,
        cooldown_secs: 0.0,
        update_every_secs: 0.0,
        per: None,
        schedule: None,
        only_if: None,
    }
}

/// A person at one place, or on the way between two, at five frames a second.
fn walk(track: u64, from_ms: u64, to_ms: u64, from: [f32; 2], to: [f32; 2]) -> Vec<(u64, Object<'static>)> {
    (from_ms..=to_ms)
        .step_by(200)
        .map(|ms| {
            let part = (ms - from_ms) as f32 / (to_ms - from_ms).max(1) as f32;
            let [x, y] = [0, 1].map(|at| from[at] + part * (to[at] - from[at]));
            // The feet are at the point.
            (ms, ("person", Some(track), [x - 0.02, y - 0.2, 0.04, 0.2]))
        })
        .collect()
}

/// Frames from 0 on, with everything that is there at each.
fn film(until_ms: u64, walks: &[Vec<(u64, Object<'static>)>]) -> Vec<Event> {
    (0..=until_ms)
        .step_by(200)
        .map(|ms| {
            let here: Vec<Object<'_>> =
                walks.iter().flatten().filter(|(at, _)| *at == ms).map(|(_, object)| *object).collect();
            frame(ms, &here)
        })
        .collect()
}

/// The alerts of a rule over events, as `state at_ms`, and the near misses.
fn told(settings: Settings, events: &[Event]) -> (Vec<String>, Vec<String>) {
    let rule = Arc::new(Rule::new("r", settings).expect("a good rule"));
    let mut rules = Rules::new(stream(), &[rule], &[]);
    rules.explain();
    let alerts: Vec<Event> = events.iter().flat_map(|event| rules.observe(event)).collect();
    (alerts.iter().map(line).collect(), rules.near_misses().into_iter().map(|near| near.why).collect())
}

pub(super) fn alert(event: &Event) -> &base::event::Alert {
    match &event.body {
        Body::Alert(alert) => alert,
        other => panic!("no alert: {other:?}"),
    }
}

fn line(event: &Event) -> String {
    let alert = alert(event);
    assert_eq!(event.id, format!("{}-{}", alert.alert, alert.revision));
    let number = alert.alert.rsplit('-').next().unwrap_or_default();
    format!("{number} {} {}", alert.state.as_str(), event.pts.millis())
}

#[track_caller]
fn check(when: &str, events: &[Event], expected: &[&str], near: Option<&str>) {
    let (alerts, misses) = told(rule(when), events);
    assert_eq!(alerts, expected, "{when}; near misses: {misses:?}");
    match near {
        Some(part) => assert!(misses.iter().any(|why| why.contains(part)), "{when}: {misses:?}"),
        None => assert_eq!(misses, Vec::<String>::new(), "{when}"),
    }
}

#[test]
fn in_a_zone() {
    let in_yard = format!("{{ type = 'in_zone', zone = {YARD}, for_secs = 2 }}");
    // Enters at about 1.1 s, is there until 5 s; seen twice after two seconds in it.
    let stays = film(9000, &[walk(1, 1000, 5000, [0.49, 0.5], [0.9, 0.5])]);
    check(&in_yard, &stays, &["0 opened 3400", "0 closed 7000"], None);
    let passes = film(9000, &[walk(1, 1000, 2600, [0.3, 0.5], [0.99, 0.5])]);
    check(&in_yard, &passes, &[], Some("in the zone for"));
    let elsewhere = film(5000, &[walk(1, 0, 4000, [0.2, 0.5], [0.2, 0.5])]);
    check(&in_yard, &elsewhere, &[], None);
    let cars = format!("{{ type = 'in_zone', zone = {YARD}, objects = {{ classes = ['car'] }} }}");
    check(&cars, &stays, &[], None);
    // Two people are two happenings.
    let two = film(9000, &[walk(1, 0, 4000, [0.8, 0.5], [0.8, 0.5]), walk(2, 1000, 4000, [0.6, 0.9], [0.6, 0.9])]);
    let at_once = format!("{{ type = 'in_zone', zone = {YARD} }}");
    check(&at_once, &two, &["0 opened 200", "1 opened 1200", "0 closed 6000", "1 closed 6000"], None);
}

#[test]
fn across_a_line() {
    let up =
        |direction: &str| format!("{{ type = 'crosses', line = [[0.5, 1], [0.5, 0]], direction = '{direction}' }}");
    let rightward = film(6000, &[walk(1, 0, 2000, [0.3, 0.5], [0.7, 0.5])]);
    check(&up("any"), &rightward, &["0 opened 1200", "0 closed 3200"], None);
    check(&up("to_right"), &rightward, &["0 opened 1200", "0 closed 3200"], None);
    check(&up("to_left"), &rightward, &[], Some("crossed to the right"));
    // Somebody who stands on the line and sways.
    let sways: Vec<_> =
        (0..20).map(|n| (n * 200, ("person", Some(1), [0.475 + 0.008 * (n % 2) as f32, 0.3, 0.04, 0.2]))).collect();
    check(&up("any"), &film(6000, &[sways]), &[], None);
    // Around its end.
    let short = "{ type = 'crosses', line = [[0.5, 1], [0.5, 0.7]] }";
    check(short, &rightward, &[], None);
}

#[test]
fn counts() {
    let two = film(8000, &[walk(1, 0, 4000, [0.2, 0.5], [0.2, 0.5]), walk(2, 1000, 4000, [0.6, 0.9], [0.6, 0.9])]);
    check("{ type = 'count', over = 1 }", &two, &["0 opened 1200", "0 closed 6000"], None);
    check("{ type = 'count', over = 2 }", &two, &[], None);
    check(&format!("{{ type = 'count', over = 1, zone = {YARD} }}"), &two, &[], None);
    check("{ type = 'count', over = 1, for_secs = 5 }", &two, &[], Some("it was so for 3.0 s"));
    check("{ type = 'count', under = 1, for_secs = 2 }", &two, &["0 opened 6400"], None);
}

#[test]
fn appeared_and_disappeared() {
    let comes = film(9000, &[walk(1, 1000, 3000, [0.2, 0.5], [0.3, 0.5])]);
    check("{ type = 'appeared' }", &comes, &["0 opened 1200", "0 closed 5000"], None);
    check("{ type = 'disappeared', for_secs = 3 }", &comes, &["0 opened 6200"], None);
    check("{ type = 'disappeared', for_secs = 10 }", &comes, &[], None);
    let empty = film(9000, &[]);
    check("{ type = 'disappeared', for_secs = 3 }", &empty, &[], None);
    let flickers = film(3000, &[walk(1, 1000, 1000, [0.2, 0.5], [0.2, 0.5])]);
    check("{ type = 'appeared' }", &flickers, &[], Some("seen in 1 of 3 frames"));
}

#[test]
fn stopped() {
    let stands = film(9000, &[walk(1, 0, 2000, [0.1, 0.5], [0.6, 0.5]), walk(1, 2200, 7000, [0.6, 0.5], [0.6, 0.5])]);
    check("{ type = 'stopped', for_secs = 3 }", &stands, &["0 opened 5200", "0 closed 9000"], None);
    check("{ type = 'stopped', for_secs = 6 }", &stands, &[], None);
}

#[test]
fn what_is_said() {
    let talk = [said("a", 1000, "please help me"), said("b", 4000, "all is well"), frame(30_000, &[])];
    check("{ type = 'said', phrases = ['help'] }", &talk, &["0 opened 1550", "0 closed 3550"], None);
    check("{ type = 'said', phrases = ['held'] }", &talk, &[], Some("one letter off"));
    check("{ type = 'said', terms = { state = ['all is well'] } }", &talk, &["0 opened 4850", "0 closed 6850"], None);
    // Again while it is open: more of the same, with the words.
    let again = [said("a", 1000, "help"), said("b", 2000, "help"), said("c", 20_000, "help"), frame(60_000, &[])];
    let expected = ["0 opened 1250", "0 updated 2250", "0 closed 4250", "1 opened 20250", "1 closed 22250"];
    check("{ type = 'said', phrases = ['help'] }", &again, &expected, None);
    // A revision that comes twice, or late, changes nothing.
    let twice: Vec<Event> = again.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
    check("{ type = 'said', phrases = ['help'] }", &twice, &expected, None);
}

#[test]
fn speech_and_silence() {
    let talk = [said("a", 1000, "one two three four five six seven"), frame(40_000, &[])];
    check("{ type = 'speech', present = true, for_secs = 1 }", &talk, &["0 opened 3050", "0 closed 5050"], None);
    check("{ type = 'speech', present = true, for_secs = 5 }", &talk, &[], None);
    let rule = Arc::new(Rule::new("r", rule("{ type = 'speech', present = false, for_secs = 5 }")).expect("good"));
    let mut rules = Rules::new(stream(), &[rule], &[]);
    let mut alerts = rules.observe(&talk[0]);
    for secs in 1..12 {
        alerts.extend(rules.listened_until(Pts::from_millis(secs * 1000)));
    }
    alerts.extend(rules.observe(&said("b", 12_000, "here I am again and I talk")));
    alerts.extend(rules.listened_until(Pts::from_millis(17_000)));
    assert_eq!(alerts.iter().map(line).collect::<Vec<_>>(), ["0 opened 9000", "0 closed 13000"]);
}

#[test]
fn sight_and_sound_together() {
    let both = format!(
        "{{ type = 'all', within_secs = 5, of = [{{ type = 'in_zone', zone = {YARD} }}, {{ type = 'said', phrases = ['help'] }}] }}"
    );
    let there = film(20_000, &[walk(1, 2000, 4000, [0.8, 0.5], [0.8, 0.5])]);
    let with = |at_ms: u64, known_ms: u64| {
        let mut events = there.clone();
        let place = events.iter().position(|event| event.pts.millis() >= known_ms).unwrap_or(events.len());
        events.insert(place, said("a", at_ms, "help"));
        events
    };
    // Heard while somebody is there; and known only seconds later.
    assert_eq!(told(rule(&both), &with(3000, 3200)).0[0], "0 opened 3250");
    assert_eq!(told(rule(&both), &with(7000, 10_000)).0[0], "0 opened 7250");
    // Six seconds after the last person was there.
    assert_eq!(told(rule(&both), &with(10_000, 10_400)).0, Vec::<String>::new());
    // Before anybody came, but not long before.
    assert_eq!(told(rule(&both), &with(500, 800)).0.len(), 2);
}

#[test]
fn the_stream_itself() {
    let events = [
        frame(1000, &[]),
        status(1200, StreamState::Interrupted),
        frame(8000, &[]),
        status(8000, StreamState::Playing),
        frame(8200, &[]),
        frame(12_000, &[]),
        frame(24_000, &[]),
    ];
    check("{ type = 'health', of = ['interrupted'] }", &events, &["0 opened 1000", "0 closed 10200"], None);
    check("{ type = 'health', of = ['failed'] }", &events, &[], None);
}

#[test]
fn expressions_and_conditions() {
    let two = film(4000, &[walk(1, 0, 2000, [0.2, 0.5], [0.2, 0.5])]);
    let tall = "{ type = 'expression', expression = 'objects.exists(o, o.height > 0.1)' }";
    check(tall, &two, &["0 opened 200", "0 closed 4000"], None);
    let mut settings = rule("{ type = 'appeared' }");
    settings.only_if = Some("tags.site == 'south'".into());
    let (alerts, near) = told(settings, &two);
    assert_eq!((alerts.len(), near), (0, vec!["`only_if` is false".to_owned()]));
    // Monday at noon.
    for (times, n_alerts) in [("mon-fri 08:00-18:00", 2), ("mon 18:00-08:00", 0)] {
        let mut settings = rule("{ type = 'appeared' }");
        settings.schedule = Some(schedule::Schedule { time_zone: "UTC".into(), times: vec![times.into()] });
        assert_eq!(told(settings, &two).0.len(), n_alerts, "{times}");
    }
}

#[test]
fn a_track_lost_and_found_is_one_happening() {
    let at_once = format!("{{ type = 'in_zone', zone = {YARD} }}");
    // Unseen for 1.4 s, and found again under another id where it would be by then.
    let lost = film(8000, &[walk(1, 0, 2000, [0.7, 0.5], [0.75, 0.5]), walk(9, 3400, 5000, [0.78, 0.5], [0.8, 0.5])]);
    check(&at_once, &lost, &["0 opened 200", "0 updated 3600", "0 closed 7000"], None);
    // Somebody else, somewhere else.
    let other = film(8000, &[walk(1, 0, 2000, [0.7, 0.3], [0.7, 0.3]), walk(9, 3400, 5000, [0.9, 0.9], [0.9, 0.9])]);
    check(&at_once, &other, &["0 opened 200", "1 opened 3600", "0 closed 4000", "1 closed 7000"], None);
}

#[test]
fn a_cooldown_keeps_it_quiet() {
    let mut settings = rule("{ type = 'said', phrases = ['help'] }");
    settings.cooldown_secs = 10.0;
    let talk = [said("a", 1000, "help"), said("b", 8000, "help"), said("c", 20_000, "help"), frame(60_000, &[])];
    let (alerts, near) = told(settings, &talk);
    assert_eq!(alerts, ["0 opened 1250", "0 closed 3250", "1 opened 20250", "1 closed 22250"]);
    assert!(near[0].contains("cooldown_secs"), "{near:?}");
}

#[test]
fn a_restart_repeats_nothing() {
    let when = format!("{{ type = 'in_zone', zone = {YARD} }}");
    let rule = Arc::new(Rule::new("r", rule(&when)).expect("good"));
    let mut first = Rules::new(stream(), &[Arc::clone(&rule)], &[]);
    let before: Vec<Event> =
        film(2000, &[walk(1, 0, 2000, [0.7, 0.5], [0.7, 0.5])]).iter().flat_map(|e| first.observe(e)).collect();
    let opened = alert(&before[0]);
    let carried = first.carried().pop().expect("it is open");
    let since_ms = opened.since.at.map(|at| at.as_millisecond());
    assert_eq!((&carried.alert, carried.since_ms, carried.until_ms), (&opened.alert, since_ms, None));
    // Another worker, a minute later: still there.
    let person: Object<'_> = ("person", Some(1), [0.75, 0.3, 0.04, 0.2]);
    let there = [person];
    let mut second = Rules::new(stream(), &[Arc::clone(&rule)], std::slice::from_ref(&carried));
    let stays = (0..5).map(|n| frame_in(1, n * 200, &there)).chain((5..60).map(|n| frame_in(1, n * 200, &[])));
    let after: Vec<Event> = stays.flat_map(|event| second.observe(&event)).collect();
    assert_eq!(after.iter().map(line).collect::<Vec<_>>(), ["0 updated 200", "0 closed 2800"]);
    assert!(after.iter().all(|event| alert(event).alert == opened.alert && alert(event).since.at == opened.since.at));
    // Or gone.
    let mut third = Rules::new(stream(), &[Arc::clone(&rule)], std::slice::from_ref(&carried));
    let gone: Vec<Event> = (0..80).flat_map(|n| third.observe(&frame_in(1, n * 200, &[]))).collect();
    assert_eq!(gone.iter().map(line).collect::<Vec<_>>(), ["0 closed 10000"]);
    // In one process: the connection breaks, and the person is still there when it is back.
    let mut one = Rules::new(stream(), &[rule], &[]);
    let events = film(2000, &[walk(1, 0, 2000, [0.7, 0.5], [0.7, 0.5])]);
    let events = events.into_iter().chain((0..60).map(|n| frame_in(1, n * 200, if n < 5 { &there[..] } else { &[] })));
    let all: Vec<Event> = events.flat_map(|event| one.observe(&event)).collect();
    assert_eq!(all.iter().map(line).collect::<Vec<_>>(), ["0 opened 200", "0 updated 200", "0 closed 2800"]);
    assert_eq!(alert(&all[2]).state, AlertState::Closed);
}

#[test]
fn a_storm() {
    // 500 people at once: 300 of them in the yard, each for a second and a half.
    let walks: Vec<_> = (0..500_u64)
        .map(|n| {
            let x = if n < 300 { 0.55 } else { 0.05 } + 0.4 * (n % 20) as f32 / 20.0;
            walk(n + 1, 1000, 2600, [x, 0.25 + 0.7 * (n / 20) as f32 / 25.0], [x, 0.25 + 0.7 * (n / 20) as f32 / 25.0])
        })
        .collect();
    let (alerts, _) = told(rule(&format!("{{ type = 'in_zone', zone = {YARD} }}")), &film(6000, &walks));
    let n = |state: &str| alerts.iter().filter(|line| line.contains(state)).count();
    assert_eq!((n("opened"), n("closed"), n("updated")), (300, 300, 0));
}

#[test]
fn what_cannot_be_meant() {
    let check = |when: &str, key: &str, part: &str| {
        let wrong = Rule::new("r", rule(when)).expect_err(when);
        assert!(wrong.iter().any(|e| e.key == key && e.what.contains(part)), "{when}: {wrong:?}");
    };
    check("{ type = 'in_zone', zone = [[0, 0], [1, 1]] }", "when.zone", "2 points");
    check("{ type = 'in_zone', zone = [[0, 0], [1, 1], [0.5, 0.5]] }", "when.zone", "no area");
    check("{ type = 'in_zone', zone = [[0, 0], [640, 0], [640, 480]] }", "when.zone", "outside of the picture");
    check("{ type = 'crosses', line = [[0.5, 0.5], [0.5, 0.5]] }", "when.line", "begins where it ends");
    check("{ type = 'count' }", "when", "either `over` or `under`");
    check("{ type = 'said' }", "when", "neither `phrases` nor `terms`");
    check("{ type = 'said', phrases = ['?!'] }", "when.phrases", "has no word");
    check("{ type = 'all', of = [{ type = 'appeared' }] }", "when.of", "needs 2 to 8");
    check("{ type = 'expression', expression = 'a ==' }", "when.expression", "cannot be read");
    check("{ type = 'stopped', for_secs = -1 }", "when.for_secs", "0 to 86400");
}
