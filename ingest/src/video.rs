//! The pictures' branch after the decoder: count, sample, scale, convert, hand on. Runs on the decoder's streaming thread.
//! Must never copy a picture after its conversion, nor let one vanish uncounted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{
    ledger::{DropReason, Ledger},
    media::{Frame, Image, PictureRequest, PixelFormat},
    time::{CaptureTime, Pts},
};
use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video::{self as gst_video, prelude::*};
use parking_lot::Mutex;

use crate::{
    config::Sampling,
    error::IngestError,
    probe,
    sampling::Sampler,
    session::Session,
    sources::{app_sink, make},
    timeline::Track,
};

/// A picture between the decoder and the hand-over.
#[derive(Debug)]
struct OnItsWay {
    index: u64,
    pts: u64,
    captured: Option<CaptureTime>,
    decoded_at: Duration,
    source: (u32, u32),
}

/// The account of one session's pictures.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    on_its_way: Mutex<Option<OnItsWay>>,
    /// Monotonic nanoseconds: first picture given to the decoder since it last gave one out (0: none), and the last one.
    waiting_since: AtomicU64,
    last_given: AtomicU64,
}

impl Counts {
    /// The decoder gets something to decode.
    pub(crate) fn given(&self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.last_given.store(now, Relaxed);
        let _ = self.waiting_since.compare_exchange(0, now, Relaxed, Relaxed);
    }

    /// For how long the decoder has been fed without giving anything.
    pub(crate) fn fruitless_for(&self) -> Option<Duration> {
        let since = self.waiting_since.load(Relaxed);
        (since > 0).then(|| Duration::from_nanos(self.last_given.load(Relaxed).saturating_sub(since)))
    }

    /// Counts the picture that was let go of on its way, if there is one.
    pub(crate) fn settle(&self, ledger: &Ledger, reason: DropReason) {
        if self.on_its_way.lock().take().is_some() {
            ledger.dropped(reason);
        }
    }
}

/// Leaves pictures that need others out before they are decoded, in keyframe sampling.
pub(crate) struct Keyframes {
    /// A keyframe went to the decoder that may still hold it back, to put it into order with others that never come.
    held: AtomicBool,
}

impl Keyframes {
    /// None unless the sampling asks for keyframes.
    pub(crate) fn new(session: &Session) -> Option<Self> {
        (session.options.sampling == Sampling::Keyframes).then(|| Self { held: AtomicBool::new(false) })
    }

    /// Whether a picture goes to the decoder.
    pub(crate) fn take(&self, pad: &gst::Pad, buffer: &gst::BufferRef) -> bool {
        if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            self.held.store(true, Relaxed);
            return true;
        }
        // A decoder of a stream with B-frames holds a keyframe until the next ones come, seconds later. A segment
        // event, even the same one again, makes it give out all it has.
        if self.held.swap(false, Relaxed)
            && let (Some(segment), Some(peer)) = (pad.sticky_event::<gst::event::Segment>(0), pad.peer())
        {
            peer.send_event(gst::event::Segment::new(segment.segment()));
        }
        false
    }
}

/// Builds `videoscale ! videoconvert ! capsfilter ! appsink` and the sampling on `decoded`, the decoder's source pad.
pub(crate) fn tail(session: &Arc<Session>, decoded: &gst::Pad) -> Result<Vec<gst::Element>, IngestError> {
    // Never without: the branch is built only when pictures are wanted.
    let Some(request) = session.options.video else { return Ok(Vec::new()) };
    // Scaled first, in the decoder's YUV: half the cost of converting the whole picture.
    let (scale, convert, filter) = (make("videoscale")?, make("videoconvert")?, make("capsfilter")?);
    // Bicubic (Catmull-Rom) over all the source pixels that fall into a target pixel. Plain `bilinear` looks at four of
    // them, which aliases when a picture becomes much smaller: precision .70 instead of .75 for the default model on
    // PETS09-S2L1, for a tenth less CPU.
    scale.set_property_from_str("method", "catrom");
    scale.set_property("add-borders", false);
    scale.set_property("n-threads", 1u32);
    convert.set_property("n-threads", 1u32);
    watch_decoder(session, decoded, &filter, request);
    let sink = app_sink()?;
    let shared = Arc::clone(session);
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                hand_on(&shared, &sample, request.format);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(vec![scale, convert, filter, sink.upcast()])
}

/// The caps of a picture of this size.
fn caps_for(format: PixelFormat, (width, height): (u32, u32)) -> gst::Caps {
    let format = match format {
        PixelFormat::Rgb8 => "RGB",
        PixelFormat::Bgr8 => "BGR",
    };
    gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", i32::try_from(width).unwrap_or(i32::MAX))
        .field("height", i32::try_from(height).unwrap_or(i32::MAX))
        .build()
}

/// What the probe on the decoder's output knows.
struct Decoded {
    sampler: Sampler,
    n: u64,
    size: (u32, u32),
}

/// Counts and samples each picture as the decoder gives it out, and follows changes of its size.
fn watch_decoder(session: &Arc<Session>, decoded: &gst::Pad, filter: &gst::Element, request: PictureRequest) {
    let shared = Arc::clone(session);
    let weak = filter.downgrade();
    let state = Mutex::new(Decoded { sampler: Sampler::new(session.options.sampling), n: 0, size: (0, 0) });
    decoded.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && let Some(size) = size_of(caps.caps())
                {
                    state.lock().size = size;
                    if let Some(video) = shared.found.lock().video.as_mut() {
                        video.size = Some(size);
                    }
                    if let Some(filter) = weak.upgrade() {
                        let scaled = shared.findings.as_ref().map(|_| probe::size_of_snapshot(size));
                        let scaled = scaled.unwrap_or_else(|| request.scaled_size(size.0, size.1));
                        filter.set_property("caps", caps_for(request.format, scaled));
                    }
                }
                gst::PadProbeReturn::Ok
            }
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let taken = picture(&shared, pad, buffer, &mut state.lock());
                if taken { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop }
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });
}

fn size_of(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let raw = caps.structure(0)?;
    let side = |name| raw.get::<i32>(name).ok().and_then(|n| u32::try_from(n).ok());
    side("width").zip(side("height"))
}

/// The running time of a buffer in signed nanoseconds.
pub(crate) fn running_time(pad: &gst::Pad, pts: Option<gst::ClockTime>) -> Option<i64> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    let signed = segment.to_running_time_full(pts?)?;
    let nanos = i64::try_from(signed.abs().nseconds()).unwrap_or(i64::MAX);
    Some(if signed.is_negative() { -nanos } else { nanos })
}

/// One picture from the decoder; whether it goes on.
fn picture(session: &Session, pad: &gst::Pad, buffer: &gst::BufferRef, state: &mut Decoded) -> bool {
    let ledger = session.consumer.ledger();
    // The one before never came out at the other end.
    session.picture.settle(ledger, DropReason::Conversion);
    session.picture.waiting_since.store(0, Relaxed);
    session.alive();
    let arrived = session.clock.monotonic();
    let length = buffer.duration().map_or(0, |d| i64::try_from(d.nseconds()).unwrap_or(0));
    // A picture without any time follows the last one.
    let running = running_time(pad, buffer.pts()).unwrap_or_else(|| session.timeline.after(Track::Video));
    let mapped = session.timeline.map(Track::Video, running, length, arrived);
    let pts = mapped.pts.max(0) as u64;
    if session.resume.is_old(pts) {
        // Analysed in an earlier run, and counted there; the sampling goes on from it.
        state.sampler.take(0, pts);
        state.n = u64::from(session.resume.is_last_old(pts));
        return false;
    }
    ledger.decoded();
    let index = state.n;
    state.n += 1;
    session.announce(Track::Video);
    session.pace(pts);
    if session.stop.is_triggered() {
        ledger.dropped(DropReason::Shutdown);
        return false;
    }
    if !state.sampler.take(index, pts) {
        ledger.dropped(DropReason::Sampling);
        return false;
    }
    let captured = session.captures.of(Track::Video, buffer.pts().map(|p| p.nseconds()), pts, session.clock.wall());
    let decoded_at = session.clock.monotonic();
    *session.picture.on_its_way.lock() = Some(OnItsWay { index, pts, captured, decoded_at, source: state.size });
    true
}

/// A mapped picture whose bytes can be shared without a copy.
struct Pixels(gst_video::VideoFrame<gst_video::video_frame::Readable>);

impl AsRef<[u8]> for Pixels {
    fn as_ref(&self) -> &[u8] {
        self.0.plane_data(0).unwrap_or_default()
    }
}

/// Maps the converted picture and hands it to the consumer.
fn hand_on(session: &Session, sample: &gst::Sample, format: PixelFormat) {
    let Some(picture) = session.picture.on_its_way.lock().take() else { return };
    let ledger = session.consumer.ledger();
    let Some(image) = image_of(sample, format) else {
        ledger.dropped(DropReason::Conversion);
        return;
    };
    let frame = Frame {
        session: session.id.clone(),
        index: picture.index,
        pts: Pts::from_nanos(picture.pts),
        captured: picture.captured,
        decoded_at: picture.decoded_at,
        source_width: picture.source.0,
        source_height: picture.source.1,
        image,
    };
    session.busy(|| session.consumer.frame(frame));
}

fn image_of(sample: &gst::Sample, format: PixelFormat) -> Option<Image> {
    let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
    let frame = gst_video::VideoFrame::from_buffer_readable(sample.buffer_owned()?, &info).ok()?;
    let (width, height) = (frame.width(), frame.height());
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let data = Bytes::from_owner(Pixels(frame));
    let needed = stride * (height as usize).checked_sub(1)? + 3 * width as usize;
    (stride >= 3 * width as usize && data.len() >= needed).then_some(Image { width, height, stride, format, data })
}
