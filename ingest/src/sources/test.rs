//! Test pictures and sound made up on the spot: `test://?width=640&height=480&fps=10&pattern=ball&audio=tone&secs=5`.
//! Without `secs` it never ends.

use gstreamer::{self as gst, glib, prelude::*};

use super::make;
use crate::{
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "test",
    schemes: &["test"],
    example: "test://?width=640&height=480&fps=10&pattern=ball&audio=tone&secs=5",
    elements: &["videotestsrc", "audiotestsrc"],
    end: EndMeans::Ended,
    pace: Pace::ByUs,
    healing: Healing::Never,
    tcp_port: None,
    open,
};

/// Samples a second and samples a buffer of the test sound: buffers of 10 ms.
const RATE: i32 = 48_000;
const SAMPLES_PER_BUFFER: i32 = RATE / 100;

struct Parameters {
    width: i32,
    height: i32,
    fps: i32,
    pattern: String,
    audio: &'static str,
    secs: Option<f64>,
}

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let parameters = parse(opening)?;
    let mut chains = Vec::new();
    if opening.video {
        let source = make("videotestsrc")?;
        let known = enum_nicks(&source, "pattern");
        if !known.contains(&parameters.pattern) {
            return Err(opening.bad_url(format!("pattern `{}` is none of {}", parameters.pattern, known.join(", "))));
        }
        source.set_property_from_str("pattern", &parameters.pattern);
        set_length(&source, parameters.secs, parameters.fps);
        let filter = make("capsfilter")?;
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", parameters.width)
            .field("height", parameters.height)
            .field("framerate", gst::Fraction::new(parameters.fps, 1))
            .build();
        filter.set_property("caps", caps);
        chains.push(vec![source, filter]);
    }
    if opening.audio && parameters.audio != "none" {
        let source = make("audiotestsrc")?;
        source.set_property_from_str("wave", parameters.audio);
        source.set_property("samplesperbuffer", SAMPLES_PER_BUFFER);
        set_length(&source, parameters.secs, RATE / SAMPLES_PER_BUFFER);
        let filter = make("capsfilter")?;
        let caps = gst::Caps::builder("audio/x-raw")
            .field("format", "S16LE")
            .field("rate", RATE)
            .field("channels", 1)
            .field("layout", "interleaved")
            .build();
        filter.set_property("caps", caps);
        chains.push(vec![source, filter]);
    }
    let chains: Vec<&[gst::Element]> = chains.iter().map(Vec::as_slice).collect();
    super::bin_of(&chains).map_err(|e| opening.bad_url(e))
}

fn parse(opening: &Opening<'_>) -> Result<Parameters, IngestError> {
    let mut p = Parameters { width: 640, height: 480, fps: 10, pattern: "smpte".into(), audio: "none", secs: None };
    for (name, value) in opening.parsed()?.query_pairs() {
        let number = |most: i32| {
            let n = value.parse::<i32>().ok().filter(|n| (1..=most).contains(n));
            n.ok_or_else(|| opening.bad_url(format!("{name}={value}: write a whole number from 1 to {most}")))
        };
        match name.as_ref() {
            "width" => p.width = number(8192)?,
            "height" => p.height = number(8192)?,
            "fps" => p.fps = number(1000)?,
            "pattern" => p.pattern = value.into_owned(),
            "secs" => {
                let secs = value.parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 1e6);
                p.secs = Some(secs.ok_or_else(|| opening.bad_url(format!("secs={value}: write seconds above 0")))?);
            }
            "audio" => {
                p.audio = match value.as_ref() {
                    "tone" => "sine",
                    "noise" => "white-noise",
                    "silence" => "silence",
                    "ticks" => "ticks",
                    "none" => "none",
                    _ => {
                        let cause = format!("audio `{value}` is none of tone, noise, ticks, silence, none");
                        return Err(opening.bad_url(cause));
                    }
                }
            }
            _ => {
                let cause = format!("unknown parameter `{name}`: known are width, height, fps, pattern, audio, secs");
                return Err(opening.bad_url(cause));
            }
        }
    }
    Ok(p)
}

fn set_length(source: &gst::Element, secs: Option<f64>, buffers_per_second: i32) {
    if let Some(secs) = secs {
        let n = (secs * f64::from(buffers_per_second)).round().clamp(1.0, f64::from(i32::MAX));
        source.set_property("num-buffers", n as i32);
    }
}

/// The words that an enum property takes.
fn enum_nicks(element: &gst::Element, property: &str) -> Vec<String> {
    let class = element.find_property(property).and_then(|p| glib::EnumClass::with_type(p.value_type()));
    class.map(|c| c.values().iter().map(|v| v.nick().to_owned()).collect()).unwrap_or_default()
}
