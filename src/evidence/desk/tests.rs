//! What was said, over restarts and with a clock that is moved by hand.

use super::*;
use crate::evidence::samples;

/// A wall clock that is moved by hand, in seconds since 1970.
#[derive(Debug, Default)]
struct Hands(Mutex<Duration>);

impl Clock for Hands {
    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + *self.0.lock()
    }
}

fn wish(stream: Option<&str>, rule: Option<&str>, secs: u64) -> SilenceWish {
    let (stream, rule) = (stream.map(str::to_owned), rule.map(str::to_owned));
    SilenceWish { stream, rule, by: "anna".into(), lasts: Duration::from_secs(secs), reason: "works".into() }
}

#[test]
fn silences_fit_end_and_survive_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, clock) = (folder.path().join("alerts").join(FILE), Arc::new(Hands::default()));
    let desk = AlertDesk::open(path.clone(), Arc::clone(&clock) as _);
    let of_cam = desk.silence(wish(Some("cam"), None, 100)).expect("silence");
    let of_rule = desk.silence(wish(None, Some("yard"), 50)).expect("silence");
    let check = |desk: &AlertDesk, at: u64, expected: [Option<&Silence>; 4]| {
        *clock.0.lock() = Duration::from_secs(at);
        let places = [("cam", "gate"), ("cam", "yard"), ("hall", "yard"), ("hall", "gate")];
        let got = places.map(|(stream, rule)| desk.silence_of(stream, rule));
        assert_eq!(got.each_ref().map(Option::as_ref), expected, "at {at}");
    };
    let all = [Some(&of_cam), Some(&of_cam), Some(&of_rule), None];
    check(&desk, 0, all);
    assert_eq!(desk.silences(), [of_rule.clone(), of_cam.clone()]);
    let again = AlertDesk::open(path.clone(), Arc::clone(&clock) as _);
    check(&again, 49, all);
    check(&again, 50, [Some(&of_cam), Some(&of_cam), None, None]);
    assert_eq!(again.silences(), std::slice::from_ref(&of_cam));
    // What is over is neither lifted nor written again.
    assert!(!again.lift(&of_rule.id).expect("written"));
    assert!(!fs::read_to_string(&path).expect("file").contains(&of_rule.id));
    assert!(again.lift(&of_cam.id).expect("written") && !again.lift(&of_cam.id).expect("written"));
    check(&again, 51, [None; 4]);
}

#[test]
fn acknowledgements_survive_a_restart_and_go_with_their_alerts() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, clock) = (folder.path().join(FILE), Arc::new(Hands::default()));
    let desk = AlertDesk::open(path.clone(), Arc::clone(&clock) as _);
    desk.acknowledge("a", "anna", Some("my cat".into()), |_| true).expect("written");
    desk.acknowledge("b", "bert", None, |_| true).expect("written");
    let again = AlertDesk::open(path.clone(), Arc::clone(&clock) as _);
    let of_a = Acknowledged { by: "anna".into(), at_ms: 0, note: Some("my cat".into()) };
    assert_eq!(again.acknowledged("a"), Some(of_a));
    again.unacknowledge("b").expect("written");
    assert_eq!(again.acknowledged("b"), None);
    again.acknowledge("c", "anna", None, |alert| alert != "a").expect("written");
    assert_eq!((again.acknowledged("a"), again.acknowledged("c").is_some()), (None, true));
}

#[test]
fn who_was_told_of_an_alert_is_told_of_its_end() {
    use AlertState::{Closed, Opened, Updated};
    // Each step: seconds, state, whether it is silenced. The silence holds from 10 to 20.
    let check = |steps: &[(u64, AlertState, bool)]| {
        let clock = Arc::new(Hands::default());
        let desk = AlertDesk::in_memory(Arc::clone(&clock) as _);
        let mut silence = None;
        for (at, state, expected) in steps {
            if *at >= 10 && silence.is_none() {
                *clock.0.lock() = Duration::from_secs(10);
                silence = desk.silence(wish(Some("cam"), None, 10)).ok();
            }
            *clock.0.lock() = Duration::from_secs(*at);
            let event = samples::alert("cam", (1, 0), *state, 0, (None, None));
            let base::event::Body::Alert(alert) = &event.body else { panic!("no alert") };
            assert_eq!(desk.judge("cam", alert).is_some(), *expected, "{state:?} at {at} of {steps:?}");
        }
        assert_eq!(desk.0.hushed.lock().n_alerts(), 0);
    };
    check(&[(0, Opened, false), (1, Updated, false), (2, Closed, false)]);
    check(&[(11, Opened, true), (12, Updated, true), (13, Closed, true)]);
    check(&[(0, Opened, false), (11, Updated, true), (12, Closed, false)]);
    check(&[(11, Opened, true), (25, Closed, true)]);
    check(&[(11, Opened, true), (25, Updated, false), (26, Closed, false)]);
}

/// Whether the record of alert `number` is silenced.
fn is_silenced(desk: &AlertDesk, number: u32, state: AlertState) -> bool {
    let event = samples::alert("cam", (number, 0), state, 0, (None, None));
    let base::event::Body::Alert(alert) = &event.body else { panic!("no alert") };
    desk.judge("cam", alert).is_some()
}

#[test]
fn of_whom_nobody_was_told_survives_a_restart() {
    use AlertState::{Closed, Opened, Updated};
    let folder = tempfile::tempdir().expect("folder");
    let (path, clock) = (folder.path().join(FILE), Arc::new(Hands::default()));
    let open = || AlertDesk::open(path.clone(), Arc::clone(&clock) as _);
    let desk = open();
    desk.silence(wish(Some("cam"), None, 10)).expect("silence");
    for number in 1..=4 {
        assert!(is_silenced(&desk, number, Opened));
    }
    assert!(is_silenced(&desk, 1, Closed));
    desk.close();
    // The silence is over meanwhile.
    *clock.0.lock() = Duration::from_secs(20);
    let desk = open();
    assert!(is_silenced(&desk, 2, Closed) && !is_silenced(&desk, 3, Updated));
    // It goes along with what somebody changes.
    desk.acknowledge("a", "anna", None, |_| true).expect("written");
    let text = fs::read_to_string(&path).expect("file");
    assert!(text.contains(&samples::id("cam", 4)) && !text.contains(&samples::id("cam", 3)), "{text}");
    desk.close();
    let desk = open();
    assert!(desk.acknowledged("a").is_some());
    let closed = [1, 2, 3, 4].map(|number| is_silenced(&desk, number, Closed));
    assert_eq!(closed, [false, false, false, true]);
    desk.close();
    assert_eq!(open().0.hushed.lock().n_alerts(), 0);
    assert!(!fs::read_to_string(&path).expect("file").contains("hushed"));
}

#[test]
fn the_oldest_of_which_nobody_was_told_go_first() {
    let clock = Arc::new(Hands::default());
    let desk = AlertDesk::in_memory(Arc::clone(&clock) as _);
    desk.silence(wish(None, None, 1_000_000)).expect("silence");
    let n = u32::try_from(hushed::MOST).expect("a number");
    for number in 0..=n {
        *clock.0.lock() = Duration::from_secs(number.into());
        assert!(is_silenced(&desk, number, AlertState::Opened));
    }
    assert_eq!(desk.0.hushed.lock().n_alerts(), hushed::MOST);
    let closed = [0, 1, n].map(|number| is_silenced(&desk, number, AlertState::Closed));
    assert_eq!(closed, [false, true, true]);
}

#[test]
fn what_cannot_be_written_does_not_hold_and_what_cannot_be_read_is_put_aside() {
    let folder = tempfile::tempdir().expect("folder");
    let clock: Arc<dyn Clock> = Arc::new(Hands::default());
    fs::write(folder.path().join("file"), "").expect("file");
    let desk = AlertDesk::open(folder.path().join("file").join(FILE), Arc::clone(&clock));
    let refused = desk.silence(wish(None, None, 60)).expect_err("no folder").to_string();
    assert!(refused.contains("desk.json") && desk.silences().is_empty(), "{refused}");
    let path = folder.path().join(FILE);
    fs::write(&path, "{\"silences\":3}").expect("file");
    let desk = AlertDesk::open(path.clone(), clock);
    assert!(desk.silences().is_empty() && !path.exists() && path.with_extension("json.damaged").exists());
    desk.silence(wish(None, None, 60)).expect("written");
    assert!(path.exists());
}

#[test]
fn there_is_an_end_to_silences() {
    let clock = Arc::new(Hands::default());
    let desk = AlertDesk::in_memory(Arc::clone(&clock) as _);
    for _ in 0..MOST_SILENCES {
        desk.silence(wish(None, None, 60)).expect("silence");
    }
    assert!(matches!(desk.silence(wish(None, None, 60)), Err(DeskError::TooMany)));
    *clock.0.lock() = Duration::from_secs(60);
    desk.silence(wish(None, None, 60)).expect("room again");
}
