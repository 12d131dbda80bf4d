//! `eyewitness spool inspect`: what waits. Reads only, in pieces; never waits for the service, nor makes it wait.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use base::time::SystemClock;
use comfy_table::CellAlignment;
use sinks::{
    delivery::Entry,
    record::Record,
    spool::{ReadOnlySpool, Spool},
};

use super::{Target, accepted_at, size, targets};
use crate::{cli::say, summary};

/// Show what waits in a spool: how much, since when, of which streams. Changes nothing, and works beside a running service.
///
/// Without a directory, all sinks of the configuration that have a spool on disk are shown.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness spool inspect                                    all sinks of ./eyewitness.toml
  eyewitness spool inspect eyewitness-out/spool/kafka
  eyewitness spool inspect --sink kafka --records --limit 20
  eyewitness spool inspect --sink kafka --records --json | jq -r 'select(.type == \"gap\") | .reason'")]
pub(in crate::cli) struct Args {
    /// Directory of a spool
    #[arg(value_name = "DIR", conflicts_with_all = ["config", "sink"])]
    directory: Option<PathBuf>,
    /// Configuration file (TOML) whose sinks to look at
    #[arg(long, value_name = "FILE", default_value = "eyewitness.toml")]
    config: PathBuf,
    /// Only the sink of this name
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// List the records that wait, oldest first
    #[arg(long)]
    records: bool,
    /// For machines: one JSON object a spool; with --records the records themselves, one a line
    #[arg(long)]
    json: bool,
    /// List so many records at most
    #[arg(long, value_name = "N", requires = "records")]
    limit: Option<u64>,
}

/// Read at once.
const PIECE: usize = 1024 * 1024;

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &args.directory {
        let place = Place { sink: None, directory: directory.clone(), max_bytes: None };
        return show(args, &place).map(|()| ExitCode::SUCCESS);
    }
    let named = args.config.display();
    anyhow::ensure!(
        args.config.exists(),
        "there is no {named}: name a spool's directory, or a configuration with --config"
    );
    let targets = match targets(&args.config, args.sink.as_deref())? {
        Ok(targets) => targets,
        Err(code) => return Ok(code),
    };
    let is_one = targets.len() == 1;
    for target in targets {
        let place = Place::from(&target);
        if !is_one && !place.directory.join("spool.db").exists() {
            if !args.json && !args.records {
                say(&format!("{}: {} holds no spool yet", target.name, place.directory.display()));
            }
            continue;
        }
        show(args, &place)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Place {
    sink: Option<String>,
    directory: PathBuf,
    max_bytes: Option<u64>,
}

impl From<&Target> for Place {
    fn from(target: &Target) -> Self {
        Self {
            sink: Some(target.name.clone()),
            directory: target.directory(),
            max_bytes: Some(target.spool.max_bytes()),
        }
    }
}

fn show(args: &Args, place: &Place) -> anyhow::Result<()> {
    let mut spool = Spool::open_read_only(&place.directory)?;
    if args.records {
        return list(&mut spool, args.json, args.limit.unwrap_or(u64::MAX));
    }
    let found = Found::read(&mut spool)?;
    let contents = spool.contents()?;
    let files = [("spool.db", contents.database_bytes), ("spool.db-wal", contents.wal_bytes)];
    let in_use = is_in_use(&place.directory)?;
    let text = if args.json { found.json(place, files, in_use) } else { found.table(place, files, in_use) };
    say(&text);
    Ok(())
}

/// Goes through what waits, oldest first, until `each` says that it is enough.
pub(super) fn walk(spool: &mut ReadOnlySpool, each: &mut dyn FnMut(Entry<'_>) -> bool) -> anyhow::Result<()> {
    let (mut at, mut wanted) = (Some(0), true);
    while let Some(from) = at.filter(|_| wanted) {
        at = spool.read(from, PIECE, &mut |entry| wanted = wanted && each(entry))?;
    }
    Ok(())
}

fn list(spool: &mut ReadOnlySpool, json: bool, limit: u64) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut n_listed, mut outcome) = (0, Ok(()));
    if limit > 0 {
        walk(spool, &mut |entry| {
            let record = entry.bytes.and_then(|bytes| Record::from_bytes(bytes).ok());
            outcome = match record {
                Some(record) if json => writeln!(out, "{}", record.payload),
                Some(Record { id, stream, kind, accepted_ms, .. }) => {
                    writeln!(out, "{}  {id}  {stream}  {kind}", accepted_at(accepted_ms))
                }
                None if json => Ok(()),
                None => writeln!(out, "{:24}  damaged, number {}", "-", entry.number),
            };
            n_listed += 1;
            outcome.is_ok() && n_listed < limit
        })?;
    }
    match outcome.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("cannot write to standard output"),
    }
}

/// Whether some process has the spool. Asks for the lock and gives it back at once.
fn is_in_use(directory: &Path) -> anyhow::Result<bool> {
    let path = directory.join("lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
    };
    Ok(lock.try_lock_shared().is_err())
}

#[derive(Debug, Default)]
struct Sum {
    n_records: u64,
    n_bytes: u64,
}

/// What was found on the way through a spool.
#[derive(Debug, Default)]
struct Found {
    /// By stream and kind.
    sums: BTreeMap<(String, String), Sum>,
    n_damaged: u64,
    /// First and last time of acceptance, milliseconds since 1970.
    oldest_ms: Option<u64>,
    newest_ms: Option<u64>,
}

impl Found {
    fn read(spool: &mut ReadOnlySpool) -> anyhow::Result<Self> {
        let mut found = Self::default();
        walk(spool, &mut |entry| {
            let Some(record) = entry.bytes.and_then(|bytes| Record::from_bytes(bytes).ok()) else {
                found.n_damaged += 1;
                return true;
            };
            let sum = found.sums.entry((record.stream.to_owned(), record.kind.to_owned())).or_default();
            sum.n_records += 1;
            sum.n_bytes += entry.bytes.map_or(0, <[u8]>::len) as u64;
            found.oldest_ms.get_or_insert(record.accepted_ms);
            found.newest_ms = Some(record.accepted_ms);
            true
        })?;
        Ok(found)
    }

    fn total(&self) -> Sum {
        let sums = self.sums.values();
        sums.fold(Sum::default(), |all, one| Sum {
            n_records: all.n_records + one.n_records,
            n_bytes: all.n_bytes + one.n_bytes,
        })
    }

    fn table(&self, place: &Place, files: [(&str, u64); 2], in_use: bool) -> String {
        let name = place.sink.as_ref().map_or(String::new(), |name| format!("{name}: "));
        let held = if in_use { "a running service has it" } else { "no service has it" };
        let mut lines = vec![format!("{name}{}, {held}", place.directory.display())];
        let Sum { n_records, n_bytes } = self.total();
        let of_max = place.max_bytes.map_or(String::new(), |max| {
            format!(" of {} ({:.0} %)", size(max), 100.0 * n_bytes as f64 / max.max(1) as f64)
        });
        lines.push(match n_records {
            0 => "  nothing waits".into(),
            n => format!("  {n} record(s) wait, {}{of_max}", size(n_bytes)),
        });
        if let (Some(oldest), Some(newest)) = (self.oldest_ms, self.newest_ms) {
            let now = u64::try_from(SystemClock::new().wall().as_millisecond()).unwrap_or(0);
            let age =
                |ms: u64| format!("{} ({} ago)", accepted_at(ms), ago(Duration::from_millis(now.saturating_sub(ms))));
            lines.push(format!("  accepted: the oldest {}, the newest {}", age(oldest), age(newest)));
        }
        if self.n_damaged > 0 {
            lines.push(format!(
                "  {} damaged: they cannot be delivered, and are counted as failed when their turn comes",
                self.n_damaged
            ));
        }
        let files = files.map(|(name, n)| format!("{name} {}", size(n)));
        lines.push(format!("  files: {}", files.join(", ")));
        if n_records > 0 {
            let mut table = summary::new_table(&["stream", "kind", "records", "size"]);
            for ((stream, kind), Sum { n_records, n_bytes }) in &self.sums {
                table.add_row([stream.clone(), kind.clone(), n_records.to_string(), size(*n_bytes)]);
            }
            for column in [2, 3] {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            lines.push(table.to_string());
        }
        lines.join("\n")
    }

    fn json(&self, place: &Place, files: [(&str, u64); 2], in_use: bool) -> String {
        let Sum { n_records, n_bytes } = self.total();
        let by_stream: Vec<_> = self
            .sums
            .iter()
            .map(|((stream, kind), sum)| {
                serde_json::json!({
                    "stream": stream, "kind": kind, "n_records": sum.n_records, "n_bytes": sum.n_bytes
                })
            })
            .collect();
        let [(_, database_bytes), (_, wal_bytes)] = files;
        let object = serde_json::json!({
            "sink": place.sink,
            "directory": place.directory,
            "in_use": in_use,
            "n_records": n_records,
            "n_bytes": n_bytes,
            "max_bytes": place.max_bytes,
            "n_damaged": self.n_damaged,
            "oldest_accepted_at": self.oldest_ms.map(accepted_at),
            "newest_accepted_at": self.newest_ms.map(accepted_at),
            "database_bytes": database_bytes,
            "wal_bytes": wal_bytes,
            "by_stream": by_stream,
        });
        object.to_string()
    }
}

/// `3 s`, `5 min`, `2 h 10 min`, `3 d 4 h`.
fn ago(age: Duration) -> String {
    let secs = age.as_secs();
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min", secs / 60),
        3600..86400 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86400, secs % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |n_bytes, expected| assert_eq!(size(n_bytes), expected);
        check(1023, "1023 B");
        check(1536, "1.5 KiB");
        check(2 * 1024 * 1024, "2.0 MiB");
        check(1 << 30, "1.0 GiB");
    }

    #[test]
    fn ages() {
        let check = |secs, expected| assert_eq!(ago(Duration::from_secs(secs)), expected);
        check(0, "0 s");
        check(59, "59 s");
        check(60, "1 min");
        check(7_800, "2 h 10 min");
        check(90_000, "1 d 1 h");
    }
}
