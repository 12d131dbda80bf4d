//! Log-mel spectrograms as Whisper was trained on them: 16 kHz, windows of 400 samples every 160, mel bands by Slaney's
//! scale. Runs on the pool's threads, inside a transcriber.
//!
//! Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section 2.2, and the
//! published reference implementation, which the tests compare with.

use std::{f64::consts::PI, sync::Arc};

use rustfft::{Fft, FftPlanner, num_complex::Complex};

/// Samples a second.
pub(crate) const RATE: usize = 16_000;
/// Samples from one frame to the next: 10 ms.
pub(crate) const HOP: usize = 160;
const WINDOW: usize = 400;
const BINS: usize = WINDOW / 2 + 1;
/// The least power that counts, and its logarithm.
const LEAST: f32 = 1e-10;
const LEAST_LOG: f32 = -10.0;

/// Computes spectrograms. Keeps its buffers from call to call.
pub(crate) struct MelSpectrogram {
    n_mels: usize,
    fft: Arc<dyn Fft<f32>>,
    window: Vec<f32>,
    bands: Vec<Band>,
    buffer: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    powers: [Vec<f32>; 2],
    values: Vec<f32>,
}

/// A triangular filter: its weights from bin `first` on; elsewhere it is 0.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl MelSpectrogram {
    pub(crate) fn new(n_mels: usize) -> Self {
        let fft = FftPlanner::new().plan_fft_forward(WINDOW);
        let window = (0..WINDOW).map(|i| (0.5 - 0.5 * (2.0 * PI * i as f64 / WINDOW as f64).cos()) as f32).collect();
        Self {
            n_mels,
            window,
            bands: bands(n_mels),
            buffer: vec![Complex::default(); WINDOW],
            scratch: vec![Complex::default(); fft.get_inplace_scratch_len()],
            powers: [vec![0.0; BINS], vec![0.0; BINS]],
            values: Vec::new(),
            fft,
        }
    }

    /// The spectrogram f32 [n_mels, t] of these samples (mono, 16 kHz, -1.0..=1.0) and of silence after them, up to
    /// `n_total` samples; t = `n_total` / 160. Values are about -1.0..=1.5. Both ends are mirrored, as the reference does.
    pub(crate) fn compute(&mut self, samples: &[f32], n_total: usize) -> &[f32] {
        let n_frames = n_total / HOP;
        self.values.clear();
        self.values.resize(self.n_mels * n_frames, LEAST_LOG);
        // Behind this frame there is nothing but silence, unless sound reaches the mirrored end.
        let mirrored = samples.len() + WINDOW / 2 >= n_total;
        let n_heard = if mirrored { n_frames } else { ((samples.len() + WINDOW / 2).div_ceil(HOP)).min(n_frames) };
        for first in (0..n_heard).step_by(2) {
            self.transform(samples, n_total, first);
            for (which, frame) in (first..n_heard.min(first + 2)).enumerate() {
                let powers = &self.powers[which];
                for (m, band) in self.bands.iter().enumerate() {
                    let bins = &powers[band.first..band.first + band.weights.len()];
                    let power: f32 = bins.iter().zip(&band.weights).map(|(p, w)| p * w).sum();
                    self.values[m * n_frames + frame] = power.max(LEAST).log10();
                }
            }
        }
        let floor = self.values.iter().copied().fold(LEAST_LOG, f32::max) - 8.0;
        for value in &mut self.values {
            *value = (value.max(floor) + 4.0) / 4.0;
        }
        &self.values
    }

    /// Powers of frames `first` and `first + 1`. One complex transform does two real frames: one is its real part, one its
    /// imaginary part, and they come apart again by symmetry.
    fn transform(&mut self, samples: &[f32], n_total: usize, first: usize) {
        let begin = (first * HOP) as isize - (WINDOW / 2) as isize;
        let inside = begin >= 0 && begin as usize + HOP + WINDOW <= samples.len();
        let at = |i: isize| {
            let last = n_total as isize - 1;
            let i = if i < 0 {
                -i
            } else if i > last {
                2 * last - i
            } else {
                i
            };
            usize::try_from(i).ok().and_then(|i| samples.get(i)).copied().unwrap_or(0.0)
        };
        for (i, (value, window)) in self.buffer.iter_mut().zip(&self.window).enumerate() {
            let (one, other) = if inside {
                let i = begin as usize + i;
                (samples[i], samples[i + HOP])
            } else {
                let i = begin + i as isize;
                (at(i), at(i + HOP as isize))
            };
            *value = Complex::new(one * window, other * window);
        }
        self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
        let [ones, others] = &mut self.powers;
        for (k, (one, other)) in ones.iter_mut().zip(others).enumerate() {
            let (x, y) = (self.buffer[k], self.buffer[(WINDOW - k) % WINDOW].conj());
            *one = (x + y).norm_sqr() / 4.0;
            *other = (x - y).norm_sqr() / 4.0;
        }
    }
}

/// Filters of equal area, evenly spaced on Slaney's mel scale (Auditory Toolbox, 1998) from 0 to 8000 Hz: linear up to
/// 1000 Hz, logarithmic above.
fn bands(n_mels: usize) -> Vec<Band> {
    let mel_from_hz =
        |f: f64| if f < 1000.0 { f * 3.0 / 200.0 } else { 15.0 + (f / 1000.0).ln() * 27.0 / 6.4_f64.ln() };
    let hz_from_mel =
        |m: f64| if m < 15.0 { m * 200.0 / 3.0 } else { 1000.0 * ((m - 15.0) * 6.4_f64.ln() / 27.0).exp() };
    let highest = mel_from_hz(RATE as f64 / 2.0);
    let edges: Vec<f64> = (0..n_mels + 2).map(|i| hz_from_mel(highest * i as f64 / (n_mels + 1) as f64)).collect();
    let band = |edges: &[f64]| {
        let [low, middle, high] = [edges[0], edges[1], edges[2]];
        let weight = |bin: usize| {
            let hz = (bin * RATE) as f64 / WINDOW as f64;
            ((hz - low) / (middle - low)).min((high - hz) / (high - middle)).max(0.0) * 2.0 / (high - low)
        };
        let first = (0..BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
        let weights = (first..BINS).map(|bin| weight(bin) as f32).take_while(|w| *w > 0.0).collect();
        Band { first, weights }
    };
    edges.windows(3).map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::test_media;

    /// `jfk_mel.f32` is the reference's spectrogram of the clip's seconds 0..2 (tests/data/README.md).
    #[test]
    fn equals_the_reference() {
        let bytes = include_bytes!("../../tests/data/jfk_mel.f32");
        let expected: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let samples = &test_media::jfk()[..2 * RATE];
        let mut mel = MelSpectrogram::new(80);
        // Twice: nothing may be left over from the first.
        mel.compute(&test_media::jfk(), 12 * RATE);
        let found = mel.compute(samples, 2 * RATE);
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "differs by {worst}");
    }

    #[test]
    fn missing_samples_are_silence() {
        let samples = &test_media::jfk()[..RATE + 77];
        for n_total in [RATE + 320, 2 * RATE, 3 * RATE] {
            let mut padded = samples.to_vec();
            padded.resize(n_total, 0.0);
            let expected = MelSpectrogram::new(80).compute(&padded, n_total).to_vec();
            assert_eq!(MelSpectrogram::new(80).compute(samples, n_total), expected, "{n_total} samples");
        }
        let silence = MelSpectrogram::new(80).compute(&[], RATE).to_vec();
        assert!(silence.len() == 80 * 100 && silence.iter().all(|v| *v == -1.5), "{:?}", &silence[..3]);
    }
}
