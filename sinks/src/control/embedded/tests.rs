//! The embedded store against a model that is nothing but maps, with reopening in between, and kills.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use base::time::{ManualClock, SystemClock};
use proptest::prelude::*;

use super::*;

fn open(directory: &Path) -> Result<Embedded, PlaneError> {
    Embedded::open(directory, ManualClock::new())
}

fn told(plane: &mut Embedded) -> Vec<News> {
    let mut news = Vec::new();
    plane.news(Duration::ZERO, &mut news);
    news
}

fn attachment(name: &str, text: Option<&str>) -> Post {
    Post::Attachment { lease: LEASE, name: name.into(), text: text.map(Into::into) }
}

fn claim(worker: &str) -> Post {
    Post::Claim { lease: LEASE, worker: worker.into() }
}

#[test]
fn a_life() {
    let directory = tempfile::tempdir().expect("directory");
    let mut plane = open(directory.path()).expect("opens");
    assert_eq!(plane.n_leases(), 1);
    assert_eq!(told(&mut plane), [News::CaughtUp, News::Granted { leases: vec![0] }]);
    assert_eq!(told(&mut plane), []);
    plane.post(7, attachment("yard", Some("{}")));
    plane.post(8, claim("a"));
    plane.post(9, Post::Worker { id: "a".into(), text: Some("busy".into()) });
    let yard = News::Attachment { lease: 0, name: "yard".into(), text: Some("{}".into()) };
    let claimed = News::Claimed { lease: 0, worker: "a".into(), epoch: 1 };
    let posted = |ticket| News::Posted { ticket, outcome: Ok(()) };
    let worker = News::Worker { id: "a".into(), text: Some("busy".into()), at_ms: 0 };
    assert_eq!(told(&mut plane), [yard.clone(), posted(7), claimed.clone(), posted(8), worker, posted(9)]);
    plane.post(10, Post::Attachment { lease: 1, name: "yard".into(), text: None });
    let refused = told(&mut plane);
    assert!(
        matches!(&refused[..], [News::Posted { ticket: 10, outcome: Err(why) }] if why.contains("no lease 1")),
        "{refused:?}"
    );
    plane.leave();
    plane.leave();
    assert_eq!(told(&mut plane), [News::Revoked { leases: vec![0], lost: false }]);
    plane.post(11, Post::Checkpoint { name: "yard".into(), text: Some("stopped".into()) });
    let stopped = News::Checkpoint { name: "yard".into(), text: Some("stopped".into()) };
    assert_eq!(told(&mut plane), [stopped.clone(), posted(11)]);
    drop(plane);
    let mut plane = open(directory.path()).expect("opens again");
    assert_eq!(told(&mut plane), [yard, stopped, claimed, News::CaughtUp, News::Granted { leases: vec![0] }]);
    plane.post(1, claim("b"));
    assert_eq!(told(&mut plane)[0], News::Claimed { lease: 0, worker: "b".into(), epoch: 2 });
}

#[test]
fn nothing_is_kept_in_memory() {
    let clock = ManualClock::new();
    let epoch = u64::try_from(clock.wall().as_second()).expect("after 1970") + 1;
    let mut plane = Embedded::in_memory(clock);
    assert_eq!(told(&mut plane), [News::CaughtUp, News::Granted { leases: vec![0] }]);
    plane.post(1, claim("a"));
    assert_eq!(told(&mut plane)[0], News::Claimed { lease: 0, worker: "a".into(), epoch });
}

#[test]
fn what_is_not_ours_is_refused_and_untouched() {
    let foreign = |sql: &str| {
        let file = tempfile::NamedTempFile::new().expect("file");
        Connection::open(file.path()).expect("database").execute_batch(sql).expect("runs");
        fs::read(file.path()).expect("read")
    };
    let check = |content: &[u8], expected: Result<(), &str>| {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(DATABASE);
        fs::write(&path, content).expect("write");
        let got = open(directory.path()).map(drop).map_err(|error| error.to_string());
        match (got, expected) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(expected)) => {
                assert!(got.contains(expected), "{got}");
                assert_eq!(fs::read(&path).expect("read"), content, "untouched");
            }
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    };
    check(b"", Ok(()));
    check(b"hello", Err("is no store of attachments; it was not touched: move it away"));
    check(&[7; 4096], Err("is no store of attachments"));
    check(&foreign("CREATE TABLE mine (x)"), Err("is a database of another program"));
    let newer = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2; CREATE TABLE t (x)");
    check(&foreign(&newer), Err("was written by a newer version of eyewitness (format 2)"));
    // Whole by its first page, and without its tables.
    let damaged = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; CREATE TABLE t (x)");
    let directory = tempfile::tempdir().expect("directory");
    fs::write(directory.path().join(DATABASE), foreign(&damaged)).expect("write");
    let error = open(directory.path()).err().expect("no tables").to_string();
    assert!(error.contains("cannot read") && error.contains("the file is damaged: put a copy"), "{error}");
}

#[test]
fn two_do_not_share_one_store() {
    let directory = tempfile::tempdir().expect("directory");
    let first = open(directory.path()).expect("opens");
    let error = open(directory.path()).err().expect("in use").to_string();
    assert!(error.contains("is in use by another process: end that one"), "{error}");
    drop(first);
    open(directory.path()).expect("free again");
    let error = open(Path::new("/dev/null/x")).err().expect("no directory").to_string();
    assert!(error.contains("cannot create directory /dev/null/x") && error.contains("choose another"), "{error}");
}

#[test]
fn a_disk_that_refuses_is_told_until_it_takes_again() {
    let directory = tempfile::tempdir().expect("directory");
    let mut plane = open(directory.path()).expect("opens");
    told(&mut plane);
    let limit = |plane: &Embedded, n_pages: u32| {
        let db = &plane.store.as_ref().expect("a file").db;
        db.pragma_update(None, "max_page_count", n_pages).expect("pragma");
    };
    limit(&plane, 1);
    plane.post(1, attachment("yard", Some(&"x".repeat(100_000))));
    let news = told(&mut plane);
    let [News::Trouble(Some(trouble)), News::Posted { ticket: 1, outcome: Err(why) }] = &news[..] else {
        panic!("{news:?}");
    };
    assert!(trouble == why && why.contains("free some space"), "{why}");
    limit(&plane, 1_000_000);
    plane.post(2, attachment("yard", Some("{}")));
    assert_eq!(told(&mut plane)[0], News::Trouble(None));
    drop(plane);
    let mut plane = open(directory.path()).expect("opens");
    assert_eq!(told(&mut plane)[0], News::Attachment { lease: 0, name: "yard".into(), text: Some("{}".into()) });
}

/// What there is, as one who has read all news knows it.
#[derive(Debug, Default, PartialEq)]
struct Known {
    attachments: BTreeMap<String, String>,
    checkpoints: BTreeMap<String, String>,
    epoch: u64,
    n_posted: u64,
    is_granted: bool,
    is_caught_up: bool,
}

impl Known {
    fn learn(&mut self, plane: &mut Embedded) {
        for news in told(plane) {
            let set = |map: &mut BTreeMap<String, String>, name: String, text: Option<String>| match text {
                Some(text) => map.insert(name, text),
                None => map.remove(&name),
            };
            match news {
                News::CaughtUp => self.is_caught_up = true,
                News::Attachment { lease: 0, name, text } => drop(set(&mut self.attachments, name, text)),
                News::Checkpoint { name, text } => drop(set(&mut self.checkpoints, name, text)),
                News::Claimed { lease: 0, epoch, .. } => {
                    assert!(epoch > self.epoch || !self.is_caught_up, "{epoch} after {}", self.epoch);
                    self.epoch = epoch;
                }
                News::Granted { leases } if leases == [0] => self.is_granted = true,
                News::Revoked { leases, lost: false } if leases == [0] => self.is_granted = false,
                News::Posted { outcome: Ok(()), .. } => self.n_posted += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Attachment(String, Option<String>),
    Checkpoint(String, Option<String>),
    Claim,
    Leave,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entry = || ("[a-d]|\\PC{0,8}", proptest::option::of("\\PC{0,20}"));
    let step = prop_oneof![
        4 => entry().prop_map(|(name, text)| Step::Attachment(name, text)),
        4 => entry().prop_map(|(name, text)| Step::Checkpoint(name, text)),
        2 => Just(Step::Claim),
        1 => Just(Step::Leave),
        2 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn holds_what_a_map_would_hold(steps in steps()) {
        let directory = tempfile::tempdir().expect("directory");
        let mut plane = open(directory.path()).expect("opens");
        let (mut known, mut model) = (Known::default(), Known { is_granted: true, is_caught_up: true, ..Known::default() });
        let set = |map: &mut BTreeMap<String, String>, name: &str, text: &Option<String>| match text {
            Some(text) => map.insert(name.to_owned(), text.clone()),
            None => map.remove(name),
        };
        for step in steps {
            model.n_posted += u64::from(!matches!(step, Step::Leave | Step::Reopen));
            match step {
                Step::Attachment(name, text) => {
                    set(&mut model.attachments, &name, &text);
                    plane.post(0, attachment(&name, text.as_deref()));
                }
                Step::Checkpoint(name, text) => {
                    set(&mut model.checkpoints, &name, &text);
                    plane.post(0, Post::Checkpoint { name, text });
                }
                Step::Claim => {
                    model.epoch += 1;
                    plane.post(0, claim("w"));
                }
                Step::Leave => {
                    model.is_granted = false;
                    plane.leave();
                }
                Step::Reopen => {
                    drop(plane);
                    plane = open(directory.path()).expect("opens again");
                    known = Known::default();
                    (model.is_granted, model.n_posted) = (true, 0);
                }
            }
            known.learn(&mut plane);
            prop_assert_eq!(&known, &model);
        }
    }
}

const DIRECTORY: &str = "EYEWITNESS_TEST_CONTROL_KILLED_IN";

#[test]
fn what_was_answered_is_there_after_a_kill() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        work_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("directory");
    let (mut n_done, mut epoch) = (0_u64, 0_u64);
    for round in 0..5_usize {
        let name = concat!(module_path!(), "::what_was_answered_is_there_after_a_kill");
        let (_crate, name) = name.split_once("::").expect("a path");
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        for line in said.map(|line| line.expect("text")).filter(|line| line.starts_with("at ")).take(5 + 9 * round) {
            let mut numbers = line.split(' ').skip(1).map(|n| n.parse::<u64>().expect("a number"));
            let answered = (numbers.next().expect("done"), numbers.next().expect("epoch"));
            assert!(answered.1 >= epoch && answered.0 >= n_done, "{answered:?} after {n_done}, {epoch}");
            (n_done, epoch) = answered;
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        let mut known = Known::default();
        known.learn(&mut open(directory.path()).expect("opens after a kill"));
        let stored = known.attachments.get("n").map_or(0, |text| text.parse().expect("a number"));
        assert!(stored >= n_done && known.epoch >= epoch, "{known:?} after {n_done}, {epoch}");
        (n_done, epoch) = (stored, known.epoch);
    }
    assert!(n_done > 50 && epoch >= 5, "{n_done}, {epoch}");
}

/// Claims, counts, and says so after each answer.
fn work_until_killed(directory: &Path) -> ! {
    let mut plane = Embedded::open(directory, SystemClock::new()).expect("opens");
    let mut known = Known::default();
    known.learn(&mut plane);
    plane.post(0, claim("w"));
    loop {
        known.learn(&mut plane);
        let n = known.attachments.get("n").map_or(0, |text| text.parse::<u64>().expect("a number"));
        writeln!(std::io::stdout().lock(), "at {n} {}", known.epoch).expect("the parent reads");
        plane.post(0, attachment("n", Some(&(n + 1).to_string())));
        plane.post(0, Post::Checkpoint { name: "n".into(), text: Some("{}".into()) });
    }
}
