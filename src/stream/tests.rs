//! Tests of a stream's analysis.

use base::{
    media::{MediaDescription, Resume, StreamName},
    queue::{WhenFull, queue},
    time::{ManualClock, Timestamp},
};

use super::*;
use crate::control::fence::Fence;

#[test]
fn sources_are_described() {
    let video = Some(MediaDescription { codec: "h264".into(), size: Some((768, 576)) });
    let audio = Some(MediaDescription { codec: "aac".into(), size: None });
    assert_eq!(describe(&SourceDescription { video, audio }), "h264 768x576, aac");
    assert_eq!(describe(&SourceDescription::default()), "no media");
}

/// A stream that nobody looks at or listens to.
fn started(clock: &Arc<ManualClock>, fanout: Fanout, earlier: Option<Earlier>) -> Arc<Analysis> {
    let name = StreamName::new("a").expect("name");
    Analysis::start(AnalysisOptions {
        info: Arc::new(StreamInfo { name, tags: Default::default(), epoch: Some(7) }),
        sight: None,
        hearing: None,
        recorded: false,
        fanout,
        tracer: None,
        players: None,
        clock: Arc::clone(clock) as _,
        session: None,
        earlier,
        rules: Vec::new(),
        evidence: None,
    })
    .expect("starts")
}

/// Where the run before was heard of only just now, it may be there: then what it says next decides.
#[test]
fn whether_nobody_had_the_stream_is_told_once_it_is_sure() {
    /// When the run before told how far it had come, milliseconds before this one plays, and whether it let go then; whether it
    /// says something more after that. Whether there is a gap at once, and after a while.
    fn check(told_before: i64, released: bool, says_more: bool, at_once: bool, later: bool) {
        let clock = ManualClock::new();
        let (tx, rx) = queue("sink:x", 64, WhenFull::DropNewest);
        let now = clock.wall().as_millisecond();
        let earlier = |before: i64| Earlier {
            session: SessionId::derived([b"old".as_slice()]),
            pts: Pts::from_millis(60_000),
            analysed_at: Timestamp::from_millisecond(now - before - 2_000).expect("time"),
            told_at: Timestamp::from_millisecond(now - before).expect("time"),
            released,
            position: None,
            alerts: Vec::new(),
        };
        let analysis = started(&clock, Fanout::from_iter([tx]), Some(earlier(told_before)));
        let n_gaps = || {
            if analysis.was_held_back() {
                analysis.tell_held_back();
            }
            let mut events = Vec::new();
            rx.recv_many(64, Duration::ZERO, &mut events);
            events.iter().filter(|event| matches!(event.body, Body::Gap(_))).count()
        };
        let session = SessionId::derived([b"new".as_slice()]);
        let resume = Resume { resumable: false, resumed: false };
        analysis.notice(Notice::Playing { session, source: SourceDescription::default(), resume });
        let case = format!("{told_before} ms before, released: {released}, says more: {says_more}");
        assert_eq!(n_gaps(), usize::from(at_once), "{case}");
        // What was known already says nothing new.
        analysis.begin_after(earlier(told_before));
        if says_more {
            analysis.begin_after(earlier(told_before - 400));
        }
        clock.advance(account::LAST_WORD);
        assert_eq!(n_gaps(), usize::from(later), "{case}, at last");
        clock.advance(account::LAST_WORD);
        analysis.close();
        assert_eq!(n_gaps(), 0, "{case}, only once");
    }
    check(500, false, true, false, false);
    check(500, false, false, false, true);
    check(500, true, false, true, false);
    check(6_000, false, false, true, false);
    check(6_000, false, true, true, false);
}

#[test]
fn what_a_frozen_process_held_back_is_one_gap_and_then_the_present_state() {
    let clock = ManualClock::new();
    let (tx, rx) = queue("sink:x", 64, WhenFull::DropNewest);
    let fence = Fence::new(clock.clone(), Duration::from_secs(3));
    let analysis = started(&clock, Fanout::from_iter([tx]).behind(Gate::new(Arc::clone(&fence))), None);
    let session = SessionId::derived([b"s".as_slice()]);
    let source = SourceDescription::default();
    let resume = Resume { resumable: false, resumed: false };
    analysis.notice(Notice::Playing { session: session.clone(), source: source.clone(), resume });
    let told = || {
        let mut events = Vec::new();
        rx.recv_many(64, Duration::ZERO, &mut events);
        events
    };
    assert_eq!(told().len(), 1);
    fence.hold(true);
    let outage = |from, to| Notice::Gap {
        session: None,
        from: Pts::from_millis(from),
        to: Pts::from_millis(to),
        reason: GapReason::Stalled,
        detail: "no media".into(),
    };
    analysis.notice(outage(5000, 8000));
    analysis.notice(Notice::Interrupted {
        reason: GapReason::Stalled,
        detail: "away".into(),
        retry_in: Duration::from_secs(1),
    });
    analysis.notice(outage(6000, 7000));
    analysis.tell_held_back();
    assert!(told().is_empty() && !analysis.was_held_back(), "nothing before the leases are sure");
    fence.hold(false);
    assert!(analysis.was_held_back());
    analysis.tell_held_back();
    analysis.tell_held_back();
    let events = told();
    let [gap, status] = &events[..] else { panic!("{events:?}") };
    let Body::Gap(told_gap) = &gap.body else { panic!("{gap:?}") };
    assert_eq!((&gap.session, told_gap.reason, told_gap.to), (&session, GapReason::Stalled, Pts::from_millis(6000)));
    assert!(told_gap.detail.as_deref().is_some_and(|detail| detail.contains("was frozen")));
    let away = Status { state: StreamState::Interrupted, detail: Some("away".into()), source: None };
    assert_eq!(status.body, Body::Status(away));
}
