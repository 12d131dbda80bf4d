//! What is found by what somebody types.

use super::*;

const SAID: [(&str, &str); 7] = [
    ("cam", "And so my fellow Americans, ask not"),
    ("hall", "what your country can do for you"),
    ("cam", "ask what you can do for your country"),
    ("hall", "Das Café \u{fc}ber der Stra\u{df}e"),
    ("cam", "don't NOT stop; AND text: x OR y*"),
    ("yard", "a\u{308}rger im Cafe"),
    ("yard", "<b>bold</b> \"quoted\" -- 'DROP TABLE words'"),
];

fn library() -> (TempDir, Store) {
    let rows: Vec<Row> = SAID
        .iter()
        .enumerate()
        .map(|(n, (stream, text))| row(&said(stream, n as u64 * 10, text), n as i64 * 10_000))
        .collect();
    with(&rows)
}

fn search(typed: &str) -> Search {
    Search { words: Phrase::parse(typed), limit: 100, order: Order::OldestFirst, ..Search::default() }
}

#[test]
fn words_and_phrases() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    let check = |typed: &str, expected: &[usize]| {
        let found = reader.transcripts(&search(typed)).unwrap_or_else(|e| panic!("{typed}: {e}"));
        let expected: Vec<&str> = expected.iter().map(|n| SAID[*n].1).collect();
        assert_eq!(texts(&found), expected, "{typed}");
    };
    check("fellow", &[0]);
    check("FELLOW americans", &[0]);
    check("americans fellow", &[0]);
    check("fell", &[0]);
    check("fell ", &[]);
    check("country", &[1, 2]);
    check("country ask", &[2]);
    check("do for you", &[1, 2]);
    check("\"do for you\"", &[1]);
    check("\"do for you", &[1]);
    check("\"for your country\" ask", &[2]);
    check("\"country for\"", &[]);
    // Whatever accents, whoever typed them.
    check("cafe", &[3, 5]);
    check("café", &[3, 5]);
    check("uber \u{e4}rger", &[]);
    check("\u{fc}ber", &[3]);
    check("uber", &[3]);
    check("arger", &[5]);
    // Words of the query language are words.
    check("NOT", &[0, 4]);
    check("stop AND x", &[4]);
    check("text: x", &[4]);
    check("don't", &[4]);
    check("y*", &[1, 2, 4]);
    check("bold", &[6]);
    check("-- drop table", &[6]);
}

#[test]
fn nothing_that_is_typed_is_an_error() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    let pieces = [
        "\"", "'", "*", "(", ")", "NEAR(", "AND", "OR", "NOT", "^", "-", ":", "{", "}", "+", "words", "\0", "\\", ";",
        "a",
    ];
    for a in pieces {
        for b in pieces {
            for typed in [format!("{a}{b}"), format!("{a} {b}"), format!("\"{a}\" {b}"), format!("x {a} \"{b}")] {
                if let Err(e) = reader.transcripts(&search(&typed)) {
                    panic!("{typed:?}: {e}");
                }
            }
        }
    }
    // Letters for us that are none for the index.
    for c in ['\u{2160}', '\u{345}', '\u{24b6}', '\u{16fe4}', '\u{1f130}', '\u{e000}', '\u{903}', '\u{b2}'] {
        reader.transcripts(&search(&format!("{c} fellow"))).unwrap_or_else(|e| panic!("{c}: {e}"));
    }
}

#[test]
fn streams_spans_and_pages() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    let places = |search: &Search| -> Vec<i64> {
        let page = reader.transcripts(search).expect("found");
        page.found.iter().map(|heard| heard.captured_ms.expect("dated") - NOW_MS).collect()
    };
    let all = search("");
    assert_eq!(places(&all).len(), SAID.len());
    let of = |streams: &[&str]| Search { streams: streams.iter().map(|s| (*s).to_owned()).collect(), ..search("") };
    assert_eq!(places(&of(&["hall"])), [10_000, 30_000]);
    assert_eq!(places(&of(&["hall", "yard", "nobody"])), [10_000, 30_000, 50_000, 60_000]);
    let span = |from: i64, to: i64| (Some(NOW_MS + from), Some(NOW_MS + to));
    let (from_ms, to_ms) = span(10_000, 40_000);
    assert_eq!(places(&Search { from_ms, to_ms, ..search("") }), [10_000, 20_000, 30_000]);
    assert_eq!(places(&Search { from_ms, to_ms, ..search("ask") }), [20_000]);
    assert_eq!(places(&Search { streams: vec!["cam".into()], ..search("country") }), [20_000]);
    assert_eq!(places(&Search { streams: vec!["cam".into(), "hall".into()], ..search("country") }), [10_000, 20_000]);
    for nobody in ["nobody", "ca", "--", "cam\" OR stream : \"hall"] {
        assert_eq!(places(&Search { streams: vec![nobody.into()], ..search("country") }), [0; 0]);
    }
    // Streams' names are not what was said.
    assert_eq!(places(&search("hall")), [0; 0]);
    for (order, words) in [(Order::NewestFirst, ""), (Order::OldestFirst, ""), (Order::NewestFirst, "country")] {
        let whole = Search { order, ..search(words) };
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = reader.transcripts(&Search { limit: 1, after, ..whole.clone() }).expect("page");
            paged.extend(page.found.iter().map(|heard| heard.captured_ms.expect("dated") - NOW_MS));
            after = page.after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, places(&whole), "{order:?} {words}");
        assert!(paged.is_sorted_by(|a, b| (a < b) == (order == Order::OldestFirst)), "{paged:?}");
    }
}

#[test]
fn several_streams_are_found_as_one() {
    // 150 streams; of those asked for each n-th.
    let rows: Vec<Row> =
        (0..600).map(|n| row(&said(&format!("cam-{:03}", n * 7 % 150), n / 3, "some words"), n as i64)).collect();
    let (dir, _store) = with(&rows);
    let reader = Reader::open(dir.path()).expect("reader");
    let whole = reader.transcripts(&Search { limit: 1000, ..search("") }).expect("found").found;
    assert_eq!(whole.len(), 600);
    for (every, words) in [(1, ""), (2, ""), (2, "some"), (50, ""), (75, "words"), (150, "")] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let mut streams: Vec<String> = (0..150).step_by(every).map(|n| format!("cam-{n:03}")).collect();
            let (from_ms, to_ms) = (Some(NOW_MS + 20_000), Some(NOW_MS + 180_000));
            let is_asked_for = |heard: &&Heard| {
                let ms = heard.captured_ms.expect("dated") - NOW_MS;
                streams.contains(&heard.stream) && (20_000..180_000).contains(&ms)
            };
            let mut expected: Vec<i64> = whole.iter().filter(is_asked_for).map(|heard| heard.place).collect();
            if order == Order::NewestFirst {
                expected.reverse();
            }
            // Twice the same is no other wish.
            streams.extend(["nobody".to_owned(), "cam-000".to_owned()]);
            let (mut got, mut after) = (Vec::new(), None);
            loop {
                let asked =
                    Search { streams: streams.clone(), from_ms, to_ms, order, after, limit: 17, ..search(words) };
                let page = reader.transcripts(&asked).expect("page");
                assert!(page.found.iter().all(|heard| heard.snippet.is_some() != words.is_empty()));
                got.extend(page.found.iter().map(|heard| heard.place));
                after = page.after;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(got, expected, "each {every}, {words}, {order:?}");
        }
    }
}

#[test]
fn what_is_said_at_the_same_moment_is_kept_apart() {
    let rows: Vec<Row> = (0..5).map(|n| row(&said(&format!("cam-{n}"), 1, "same"), n)).collect();
    let (dir, _store) = with(&rows);
    let page = Reader::open(dir.path()).expect("reader").transcripts(&search("same")).expect("found");
    assert_eq!(page.found.len(), 5);
}

#[test]
fn an_answer_shows_what_was_found_and_when() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    let page = reader.transcripts(&search("fellow amer")).expect("found");
    let json: serde_json::Value = serde_json::from_str(&page.found[0].to_json(Some(("/clip", 7)))).expect("JSON");
    assert_eq!(json["clip"], serde_json::json!({ "path": "/clip", "from_ms": 7 }));
    assert!(page.found[0].to_json(None).ends_with(r#""clip":null}"#));
    let hits: Vec<&str> = json["snippet"]
        .as_array()
        .expect("snippet")
        .iter()
        .filter(|piece| piece["hit"] == true)
        .filter_map(|piece| piece["text"].as_str())
        .collect();
    assert_eq!(hits, ["fellow", "Americans"]);
    assert_eq!(json["text"], SAID[0].1);
    assert_eq!(json["captured_at"], crate::wire::rfc3339(at(0)));
    assert_eq!(json["words"][3]["text"], "fellow");
    assert_eq!((&json["words"][3]["start_ms"], &json["end_ms"]), (&600.into(), &1400.into()));
    // A plain text, whatever it looks like.
    let page = reader.transcripts(&search("bold")).expect("found");
    let shown: String = page.found[0].snippet.iter().flatten().map(|piece| piece.text.as_str()).collect();
    assert_eq!(shown, SAID[6].1);
    assert_eq!(reader.transcripts(&search("")).expect("found").found[0].snippet, None);
}

#[test]
fn a_reader_that_is_stopped_says_so() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    reader.stopper().stop();
    assert!(matches!(reader.transcripts(&search("ask")), Err(HistoryError::Stopped)));
}

#[test]
fn a_search_that_takes_too_long_is_cut_short() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    let stopper = reader.stopper();
    let (begun, may_stop) = base::queue::queue("begun", 1, base::queue::WhenFull::Block);
    let stops = std::thread::Builder::new()
        .spawn(move || {
            may_stop.recv();
            stopper.stop();
        })
        .expect("thread");
    // It counts for ever, until somebody stops it.
    let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    begun.send(());
    let stopped = reader.rows(endless, Vec::new(), |_| Ok(()));
    assert!(matches!(stopped, Err(HistoryError::Stopped)), "{stopped:?}");
    stops.join().expect("thread");
}

#[test]
fn a_reader_cannot_write() {
    let (dir, _store) = library();
    let reader = Reader::open(dir.path()).expect("reader");
    let written = reader.rows("DELETE FROM transcripts RETURNING id", Vec::new(), |_| Ok(()));
    assert!(written.is_err_and(|e| e.to_string().contains("readonly")), "it wrote");
}
