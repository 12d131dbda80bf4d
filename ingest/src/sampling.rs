//! Decides which decoded pictures go to the model. Pure arithmetic on the decoder's thread.

use crate::config::Sampling;

/// The decision for one session.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    /// Number of the next grid point that is due (`Fps`): point k lies at k / fps seconds of stream time.
    next: u64,
    last_pts: Option<u64>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self { sampling, next: 0, last_pts: None }
    }

    /// Whether to take picture number `index` (counting decoded ones from 0) at `pts` nanoseconds.
    ///
    /// `Fps`: taken when it is the first at or after the next point of a fixed grid, so that no rounding adds up; up to
    /// half a picture's interval (and half the grid's) before the point still counts as at it, so that jitter of the
    /// source's clock neither skips nor doubles a point.
    pub(crate) fn take(&mut self, index: u64, pts: u64) -> bool {
        let last = self.last_pts.replace(pts);
        match self.sampling {
            Sampling::All | Sampling::Keyframes => true,
            Sampling::EveryNth(n) => index.is_multiple_of(u64::from(n.max(1))),
            Sampling::Fps(fps) => {
                let grid = 1e9 / fps;
                let interval = last.map_or(0.0, |l| pts.saturating_sub(l) as f64);
                let at = pts as f64 + (interval / 2.0).min(grid / 2.0);
                // One nanosecond of grace, because PTS are rounded down to whole ones.
                let reached = ((at + 1.0) / grid).floor() as u64;
                let take = last.is_none() || reached >= self.next;
                if take {
                    self.next = reached + 1;
                }
                take
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in milliseconds; gives the indices taken.
    fn taken(sampling: Sampling, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut sampler = Sampler::new(sampling);
        let all = times.into_iter().enumerate();
        all.filter_map(|(i, ms)| sampler.take(i as u64, ms * 1_000_000).then_some(i as u64)).collect()
    }

    fn at_fps(fps: u64, n: u64) -> impl Iterator<Item = u64> {
        (0..n).map(move |i| i * 1000 / fps)
    }

    #[test]
    fn every_nth_and_all() {
        assert_eq!(taken(Sampling::EveryNth(3), at_fps(25, 8)), [0, 3, 6]);
        assert_eq!(taken(Sampling::EveryNth(1), at_fps(25, 3)), [0, 1, 2]);
        assert_eq!(taken(Sampling::All, at_fps(25, 3)), [0, 1, 2]);
    }

    #[test]
    fn fps_keeps_to_its_grid() {
        assert_eq!(taken(Sampling::Fps(5.0), at_fps(25, 16)), [0, 5, 10, 15]);
        assert_eq!(taken(Sampling::Fps(10.0), at_fps(10, 5)), [0, 1, 2, 3, 4]);
        assert_eq!(taken(Sampling::Fps(100.0), at_fps(10, 4)), [0, 1, 2, 3]);
        assert_eq!(taken(Sampling::Fps(0.5), at_fps(1, 7)), [0, 2, 4, 6]);
        // An hour of 30 fps thinned to 7: neither drift nor doubles.
        let n = taken(Sampling::Fps(7.0), at_fps(30, 30 * 3600)).len() as i64;
        assert!((n - 7 * 3600).abs() <= 1, "{n}");
    }

    #[test]
    fn fps_bears_jitter_pauses_and_late_starts() {
        let jitter = [0i64, 7, -9, 12, -4, 9, -12, 5];
        let times = (0..200).map(|i: i64| (i * 40 + jitter[i as usize % 8]).max(0) as u64);
        assert_eq!(taken(Sampling::Fps(5.0), times).len(), 40);
        assert_eq!(taken(Sampling::Fps(1.0), [0, 500, 10_000, 10_100, 10_500, 11_000]), [0, 2, 5]);
        assert_eq!(taken(Sampling::Fps(1.0), [700, 800, 900, 1000]), [0, 3]);
    }
}
