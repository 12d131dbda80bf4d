//! What becomes of alerts when their rules are changed or taken away, and of cooldowns when the stream begins anew.

use super::{
    samples::{Object, frame, frame_in, said, stream},
    tests::{YARD, alert, rule},
    *,
};

const APPEARED: &str = "{ type = 'appeared' }";
const SAID: &str = "{ type = 'said', phrases = ['help'] }";

fn made(name: &str, settings: config::Settings) -> Arc<Rule> {
    Arc::new(Rule::new(name, settings).expect("a good rule"))
}

/// `alert number, state, reason`.
fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| {
        let alert = alert(event);
        let (_, number) = alert.alert.split_once("-alert-").expect("an id");
        let because = alert.closed_because.as_deref().map_or(String::new(), |because| format!(": {because}"));
        format!("{number} {}{because}", alert.state.as_str())
    };
    events.iter().map(line).collect()
}

/// Somebody stands there, at five frames a second.
fn there(rules: &mut Rules, from_ms: u64, to_ms: u64) -> Vec<Event> {
    let person: Object<'_> = ("person", Some(1), [0.4, 0.4, 0.1, 0.2]);
    (from_ms..to_ms).step_by(200).flat_map(|ms| rules.observe(&frame(ms, &[person]))).collect()
}

#[test]
fn rules_are_exchanged_while_the_stream_goes_on() {
    let (a, b) = (made("a", rule(APPEARED)), made("b", rule(APPEARED)));
    let mut rules = Rules::new(stream(), &[Arc::clone(&a), Arc::clone(&b)], &[]);
    assert_eq!(lines(&there(&mut rules, 0, 1000)), ["a-0 opened", "b-0 opened"]);
    // The same rules, however often they are read.
    assert!(rules.exchange(&[made("a", rule(APPEARED)), made("b", rule(APPEARED))]).is_empty());
    // What it says of it may change while it goes on.
    let mut milder = rule(APPEARED);
    (milder.severity, milder.close_after_secs) = (base::event::Severity::Info, 1.0);
    assert!(rules.exchange(&[Arc::clone(&a), made("b", milder)]).is_empty());
    assert_eq!(lines(&rules.exchange(&[Arc::clone(&a)])), ["b-0 closed: its rule was taken away"]);
    assert!(rules.carried().iter().all(|carried| carried.rule == "a"));
    // It comes back, and gives no id twice.
    assert!(rules.exchange(&[Arc::clone(&a), b]).is_empty());
    assert_eq!(lines(&there(&mut rules, 1000, 2000)), ["b-1 opened"]);
    // What it looks for is another thing now.
    let mut cars = rule("{ type = 'appeared', objects = { classes = ['car'] } }");
    cars.summary = Some("a car".into());
    assert_eq!(
        lines(&rules.exchange(&[made("a", cars)])),
        ["a-0 closed: its rule was changed", "b-1 closed: its rule was taken away"]
    );
    assert!(there(&mut rules, 2000, 3000).is_empty());
    // The last one goes, and another comes.
    assert!(rules.exchange(&[]).is_empty() && rules.is_empty());
    assert!(there(&mut rules, 3000, 4000).is_empty());
    assert!(rules.exchange(&[made("c", rule(SAID))]).is_empty());
    assert_eq!(lines(&rules.observe(&said("s", 4000, "please help"))), ["c-0 opened"]);
}

#[test]
fn what_an_earlier_run_left_open_is_closed_where_its_rule_is_gone() {
    let (a, b) = (made("a", rule(APPEARED)), made("b", rule(APPEARED)));
    let mut first = Rules::new(stream(), &[Arc::clone(&a), Arc::clone(&b)], &[]);
    let opened = there(&mut first, 0, 1000);
    let carried = first.carried();
    let check = |mut second: Rules, expected: &[&str]| {
        assert_eq!(second.carried().len(), 2, "told on until it is closed");
        let told: Vec<Event> = (0..3).flat_map(|n| second.observe(&frame_in(1, n * 200, &[]))).collect();
        assert_eq!(lines(&told), expected);
        let closed = alert(&told[0]);
        assert_eq!((closed.revision, closed.severity), (1000, base::event::Severity::Warning));
        assert_eq!((closed.since.at, closed.since.pts), (alert(&opened[0]).since.at, None));
        assert!(closed.until.is_some_and(|until| until.at > closed.since.at));
        assert!(second.observe(&frame_in(1, 5000, &[])).is_empty());
    };
    check(Rules::new(stream(), &[Arc::clone(&b)], &carried), &["a-0 closed: its rule was taken away"]);
    let both = ["a-0 closed: its rule was taken away", "b-0 closed: its rule was taken away"];
    check(Rules::new(stream(), &[], &carried), &both);
    // Taken away before it has played.
    let mut third = Rules::new(stream(), &[a, Arc::clone(&b)], &carried);
    assert!(third.exchange(&[]).is_empty());
    assert!(third.exchange(&[Arc::clone(&b)]).is_empty());
    check(third, &both[..1]);
    // A worker that lost it again before.
    let unseen = Rules::new(stream(), &[], &carried);
    check(Rules::new(stream(), &[b], &unseen.carried()), &both[..1]);
}

#[test]
fn an_alert_of_the_stream_goes_on_whatever_is_seen_first() {
    let check = |per: config::Per, expected: &[&str]| {
        let mut settings = rule(APPEARED);
        settings.per = Some(per);
        let rule = made("a", settings);
        let mut first = Rules::new(stream(), &[Arc::clone(&rule)], &[]);
        let (car, person) = ([0.1, 0.1, 0.2, 0.1], [0.6, 0.6, 0.1, 0.2]);
        let frames = |rules: &mut Rules, session, objects: &[Object<'_>]| -> Vec<Event> {
            (0..3).flat_map(|n| rules.observe(&frame_in(session, n * 200, objects))).collect()
        };
        frames(&mut first, 0, &[("car", Some(1), car)]);
        let mut second = Rules::new(stream(), &[rule], &first.carried());
        assert_eq!(lines(&frames(&mut second, 1, &[("person", Some(1), person)])), expected);
    };
    check(config::Per::Stream, &["a-0 updated"]);
    check(config::Per::Track, &["a-0 opened"]);
}

#[test]
fn the_cooldown_of_an_object_outlives_its_id() {
    let mut settings = rule(&format!("{{ type = 'in_zone', zone = {YARD} }}"));
    settings.cooldown_secs = 100.0;
    let yard = made("yard", settings);
    let person = |track, x: f32| -> Object<'static> { ("person", Some(track), [x, 0.4, 0.05, 0.2]) };
    let observe = |rules: &mut Rules, session, from: u64, objects: &[Object<'_>]| -> Vec<String> {
        let told = (from..from + 5).flat_map(|n| rules.observe(&frame_in(session, n * 200, objects)));
        lines(&told.collect::<Vec<_>>())
    };
    let begun = || {
        let mut rules = Rules::new(stream(), &[Arc::clone(&yard)], &[]);
        rules.explain();
        assert_eq!(observe(&mut rules, 0, 0, &[person(1, 0.7)]), ["yard-0 opened"]);
        // Out of the yard, and not lost from sight.
        for n in (5..25).step_by(5) {
            observe(&mut rules, 0, n, &[person(1, 0.1)]);
        }
        assert_eq!(rules.carried().iter().filter(|carried| carried.until_ms.is_some()).count(), 1);
        assert_eq!(observe(&mut rules, 0, 25, &[person(1, 0.7)]), [""; 0], "it cools");
        rules
    };
    let misses = |rules: &mut Rules| rules.near_misses().iter().filter(|n| n.why.contains("cooldown_secs")).count();
    // The connection breaks; another worker takes over; and that one loses it in turn.
    let (mut broken, first) = (begun(), begun());
    let again = |before: &Rules| {
        let mut rules = Rules::new(stream(), &[Arc::clone(&yard)], &before.carried());
        rules.explain();
        rules
    };
    let mut second = again(&first);
    second.observe(&frame_in(1, 0, &[]));
    let mut third = again(&second);
    misses(&mut broken);
    for rules in [&mut broken, &mut second, &mut third] {
        // One may be it; two cannot both be. What is no person is not it.
        let car: Object<'_> = ("car", Some(7), [0.8, 0.4, 0.1, 0.1]);
        assert_eq!(observe(rules, 1, 1, &[person(4, 0.6)]), [""; 0]);
        assert_eq!(misses(rules), 1);
        assert_eq!(observe(rules, 1, 6, &[person(4, 0.6), person(5, 0.9), car]).len(), 2);
    }
    // A minute and three quarters later it has cooled off.
    let mut late = again(&first);
    assert_eq!(observe(&mut late, 2, 0, &[person(1, 0.7)]), ["yard-0 opened"]);
}
