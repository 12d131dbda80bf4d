//! `eyewitness rules`: what rules would make of a recording, and why what they nearly made was nothing.

mod pictures;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use base::{
    event::{Alert, AlertState, AlertTime, Body, Event, Word},
    time::Pts,
};
use clap::Subcommand;
use inference::rules::{NearMiss, Rules};
use sinks::wire::{self, Record};

use self::pictures::Pictures;
use super::{EXIT_REFUSED, replay, say, say_err};
use crate::config::{self, RuleBook};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Try rules on recorded events or on a recording: what would fire, when and why, and why the near misses did not
    Test(TestArgs),
}

/// Both ways give the same alerts: of a recording the events are made first, as `eyewitness replay` makes them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness rules test rules.toml --events eyewitness-out/events.jsonl
  eyewitness rules test eyewitness.toml --media clip.mp4 --transcribe whisper-tiny.en
  eyewitness rules test rules.toml --events clip.jsonl --media clip.mp4 --pictures near")]
pub(super) struct TestArgs {
    /// A TOML file with [rules.NAME] tables: a file of its own, or the configuration
    rules: PathBuf,
    /// Recorded events, JSON Lines: the file sink's, or `replay --out`'s
    #[arg(long, value_name = "FILE", required_unless_present = "media")]
    events: Option<PathBuf>,
    /// A recording: a file, or the URL of one. With --events it is not analysed again: it has the pictures
    #[arg(long, value_name = "FILE")]
    media: Option<String>,
    /// Detector for --media: a built-in model's name or the path of a manifest [default: as for replay]
    #[arg(long, value_name = "MODEL", requires = "media", conflicts_with = "events")]
    detect: Option<String>,
    /// Transcriber for --media
    #[arg(long, value_name = "MODEL", requires = "media", conflicts_with = "events")]
    transcribe: Option<String>,
    /// Frames to look at in --media: all, every=N, fps=F or keyframes
    #[arg(long, value_name = "WHICH", default_value = "all", requires = "media")]
    sample: String,
    /// Write a picture of each alert and of each near miss into this folder, with what it is about drawn over it; needs --media
    #[arg(long, value_name = "DIR", requires = "media", conflicts_with = "json")]
    pictures: Option<PathBuf>,
    /// Print the alerts as records, one JSON object a line, and no near misses
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let Command::Test(args) = command;
    let book = match config::load_rules(&args.rules) {
        Ok(book) => book,
        Err(problems) => {
            say_err(&problems.to_string());
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    anyhow::ensure!(
        args.events.is_none() || args.media.is_none() || args.pictures.is_some(),
        "with --events, --media only has the pictures: give --pictures, or leave one of them out"
    );
    let pictures = args.pictures.as_deref().map(Pictures::into).transpose()?;
    let mut report = Report { json: args.json, pictures, ..Report::default() };
    match (&args.events, &args.media) {
        (Some(events), _) => report.try_on(&book, events)?,
        (None, Some(media)) => {
            let dir = std::env::temp_dir().join(format!("eyewitness-rules-{}", std::process::id()));
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let events = dir.join("events.jsonl");
            let tried =
                replay::record(media, args.detect.as_deref(), args.transcribe.as_deref(), &args.sample, &events, log)
                    .and_then(|()| report.try_on(&book, &events));
            let _ = std::fs::remove_dir_all(&dir);
            tried?;
        }
        (None, None) => bail!("give --events or --media"),
    }
    if let Some(media) = &args.media {
        report.illustrate(media)?;
    }
    report.end(&book);
    Ok(ExitCode::SUCCESS)
}

/// What is said of a trial.
#[derive(Default)]
struct Report {
    json: bool,
    n_events: u64,
    n_near: u64,
    /// Opened, by rule.
    n_opened: BTreeMap<String, u64>,
    streams: BTreeSet<String>,
    /// More than one makes no one recording.
    sessions: BTreeSet<String>,
    n_other: u64,
    pictures: Option<Pictures>,
    /// With their pictures, which are taken at the end; without pictures, lines are printed at once.
    lines: Vec<(String, PathBuf)>,
}

impl Report {
    fn try_on(&mut self, book: &RuleBook, path: &Path) -> anyhow::Result<()> {
        let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
        let mut hear = BTreeSet::new();
        for_each(path, open()?, |record| {
            if let Record::Transcript(record) = record {
                hear.insert(record.envelope.stream.to_string());
            }
        })?;
        let mut of_streams: BTreeMap<String, Rules> = BTreeMap::new();
        for_each(path, open()?, |record| {
            let Some(event) = wire::read::event(record) else { return self.n_other += 1 };
            let name = event.stream.name.to_string();
            let rules = of_streams.entry(name.clone()).or_insert_with(|| {
                let mut rules = Rules::new(event.stream.clone(), &book.of(&name, &event.stream.tags), &[]);
                rules.explain();
                rules
            });
            self.n_events += 1;
            self.sessions.insert(format!("{name} {}", event.session));
            let mut alerts = Vec::new();
            if matches!(event.body, Body::Detections(_)) && hear.contains(&name) {
                alerts = rules.listened_until(event.pts);
            }
            alerts.extend(rules.observe(&event));
            alerts.iter().for_each(|alert| self.alert(alert));
            for near in rules.near_misses() {
                self.near_miss(book, &name, &near);
            }
            self.streams.insert(name);
        })?;
        anyhow::ensure!(
            self.n_events > 0,
            "{}: there is no detection, transcript, status or gap in it",
            path.display()
        );
        for (name, mut rules) in of_streams {
            rules.finish("the recording is over").iter().for_each(|alert| self.alert(alert));
            for near in rules.near_misses() {
                self.near_miss(book, &name, &near);
            }
        }
        Ok(())
    }

    /// Takes the pictures, and prints what waited for them.
    fn illustrate(&mut self, media: &str) -> anyhow::Result<()> {
        let Some(pictures) = self.pictures.take() else { return Ok(()) };
        anyhow::ensure!(
            self.sessions.len() == 1,
            "the events are of {} streams or sessions ({}), and {media} is one recording: of which is not known",
            self.sessions.len(),
            self.streams.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        );
        let missing = pictures.take_from(media)?;
        for (line, path) in self.lines.drain(..) {
            match missing.get(&path) {
                _ if path.as_os_str().is_empty() => say(&line),
                None => say(&format!("{line}  {}", path.display())),
                Some(why) => say(&format!("{line}  (no picture: {why})")),
            }
        }
        Ok(())
    }

    /// Prints a line, or lets it wait for its picture; where others wait, also without one.
    fn tell(&mut self, line: String, picture: Option<PathBuf>) {
        match self.pictures {
            Some(_) => self.lines.push((line, picture.unwrap_or_default())),
            None => say(&line),
        }
    }

    fn alert(&mut self, event: &Event) {
        let Body::Alert(alert) = &event.body else { return };
        if alert.state == AlertState::Opened {
            *self.n_opened.entry(alert.rule.to_string()).or_default() += 1;
        }
        if self.json {
            return say(&wire::encode(event, None));
        }
        let mut text = format!(
            "{}  {}  {:<7}  {}: {}",
            event.stream.name,
            clock(event.pts),
            alert.state.as_str(),
            alert.rule,
            alert.summary
        );
        if let Some(because) = &alert.closed_because {
            text += &format!(" - {because}");
        } else {
            text += &evidence(alert);
        }
        let pictures = self.pictures.as_mut().filter(|_| alert.state == AlertState::Opened);
        let picture = pictures.map(|pictures| {
            let (at, evidence) = ((&*clock(event.pts), event.pts), &alert.evidence);
            pictures.want(at, &alert.rule, "alert", &evidence.objects, &evidence.shapes)
        });
        self.tell(text, picture);
    }

    fn near_miss(&mut self, book: &RuleBook, stream: &str, near: &NearMiss) {
        self.n_near += 1;
        if self.json {
            return;
        }
        let AlertTime { pts, .. } = near.when;
        let objects = near.objects.first().map(|object| {
            let track = object.track.map_or(String::new(), |track| format!(" {track}"));
            format!(" ({}{track})", object.detection.class)
        });
        let what = objects.or_else(|| (!near.words.is_empty()).then(|| format!(" ({})", quoted(&near.words))));
        let at = clock(pts.unwrap_or_default());
        let shapes = book.rules().find(|rule| rule.name() == &*near.rule).map(|rule| rule.shapes()).unwrap_or_default();
        let picture = self.pictures.as_mut().map(|pictures| {
            let seen = near.seen.pts.or(pts).unwrap_or_default();
            pictures.want((&at, seen), &near.rule, "near", &near.objects, shapes)
        });
        self.tell(format!("{stream}  {at}  near     {}: {}{}", near.rule, near.why, what.unwrap_or_default()), picture);
    }

    fn end(&self, book: &RuleBook) {
        let streams: Vec<&str> = self.streams.iter().map(String::as_str).collect();
        say_err(&format!("{} events of {}; {} near misses", self.n_events, streams.join(", "), self.n_near));
        for rule in book.rules() {
            let n = self.n_opened.get(rule.name()).copied().unwrap_or(0);
            say_err(&format!("  {:<32} {n} alerts", rule.name()));
        }
    }
}

fn evidence(alert: &Alert) -> String {
    let evidence = &alert.evidence;
    let tracks: Vec<String> = evidence.tracks.iter().map(u64::to_string).collect();
    match (tracks.is_empty(), evidence.words.is_empty()) {
        (false, true) => format!(" (track {})", tracks.join(", ")),
        (true, false) => format!(" ({})", quoted(&evidence.words)),
        (false, false) => format!(" (track {}; {})", tracks.join(", "), quoted(&evidence.words)),
        (true, true) => String::new(),
    }
}

fn quoted(words: &[Word]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    format!("\"{}\"", words.join(" "))
}

fn clock(pts: Pts) -> String {
    let ms = pts.millis();
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// Every record of a file.
fn for_each(path: &Path, file: File, mut take: impl FnMut(&Record<'_>)) -> anyhow::Result<()> {
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.with_context(|| format!("{}: line {number}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let record = wire::decode(&line).with_context(|| format!("{}: line {number} is no record", path.display()))?;
        take(&record);
    }
    Ok(())
}
