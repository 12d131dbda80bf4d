//! Cameras of this machine through Video4Linux: `v4l2:///dev/video0?format=mjpeg&width=1280&height=720&fps=30`.

use gstreamer::{self as gst, prelude::*};

use super::make;
use crate::{
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "v4l2",
    schemes: &["v4l2"],
    example: "v4l2:///dev/video0?format=mjpeg&width=1280&height=720&fps=30",
    elements: &["v4l2src"],
    end: EndMeans::Lost,
    pace: Pace::BySource,
    healing: Healing::Retry,
    tcp_port: None,
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let url = opening.parsed()?;
    let mut format = "video/x-raw";
    let (mut width, mut height, mut fps) = (None, None, None);
    for (name, value) in url.query_pairs() {
        let number = || {
            let n = value.parse::<i32>().ok().filter(|n| (1..=16384).contains(n));
            n.ok_or_else(|| opening.bad_url(format!("{name}={value}: write a whole number of 1 or more")))
        };
        match name.as_ref() {
            "format" => {
                format = match value.as_ref() {
                    "raw" => "video/x-raw",
                    "mjpeg" => "image/jpeg",
                    "h264" => "video/x-h264",
                    _ => return Err(opening.bad_url(format!("format `{value}` is none of raw, mjpeg, h264"))),
                }
            }
            "width" => width = Some(number()?),
            "height" => height = Some(number()?),
            "fps" => fps = Some(gst::Fraction::new(number()?, 1)),
            _ => {
                return Err(
                    opening.bad_url(format!("unknown parameter `{name}`: known are format, width, height, fps"))
                );
            }
        }
    }
    let caps = gst::Caps::builder(format)
        .field_if_some("width", width)
        .field_if_some("height", height)
        .field_if_some("framerate", fps)
        .build();
    let camera = make("v4l2src")?;
    camera.set_property("device", url.path());
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    super::bin_of(&[&[camera, filter]]).map_err(|e| opening.bad_url(e))
}
