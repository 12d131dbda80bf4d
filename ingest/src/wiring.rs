//! Joins the source's pads to the session's branches: parses what has to be parsed, takes the first wanted track of each
//! kind, and lets all others run into nothing. Runs on GStreamer's threads.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use base::media::MediaDescription;
use gstreamer::{self as gst, glib, prelude::*};

use crate::{
    audio, codecs, error::IngestError, relay, resume, segment, session::Session, sources::make, timeline::Track, video,
};

/// Encoded media that may wait for a decoder: so many bytes or so much time.
const QUEUE_BYTES: u32 = 16 * 1024 * 1024;
const QUEUE_TIME: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// Joins all pads of the source, those to come as well.
pub(crate) fn connect_source(session: &Arc<Session>, pipeline: &gst::Pipeline, source: &gst::Element) {
    let (weak, shared) = (pipeline.downgrade(), Arc::clone(session));
    source.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade() {
            source_pad(&shared, &pipeline, pad);
        }
    });
    let shared = Arc::clone(session);
    source.connect_no_more_pads(move |_| shared.complete.store(true, Relaxed));
    for pad in source.src_pads() {
        source_pad(session, pipeline, &pad);
    }
}

/// Runs `work` and makes its error the session's trouble.
fn attempt(session: &Session, what: &str, work: impl FnOnce() -> Result<(), Broken>) {
    if let Err(Broken(cause)) = work() {
        session.fail(session.troubles.hopeless(&format!("{what}: {cause}")));
    }
}

/// Why a part could not be built, in words.
pub(crate) struct Broken(String);

impl From<glib::BoolError> for Broken {
    fn from(e: glib::BoolError) -> Self {
        Self(e.to_string())
    }
}

impl From<gst::PadLinkError> for Broken {
    fn from(e: gst::PadLinkError) -> Self {
        Self(format!("parts do not fit: {e}"))
    }
}

impl From<IngestError> for Broken {
    fn from(e: IngestError) -> Self {
        Self(e.to_string())
    }
}

impl From<&str> for Broken {
    fn from(e: &str) -> Self {
        Self(e.into())
    }
}

fn source_pad(session: &Arc<Session>, pipeline: &gst::Pipeline, pad: &gst::Pad) {
    if pad.direction() != gst::PadDirection::Src {
        return;
    }
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    if !caps.is_any() && !caps.is_empty() && caps.iter().all(|s| s.name().ends_with("/x-raw")) {
        session.complete.store(true, Relaxed);
        return track_pad(session, pipeline, pad);
    }
    let rtp_track = caps.structure(0).filter(|s| s.name() == "application/x-rtp").and_then(|s| {
        match s.get::<&str>("media").ok()? {
            "video" => Some(Track::Video),
            "audio" => Some(Track::Audio),
            _ => None,
        }
    });
    if let Some(track) = rtp_track {
        learn_camera_clock(session, pad, track);
    }
    attempt(session, "the media could not be taken apart", || {
        let parse = make("parsebin")?;
        let (weak, shared) = (pipeline.downgrade(), Arc::clone(session));
        parse.connect_pad_added(move |_, pad| {
            if let Some(pipeline) = weak.upgrade() {
                track_pad(&shared, &pipeline, pad);
            }
        });
        if rtp_track.is_none() {
            let shared = Arc::clone(session);
            parse.connect_no_more_pads(move |_| shared.complete.store(true, Relaxed));
        }
        let shared = Arc::clone(session);
        parse.connect("unknown-type", false, move |values| {
            let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
            if let Some(media) = caps.as_ref().and_then(|c| c.structure(0)) {
                tracing::debug!(stream = %shared.options.info.name, "nothing parses {}", media.name());
            }
            None
        });
        if let (Some(findings), Some(bin)) = (&session.findings, parse.downcast_ref::<gst::Bin>()) {
            let findings = Arc::clone(findings);
            bin.connect_element_added(move |_, element| findings.part(element));
        }
        pipeline.add(&parse)?;
        parse.sync_state_with_parent()?;
        let sink = parse.static_pad("sink").ok_or("parsebin has no sink")?;
        pad.link(&sink)?;
        Ok(())
    });
}

/// Reads the capture times that the jitter buffer notes on RTP packets.
fn learn_camera_clock(session: &Arc<Session>, pad: &gst::Pad, track: Track) {
    let shared = Arc::clone(session);
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => shared.captures.learn_packet(track, buffer),
            Some(gst::PadProbeData::BufferList(list)) => {
                list.iter().for_each(|buffer| shared.captures.learn_packet(track, buffer));
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// A parsed (or raw) track, which is joined as soon as it says what it is.
fn track_pad(session: &Arc<Session>, pipeline: &gst::Pipeline, pad: &gst::Pad) {
    resume::gate(session, pad);
    if let Some(caps) = pad.current_caps() {
        return join_track(session, pipeline, pad, &caps);
    }
    promise(session, pad);
    let (weak, shared) = (pipeline.downgrade(), Arc::clone(session));
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
        let gst::EventView::Caps(caps) = event.view() else { return gst::PadProbeReturn::Ok };
        // What is linked in here gets this very event and all sticky ones before it.
        if let Some(pipeline) = weak.upgrade() {
            join_track(&shared, &pipeline, pad, &caps.caps_owned());
        }
        gst::PadProbeReturn::Remove
    });
}

/// Notes that a track is there, so that the session is not announced without it.
fn promise(session: &Session, pad: &gst::Pad) {
    let caps = pad.query_caps(None);
    let Some(media) = caps.structure(0) else { return };
    let description = || Some(MediaDescription { codec: codecs::name_of(media), size: None });
    let mut promised = session.promised.lock();
    match codecs::track_of(media) {
        Some(Track::Video) if session.options.wants(Track::Video) && promised.video.is_none() => {
            promised.video = description();
        }
        Some(Track::Audio) if session.options.wants(Track::Audio) && promised.audio.is_none() => {
            promised.audio = description();
        }
        _ => {}
    }
}

/// The first wanted track of its kind gets a branch, the others run into nothing.
fn join_track(session: &Arc<Session>, pipeline: &gst::Pipeline, pad: &gst::Pad, caps: &gst::Caps) {
    let media = caps.structure(0);
    let track = media
        .and_then(codecs::track_of)
        .filter(|track| session.options.wants(*track) && !session.chosen[*track as usize].swap(true, Relaxed));
    let (Some(media), Some(track)) = (media, track) else {
        return attempt(session, "a track that is not wanted", || discard(pipeline, pad));
    };
    let size = match (media.get::<i32>("width"), media.get::<i32>("height")) {
        (Ok(w), Ok(h)) if track == Track::Video => u32::try_from(w).ok().zip(u32::try_from(h).ok()),
        _ => None,
    };
    let codec = codecs::name_of(media);
    let description = Some(MediaDescription { codec: codec.clone(), size });
    match track {
        Track::Video => session.found.lock().video = description,
        Track::Audio => session.found.lock().audio = description,
    }
    if let Some(findings) = &session.findings {
        findings.track(track, media);
    }
    segment::tap(session, pad, track);
    relay::tap(session, pad, track);
    if !session.options.decodes(track) {
        return attempt(session, "a track that is not decoded", || discard(pipeline, pad));
    }
    watch_track(session, pad, track);
    let decoder = match media.name().ends_with("/x-raw") {
        true => None,
        false => match codecs::decoder_for(caps) {
            Ok(decoder) => Some(decoder),
            Err(e) => {
                undecodable(session, track, &e.to_string());
                return attempt(session, "a track that cannot be decoded", || discard(pipeline, pad));
            }
        },
    };
    let what = match track {
        Track::Video => format!("the {codec} pictures"),
        Track::Audio => format!("the {codec} sound"),
    };
    attempt(session, &what, || branch(session, pipeline, pad, decoder, track));
}

/// A wanted track has no decoder. Without its pictures a stream is of no use; without its sound it still is.
fn undecodable(session: &Session, track: Track, cause: &str) {
    let trouble = session.troubles.hopeless(cause);
    if track == Track::Video || session.options.video.is_none() {
        return session.fail(trouble);
    }
    session.found.lock().audio = None;
    session.promised.lock().audio = None;
    tracing::error!(stream = %session.options.info.name, "its sound is left out: {}", trouble.detail);
    if let Some(findings) = &session.findings {
        findings.left_out(&trouble.detail);
    }
    session.left_out.lock().get_or_insert(trouble);
}

/// queue ! decoder ! the track's own tail.
fn branch(
    session: &Arc<Session>,
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    decoder: Option<gst::Element>,
    track: Track,
) -> Result<(), Broken> {
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", 0u32);
    queue.set_property("max-size-bytes", QUEUE_BYTES);
    queue.set_property("max-size-time", QUEUE_TIME);
    let head: Vec<gst::Element> = [Some(queue.clone()), decoder].into_iter().flatten().collect();
    let decoded = head.last().and_then(|e| e.static_pad("src")).ok_or("the decoder has no source pad")?;
    let tail = match track {
        Track::Video => video::tail(session, &decoded)?,
        Track::Audio => audio::tail(session)?,
    };
    let chain: Vec<&gst::Element> = head.iter().chain(&tail).collect();
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent()?;
    }
    pad.link(&queue.static_pad("sink").ok_or("the queue has no sink pad")?)?;
    Ok(())
}

/// Lets a track run into nothing, so that it holds up no other.
fn discard(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), Broken> {
    let sink = make("fakesink")?;
    sink.set_property("async", false);
    sink.set_property("sync", false);
    pipeline.add(&sink)?;
    sink.sync_state_with_parent()?;
    pad.link(&sink.static_pad("sink").ok_or("the sink has no pad")?)?;
    Ok(())
}

/// Notes the life of a chosen track and its tags, before it is decoded; leaves out what keyframe sampling does not want.
fn watch_track(session: &Arc<Session>, pad: &gst::Pad, track: Track) {
    let shared = Arc::clone(session);
    let learn = |session: &Session, event: &gst::EventRef| {
        if let gst::EventView::Tag(tag) = event.view() {
            session.captures.learn_tags(tag.tag());
        }
    };
    pad.sticky_events_foreach(|event| {
        learn(session, event);
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    let keyframes = (track == Track::Video).then(|| video::Keyframes::new(session)).flatten();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => learn(&shared, event),
            Some(gst::PadProbeData::Buffer(buffer)) => {
                shared.alive();
                if let Some(findings) = &shared.findings {
                    findings.encoded(track, buffer);
                }
                if let Some(keyframes) = &keyframes
                    && !keyframes.take(pad, buffer)
                {
                    return gst::PadProbeReturn::Drop;
                }
                if track == Track::Video {
                    shared.picture.given(shared.clock.monotonic());
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}
