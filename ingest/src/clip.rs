//! A recording's encoded packets in memory, for the loopback camera: read once, given out as often as wanted, again and
//! again with timestamps that go on. Runs on the caller's thread.

use std::{path::Path, sync::Arc};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use parking_lot::Mutex;

use crate::{error::IngestError, sources::file};

/// Media types and what puts them into RTP.
const PAYLOADERS: &[(&str, &str)] = &[
    // The parameter sets again with every keyframe, for whoever comes later.
    ("video/x-h264", "rtph264pay config-interval=-1"),
    ("video/x-h265", "rtph265pay config-interval=-1"),
    ("image/jpeg", "rtpjpegpay"),
    ("video/x-vp8", "rtpvp8pay"),
    ("audio/mpeg", "rtpmp4gpay"),
    ("audio/x-opus", "rtpopuspay"),
    ("audio/x-mulaw", "rtppcmupay"),
    ("audio/x-alaw", "rtppcmapay"),
];

/// One track.
pub(crate) struct ClipTrack {
    pub caps: gst::Caps,
    pub payloader: &'static str,
    /// In decoding order, with timestamps from 0.
    packets: Vec<gst::Buffer>,
}

/// All tracks that can be sent.
pub(crate) struct Clip {
    pub tracks: Vec<ClipTrack>,
    /// From the first to the end of the last packet of any track.
    length: gst::ClockTime,
}

impl Clip {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, IngestError> {
        let cannot = |cause: String| IngestError::Camera { cause: format!("{}: {cause}", path.display()) };
        if let Some(cause) = file::unreadable(path) {
            return Err(cannot(cause));
        }
        let tracks = take_apart(path).map_err(cannot)?;
        if tracks.is_empty() {
            return Err(cannot("it has no pictures or sound that a camera can send".into()));
        }
        let end = |b: &gst::Buffer| Some(b.pts()? + b.duration().unwrap_or(gst::ClockTime::ZERO));
        let length = tracks.iter().flat_map(|t| &t.packets).filter_map(end).max().unwrap_or(gst::ClockTime::ZERO);
        Ok(Self { tracks, length })
    }

    /// Packet number `n` of a track; none after the last, unless the clip is `looped`.
    pub(crate) fn packet(&self, track: usize, n: usize, looped: bool) -> Option<gst::Buffer> {
        let packets = &self.tracks.get(track)?.packets;
        let round = n.checked_div(packets.len()).filter(|round| looped || *round == 0)?;
        // Shares the bytes, not the timestamps.
        let mut packet = packets.get(n % packets.len())?.copy();
        let later = gst::ClockTime::from_nseconds(self.length.nseconds().checked_mul(round as u64)?);
        let inner = packet.get_mut()?;
        inner.set_pts(inner.pts().map(|t| t + later));
        inner.set_dts(inner.dts().map(|t| t + later));
        Some(packet)
    }
}

type Collected = Arc<Mutex<Vec<(gst::Caps, Vec<gst::Buffer>)>>>;

fn take_apart(path: &Path) -> Result<Vec<ClipTrack>, String> {
    let element = |name: &str| crate::sources::make(name).map_err(|e| e.to_string());
    let pipeline = gst::Pipeline::new();
    let (source, parse) = (element("filesrc")?, element("parsebin")?);
    source.set_property("location", path.to_string_lossy().as_ref());
    pipeline.add_many([&source, &parse]).and_then(|()| source.link(&parse)).map_err(|e| e.to_string())?;
    let collected = Collected::default();
    let (weak, shared) = (pipeline.downgrade(), Arc::clone(&collected));
    parse.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade() {
            collect(&pipeline, pad, &shared);
        }
    });
    let played = play(&pipeline);
    let _ = pipeline.set_state(gst::State::Null);
    played?;
    let payloader = |caps: &gst::Caps| {
        let name = caps.structure(0)?.name().as_str();
        PAYLOADERS.iter().find(|p| p.0 == name).map(|p| p.1)
    };
    let tracks = std::mem::take(&mut *collected.lock());
    let mut tracks: Vec<ClipTrack> = tracks
        .into_iter()
        .filter(|(_, packets)| !packets.is_empty())
        .filter_map(|(caps, packets)| Some(ClipTrack { payloader: payloader(&caps)?, caps, packets }))
        .collect();
    // Pictures first, whichever the file has first.
    tracks.sort_by_key(|t| t.caps.structure(0).is_some_and(|s| s.name().starts_with("audio/")));
    Ok(tracks)
}

fn play(pipeline: &gst::Pipeline) -> Result<(), String> {
    pipeline.set_state(gst::State::Playing).map_err(|_| "it cannot be opened".to_owned())?;
    let bus = pipeline.bus().ok_or("no bus")?;
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    match bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted) {
        None => Err("it could not be read within a minute".into()),
        Some(message) => match message.view() {
            gst::MessageView::Error(e) => Err(e.error().to_string()),
            _ => Ok(()),
        },
    }
}

/// Keeps all packets of a track.
fn collect(pipeline: &gst::Pipeline, pad: &gst::Pad, collected: &Collected) {
    let index = {
        let mut all = collected.lock();
        all.push((gst::Caps::new_empty(), Vec::new()));
        all.len() - 1
    };
    let shared = Arc::clone(collected);
    let sink = gst_app::AppSink::builder().sync(false).async_(false).build();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                if let (Some(caps), Some(packet)) = (sample.caps_owned(), from_zero(&sample))
                    && let Some(track) = shared.lock().get_mut(index)
                {
                    track.0 = caps;
                    track.1.push(packet);
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let linked = pipeline.add(&sink).and_then(|()| sink.sync_state_with_parent());
    if let (Ok(()), Some(target)) = (linked, sink.static_pad("sink")) {
        // An unlinked track ends the reading with an error, which is told.
        let _ = pad.link(&target);
    }
}

/// The packet with its running time as timestamps.
fn from_zero(sample: &gst::Sample) -> Option<gst::Buffer> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
    let mut packet = sample.buffer_owned()?;
    let inner = packet.make_mut();
    let running = |t: Option<gst::ClockTime>| {
        let signed = segment.to_running_time_full(t?)?;
        Some(if signed.is_negative() { gst::ClockTime::ZERO } else { signed.abs() })
    };
    let (pts, dts) = (running(inner.pts()), running(inner.dts()));
    inner.set_pts(pts);
    inner.set_dts(dts);
    Some(packet)
}
