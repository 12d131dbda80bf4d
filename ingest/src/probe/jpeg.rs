//! One picture as JPEG, by GStreamer's own encoder. Runs on the caller's thread, and leaves none behind.

use base::media::{Image, PixelFormat};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::sources::make;

/// Of 100.
const QUALITY: i32 = 85;
/// An encoder that takes longer never ends.
const LONGEST: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// The file's bytes, or why there are none.
pub(super) fn encode(image: &Image) -> Result<Vec<u8>, String> {
    let pipeline = gst::Pipeline::new();
    let encoded = run(&pipeline, image);
    let stopped = pipeline.set_state(gst::State::Null);
    stopped.map_err(|e| e.to_string())?;
    encoded
}

fn run(pipeline: &gst::Pipeline, image: &Image) -> Result<Vec<u8>, String> {
    let format = match image.format {
        PixelFormat::Rgb8 => gst_video::VideoFormat::Rgb,
        PixelFormat::Bgr8 => gst_video::VideoFormat::Bgr,
    };
    let info = gst_video::VideoInfo::builder(format, image.width, image.height).fps(gst::Fraction::new(1, 1)).build();
    let info = info.map_err(|e| e.to_string())?;
    let caps = info.to_caps().map_err(|e| e.to_string())?;
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let element = |name: &str| make(name).map_err(|e| e.to_string());
    let (convert, encoder) = (element("videoconvert")?, element("jpegenc")?);
    encoder.set_property("quality", QUALITY);
    let sink = gst_app::AppSink::builder().sync(false).build();
    let chain = [source.upcast_ref(), &convert, &encoder, sink.upcast_ref()];
    pipeline.add_many(chain).and_then(|()| gst::Element::link_many(chain)).map_err(|e| e.to_string())?;
    pipeline.set_state(gst::State::Playing).map_err(|e| e.to_string())?;
    source.push_buffer(buffer_of(image, &info)?).map_err(|e| e.to_string())?;
    source.end_of_stream().map_err(|e| e.to_string())?;
    let sample = sink.try_pull_sample(LONGEST).ok_or("the encoder gave nothing")?;
    let bytes = sample.buffer().ok_or("the encoder gave an empty picture")?.map_readable();
    bytes.map(|bytes| bytes.to_vec()).map_err(|e| e.to_string())
}

fn buffer_of(image: &Image, info: &gst_video::VideoInfo) -> Result<gst::Buffer, String> {
    let stride = info.stride().first().and_then(|s| usize::try_from(*s).ok()).ok_or("a picture without rows")?;
    let mut bytes = vec![0; info.size()];
    for (y, row) in (0..image.height).zip(bytes.chunks_mut(stride)) {
        let pixels = image.row(y);
        row.get_mut(..pixels.len()).ok_or("rows that do not fit")?.copy_from_slice(pixels);
    }
    let mut buffer = gst::Buffer::from_slice(bytes);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::ZERO);
    }
    Ok(buffer)
}
