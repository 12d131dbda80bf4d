//! What holds of alerts whatever happens: boxes that tremble, frames that are lost or come out of order, tracks that change
//! their ids, connections that break.

use std::collections::BTreeMap;

use base::event::AlertState;
use proptest::prelude::*;

use super::{
    samples::{Object, frame_in, said},
    tests::{alert, rule},
    *,
};

const YARD: &str = "[[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]";

/// Opened once and first, closed at most once and last, revisions without holes; never two open at once about one thing.
fn check_lives(events: &[Event]) -> BTreeMap<String, Vec<AlertState>> {
    let mut lives: BTreeMap<String, Vec<AlertState>> = BTreeMap::new();
    for event in events {
        let alert = alert(event);
        let life = lives.entry(alert.alert.clone()).or_default();
        assert_eq!(alert.revision as usize, life.len(), "{}: {life:?}", event.id);
        assert_eq!(alert.state == AlertState::Opened, life.is_empty(), "{}: {life:?}", event.id);
        assert!(!life.contains(&AlertState::Closed), "{}: something after its end", event.id);
        assert_eq!(alert.state == AlertState::Closed, alert.until.is_some() && alert.closed_because.is_some());
        life.push(alert.state);
    }
    lives
}

fn rules(conditions: &[&str]) -> Rules {
    let named = conditions.iter().enumerate();
    let rules: Vec<Arc<Rule>> =
        named.map(|(n, when)| Arc::new(Rule::new(&format!("r{n}"), rule(when)).expect(when))).collect();
    Rules::new(samples::stream(), &rules, &[])
}

fn person(track: u64, x: f32, y: f32) -> Object<'static> {
    ("person", Some(track), [(x - 0.02).clamp(0.0, 0.96), (y - 0.2).clamp(0.0, 0.8), 0.04, 0.2])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// One person walks into the yard and stays for ten seconds. Where they come from is seen: nobody crosses a line who is first
    /// seen on it.
    #[test]
    fn one_happening_is_one_alert(
        tremble in prop::collection::vec((-0.008_f32..0.008, -0.008_f32..0.008), 100),
        is_lost in prop::collection::vec(prop::bool::weighted(0.3), 100),
        is_swapped in prop::collection::vec(prop::bool::weighted(0.2), 100),
        n_seen_before_new_id in 10_usize..90,
    ) {
        let mut frames: Vec<Event> = (0..100_usize)
            .filter(|n| *n < 5 || !is_lost[*n])
            .map(|n| {
                let way = (n as f32 / 20.0).min(1.0);
                let (x, y) = (0.3 + 0.4 * way + tremble[n].0, 0.6 + tremble[n].1);
                let track = if n < n_seen_before_new_id { 1 } else { 2 };
                frame_in(0, n as u64 * 100, &[person(track, x, y)])
            })
            .collect();
        for (at, _) in is_swapped.iter().enumerate().filter(|(_, swapped)| **swapped) {
            if (1..frames.len()).contains(&at) {
                frames.swap(at - 1, at);
            }
        }
        frames.extend((100..140).map(|n| frame_in(0, n * 100, &[])));
        let in_yard = format!("{{ type = 'in_zone', zone = {YARD} }}");
        let mut rules = rules(&[&in_yard, "{ type = 'crosses', line = [[0.5, 1], [0.5, 0]] }", "{ type = 'count', over = 0 }"]);
        let told: Vec<Event> = frames.iter().flat_map(|event| rules.observe(event)).collect();
        let lives = check_lives(&told);
        prop_assert!(lives.values().all(|life| life.contains(&AlertState::Closed)), "{lives:?}");
        for rule in ["r0", "r1", "r2"] {
            let n = lives.keys().filter(|id| id.contains(&format!("-alert-{rule}-"))).count();
            prop_assert_eq!(n, 1, "{} {:?}", rule, lives);
        }
    }

    /// Anything at all.
    #[test]
    fn every_life_is_whole(steps in prop::collection::vec((0_u8..8, 0_u64..4000, 1_u64..6, 0.0_f32..1.0, 0.0_f32..1.0), 1..200)) {
        let in_yard = format!("{{ type = 'in_zone', zone = {YARD}, for_secs = 1 }}");
        let all = format!("{{ type = 'all', of = [{{ type = 'said', phrases = ['help'] }}, {{ type = 'in_zone', zone = {YARD} }}] }}");
        let mut rules = rules(&[
            &in_yard,
            &all,
            "{ type = 'crosses', line = [[0.5, 1], [0.5, 0]] }",
            "{ type = 'count', over = 1 }",
            "{ type = 'disappeared', for_secs = 1 }",
            "{ type = 'stopped', for_secs = 1 }",
            "{ type = 'said', phrases = ['help'] }",
            "{ type = 'speech', present = false, for_secs = 2 }",
            "{ type = 'health' }",
        ]);
        let (mut session, mut ms, mut told) = (0_u8, 0_u64, Vec::new());
        for (n, (what, later, track, x, y)) in steps.into_iter().enumerate() {
            ms += later / 4;
            match what {
                0 => told.extend(rules.observe(&said(&format!("s{n}"), ms, "somebody help me"))),
                1 if later > 3500 => (session, ms) = (session.wrapping_add(1), 0),
                2 => told.extend(rules.listened_until(Pts::from_millis(ms))),
                3 => told.extend(rules.observe(&frame_in(session, ms.saturating_sub(later), &[person(track, x, y)]))),
                4 => told.extend(rules.observe(&frame_in(session, ms, &[]))),
                _ => {
                    let people = [person(track, x, y), person(track + 1, y, x)];
                    told.extend(rules.observe(&frame_in(session, ms, &people)));
                }
            }
        }
        told.extend(rules.finish("the test is over"));
        let lives = check_lives(&told);
        prop_assert!(lives.values().all(|life| life.last() == Some(&AlertState::Closed)), "{lives:?}");
    }
}
