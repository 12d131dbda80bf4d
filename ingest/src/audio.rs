//! The sound's branch after the decoder: resample to 16 kHz mono, cut into chunks, hand on. Runs on the decoder's streaming
//! thread. Must never let samples vanish at the end of a stream, nor tell a jump as if the sound went on.

use std::sync::Arc;

use base::{media::AudioChunk, time::Pts};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use parking_lot::Mutex;

use crate::{
    error::IngestError,
    session::Session,
    sources::{app_sink, make},
    timeline::Track,
    video::running_time,
};

/// Samples a chunk: 64 ms.
const CHUNK: usize = 1024;
/// Sound that is off by more than this is not simply the next sample: the chunk's time is set anew.
const ALIGNMENT_NS: i64 = 40_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// Builds `audioconvert ! audioresample ! capsfilter ! appsink`.
pub(crate) fn tail(session: &Arc<Session>) -> Result<Vec<gst::Element>, IngestError> {
    let (convert, resample, filter) = (make("audioconvert")?, make("audioresample")?, make("capsfilter")?);
    let caps = gst::Caps::builder("audio/x-raw")
        .field("format", if cfg!(target_endian = "big") { "F32BE" } else { "F32LE" })
        .field("layout", "interleaved")
        .field("rate", AudioChunk::SAMPLE_RATE as i32)
        .field("channels", 1)
        .build();
    filter.set_property("caps", caps);
    let sink = app_sink()?;
    let chunker = Arc::new(Mutex::new(Chunker::default()));
    let (shared, at_end) = ((Arc::clone(session), Arc::clone(&chunker)), (Arc::clone(session), chunker));
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let pad = sink.static_pad("sink").ok_or(gst::FlowError::Error)?;
                sound(&shared.0, &pad, &sample, &mut shared.1.lock());
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                let rest = at_end.1.lock().flush();
                rest.into_iter().for_each(|cut| hand_on(&at_end.0, cut));
            })
            .build(),
    );
    Ok(vec![convert, resample, filter, sink.upcast()])
}

/// A stretch cut out of the sound.
#[derive(Debug, PartialEq)]
struct Cut {
    pts: u64,
    /// PTS of GStreamer's buffers at the same moment.
    raw: Option<u64>,
    samples: Vec<f32>,
    discontinuity: bool,
}

/// Cuts buffers of any length into chunks.
#[derive(Debug, Default)]
struct Chunker {
    samples: Vec<f32>,
    /// Time of `samples[0]`, nanoseconds of stream time, and in GStreamer's buffers.
    start: u64,
    raw: Option<u64>,
    discontinuity: bool,
    any: bool,
    /// What is before this stream time, nanoseconds, is left out.
    from: i64,
}

fn length_ns(n_samples: usize) -> u64 {
    n_samples as u64 * SECOND_NS as u64 / u64::from(AudioChunk::SAMPLE_RATE)
}

impl Chunker {
    /// Takes the samples of one buffer that begins at `pts` nanoseconds of stream time (what is before `from`,
    /// usually 0, is left out) and gives the chunks that are full.
    fn push(&mut self, mut pts: i64, raw: Option<u64>, mut samples: &[f32], jumped: bool) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let mut skipped = 0;
        if pts < self.from {
            let rate = i64::from(AudioChunk::SAMPLE_RATE);
            let n =
                usize::try_from(self.from.saturating_sub(pts).saturating_mul(rate) / SECOND_NS).unwrap_or(usize::MAX);
            skipped = n.min(samples.len());
            samples = &samples[skipped..];
            pts = self.from;
        }
        if samples.is_empty() {
            return cuts;
        }
        let raw = raw.map(|r| r + length_ns(skipped));
        let expected = self.start + length_ns(self.samples.len());
        let off = pts.saturating_sub(i64::try_from(expected).unwrap_or(i64::MAX));
        if jumped || !self.any || off.abs() > ALIGNMENT_NS {
            cuts.extend(self.flush());
            self.discontinuity = self.any;
            // Never back behind what was handed on.
            self.start = (pts as u64).max(if self.any { expected } else { 0 });
            self.raw = raw;
            self.any = true;
        }
        self.samples.extend_from_slice(samples);
        while self.samples.len() >= CHUNK {
            let rest = self.samples.split_off(CHUNK);
            cuts.push(self.cut(rest));
        }
        cuts
    }

    /// What is left, at the end.
    fn flush(&mut self) -> Option<Cut> {
        (!self.samples.is_empty()).then(|| self.cut(Vec::new()))
    }

    fn cut(&mut self, rest: Vec<f32>) -> Cut {
        let samples = std::mem::replace(&mut self.samples, rest);
        let n = samples.len();
        let cut =
            Cut { pts: self.start, raw: self.raw, samples, discontinuity: std::mem::take(&mut self.discontinuity) };
        self.start += length_ns(n);
        self.raw = self.raw.map(|r| r + length_ns(n));
        cut
    }
}

fn sound(session: &Session, pad: &gst::Pad, sample: &gst::Sample, chunker: &mut Chunker) {
    let Some(buffer) = sample.buffer() else { return };
    let Ok(map) = buffer.map_readable() else {
        tracing::error!(stream = %session.options.info.name, "sound could not be mapped and is lost");
        chunker.discontinuity = true;
        return;
    };
    session.alive();
    let samples: Vec<f32> = map.as_chunks::<4>().0.iter().map(|b| in_range(f32::from_ne_bytes(*b))).collect();
    let arrived = session.clock.monotonic();
    let running = running_time(pad, buffer.pts()).unwrap_or_else(|| session.timeline.after(Track::Audio));
    let length = i64::try_from(length_ns(samples.len())).unwrap_or(0);
    let mapped = session.timeline.map(Track::Audio, running, length, arrived);
    chunker.from = session.resume.sound_from();
    for cut in chunker.push(mapped.pts, buffer.pts().map(|p| p.nseconds()), &samples, mapped.jumped) {
        hand_on(session, cut);
    }
}

/// Decoders of lossy codecs overshoot, broken ones give no number at all.
fn in_range(sample: f32) -> f32 {
    if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) }
}

fn hand_on(session: &Session, cut: Cut) {
    session.announce(Track::Audio);
    session.pace(cut.pts);
    if session.stop.is_triggered() {
        return;
    }
    let captured = session.captures.of(Track::Audio, cut.raw, cut.pts, session.clock.wall());
    let n = cut.samples.len();
    let chunk = AudioChunk {
        session: session.id.clone(),
        pts: Pts::from_nanos(cut.pts),
        captured,
        samples: cut.samples.into(),
        discontinuity: cut.discontinuity,
    };
    session.consumer.ledger().audio(n);
    session.busy(|| session.consumer.audio(chunk));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn shape(cuts: &[Cut]) -> Vec<(u64, usize, bool)> {
        cuts.iter().map(|c| (c.pts / MS as u64, c.samples.len(), c.discontinuity)).collect()
    }

    #[test]
    fn cuts_and_keeps_the_rest() {
        let mut chunker = Chunker::default();
        assert!(chunker.push(0, None, &[0.0; 1000], false).is_empty());
        assert_eq!(
            shape(&chunker.push(62 * MS + MS / 2, None, &[0.0; 1100], false)),
            [(0, 1024, false), (64, 1024, false)]
        );
        assert_eq!(shape(&chunker.flush().into_iter().collect::<Vec<_>>()), [(128, 52, false)]);
        assert_eq!(chunker.flush(), None);
    }

    #[test]
    fn a_hole_or_a_jump_is_told() {
        let mut chunker = Chunker::default();
        chunker.push(0, None, &[0.0; 160], false);
        let cuts = chunker.push(500 * MS, Some(7), &[0.0; 1024], false);
        assert_eq!(shape(&cuts), [(0, 160, false), (500, 1024, true)]);
        assert_eq!(cuts[1].raw, Some(7));
        let cuts = chunker.push(564 * MS, None, &[0.0; 1024], true);
        assert_eq!(shape(&cuts), [(564, 1024, true)]);
        // A little off is drift, not a hole.
        assert_eq!(shape(&chunker.push(648 * MS, None, &[0.0; 1024], false)), [(628, 1024, false)]);
    }

    #[test]
    fn sound_from_before_the_beginning_is_cut_off() {
        let mut chunker = Chunker::default();
        assert!(chunker.push(-100 * MS, None, &[0.0; 800], false).is_empty());
        assert_eq!(shape(&chunker.push(-50 * MS, Some(1), &[0.0; 1024 + 800], false)), [(0, 1024, false)]);
        assert!(chunker.samples.is_empty());
    }
}
