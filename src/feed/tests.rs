use base::{
    event::{Detections, ModelId, StreamState},
    queue::{WhenFull, queue},
    time::{ManualClock, Pts},
};

use super::{samples::*, *};

fn feed(n_records: usize) -> Feed {
    let feed = Feed::new(FeedOptions { n_records, clock: ManualClock::new() });
    feed.attach(stream("cam"));
    feed
}

fn put(feed: &Feed, event: Event) {
    feed.publish(&Arc::new(event));
}

fn reader(feed: &Feed, kinds: &[Kind], start: &Start) -> Reader {
    feed.stream("cam").expect("stream").tape.read(Kinds::of(kinds), start)
}

/// All that is there to be read: ids' endings, `lost 2`, `lost ?`, `closed`.
fn drain(reader: &mut Reader) -> Vec<String> {
    let mut got = Vec::new();
    while let Some(next) = reader.try_next() {
        got.push(match next {
            Next::Record(r) => r.id().split_once('-').expect("id").1.to_owned(),
            Next::Lost(n) => format!("lost {}", n.map_or("?".into(), |n| n.to_string())),
            Next::Closed => "closed".into(),
        });
        if got.last().is_some_and(|g| g == "closed") {
            break;
        }
    }
    got
}

/// Five captions and, between them, transcripts, on a tape of `capacity`.
fn filled(capacity: usize) -> Feed {
    let feed = feed(capacity);
    for i in 0..5 {
        put(&feed, caption("cam", "s", i, true, &["x"]));
        put(&feed, transcript("cam", "s", i));
    }
    feed
}

#[test]
fn where_readers_begin() {
    let check = |kinds: &[Kind], start: Start, expected: &[&str]| {
        let feed = filled(6);
        assert_eq!(drain(&mut reader(&feed, kinds, &start)), expected, "{kinds:?} {start:?}");
    };
    let after = |id: &str| Start::After(format!("{}-{id}", session("s")));
    let captions = &[Kind::Caption][..];
    let both = &[Kind::Caption, Kind::Transcript][..];
    check(captions, Start::Now, &[]);
    check(captions, Start::Recent(0), &[]);
    check(captions, Start::Recent(2), &["caption-3", "caption-4"]);
    check(captions, Start::Recent(99), &["caption-2", "caption-3", "caption-4"]);
    check(&[Kind::Gap], Start::Recent(9), &[]);
    check(both, after("caption-3"), &["transcript-3", "caption-4", "transcript-4"]);
    check(captions, after("transcript-3"), &["caption-4"]);
    check(captions, after("transcript-4"), &[]);
    // Not on the tape any more, and never there: told first, then all that is there.
    check(captions, after("caption-0"), &["lost ?", "caption-2", "caption-3", "caption-4"]);
    check(captions, Start::After("nonsense".into()), &["lost ?", "caption-2", "caption-3", "caption-4"]);
}

#[test]
fn a_reader_that_falls_out_is_told_how_much_it_lost_of_what_it_wanted() {
    let feed = feed(4);
    let mut captions = reader(&feed, &[Kind::Caption], &Start::Now);
    let mut both = reader(&feed, &[Kind::Caption, Kind::Transcript], &Start::Now);
    let mut gaps = reader(&feed, &[Kind::Gap], &Start::Now);
    put(&feed, caption("cam", "s", 0, true, &["x"]));
    assert_eq!(drain(&mut captions), ["caption-0"]);
    for i in 1..6 {
        put(&feed, caption("cam", "s", i, true, &["x"]));
        put(&feed, transcript("cam", "s", i));
    }
    assert_eq!(drain(&mut captions), ["lost 3", "caption-4", "caption-5"]);
    assert_eq!(drain(&mut both), ["lost 7", "caption-4", "transcript-4", "caption-5", "transcript-5"]);
    assert_eq!(drain(&mut gaps), [""; 0], "nothing of what it wanted was lost");
    assert_eq!(feed.stream("cam").expect("stream").tape.n_lost(), 10);
    // And it goes on as if nothing had been.
    put(&feed, caption("cam", "s", 6, true, &["x"]));
    assert_eq!(drain(&mut captions), ["caption-6"]);
}

#[test]
fn what_is_kept_and_what_is_not() {
    let feed = feed(8);
    put(&feed, caption("other", "s", 0, true, &["x"]));
    let detections = Detections {
        width: 1,
        height: 1,
        index: 0,
        model: Arc::new(ModelId { name: "m".into(), version: "0".into() }),
        objects: Vec::new(),
        labels: Vec::new(),
        answer: None,
        classes: Arc::default(),
    };
    put(&feed, Event::new(&stream("cam"), &session("s"), 0, Pts::ZERO, None, Body::Detections(detections)));
    put(&feed, status("cam", "s", 0, StreamState::Interrupted));
    let view = feed.stream("cam").expect("stream");
    assert_eq!(view.tape.counts(), [0, 0, 1, 0, 0, 0]);
    assert_eq!(view.detections.counts(), [0; 6], "nobody reads them");
    assert_eq!(view.latest.expect("status").1.state, StreamState::Interrupted);
    let mut out = Scrape::default();
    feed.scrape(&mut out);
    assert!(out.render().contains("eyewitness_feed_unclaimed_total 1\n"), "{}", out.render());
}

#[test]
fn records_are_the_wire_with_the_time_of_publishing() {
    let clock = ManualClock::new();
    clock.advance(std::time::Duration::from_millis(1500));
    let feed = Feed::new(FeedOptions { n_records: 4, clock });
    feed.attach(stream("cam"));
    put(&feed, caption("cam", "s", 0, true, &["x"]));
    let record = &feed.stream("cam").expect("stream").tape.records(Kinds::of(&Kind::ALL))[0];
    let read = sinks::wire::decode(&record.json).expect("record");
    assert!(matches!(read, sinks::wire::Record::Caption(_)));
    assert!(record.json.contains(r#""published_at":"1970-01-01T00:00:01.500Z""#), "{}", record.json);
}

#[test]
fn detaching_ends_readers_after_what_is_there() {
    let feed = feed(4);
    let mut reader = reader(&feed, &[Kind::Caption], &Start::Now);
    put(&feed, caption("cam", "s", 0, true, &["x"]));
    let view = feed.stream("cam").expect("stream");
    assert_eq!(view.tape.n_readers(), 1);
    feed.detach("cam");
    assert!(feed.stream("cam").is_none());
    assert_eq!(drain(&mut reader), ["caption-0", "closed"]);
    drop(reader);
    assert_eq!(view.tape.n_readers(), 0);
}

#[test]
fn the_thread_feeds_waiting_readers_and_ends_with_its_senders() {
    let feed = feed(1024);
    let (sender, receiver) = queue("sink:feed", 16, WhenFull::Block);
    let thread = feed.start(receiver).expect("thread");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime");
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut reader = reader(&feed, &[Kind::Caption], &Start::Now);
            runtime.spawn(async move {
                let mut n = 0;
                loop {
                    match reader.next().await {
                        Next::Record(_) => n += 1,
                        Next::Lost(_) => return (n, true),
                        Next::Closed => return (n, false),
                    }
                }
            })
        })
        .collect();
    for i in 0..500 {
        sender.send(Item::Event(Arc::new(caption("cam", "s", i, true, &["x"]))));
    }
    drop(sender);
    thread.join().expect("feed");
    for reader in readers {
        assert_eq!(runtime.block_on(reader).expect("reader"), (500, false));
    }
}

#[test]
fn a_detached_stream_ends_after_what_it_told_even_if_the_queue_overflows() {
    let check = |capacity, expected: &[&str]| {
        let feed = Feed::new(FeedOptions { n_records: 16, clock: ManualClock::new() });
        let (sender, receiver) = queue("feed", capacity, WhenFull::DropOldest);
        let entrance = Entrance::new(feed.clone(), sender);
        let (cam, later) = (stream("cam"), stream("cam"));
        entrance.attach(Arc::clone(&cam));
        let mut readers = reader(&feed, &[Kind::Caption], &Start::Now);
        (0..2).for_each(|i| entrance.event(&Arc::new(caption("cam", "s", i, true, &["x"]))));
        entrance.detach(&cam);
        (2..5).for_each(|i| entrance.event(&Arc::new(caption("cam", "s", i, true, &["x"]))));
        let thread = feed.start(receiver).expect("thread");
        drop(entrance);
        thread.join().expect("feed");
        assert_eq!(drain(&mut readers), expected, "{capacity}");
        assert!(feed.stream("cam").is_none(), "{capacity}");
        // The end of one attachment is not the end of the next.
        feed.attach(Arc::clone(&later));
        feed.detach_this(&cam);
        assert!(feed.stream("cam").is_some());
        feed.detach_this(&later);
        assert!(feed.stream("cam").is_none());
    };
    check(16, &["caption-0", "caption-1", "closed"]);
    // The end itself is pushed out, and comes all the same.
    check(3, &["closed"]);
}

fn seen(number: u64) -> Event {
    let detections = Detections {
        width: 1,
        height: 1,
        index: number,
        model: Arc::new(ModelId { name: "m".into(), version: "0".into() }),
        objects: Vec::new(),
        labels: Vec::new(),
        answer: None,
        classes: Arc::default(),
    };
    Event::new(&stream("cam"), &session("s"), number, Pts::ZERO, None, Body::Detections(detections))
}

/// All that a crowd has to tell now: streams in view, ids' endings, `lost 2 cam`.
fn hear(crowd: &mut Crowd) -> Vec<String> {
    let told = |heard| match heard {
        Heard::Streams(names) => format!("streams {}", names.join(",")),
        Heard::Record(record) => record.id().split_once('-').expect("id").1.to_owned(),
        Heard::Lost { stream, detections, n_records } => {
            format!("lost {} {stream}{}", n_records.expect("known"), if detections { " seen" } else { "" })
        }
    };
    std::iter::from_fn(|| crowd.try_next()).map(told).collect()
}

fn wanted(streams: Option<&[&str]>, kinds: &[Kind], recent: usize) -> Wanted {
    let streams = streams.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    Wanted { streams, kinds: Kinds::of(kinds), recent }
}

#[test]
fn a_crowd_follows_streams_that_come_and_go() {
    let feed = filled(6);
    let mut all = feed.crowd(wanted(None, &[Kind::Caption], 2));
    assert_eq!(hear(&mut all), ["streams cam", "caption-3", "caption-4"]);
    feed.attach(stream("hall"));
    put(&feed, caption("hall", "s", 7, true, &["x"]));
    put(&feed, caption("cam", "s", 8, true, &["x"]));
    // What came meanwhile begins with its first record.
    let mut heard = hear(&mut all);
    heard[1..].sort();
    assert_eq!(heard, ["streams cam,hall", "caption-7", "caption-8"]);
    put(&feed, caption("cam", "s", 9, true, &["x"]));
    feed.detach("cam");
    assert_eq!(hear(&mut all), ["caption-9", "streams hall"]);
    feed.attach(stream("cam"));
    assert_eq!(hear(&mut all), ["streams cam,hall"]);
    let mut none = feed.crowd(wanted(Some(&["nobody"]), &Kind::LIVE, 9));
    assert_eq!(hear(&mut none), ["streams "]);
    feed.close();
    // One after the other, in whatever order.
    assert_eq!(hear(&mut all).last(), Some(&"streams ".to_owned()));
}

#[test]
fn a_crowd_chooses_anew_and_goes_on_where_it_is() {
    let feed = filled(20);
    feed.attach(stream("hall"));
    put(&feed, caption("hall", "s", 7, true, &["x"]));
    let mut crowd = feed.crowd(wanted(Some(&["cam"]), &[Kind::Caption], 1));
    assert_eq!(hear(&mut crowd), ["streams cam", "caption-4"]);
    put(&feed, transcript("cam", "s", 5));
    put(&feed, caption("cam", "s", 5, true, &["x"]));
    crowd.choose(wanted(None, &[Kind::Transcript, Kind::Caption], 1));
    let mut heard = hear(&mut crowd);
    assert_eq!(heard.remove(0), "streams cam,hall");
    heard.sort();
    assert_eq!(heard, ["caption-5", "caption-7", "transcript-5"]);
    crowd.choose(wanted(Some(&[]), &[Kind::Caption], 1));
    assert_eq!(hear(&mut crowd), ["streams "]);
    assert_eq!(feed.stream("cam").expect("stream").tape.n_readers(), 0);
}

#[test]
fn detections_are_encoded_for_those_who_read_them_and_the_newest_are_held() {
    let feed = feed(4);
    let mut crowd = feed.crowd(wanted(None, &[Kind::Caption], 0));
    hear(&mut crowd);
    put(&feed, seen(0));
    let tape = feed.stream("cam").expect("stream").detections;
    assert_eq!(tape.counts(), [0; 6]);
    crowd.choose(wanted(None, &[Kind::Caption, Kind::Detections], 0));
    assert_eq!(hear(&mut crowd), [""; 0]);
    put(&feed, seen(1));
    put(&feed, caption("cam", "s", 1, true, &["x"]));
    assert_eq!(hear(&mut crowd), ["caption-1", "detections-1"]);
    (2..102).for_each(|number| put(&feed, seen(number)));
    let heard = hear(&mut crowd);
    assert_eq!((heard.len(), &*heard[0], &*heard[1]), (1 + N_DETECTIONS, "lost 36 cam seen", "detections-38"));
    // They push nothing else out.
    assert_eq!(feed.stream("cam").expect("stream").tape.counts()[0], 1);
    crowd.choose(wanted(None, &[Kind::Caption], 0));
    put(&feed, seen(200));
    assert_eq!((hear(&mut crowd), tape.n_readers(), tape.counts()[5]), (vec![], 0, 101));
}
