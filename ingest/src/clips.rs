//! What is made of kept segments afterwards: a clip that any player plays, and one of its pictures in full size. On the
//! caller's thread and GStreamer's, which leave nothing behind. Must never encode.

use std::{path::Path, time::Duration};

use base::media::{Image, PixelFormat};
use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use self::demux::{Elementary, take_apart};
use crate::{
    codecs::decoder_for,
    error::IngestError,
    sources::{app_sink, make},
};

mod demux;

/// Something that takes longer never ends.
const LONGEST: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenClip {
    /// Pictures.
    pub n_pictures: usize,
    /// It has sound as well.
    pub has_sound: bool,
    /// From the first picture to just after the last.
    pub duration: Duration,
}

/// Writes segments that follow each other without a discontinuity ([`base::media::MediaSegment::bytes`], of one session) as
/// an MP4 that plays while it is still being fetched. The pictures and sound are taken over as they are; it begins with a
/// picture that needs no other. While it is made, the media lie beside `path`, with `.media` behind its name.
///
/// # Errors
/// [`IngestError::Clip`]: no pictures in it, the disk is full; then nothing is left behind. An element is missing.
pub fn write_mp4(segments: &[Bytes], path: &Path) -> Result<WrittenClip, IngestError> {
    crate::init()?;
    needed(&["tsdemux", "h264parse", "aacparse", "mp4mux", "filesink", "appsrc", "appsink"])?;
    let mut media = path.as_os_str().to_owned();
    media.push(".media");
    let written = try_write(segments, path, Path::new(&media));
    let _ = std::fs::remove_file(&media);
    written.map_err(|cause| {
        let _ = std::fs::remove_file(path);
        IngestError::Clip { cause }
    })
}

/// The picture shown at this time after the first one, as RGB in the size of the source. Of segments as for [`write_mp4`].
///
/// # Errors
/// [`IngestError::Clip`] when nothing in it can be decoded; [`IngestError::MissingElement`] and
/// [`IngestError::MissingDecoder`].
pub fn picture_at(segments: &[Bytes], after: Duration) -> Result<Image, IngestError> {
    crate::init()?;
    needed(&["tsdemux", "h264parse", "appsrc", "appsink"])?;
    let failed = |cause: String| IngestError::Clip { cause };
    let video = take_apart(segments).map_err(failed)?.video.ok_or_else(|| failed("it has no pictures".into()))?;
    let decoder = decoder_for(&video.caps)?;
    let pipeline = gst::Pipeline::new();
    let shown = decode(&pipeline, &decoder, video, after);
    let _ = pipeline.set_state(gst::State::Null);
    let _ = decoder.set_state(gst::State::Null);
    shown.and_then(|sample| rgb(&sample)).map_err(failed)
}

fn needed(elements: &[&str]) -> Result<(), IngestError> {
    elements.iter().try_for_each(|element| make(element).map(drop))
}

fn try_write(segments: &[Bytes], path: &Path, media: &Path) -> Result<WrittenClip, String> {
    let parts = take_apart(segments)?;
    let mut video = parts.video.ok_or("it has no pictures")?;
    let mut audio = parts.audio;
    let begin = times(&video.units).min().ok_or("its pictures have no times")?;
    let shown = |unit: &gst::Buffer| unit.pts();
    let (first, last) = (video.units.iter().filter_map(shown).min(), video.units.iter().filter_map(shown).max());
    let n_pictures = video.units.len();
    let span = Duration::from(last.zip(first).map_or(gst::ClockTime::ZERO, |(last, first)| last - first));
    let one = span.checked_div(u32::try_from(n_pictures).unwrap_or(u32::MAX).saturating_sub(1));
    earlier(&mut video.units, begin);
    if let Some(audio) = &mut audio {
        earlier(&mut audio.units, begin);
    }
    let has_sound = audio.is_some();
    let pipeline = gst::Pipeline::new();
    let written = mux(&pipeline, [Some(video), audio].into_iter().flatten(), path, media);
    let stopped = pipeline.set_state(gst::State::Null);
    written?;
    stopped.map_err(|e| e.to_string())?;
    Ok(WrittenClip { n_pictures, has_sound, duration: span + one.unwrap_or_default() })
}

fn times(units: &[gst::Buffer]) -> impl Iterator<Item = gst::ClockTime> {
    units.iter().filter_map(|unit| unit.dts_or_pts())
}

/// Moves a track, and leaves out what would then lie before zero.
fn earlier(units: &mut Vec<gst::Buffer>, by: gst::ClockTime) {
    units.retain(|unit| unit.dts_or_pts().is_none_or(|at| at >= by));
    for unit in units {
        let inner = unit.make_mut();
        inner.set_pts(inner.pts().map(|t| t.saturating_sub(by)));
        inner.set_dts(inner.dts().map(|t| t.saturating_sub(by)));
    }
}

fn mux(
    pipeline: &gst::Pipeline,
    tracks: impl Iterator<Item = Elementary>,
    path: &Path,
    media: &Path,
) -> Result<(), String> {
    let text = |e: gst::glib::BoolError| e.to_string();
    let element = |name: &str| make(name).map_err(|e| e.to_string());
    let (mux, sink) = (element("mp4mux")?, element("filesink")?);
    mux.set_property("faststart", true);
    mux.set_property("faststart-file", media.to_str().ok_or("the path is no text")?);
    sink.set_property("location", path.to_str().ok_or("the path is no text")?);
    pipeline.add_many([&mux, &sink]).and_then(|()| mux.link(&sink)).map_err(text)?;
    let mut sources = Vec::new();
    for track in tracks.filter(|track| !track.units.is_empty()) {
        let source = gst_app::AppSrc::builder().caps(&track.caps).format(gst::Format::Time).build();
        pipeline.add(&source).map_err(text)?;
        let is_video = track.caps.structure(0).is_some_and(|media| media.name().starts_with("video/"));
        let pad =
            mux.request_pad_simple(if is_video { "video_%u" } else { "audio_%u" }).ok_or("no room for a track")?;
        let from = source.static_pad("src").ok_or("a source without a pad")?;
        from.link(&pad).map_err(|e| e.to_string())?;
        sources.push((source, track.units));
    }
    pipeline.set_state(gst::State::Playing).map_err(|e| e.to_string())?;
    for (source, units) in sources {
        for unit in units {
            // Refused after an error, which the bus tells.
            if source.push_buffer(unit).is_err() {
                break;
            }
        }
        let _ = source.end_of_stream();
    }
    to_the_end(pipeline)
}

/// Waits until a pipeline has come to its end.
fn to_the_end(pipeline: &gst::Pipeline) -> Result<(), String> {
    let bus = pipeline.bus().ok_or("no bus")?;
    match bus.timed_pop_filtered(LONGEST, &[gst::MessageType::Eos, gst::MessageType::Error]) {
        None => Err("it does not come to an end".into()),
        Some(message) => match message.view() {
            gst::MessageView::Error(e) => Err(e.error().to_string()),
            _ => Ok(()),
        },
    }
}

/// The last picture that is shown at or before `after`, or the first one that can be decoded.
fn decode(
    pipeline: &gst::Pipeline,
    decoder: &gst::Element,
    video: Elementary,
    after: Duration,
) -> Result<gst::Sample, String> {
    let text = |e: gst::glib::BoolError| e.to_string();
    let first = video.units.iter().filter_map(|unit| unit.pts()).min().ok_or("its pictures have no times")?;
    let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    // A tick and a little: times were rounded to ticks of 90 kHz on their way.
    let wanted = first.saturating_add(gst::ClockTime::from_nseconds(nanos)) + gst::ClockTime::from_useconds(50);
    let source = gst_app::AppSrc::builder().caps(&video.caps).format(gst::Format::Time).build();
    let sink = app_sink().map_err(|e| e.to_string())?;
    // The machine's own memory, whatever decodes.
    sink.set_caps(Some(&gst::Caps::new_empty_simple("video/x-raw")));
    let chain = [source.upcast_ref(), decoder, sink.upcast_ref()];
    pipeline.add_many(chain).and_then(|()| gst::Element::link_many(chain)).map_err(text)?;
    pipeline.set_state(gst::State::Playing).map_err(|e| e.to_string())?;
    for unit in video.units {
        source.push_buffer(unit).map_err(|e| e.to_string())?;
    }
    source.end_of_stream().map_err(|e| e.to_string())?;
    let mut shown = None;
    while let Some(sample) = sink.try_pull_sample(LONGEST) {
        let at = sample.buffer().and_then(|buffer| buffer.pts());
        if shown.is_some() && at.is_none_or(|at| at > wanted) {
            break;
        }
        shown = Some(sample);
    }
    shown.ok_or_else(|| "none of its pictures can be decoded".into())
}

fn rgb(sample: &gst::Sample) -> Result<Image, String> {
    let text = |e: gst::glib::BoolError| e.to_string();
    let (caps, buffer) = sample.caps().zip(sample.buffer()).ok_or("an empty picture")?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(text)?;
    let (width, height) = (info.width(), info.height());
    let target = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height).fps(info.fps());
    let target = target.build().map_err(text)?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(text)?;
    let room = gst::Buffer::with_size(target.size()).map_err(text)?;
    let unmapped = |_| "a picture that cannot be mapped".to_owned();
    let mut converted = gst_video::VideoFrame::from_buffer_writable(room, &target).map_err(unmapped)?;
    let converter = gst_video::VideoConverter::new(&info, &target, None).map_err(text)?;
    converter.frame_ref(&frame, &mut converted.as_mut_video_frame_ref());
    let stride = target.stride().first().and_then(|s| usize::try_from(*s).ok()).ok_or("a picture without rows")?;
    let data = Bytes::copy_from_slice(converted.plane_data(0).map_err(text)?);
    Ok(Image { width, height, stride, format: PixelFormat::Rgb8, data })
}
