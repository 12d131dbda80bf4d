//! What the promise of the spool is worth: a real Apache Kafka, the real program, and one fault after another. Each test is
//! one fault in its short form; `EYEWITNESS_CHAOS=long` (`make test-chaos`) makes it long. The last one to end prints a
//! table of those that ran.
//!
//! Arrived is what kcat reads back. A fault that did not really happen fails its test, too.

use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, PoisonError},
};

mod account;
mod broker_faults;
mod config_faults;
mod disk_faults;
mod process_faults;
mod stage;

/// Every fault, in the order of the table.
const FAULTS: [&str; 14] = [
    broker_faults::STOPPED,
    broker_faults::KILLED,
    broker_faults::ONE_OF_THREE,
    broker_faults::NETWORK_CUT,
    broker_faults::TOPIC_DELETED,
    process_faults::KILLED,
    process_faults::TERMINATED,
    process_faults::CLOCK_JUMPS,
    disk_faults::DISK_FULL,
    disk_faults::SPOOL_FULL_BLOCKS,
    disk_faults::SPOOL_FULL_DROPS,
    config_faults::WRONG_PASSWORD,
    config_faults::EXPIRED_CERTIFICATE,
    config_faults::TOO_LARGE,
];

/// How much of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds: part of every run of all tests.
    Short,
    /// As the promise has it.
    Long,
}

impl Scale {
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("EYEWITNESS_CHAOS") {
            Ok(value) if value == "long" => Self::Long,
            Ok(value) => panic!("EYEWITNESS_CHAOS is `{value}`: only `long` is known"),
            Err(_) => Self::Short,
        }
    }

    pub(crate) fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Default)]
struct Row {
    /// The number of events that the program said it had accepted.
    n_accepted: u64,
    /// Different events read back.
    n_arrived: u64,
    n_lost: u64,
    /// Records beyond the first of each event.
    n_duplicated: u64,
    /// Events that arrived for the first time after a later one of their stream.
    n_out_of_order: u64,
    /// Longest time between two records, on the broker's clock; none where its clock does not stamp them.
    silence_ms: Option<i64>,
    /// What a reader must know besides.
    note: String,
}

/// Runs one fault, and notes its row whether it ends well or not.
fn run_case(fault: &'static str, case: impl FnOnce(Scale) -> Row) {
    let outcome = catch_unwind(AssertUnwindSafe(|| case(Scale::of_this_run())));
    static ROWS: Mutex<Vec<(&str, Option<Row>)>> = Mutex::new(Vec::new());
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push((fault, outcome.as_ref().ok().cloned()));
    if rows.len() == FAULTS.len() {
        rows.sort_by_key(|(fault, _)| FAULTS.iter().position(|f| f == fault));
        show(&table(&rows));
    } else {
        show(&table(&rows[rows.len() - 1..]));
    }
    drop(rows);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

fn table(rows: &[(&str, Option<Row>)]) -> String {
    let mut text = String::from("\n");
    if rows.len() > 1 {
        text += &format!("seed {}, {:?} form\n", process_faults::seed(), Scale::of_this_run());
        text += &format!(
            "{:<44} {:>9} {:>9} {:>6} {:>10} {:>12} {:>15}\n",
            "fault", "accepted", "arrived", "lost", "duplicated", "out of order", "longest silence"
        );
    }
    for (fault, row) in rows {
        let Some(row) = row else {
            text += &format!("{fault:<44} FAILED\n");
            continue;
        };
        let silence = row.silence_ms.map_or_else(|| "-".into(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
        let line = format!(
            "{fault:<44} {:>9} {:>9} {:>6} {:>10} {:>12} {silence:>15}  {}",
            row.n_accepted, row.n_arrived, row.n_lost, row.n_duplicated, row.n_out_of_order, row.note
        );
        text += line.trim_end();
        text += "\n";
    }
    text
}

/// Past the test harness, which shows what is printed only of tests that fail.
fn show(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
