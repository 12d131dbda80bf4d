//! `eyewitness bench deliver`: offers numbered events to one sink of a configuration, through its real queue and thread, and
//! says what became of them. For benchmarks, and for tests that kill this process or the far end.
//!
//! Events are made on a thread of their own; the calling thread watches. Must never say that an event was accepted before it
//! was, nor make events with ids or contents that depend on anything but their number, `--session` and `--payload-bytes`.

use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZeroU64,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base::{
    event::{Body, BoxInImage, Detection, Detections, Event, ModelId, TrackedObject},
    media::{SessionId, StreamInfo, StreamName},
    queue::{Sender, queue},
    shutdown::Shutdown,
    time::{CaptureTime, Clock, ClockQuality, Pts, SystemClock, Timestamp},
};
use serde_json::json;
use sinks::{BuildContext, SinkProbe, Stamp};

use crate::{
    cli::{EXIT_REFUSED, EXIT_UNDELIVERED, say, say_err, validate},
    config,
};

/// How often the sink's figures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A sink that has not ended so long after its grace period is left to [`sinks::SinkHandle::join`].
const PATIENCE: Duration = Duration::from_secs(1);
/// Paced events that are due sooner after each other come in small groups, so that pacing costs little.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// Stream time between two frames.
const FRAME_MS: u64 = 100;
/// Captured at this time, milliseconds since 1970: the first frame of every stream.
const FIRST_CAPTURED_MS: i64 = 1_790_000_000_123;

/// What to offer, and where.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Configuration file (TOML); streams and models of it are left alone
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Name of the sink in the file
    #[arg(long)]
    sink: String,
    /// Event number n belongs to stream `s<n % STREAMS>` and is frame n / STREAMS of it
    #[arg(long, default_value = "4")]
    streams: NonZeroU64,
    /// How many events; without it, until a signal comes
    #[arg(long)]
    events: Option<u64>,
    /// Events a second over all streams; 0: as fast as the sink's queue takes them
    #[arg(long, default_value_t = 0.0, value_parser = parse_rate)]
    rate: f64,
    /// Number of the first event
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// The same text gives the same ids; without it, ids are new each time
    #[arg(long)]
    session: Option<String>,
    /// Append a line here whenever more was accepted: a number, below which all events from --first on are accepted
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
    /// Seconds to deliver what is on its way, once the last event was offered or a signal came; default: the file's
    #[arg(long, value_name = "SECS")]
    grace: Option<u64>,
    /// Give each event as many objects as make it about this long in JSON; default: 2 objects
    #[arg(long, value_name = "BYTES")]
    payload_bytes: Option<usize>,
    /// Print a line of JSON with memory and figures each so many seconds
    #[arg(long, value_name = "SECS")]
    rss_every: Option<NonZeroU64>,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| (0.0..=1e7).contains(rate)).ok_or_else(|| "write 0 to 10000000".into())
}

pub(super) fn run(args: &Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let checked = match config::load(&args.config) {
        Ok(checked) => checked,
        Err(problems) => {
            say_err(problems.render(validate::color()).trim_end());
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    let Some(sink_config) = checked.sinks.get(&args.sink) else {
        say_err(&format!("{}: no sink is called `{}`", args.config.display(), args.sink));
        return Ok(ExitCode::from(EXIT_REFUSED));
    };
    crate::logging::init(log.unwrap_or("warn"), checked.service.log_json)?;
    let shutdown = Shutdown::default();
    crate::signals::watch(shutdown.clone()).context("signals")?;

    let clock = SystemClock::new();
    let maker = Maker::new(args, clock.wall())?;
    let event_bytes = sinks::wire::encode(&maker.make(args.first), Some(clock.wall())).len();
    let mut book = args.accepted.as_deref().map(|path| Book::open(path, args.first)).transpose()?;
    let settings = sink_config.queue();
    let (sender, receiver) = queue(format!("sink:{}", args.sink), settings.capacity, settings.when_full);
    let queue_probe = receiver.probe();
    let sink = sink_config.build(&args.sink, BuildContext::new(Arc::clone(&clock), Stamp::Published))?;
    let grace = args.grace.map_or_else(|| checked.service.grace(), Duration::from_secs);
    let handle = sinks::spawn(&args.sink, sink, receiver, grace, Arc::clone(&clock))?;
    let probe = handle.probe();

    let start = clock.monotonic();
    let cpu_before = cpu_secs()?;
    let offering = {
        let (clock, shutdown) = (Arc::clone(&clock), shutdown.clone());
        let offer = Offer { maker, first: args.first, n_events: args.events, rate: args.rate };
        std::thread::Builder::new().name("offer".into()).spawn(move || offer.run(&sender, &*clock, &shutdown))?
    };
    let mut n_printed = 0;
    let mut patience_ends: Option<Duration> = None;
    while !handle.is_finished() && patience_ends.is_none_or(|end| clock.monotonic() < end) {
        std::thread::sleep(LOOK_EVERY);
        if patience_ends.is_none() && (shutdown.is_triggered() || offering.is_finished()) {
            patience_ends = Some(clock.monotonic() + grace + PATIENCE);
            handle.drain();
        }
        if let Some(book) = &mut book {
            book.note(probe.read().n_accepted)?;
        }
        if let Some(every) = args.rss_every {
            let secs = (clock.monotonic() - start).as_secs_f64();
            if secs >= (every.get() * n_printed) as f64 {
                n_printed += 1;
                say(&progress(secs, &probe)?);
            }
        }
    }
    let wall_secs = (clock.monotonic() - start).as_secs_f64();
    let report = handle.join();
    let offered = offering.join().map_err(|_| anyhow::anyhow!("the thread that offers events panicked"))??;
    let cpu_secs = cpu_secs()? - cpu_before;
    let n_accepted = probe.read().n_accepted;
    if let Some(book) = &mut book {
        book.note(n_accepted)?;
    }
    let queue_reading = queue_probe();
    // Those that came back from the queue, and those that its policy let go of, were never accepted, but they are lost.
    let n_failed = report.n_failed + queue_reading.n_refused;
    let n_dropped = report.n_dropped + queue_reading.n_dropped;
    say(&json!({
        "n_offered": offered.n,
        "n_accepted": n_accepted,
        "n_delivered": report.n_published,
        "n_failed": n_failed,
        "n_dropped": n_dropped,
        "n_waiting": report.n_waiting,
        "wall_secs": wall_secs,
        "offered_secs": offered.secs,
        "cpu_secs": cpu_secs,
        "generator_cpu_secs": offered.cpu_secs,
        "rss_mib": memory_mib("VmRSS")?,
        "peak_rss_mib": memory_mib("VmHWM")?,
        "event_bytes": event_bytes,
    })
    .to_string());
    if let Some(error) = &report.error {
        say_err(&format!("{}: {error}", args.sink));
    }
    let is_whole = n_failed == 0 && n_dropped == 0 && report.error.is_none();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNDELIVERED) })
}

fn progress(secs: f64, probe: &SinkProbe) -> anyhow::Result<String> {
    let reading = probe.read();
    let delivery = reading.delivery.unwrap_or_default();
    Ok(json!({
        "secs": secs,
        "rss_mib": memory_mib("VmRSS")?,
        "n_waiting": delivery.n_waiting,
        "n_waiting_bytes": delivery.n_waiting_bytes,
        "n_accepted": reading.n_accepted,
        "n_delivered": delivery.n_delivered,
        "full": delivery.full,
        "trouble": delivery.trouble,
    })
    .to_string())
}

/// The file that says how far events were accepted.
struct Book {
    file: File,
    first: u64,
    n_noted: u64,
}

impl Book {
    fn open(path: &Path, first: u64) -> anyhow::Result<Self> {
        let open = || File::options().create(true).append(true).open(path);
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, first, n_noted: 0 })
    }

    fn note(&mut self, n_accepted: u64) -> anyhow::Result<()> {
        if n_accepted > self.n_noted {
            self.n_noted = n_accepted;
            // One write: a reader never sees half a line of ours, whenever this process ends.
            let line = format!("{}\n", self.first + n_accepted);
            self.file.write_all(line.as_bytes()).context("cannot write what was accepted")?;
        }
        Ok(())
    }
}

/// Makes numbered events, cheaply.
struct Maker {
    streams: Vec<(Arc<StreamInfo>, SessionId)>,
    model: Arc<ModelId>,
    objects: Vec<TrackedObject>,
    first_captured: Timestamp,
}

impl Maker {
    fn new(args: &Args, now: Timestamp) -> anyhow::Result<Self> {
        let session = args.session.clone().unwrap_or_else(|| SessionId::live(now).to_string());
        let streams = (0..args.streams.get()).map(|k| {
            let name = StreamName::new(&format!("s{k}"))?;
            // Ids are unique over all streams: each has a session of its own.
            let id = SessionId::derived([session.as_bytes(), name.as_str().as_bytes()]);
            let tags = [("site".to_owned(), "north".to_owned())].into();
            Ok((Arc::new(StreamInfo { name, tags, epoch: None }), id))
        });
        let mut maker = Self {
            streams: streams.collect::<anyhow::Result<_>>()?,
            model: Arc::new(ModelId { name: "ssdlite-mbv2".into(), version: "b42166a4".into() }),
            objects: Vec::new(),
            first_captured: Timestamp::from_millisecond(FIRST_CAPTURED_MS)?,
        };
        let n_bytes = |maker: &Self| sinks::wire::encode(&maker.make(args.first), Some(now)).len();
        let n_bytes_bare = n_bytes(&maker);
        maker.objects = objects(2);
        if let Some(wanted) = args.payload_bytes {
            let n_bytes_object = (n_bytes(&maker) - n_bytes_bare).div_ceil(2);
            maker.objects = objects(wanted.saturating_sub(n_bytes_bare).div_ceil(n_bytes_object));
        }
        Ok(maker)
    }

    fn make(&self, number: u64) -> Event {
        let n_streams = self.streams.len() as u64;
        let index = number / n_streams;
        let (stream, session) = &self.streams[(number % n_streams) as usize];
        let mut objects = self.objects.clone();
        // Somebody walks.
        if let Some(first) = objects.first_mut() {
            first.detection.box_in_image.x = (index % 4000) as f32 * 0.17;
            first.track = Some(index / 300 + 1);
        }
        let pts_ms = index * FRAME_MS;
        let at = Timestamp::from_millisecond(self.first_captured.as_millisecond() + pts_ms as i64);
        let captured = at.ok().map(|at| CaptureTime { at, quality: ClockQuality::Ntp });
        let detections = Detections {
            width: 768,
            height: 576,
            index,
            model: Arc::clone(&self.model),
            objects,
            labels: Vec::new(),
            answer: None,
            classes: Arc::default(),
        };
        Event::new(stream, session, index, Pts::from_millis(pts_ms), captured, Body::Detections(detections))
    }
}

fn objects(n: usize) -> Vec<TrackedObject> {
    let class: Arc<str> = "person".into();
    let object = |at: usize| TrackedObject {
        detection: Detection {
            class: Arc::clone(&class),
            score: 0.912_345_6 - 0.000_123 * (at % 4000) as f32,
            box_in_image: BoxInImage {
                x: 258.04 + 1.7 * (at % 250) as f32,
                y: 219.33 + 0.9 * (at % 200) as f32,
                width: 32.86,
                height: 88.749,
            },
        },
        track: Some(at as u64 + 1),
    };
    (0..n).map(object).collect()
}

/// What the offering thread does.
struct Offer {
    maker: Maker,
    first: u64,
    n_events: Option<u64>,
    /// A second; 0 for as many as the queue takes.
    rate: f64,
}

/// What it did.
struct Offered {
    n: u64,
    secs: f64,
    cpu_secs: f64,
}

impl Offer {
    fn run(self, sender: &Sender<Arc<Event>>, clock: &dyn Clock, shutdown: &Shutdown) -> anyhow::Result<Offered> {
        let start = clock.monotonic();
        let n_events = self.n_events.unwrap_or(u64::MAX);
        let mut n = 0;
        while n < n_events && !shutdown.is_triggered() {
            if self.rate > 0.0 {
                // Reckoned from the start each time, so that no error adds up; whoever had to wait catches up.
                let due = start + Duration::from_secs_f64(n as f64 / self.rate);
                let early = due.saturating_sub(clock.monotonic());
                if !early.is_zero() && shutdown.wait_timeout(early.max(LEAST_PAUSE)) {
                    break;
                }
            }
            // What comes back or is displaced is in the queue's own figures.
            let _ = sender.send(Arc::new(self.maker.make(self.first + n)));
            n += 1;
        }
        Ok(Offered { n, secs: (clock.monotonic() - start).as_secs_f64(), cpu_secs: thread_cpu_secs()? })
    }
}

/// User and system CPU seconds of this process, also of threads that have ended; to a hundredth.
///
/// Source: proc_pid_stat(5), fields 14 and 15, in ticks of which Linux shows 100 a second on every platform.
fn cpu_secs() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/self/stat").context("CPU time needs Linux' /proc")?;
    // The second field is the program's name in brackets, with any character in it.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

/// CPU seconds of the calling thread, to the nanosecond. Source: as for `cpu_secs` of the commands beside this one.
fn thread_cpu_secs() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("CPU time needs Linux' /proc")?;
    let nanos: u64 = text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
    Ok(nanos as f64 / 1e9)
}

/// A field of proc_pid_status(5) that is in KiB.
fn memory_mib(field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/self/status").context("memory needs Linux' /proc")?;
    let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0);
    Ok(kib / 1024.0)
}
