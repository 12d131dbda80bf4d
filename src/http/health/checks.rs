//! The table of checks: what is looked at, and what to do where it is not well. One row a check; pure functions of the facts.

use std::time::Duration;

use super::{
    Level,
    facts::{Before, Facts, StreamFact, label},
    findings::{
        Finding, NEARLY_FULL, bad, grown, in_state, no_room, of_stream, spools, stalled, superseded, versions, warn,
    },
};
use crate::control::selectors::WAITING;

/// A row: what it is called, what is said where all is well, what to do otherwise, and how it is found out.
struct Check {
    id: &'static str,
    fine: &'static str,
    advice: &'static str,
    look: fn(&Facts, &Before) -> Vec<Finding>,
}

/// One line of the answer.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) id: &'static str,
    pub(super) level: Level,
    pub(super) subject: Option<String>,
    pub(super) says: String,
    /// None where all is well.
    pub(super) advice: Option<&'static str>,
}

/// A stream that has not begun for so long is worth a word.
const LONG_WAIT: Duration = Duration::from_secs(20);
/// Reports come every second or two.
const OLD_REPORT_MS: i64 = 30_000;
/// Seconds of sound that wait: worth a word, and bad.
const SPEECH_LAG: (f64, f64) = (5.0, 30.0);
/// Smaller queues are full all the time.
const LEAST_QUEUE: f64 = 8.0;
/// A record that waits for so long is late.
const LATE_SECS: i64 = 300;

const CHECKS: &[Check] = &[
    Check {
        id: "ready",
        fine: "Models are loaded and streams are started.",
        advice: "Wait a moment; if it lasts, the log of the service names the model or the stream that holds it up.",
        look: |facts, _| facts.not_ready.iter().map(|why| bad(None, why.clone())).collect(),
    },
    Check {
        id: "stream_failed",
        fine: "No stream was given up.",
        advice: "Try its URL (`eyewitness probe URL`, or `POST /v1/probe`), put right what it tells in the attachment or its \
                 secret, and attach it again; detach it if it is gone for good.",
        look: |facts, _| in_state(facts, "failed", Level::Bad, "was given up"),
    },
    Check {
        id: "stream_interrupted",
        fine: "No connection to a source is lost.",
        advice: "It is tried again by itself. Look whether the camera has power and is reachable from this machine, and whether \
                 its address and password are still right: `eyewitness probe URL` says more.",
        look: |facts, _| in_state(facts, "interrupted", Level::Warn, "has lost its source"),
    },
    Check {
        id: "stream_not_begun",
        fine: "Every stream that was attached has begun.",
        advice: "Try its URL (`eyewitness probe URL`): the source may not answer, or may not send what was asked for.",
        look: |facts, before| {
            let is_long = |stream: &&StreamFact| {
                let states = ["starting", "connecting"];
                states.contains(&&*stream.state) && before.age >= LONG_WAIT && before.was_in(&stream.name, &states)
            };
            facts.streams.iter().filter(is_long).map(|s| of_stream(Level::Warn, s, "has not begun yet")).collect()
        },
    },
    Check {
        id: "stream_waiting",
        fine: "Every stream has a worker.",
        advice: "Start a worker, or look at the workers: one that is leaving, or that cannot reach Kafka, takes no stream.",
        look: |facts, before| {
            let is_long = |stream: &&StreamFact| {
                stream.state == WAITING && before.age >= LONG_WAIT && before.was_in(&stream.name, &[WAITING])
            };
            facts.streams.iter().filter(is_long).map(|s| of_stream(Level::Bad, s, "has no worker")).collect()
        },
    },
    Check {
        id: "stream_stalled",
        fine: "Media come from every stream that plays.",
        advice: "The source is connected and sends nothing that can be decoded. Restart the camera or its encoder; \
                 `eyewitness probe URL` shows what it sends.",
        look: stalled,
    },
    Check {
        id: "stream_unheard_of",
        fine: "Every stream is reported by its worker.",
        advice: "Look whether that worker lives and reaches Kafka; its streams go elsewhere once it counts as lost.",
        look: |facts, _| {
            let is_old =
                |s: &&StreamFact| s.report_age_ms.is_some_and(|age| age > OLD_REPORT_MS) && s.state == "playing";
            let says = |s: &StreamFact| {
                format!("its worker has told nothing of it for {} s", s.report_age_ms.unwrap_or(0) / 1000)
            };
            facts.streams.iter().filter(is_old).map(|s| warn(Some(s.name.clone()), says(s))).collect()
        },
    },
    Check {
        id: "speech_lag",
        fine: "Speech is written down as it comes.",
        advice: "Give this worker fewer streams that are listened to, the speech models more threads (`speech.workers`), or the \
                 profile a smaller model in `transcribe`.",
        look: |facts, _| {
            let lags = facts.scrape.samples("eyewitness_speech_lag_seconds").filter(|(_, lag)| *lag > SPEECH_LAG.0);
            let finding = |(labels, lag): (&str, f64)| Finding {
                level: if lag > SPEECH_LAG.1 { Level::Bad } else { Level::Warn },
                subject: Some(label(labels, "stream")),
                says: format!("transcription is {lag:.0} s behind"),
            };
            lags.map(finding).collect()
        },
    },
    Check {
        id: "speech_gaps",
        fine: "No speech was left out in the last minute.",
        advice: "Under overload, as for `speech_lag`. Otherwise the log of the service names the model and what it stumbled over.",
        look: |facts, before| {
            grown(facts, before, "eyewitness_speech_gaps_total", Level::Warn, "stream", |labels, n| {
                format!(
                    "{n:.0} stretches of speech were not transcribed in the last minute ({})",
                    label(labels, "reason")
                )
            })
        },
    },
    Check {
        id: "frames_superseded",
        fine: "Detectors keep up with the pictures that are asked for.",
        advice: "The detector is too slow for all these streams: ask for fewer pictures (`sampling.fps`), take a smaller model, \
                 a GPU, or another worker.",
        look: superseded,
    },
    Check {
        id: "frames_broken",
        fine: "No picture was left out for a failure in the last minute.",
        advice: "The log of the service names the cause. Compare the model with its checksum: `eyewitness models verify`.",
        look: |facts, before| {
            let name = "eyewitness_frames_dropped_total";
            let says =
                |labels: &str, n: f64| format!("{n:.0} pictures in the last minute: {}", label(labels, "reason"));
            let all = before.grown(facts, name).into_iter().filter(|(labels, n)| {
                *n > 0.0 && ["conversion", "inference_failed"].contains(&&*label(labels, "reason"))
            });
            all.map(|(labels, n)| warn(Some(label(labels, "stream")), says(labels, n))).collect()
        },
    },
    Check {
        id: "fence",
        fine: "This worker may publish what it finds.",
        advice: "It cannot be sure that its streams are still its own: look whether it reaches Kafka, and whether the machine was \
                 suspended or is short of CPU.",
        look: |facts, _| {
            let is_closed = facts.gauge("eyewitness_fence_closed").is_some_and(|closed| closed > 0.0);
            is_closed.then(|| bad(None, "events are left out until leases are confirmed".into())).into_iter().collect()
        },
    },
    Check {
        id: "queue_full",
        fine: "No queue is nearly full.",
        advice: "Whoever empties it is too slow. For `sink:NAME`, see what the checks say of that sink; else this machine has too \
                 little CPU or disk for what it is asked to do.",
        look: |facts, _| {
            let is_full = |q: &super::facts::Queue| q.capacity >= LEAST_QUEUE && q.n_items >= NEARLY_FULL * q.capacity;
            let says = |q: &super::facts::Queue| format!("{:.0} of {:.0} places are taken", q.n_items, q.capacity);
            facts.queues().filter(is_full).map(|q| warn(Some(q.name.clone()), says(&q))).collect()
        },
    },
    Check {
        id: "queue_dropped",
        fine: "No queue has lost anything in the last minute.",
        advice: "As for `queue_full`: whoever empties it is too slow. What is lost is told in `gap` records where it was media.",
        look: |facts, before| {
            grown(facts, before, "eyewitness_queue_dropped_total", Level::Warn, "queue", |_, n| {
                format!("{n:.0} were dropped in the last minute")
            })
        },
    },
    Check {
        id: "sink_trouble",
        fine: "Every sink delivers.",
        advice: "Look whether the far end lives and is reachable from this machine, and whether its address, certificate and \
                 password are right. Events wait in the spool until then; nothing is lost before it is full.",
        look: |facts, _| {
            let trouble = |sink: &sinks::SinkReading| {
                let trouble = sink.delivery.as_ref()?.trouble.clone()?;
                Some(bad(Some(sink.name.clone()), trouble))
            };
            facts.sinks.iter().filter_map(trouble).collect()
        },
    },
    Check {
        id: "spool_full",
        fine: "No spool is nearly full.",
        advice: "Bring the far end back, or give the spool more room (`spool.max_bytes`): a full one holds up the streams, or \
                 lets go of the oldest events, as `spool.when_full` says.",
        look: spools,
    },
    Check {
        id: "sink_late",
        fine: "Nothing has waited for long to be delivered.",
        advice: "The far end takes less than comes. Give it more partitions or larger batches, or send it fewer kinds of records.",
        look: |facts, _| {
            let late = |sink: &sinks::SinkReading| {
                let far = sink.delivery.as_ref().filter(|far| far.trouble.is_none())?;
                let secs = facts.now_ms.saturating_sub_unsigned(far.oldest_ms?) / 1000;
                (secs > LATE_SECS)
                    .then(|| warn(Some(sink.name.clone()), format!("the oldest event has waited for {secs} s")))
            };
            facts.sinks.iter().filter_map(late).collect()
        },
    },
    Check {
        id: "sink_refused",
        fine: "No far end has refused anything in the last minute.",
        advice: "The reasons stand with the records in the sink's `dead_letters` file; `eyewitness spool replay` sends them again \
                 once the far end takes them.",
        look: |facts, before| {
            grown(facts, before, "eyewitness_sink_failed_total", Level::Warn, "sink", |_, n| {
                format!("{n:.0} records were refused for good in the last minute")
            })
        },
    },
    Check {
        id: "sink_dropped",
        fine: "No event was let go of in the last minute.",
        advice: "Bring the far end back, or give the spool more room (`spool.max_bytes`). What is lost is told in `gap` records.",
        look: |facts, before| {
            grown(facts, before, "eyewitness_sink_dropped_total", Level::Bad, "sink", |_, n| {
                format!("{n:.0} events were let go of by a full spool in the last minute")
            })
        },
    },
    Check {
        id: "store",
        fine: "What is attached can be read and written.",
        advice: "Streams go on as they are; nothing can be attached or moved until the store is back. Look whether Kafka (or the \
                 disk of `attachments.store`) is there and lets this worker in.",
        look: |facts, _| facts.trouble.iter().map(|trouble| bad(None, trouble.clone())).collect(),
    },
    Check {
        id: "worker_silent",
        fine: "Every worker is heard of.",
        advice: "Look at that machine. Its streams go to others once its lease is over; if it is gone for good, nothing is to be done.",
        look: |facts, _| {
            let silent = facts.workers.iter().filter(|(_, w)| !w.is_this && facts.now_ms - w.at_ms > OLD_REPORT_MS);
            let says = |at_ms: i64| format!("it has told nothing for {} s", (facts.now_ms - at_ms) / 1000);
            silent.map(|(id, worker)| warn(Some(id.clone()), says(worker.at_ms))).collect()
        },
    },
    Check {
        id: "worker_versions",
        fine: "All workers run the same version.",
        advice: "Bring the others up to date, one after the other; they hand their streams over.",
        look: versions,
    },
    Check {
        id: "model_missing",
        fine: "Every model that a profile names is there.",
        advice: "Fetch it (`eyewitness models pull NAME`; `eyewitness models list` says where from), or name another one in the profile.",
        look: |facts, _| {
            let missing = facts.models.iter().filter_map(|m| Some((m, m.missing.clone()?)));
            missing.map(|(model, cause)| bad(Some(model.name.clone()), cause)).collect()
        },
    },
    Check {
        id: "evidence_off",
        fine: "Records, pictures and clips of alerts are kept.",
        advice: "Nothing, if there are to be no alerts. Otherwise write rules (`[rules.NAME]`), and leave `evidence.enabled` true.",
        look: |facts, _| {
            let says = "nothing is kept of alerts: there are no rules, or `evidence.enabled` is false".to_owned();
            (!facts.has_evidence).then_some(Finding { level: Level::Ok, subject: None, says }).into_iter().collect()
        },
    },
    Check {
        id: "evidence_failed",
        fine: "Everything of alerts could be kept in the last minute.",
        advice: "Look whether the disk of `evidence.path` is full or read-only; the log of the service names the cause. Alerts go \
                 out all the same.",
        look: |facts, before| {
            grown(facts, before, "eyewitness_evidence_failed_total", Level::Bad, "what", |_, n| {
                format!("{n:.0} could not be made or written in the last minute")
            })
        },
    },
    Check {
        id: "history_failed",
        fine: "What is said, and how streams fare, is kept.",
        advice: "Look whether the disk of `history.dir` is full or read-only, or whether another process has the folder; the log of \
                 the service names the cause. Nothing else depends on it.",
        look: |facts, before| {
            let is_troubled = facts.gauge("eyewitness_history_troubled").is_some_and(|troubled| troubled > 0.0);
            let troubled = is_troubled.then(|| bad(None, "nothing can be kept in the history".into()));
            let failed = |name, what: fn(&str, f64) -> String| grown(facts, before, name, Level::Warn, "", what);
            let mut all = failed("eyewitness_history_dropped_total", |_, n| {
                format!("{n:.0} entries could not be written in the last minute")
            });
            all.extend(failed("eyewitness_history_clips_failed_total", |_, n| {
                format!("{n:.0} clips of what was said could not be made or written in the last minute")
            }));
            all.iter_mut().for_each(|finding| finding.subject = None);
            troubled.into_iter().chain(all).collect()
        },
    },
    Check {
        id: "disk_full",
        fine: "There is room on every disk that is written to.",
        advice: "Make room there, or move that folder to another disk. What takes how much is configured: `spool.max_bytes` of each sink, \
                 `evidence.keep_bytes`, `history.max_bytes` and `history.clips_bytes`. A spool on a full disk holds up the streams.",
        look: no_room,
    },
    Check {
        id: "clients",
        fine: "There is room for more readers.",
        advice: "Raise `http.max_clients`, or look who holds so many connections (`eyewitness_feed_readers` in `/metrics`).",
        look: |facts, _| {
            let n = facts.gauge("eyewitness_http_clients").unwrap_or_default();
            let most = facts.gauge("eyewitness_http_max_clients").unwrap_or(f64::INFINITY);
            let says = || format!("{n:.0} of {most:.0} places for readers are taken");
            (n >= NEARLY_FULL * most).then(|| warn(None, says())).into_iter().collect()
        },
    },
];

/// All that is to be said: what is worst first, and of each check at least that all is well.
pub(super) fn all(facts: &Facts, before: &Before) -> Vec<Found> {
    let mut all = Vec::new();
    for Check { id, fine, advice, look } in CHECKS {
        let findings = look(facts, before);
        if findings.is_empty() {
            all.push(Found { id, level: Level::Ok, subject: None, says: (*fine).to_owned(), advice: None });
        }
        all.extend(findings.into_iter().map(|Finding { level, subject, says }| {
            let advice = (level > Level::Ok).then_some(*advice);
            Found { id, level, subject, says, advice }
        }));
    }
    all.sort_by_key(|found| std::cmp::Reverse(found.level));
    all
}

#[cfg(test)]
mod tests;
