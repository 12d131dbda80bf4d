//! Takes a short transport stream apart into its encoded pictures and sound. On the caller's thread and GStreamer's; leaves
//! none behind.

use std::sync::Arc;

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use parking_lot::Mutex;

use crate::sources::{app_sink, make};

/// Encoded media of one track, in the order of decoding.
pub(super) struct Elementary {
    pub(super) caps: gst::Caps,
    pub(super) units: Vec<gst::Buffer>,
}

/// What was in it.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) video: Option<Elementary>,
    pub(super) audio: Option<Elementary>,
}

type Collected = Arc<Mutex<Parts>>;

/// Pictures as `avc` and, if it has any, sound as raw AAC. The times are those of the transport stream but for a constant.
pub(super) fn take_apart(transport_stream: &[Bytes]) -> Result<Parts, String> {
    let pipeline = gst::Pipeline::new();
    let taken = run(&pipeline, transport_stream);
    let stopped = pipeline.set_state(gst::State::Null);
    let collected = taken?;
    stopped.map_err(|e| e.to_string())?;
    let parts = std::mem::take(&mut *collected.lock());
    Ok(parts)
}

fn run(pipeline: &gst::Pipeline, transport_stream: &[Bytes]) -> Result<Collected, String> {
    let caps = gst::Caps::builder("video/mpegts").field("systemstream", true).field("packetsize", 188i32).build();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Bytes).build();
    let element = |name: &str| make(name).map_err(|e| e.to_string());
    let (tee, demux, end) = (element("tee")?, element("tsdemux")?, element("fakesink")?);
    // Comes to its end after the demuxer, also where that finds nothing.
    end.set_property("sync", false);
    end.set_property("async", false);
    pipeline
        .add_many([source.upcast_ref(), &tee, &demux, &end])
        .and_then(|()| gst::Element::link_many([source.upcast_ref(), &tee, &demux]))
        .and_then(|()| tee.link(&end))
        .map_err(|e| e.to_string())?;
    let collected = Collected::default();
    let (weak, shared) = (pipeline.downgrade(), Arc::clone(&collected));
    demux.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(cause) = branch(&pipeline, pad, &shared)
        {
            gst::element_error!(pipeline, gst::CoreError::Failed, ("{}", cause));
        }
    });
    pipeline.set_state(gst::State::Playing).map_err(|e| e.to_string())?;
    for bytes in transport_stream {
        source.push_buffer(gst::Buffer::from_slice(bytes.clone())).map_err(|e| e.to_string())?;
    }
    source.end_of_stream().map_err(|e| e.to_string())?;
    super::to_the_end(pipeline)?;
    Ok(collected)
}

/// Parses and keeps what comes out of a pad.
fn branch(pipeline: &gst::Pipeline, pad: &gst::Pad, collected: &Collected) -> Result<(), String> {
    let text = |e: gst::glib::BoolError| e.to_string();
    let media = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = media.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    let (parser, wanted) = match name.as_str() {
        "video/x-h264" => {
            let wanted = gst::Caps::builder(name).field("stream-format", "avc").field("alignment", "au").build();
            (make("h264parse"), wanted)
        }
        "audio/mpeg" => {
            let wanted = gst::Caps::builder(name).field("mpegversion", 4i32).field("stream-format", "raw").build();
            (make("aacparse"), wanted)
        }
        // Nothing else is ever put in.
        _ => return Ok(()),
    };
    let is_video = media.structure(0).is_some_and(|s| s.name().starts_with("video/"));
    let parser = parser.map_err(|e| e.to_string())?;
    let sink = app_sink().map_err(|e| e.to_string())?;
    sink.set_caps(Some(&wanted));
    let shared = Arc::clone(collected);
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                if let (Some(caps), Some(unit)) = (sample.caps_owned(), with_running_time(&sample)) {
                    let mut parts = shared.lock();
                    let track = if is_video { &mut parts.video } else { &mut parts.audio };
                    track.get_or_insert_with(|| Elementary { caps, units: Vec::new() }).units.push(unit);
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    pipeline.add_many([&parser, sink.upcast_ref()]).map_err(text)?;
    parser.link(&sink).map_err(text)?;
    sink.sync_state_with_parent().and_then(|()| parser.sync_state_with_parent()).map_err(text)?;
    let target = parser.static_pad("sink").ok_or("a parser without a sink pad")?;
    pad.link(&target).map(|_| ()).map_err(|e| e.to_string())
}

/// The unit with its running time, a second later so that what begins a little before zero needs no negative number.
fn with_running_time(sample: &gst::Sample) -> Option<gst::Buffer> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
    let mut unit = sample.buffer_owned()?;
    let inner = unit.make_mut();
    let running = |t: Option<gst::ClockTime>| {
        let signed = segment.to_running_time_full(t?)?;
        let later = gst::ClockTime::SECOND;
        Some(if signed.is_negative() { later.saturating_sub(signed.abs()) } else { later + signed.abs() })
    };
    let (pts, dts) = (running(inner.pts()), running(inner.dts()));
    inner.set_pts(pts);
    inner.set_dts(dts);
    Some(unit)
}
