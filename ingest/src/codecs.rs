//! Names of codecs, the decoders for them, and the packages that bring those. Pure lookups.

use gstreamer::{self as gst, prelude::*};

use crate::{error::IngestError, timeline::Track};

/// GStreamer media type, our short name, Debian package of a decoder.
const CODECS: &[(&str, &str, &str)] = &[
    ("video/x-h264", "h264", "gstreamer1.0-libav"),
    ("video/x-h265", "h265", "gstreamer1.0-libav"),
    ("video/x-vp8", "vp8", "gstreamer1.0-plugins-good"),
    ("video/x-vp9", "vp9", "gstreamer1.0-plugins-good"),
    ("video/x-av1", "av1", "gstreamer1.0-plugins-bad"),
    ("image/jpeg", "mjpeg", "gstreamer1.0-plugins-good"),
    ("video/x-raw", "raw", "gstreamer1.0-plugins-base"),
    ("audio/x-opus", "opus", "gstreamer1.0-plugins-base"),
    ("audio/x-mulaw", "pcmu", "gstreamer1.0-plugins-good"),
    ("audio/x-alaw", "pcma", "gstreamer1.0-plugins-good"),
    ("audio/x-raw", "pcm", "gstreamer1.0-plugins-base"),
    ("audio/x-vorbis", "vorbis", "gstreamer1.0-plugins-base"),
    ("audio/x-flac", "flac", "gstreamer1.0-plugins-good"),
];

/// Short name of the codec of a parsed track.
pub(crate) fn name_of(media: &gst::StructureRef) -> String {
    let name = media.name().as_str();
    let version = media.get::<i32>("mpegversion").ok();
    match (name, version) {
        ("audio/mpeg", Some(1)) => match media.get::<i32>("layer") {
            Ok(3) => "mp3".into(),
            _ => "mp2".into(),
        },
        ("audio/mpeg", _) => "aac".into(),
        ("video/mpeg", Some(n)) => format!("mpeg{n}"),
        ("video/x-unknown" | "audio/x-unknown", _) => {
            media.get::<String>("codec-id").unwrap_or_else(|_| "unknown".into()).to_ascii_lowercase()
        }
        _ => CODECS.iter().find(|c| c.0 == name).map_or_else(
            || {
                name.split_once('/')
                    .map_or(name, |(_, sub)| sub)
                    .trim_start_matches("x-")
                    .trim_start_matches("gst-fourcc-")
                    .to_owned()
            },
            |c| c.1.to_owned(),
        ),
    }
}

/// Short name of the codec of an RTP track, by its `encoding-name` (RFC 3551 and the codecs' own payload formats).
pub(crate) fn name_of_rtp(encoding: &str) -> String {
    match encoding.to_ascii_uppercase().as_str() {
        "JPEG" => "mjpeg".into(),
        "MPEG4-GENERIC" | "MP4A-LATM" => "aac".into(),
        "L16" | "L24" | "L8" => "pcm".into(),
        "MPA" => "mp3".into(),
        other => other.to_ascii_lowercase(),
    }
}

/// Which track a parsed stream could be.
pub(crate) fn track_of(media: &gst::StructureRef) -> Option<Track> {
    let name = media.name().as_str();
    if name.starts_with("video/") || name == "image/jpeg" {
        Some(Track::Video)
    } else if name.starts_with("audio/") {
        Some(Track::Audio)
    } else {
        None
    }
}

/// The package that brings a decoder for a codec, by its short name.
pub(crate) fn package_for(codec: &str) -> &'static str {
    CODECS.iter().find(|c| c.1 == codec).map_or("gstreamer1.0-libav", |c| c.2)
}

/// Makes the best decoder for `caps` by GStreamer's rank (hardware ones rank above software where they are installed):
/// the first that can be opened on this machine.
pub(crate) fn decoder_for(caps: &gst::Caps) -> Result<gst::Element, IngestError> {
    let factories = gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
    let mut fitting: Vec<_> = factories.into_iter().filter(|f| f.can_sink_any_caps(caps)).collect();
    // Those that take all of it first: decoders for pictures with an alpha plane only take some of a codec's streams.
    fitting.sort_by_key(|f| (!f.can_sink_all_caps(caps), std::cmp::Reverse(f.rank()), f.name()));
    for factory in fitting {
        let Ok(decoder) = factory.create().build() else { continue };
        if decoder.set_state(gst::State::Ready).is_ok() {
            single_threaded(&decoder);
            return Ok(decoder);
        }
        // A broken driver: give it back and take the next.
        let _ = decoder.set_state(gst::State::Null);
        tracing::debug!(decoder = %factory.name(), "cannot be opened on this machine, trying the next");
    }
    let codec = caps.structure(0).map(name_of).unwrap_or_default();
    let package = package_for(&codec);
    Err(IngestError::MissingDecoder { codec, package })
}

/// One thread a stream: many streams fill the cores better than many threads, which cost a quarter more.
fn single_threaded(decoder: &gst::Element) {
    for property in ["max-threads", "threads"] {
        let Some(spec) = decoder.find_property(property) else { continue };
        if spec.value_type() == gst::glib::Type::I32 {
            decoder.set_property(property, 1i32);
        } else if spec.value_type() == gst::glib::Type::U32 {
            decoder.set_property(property, 1u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        crate::init().expect("gstreamer");
        let check = |caps: &str, codec: &str, track: Option<Track>| {
            let caps: gst::Caps = caps.parse().expect(caps);
            let media = caps.structure(0).expect("structure");
            assert_eq!((name_of(media).as_str(), track_of(media)), (codec, track), "{caps}");
        };
        check("video/x-h264,alignment=au", "h264", Some(Track::Video));
        check("image/jpeg", "mjpeg", Some(Track::Video));
        check("audio/mpeg,mpegversion=4", "aac", Some(Track::Audio));
        check("audio/mpeg,mpegversion=1,layer=3", "mp3", Some(Track::Audio));
        check("video/mpeg,mpegversion=2", "mpeg2", Some(Track::Video));
        check("video/x-theora", "theora", Some(Track::Video));
        check("text/x-raw", "raw", None);
        assert_eq!(name_of_rtp("MPEG4-GENERIC"), "aac");
        assert_eq!(name_of_rtp("PCMU"), "pcmu");
    }

    #[test]
    fn a_missing_decoder_names_its_package() {
        crate::init().expect("gstreamer");
        let caps: gst::Caps = "video/x-nobody-knows".parse().expect("caps");
        let error = decoder_for(&caps).expect_err("no such decoder").to_string();
        assert_eq!(
            error,
            "nothing on this machine decodes the codec `nobody-knows`: install the package gstreamer1.0-libav, or have the \
             source send another codec"
        );
    }
}
