//! What one stream did since its last sample. Counted on whichever thread sees, in a moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base::event::Detections;
use sinks::history::Sample;

use crate::control::report::Figures;

/// Classes counted in one sample; more than any model has at a time.
const MOST_CLASSES: usize = 100;
/// A shorter time says nothing of a rate.
const LEAST: Duration = Duration::from_millis(500);

/// The counts of one stream.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// On the monotonic clock: when this sample began.
    since: Duration,
    /// The same by the wall clock, milliseconds since 1970.
    since_ms: i64,
    n_frames: u64,
    objects: BTreeMap<Arc<str>, (u64, u64)>,
    speech_lag_ms: Option<u64>,
    /// Frames left out before this sample, by reason.
    drops_before: BTreeMap<String, u64>,
    /// Frames were seen since it was attached.
    looks: bool,
    /// It is detached: this sample is the last.
    pub(super) is_gone: bool,
}

impl Watched {
    pub(super) fn new(now: Duration, now_ms: i64) -> Self {
        Self { since: now, since_ms: now_ms, ..Self::default() }
    }

    /// It is attached again before it was forgotten: its counters begin anew.
    pub(super) fn attached_again(&mut self) {
        self.is_gone = false;
        self.drops_before.clear();
    }

    /// One analysed frame.
    pub(super) fn frame(&mut self, seen: &Detections) {
        self.n_frames += 1;
        let classes = seen.objects.iter().map(|object| &object.detection.class);
        let mut counted: Vec<(&Arc<str>, u64)> = Vec::new();
        for class in classes {
            match counted.iter_mut().find(|(known, _)| *known == class) {
                Some((_, n)) => *n += 1,
                None => counted.push((class, 1)),
            }
        }
        for (class, n) in counted {
            if let Some((most, sum)) = self.objects.get_mut(class) {
                (*most, *sum) = ((*most).max(n), *sum + n);
            } else if self.objects.len() < MOST_CLASSES {
                self.objects.insert(Arc::clone(class), (n, n));
            }
        }
    }

    /// So much sound waits.
    pub(super) fn lag(&mut self, lag: Duration) {
        let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.speech_lag_ms = self.speech_lag_ms.max(Some(lag_ms));
    }

    /// The sample that ends now, and the next begins; none where there is nothing to tell.
    pub(super) fn sample(
        &mut self,
        stream: &str,
        figures: Option<&Figures>,
        now: Duration,
        now_ms: i64,
    ) -> Option<Sample> {
        let length = now.saturating_sub(self.since);
        if length < LEAST {
            return None;
        }
        self.looks |= self.n_frames > 0 || figures.is_some_and(|figures| figures.n_decoded > 0);
        let mut drops = BTreeMap::new();
        if let Some(figures) = figures {
            for (reason, n) in &figures.n_dropped {
                let before = self.drops_before.get(reason).copied().unwrap_or(0);
                let more = n.checked_sub(before).unwrap_or(*n);
                if more > 0 {
                    drops.insert(reason.clone(), more);
                }
            }
            self.drops_before.clone_from(&figures.n_dropped);
        }
        let objects = std::mem::take(&mut self.objects);
        let sample = Sample {
            stream: stream.to_owned(),
            at_ms: self.since_ms,
            fps: self.looks.then(|| (self.n_frames as f64 / length.as_secs_f64() * 1000.0).round() / 1000.0),
            n_frames: std::mem::take(&mut self.n_frames),
            speech_lag_ms: self.speech_lag_ms.take(),
            drops,
            objects: objects.into_iter().map(|(class, n)| (class.to_string(), n)).collect(),
        };
        (self.since, self.since_ms) = (now, now_ms);
        (sample.fps.is_some() || sample.speech_lag_ms.is_some() || !sample.drops.is_empty()).then_some(sample)
    }
}
