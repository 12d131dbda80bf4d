//! How a stream fared over a span of time, in steps. On the caller's thread.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::Value;
use serde::Serialize;

use super::{HistoryError, Reader, read::time};

/// Most gaps and changes of state in one answer: the newest.
const MOST_MARKS: i64 = 1000;
/// Most classes and reasons in one answer; more than any stream has.
const MOST_KEYS: usize = 200;

/// What is asked for: milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Name of the stream.
    pub stream: String,
    /// Begin.
    pub from_ms: i64,
    /// End; after the begin.
    pub to_ms: i64,
    /// Length of a step; at least 1.
    pub step_ms: i64,
}

impl Stretch {
    /// Steps that it has; the last one may be shorter.
    pub const fn n_steps(&self) -> usize {
        let length = self.to_ms.saturating_sub(self.from_ms);
        (length.saturating_add(self.step_ms - 1) / self.step_ms) as usize
    }
}

/// A stream over time. Each list has one entry a step, `None` where nothing is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Series {
    /// Name of the stream.
    pub stream: String,
    /// Begin, RFC 3339.
    pub from: String,
    /// End.
    pub to: String,
    /// Seconds of a step.
    pub step_secs: i64,
    /// Begin of each step.
    pub times: Vec<String>,
    /// Frames analysed a second, on average.
    pub fps: Vec<Option<f64>>,
    /// Most sound that waited to be transcribed, in milliseconds.
    pub speech_lag_ms: Vec<Option<u64>>,
    /// Frames left out, by reason.
    pub drops: BTreeMap<String, Vec<Option<u64>>>,
    /// Objects by class.
    pub objects: BTreeMap<String, Objects>,
    /// What was not analysed.
    pub gaps: Vec<GapSpan>,
    /// Changes of state; the first one may be from before.
    pub states: Vec<StateChange>,
}

/// Objects of a class in one frame.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Objects {
    /// Most in one frame.
    pub most: Vec<Option<u64>>,
    /// Mean over all analysed frames.
    pub mean: Vec<Option<f64>>,
}

/// A stretch that was not analysed, RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GapSpan {
    /// Begin.
    pub from: String,
    /// End.
    pub to: String,
    /// The word of the wire.
    pub reason: String,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// When, RFC 3339.
    pub at: String,
    /// The word of the wire.
    pub state: String,
    /// More, in words.
    pub detail: Option<String>,
}

/// All samples of one step.
#[derive(Default)]
struct Step {
    n_samples: u64,
    fps: Option<(f64, u64)>,
    speech_lag_ms: Option<u64>,
    n_frames: u64,
    drops: BTreeMap<String, u64>,
    objects: BTreeMap<String, (u64, u64)>,
}

impl Reader {
    /// How a stream fared.
    ///
    /// # Errors
    /// When it cannot be read, or was stopped.
    pub fn series(&self, stretch: &Stretch) -> Result<Series, HistoryError> {
        let Stretch { stream, from_ms, to_ms, step_ms } = stretch;
        let mut steps: Vec<Step> = (0..stretch.n_steps()).map(|_| Step::default()).collect();
        let span = || vec![Value::Text(stream.clone()), Value::Integer(*from_ms), Value::Integer(*to_ms)];
        let samples = "SELECT told_ms, fps, n_frames, speech_lag_ms, drops, objects FROM samples \
                       WHERE stream = ?1 AND told_ms >= ?2 AND told_ms < ?3";
        self.rows(samples, span(), |row| {
            let at = (row.get::<_, i64>(0)? - from_ms) / step_ms;
            if let Some(step) = usize::try_from(at).ok().and_then(|at| steps.get_mut(at)) {
                step.add(row)?;
            }
            Ok(())
        })?;
        let gaps = format!(
            "SELECT from_ms, told_ms, reason FROM gaps WHERE stream = ?1 AND told_ms >= ?2 AND from_ms < ?3 \
             ORDER BY told_ms DESC LIMIT {MOST_MARKS}"
        );
        let mut gaps = self.rows(&gaps, span(), |row| {
            Ok(GapSpan { from: time(row.get(0)?), to: time(row.get(1)?), reason: row.get(2)? })
        })?;
        gaps.reverse();
        let states = format!(
            "SELECT told_ms, state, detail FROM status WHERE stream = ?1 AND told_ms < ?3 AND told_ms >= coalesce( \
             (SELECT max(told_ms) FROM status WHERE stream = ?1 AND told_ms < ?2), ?2) \
             ORDER BY told_ms DESC, id DESC LIMIT {MOST_MARKS}"
        );
        let mut states = self.rows(&states, span(), |row| {
            Ok(StateChange { at: time(row.get(0)?), state: row.get(1)?, detail: row.get(2)? })
        })?;
        states.reverse();
        let mut series = Series {
            stream: stream.clone(),
            from: time(*from_ms),
            to: time(*to_ms),
            step_secs: step_ms / 1000,
            gaps,
            states,
            ..Series::default()
        };
        let keys = |of: fn(&Step) -> Vec<&String>| -> BTreeSet<String> { steps.iter().flat_map(of).cloned().collect() };
        for reason in keys(|step| step.drops.keys().collect()).into_iter().take(MOST_KEYS) {
            series.drops.insert(reason, Vec::with_capacity(steps.len()));
        }
        for class in keys(|step| step.objects.keys().collect()).into_iter().take(MOST_KEYS) {
            series.objects.insert(class, Objects::default());
        }
        for (n, step) in steps.iter().enumerate() {
            series.put(from_ms + step_ms * n as i64, step);
        }
        Ok(series)
    }
}

impl Step {
    fn add(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        self.n_samples += 1;
        if let Some(fps) = row.get::<_, Option<f64>>(1)? {
            let (sum, n) = self.fps.unwrap_or_default();
            self.fps = Some((sum + fps, n + 1));
        }
        self.n_frames += unsigned(row.get(2)?);
        let lag = row.get::<_, Option<i64>>(3)?.map(unsigned);
        self.speech_lag_ms = self.speech_lag_ms.max(lag);
        // What we wrote ourselves; a damaged one says nothing.
        let drops: BTreeMap<String, u64> = serde_json::from_str(row.get_ref(4)?.as_str()?).unwrap_or_default();
        for (reason, n) in drops {
            *self.drops.entry(reason).or_default() += n;
        }
        let objects: BTreeMap<String, (u64, u64)> = serde_json::from_str(row.get_ref(5)?.as_str()?).unwrap_or_default();
        for (class, (most, sum)) in objects {
            let step = self.objects.entry(class).or_default();
            *step = (step.0.max(most), step.1 + sum);
        }
        Ok(())
    }
}

impl Series {
    fn put(&mut self, at_ms: i64, step: &Step) {
        self.times.push(time(at_ms));
        self.fps.push(step.fps.map(|(sum, n)| rounded(sum / n as f64)));
        self.speech_lag_ms.push(step.speech_lag_ms);
        // Where there is a sample, what it does not name did not happen.
        let known = step.n_samples > 0;
        for (reason, list) in &mut self.drops {
            list.push(known.then(|| step.drops.get(reason).copied().unwrap_or(0)));
        }
        let looked = known && (step.n_frames > 0 || step.fps.is_some());
        for (class, list) in &mut self.objects {
            let (most, sum) = step.objects.get(class).copied().unwrap_or_default();
            list.most.push(looked.then_some(most));
            list.mean.push(looked.then(|| rounded(sum as f64 / step.n_frames.max(1) as f64)));
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
