//! Looks whether this machine has what streams need. Opens nothing, runs on the caller's thread.

use gstreamer as gst;

use crate::{codecs, registry};

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked for.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, or which package to install.
    pub detail: String,
}

/// Elements that every stream goes through.
const ALWAYS: &[&str] =
    &["parsebin", "queue", "videoscale", "videoconvert", "audioconvert", "audioresample", "appsink"];

/// Elements that make clips of what was seen.
const CLIPS: &[&str] = &["appsrc", "tsdemux", "h264parse", "aacparse", "mp4mux", "filesink"];

/// Debian package of each element by plugin; what is not listed is in plugins-base.
const PACKAGES: &[(&str, &[&str])] = &[
    (
        "gstreamer1.0-plugins-good",
        &["rtspsrc", "souphttpsrc", "udpsrc", "v4l2src", "qtdemux", "mp4mux", "aacparse", "matroskademux"],
    ),
    ("gstreamer1.0-plugins-bad", &["rtmp2src", "srtsrc", "hlsdemux", "tsdemux", "h264parse", "h265parse", "av1parse"]),
    ("libgstreamer1.0-0", &["queue", "filesrc", "filesink", "capsfilter", "fakesink", "identity"]),
];

/// Media types whose decoders are asked for.
const DECODED: &[&str] = &[
    "video/x-h264",
    "video/x-h265",
    "video/x-vp8",
    "video/x-vp9",
    "video/x-av1",
    "image/jpeg",
    "audio/mpeg,mpegversion=4",
    "audio/x-opus",
    "audio/x-mulaw",
    "audio/x-alaw",
];

/// The Debian package that holds an element.
pub(crate) fn package_of(element: &str) -> &'static str {
    PACKAGES.iter().find(|(_, elements)| elements.contains(&element)).map_or("gstreamer1.0-plugins-base", |p| p.0)
}

/// Which GStreamer elements and decoders are there, and what to install for those that are not.
pub fn doctor() -> Vec<Check> {
    if let Err(e) = crate::init() {
        return vec![Check { name: "GStreamer".into(), ok: false, detail: e.to_string() }];
    }
    let mut checks = vec![Check { name: "GStreamer".into(), ok: true, detail: gst::version_string().to_string() }];
    checks.push(check_elements("pictures and sound".into(), ALWAYS));
    checks.push(check_elements("clips of alerts".into(), CLIPS));
    for kind in registry::source_kinds().iter().filter(|k| !k.elements.is_empty()) {
        checks.push(check_elements(format!("source {}", kind.name), kind.elements));
    }
    checks.extend(DECODED.iter().filter_map(|media| media.parse::<gst::Caps>().ok()).map(|caps| check_decoder(&caps)));
    checks
}

fn check_elements(name: String, elements: &[&str]) -> Check {
    let missing = elements.iter().find(|e| gst::ElementFactory::find(e).is_none());
    let detail = match missing {
        None => elements.join(", "),
        Some(element) => format!("`{element}` is missing: install the package {}", package_of(element)),
    };
    Check { name, ok: missing.is_none(), detail }
}

fn check_decoder(caps: &gst::Caps) -> Check {
    let codec = caps.structure(0).map(codecs::name_of).unwrap_or_default();
    let (ok, detail) = match codecs::decoder_for(caps) {
        Ok(decoder) => {
            let found = gst::prelude::ElementExt::factory(&decoder).map(|f| gst::prelude::GstObjectExt::name(&f));
            let _ = gst::prelude::ElementExt::set_state(&decoder, gst::State::Null);
            (true, found.map(|n| n.to_string()).unwrap_or_default())
        }
        Err(_) => (false, format!("no decoder: install the package {}", codecs::package_for(&codec))),
    };
    Check { name: format!("decoder {codec}"), ok, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_names_what_is_not() {
        let checks = doctor();
        assert!(checks.iter().any(|c| c.name == "decoder h264" && c.ok), "{checks:?}");
        assert!(checks.iter().any(|c| c.name == "source rtsp" && c.ok), "{checks:?}");
        let check = check_elements("x".into(), &["queue", "nosuchelement"]);
        assert!(!check.ok && check.detail.contains("`nosuchelement` is missing"), "{check:?}");
    }
}
