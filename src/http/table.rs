//! The table of our routes: what the router, the OpenAPI document and the answer to a wrong method are made from.

mod desk;
mod history;

use super::{
    alerts, captions,
    openapi::{Answer, ERROR, Parameter, Route, Schema, Verb},
    transcribe,
    users::Role,
    video,
};
use crate::{control::selectors::STATES, feed::Kind};

/// Path of all streams.
pub(super) const STREAMS: &str = "/v1/streams";
/// Path of one stream.
pub(super) const STREAM: &str = "/v1/streams/{name}";
/// Path of its rules.
pub(super) const RULES: &str = "/v1/streams/{name}/rules";
/// Media type of most answers.
pub(super) const JSON: &str = "application/json";
const KINDS: [&str; 5] = {
    let [a, b, c, d, e] = Kind::ALL;
    [a.plural(), b.plural(), c.plural(), d.plural(), e.plural()]
};

const LIVE_KINDS: [&str; 6] = {
    let [a, b, c, d, e, f] = Kind::LIVE;
    [a.plural(), b.plural(), c.plural(), d.plural(), e.plural(), f.plural()]
};

const fn good(content: &'static [(&'static str, &'static str)]) -> Answer {
    Answer { status: 200, description: "Good.", content }
}

const BAD: Answer = Answer { status: 400, description: "A parameter is unknown or wrong.", content: &[(JSON, ERROR)] };
const UNKNOWN: Answer = Answer { status: 404, description: "There is no such stream.", content: &[(JSON, ERROR)] };
const NO_UPGRADE: Answer =
    Answer { status: 426, description: "The upgrade to a WebSocket went wrong.", content: &[(JSON, ERROR)] };
const BUSY: Answer =
    Answer { status: 503, description: "All places for readers are taken.", content: &[(JSON, ERROR)] };
const SWITCHING: Answer = Answer { status: 101, description: "The WebSocket is open.", content: &[] };

const fn query(name: &'static str, description: &'static str, schema: Schema) -> Parameter {
    Parameter { name, place: "query", description, schema }
}

const BAD_BODY: Answer =
    Answer { status: 400, description: "The body, a parameter or the name is wrong.", content: &[(JSON, ERROR)] };
const NOT_YOURS: Answer = Answer {
    status: 409,
    description: "It belongs to the configuration file or to the watched folder.",
    content: &[(JSON, ERROR)],
};
const CHANGED: Answer = Answer {
    status: 412,
    description: "It is not at the revision that `If-Match` names, or is there although `If-None-Match` says `*`.",
    content: &[(JSON, ERROR)],
};
const UNFIT: Answer =
    Answer { status: 422, description: "It can never be run; every reason.", content: &[(JSON, ERROR)] };
const NOT_NOW: Answer = Answer {
    status: 503,
    description: "The store cannot be reached, or the service is stopping.",
    content: &[(JSON, ERROR)],
};

const fn header(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: "header", description, schema: Schema::Text }
}

const CONDITIONS: [Parameter; 2] = [
    header("If-Match", "Do it only if the stream is still at this revision: the `ETag` of an answer."),
    header("If-None-Match", "`*`: do it only if there is no such stream."),
];
const FILTERS: [Parameter; 5] = [
    query("name", "Exact name, or a pattern: `*`, `?`, `[ab]`, `{front,back}`.", Schema::Texts),
    query(
        "tag",
        "`key:value`; `key` for any value; or as JSON `{\"key\":\"Location\",\"values\":[\"Front\"]}`, or a list of such. \
         Tags with different keys must all fit.",
        Schema::Texts,
    ),
    query("profile", "The profile that it runs.", Schema::Texts),
    query("state", "How it is.", Schema::Words(&STATES)),
    query("worker", "Id of the worker that runs it.", Schema::Texts),
];

const NO_ALERT: Answer =
    Answer { status: 404, description: "No such alert, or it has none; why.", content: &[(JSON, ERROR)] };
const NO_EVIDENCE: Answer =
    Answer { status: 501, description: "This service keeps nothing of alerts.", content: &[(JSON, ERROR)] };
const SAME: Answer = Answer { status: 304, description: "It is still the one of `If-None-Match`.", content: &[] };
const IF_NONE_MATCH: Parameter = header("If-None-Match", "Only if it is not this one any more: its `ETag`.");
const NOTHING_THERE: Answer =
    Answer { status: 416, description: "There is nothing in that range.", content: &[(JSON, ERROR)] };
const RANGE_GIVEN: Answer = Answer { status: 206, description: "The range.", content: &[("video/mp4", "")] };
const RANGE: [Parameter; 2] = [
    header("Range", "One range of bytes (RFC 9110, section 14)."),
    header("If-Range", "The whole clip unless it is still this one: its `ETag`."),
];
const ALERT_FILTERS: [Parameter; 5] = [
    query("stream", "Name of the stream.", Schema::Texts),
    query("rule", "Name of the rule.", Schema::Texts),
    query("state", "State of the newest record; `open` for what is not closed.", Schema::Words(&alerts::STATES)),
    query("severity", "How much it matters.", Schema::Words(&alerts::SEVERITIES)),
    query("limit", "At most so many, up to 1000. Default: 100.", Schema::Number),
];

/// Every route that is ours, in the order of the document.
pub(super) fn rows() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(history::ROUTES).chain(desk::ROUTES)
}

const ROUTES: &[Route] = &[
    Route {
        open: true,
        ..Route::get(
            "/",
            "The page, for people",
            &[
                good(&[("text/html", "")]),
                Answer { status: 303, description: "The token in the query began a session.", content: &[] },
            ],
        )
    },
    Route {
        open: true,
        parameters: &[IF_NONE_MATCH],
        ..Route::get(
            "/page/{file}",
            "A file of the page: script, style, icon, licences",
            &[
                good(&[("text/javascript", ""), ("text/css", ""), ("image/svg+xml", ""), ("text/plain", "")]),
                SAME,
                BAD,
                Answer { status: 404, description: "The page has no such file.", content: &[(JSON, ERROR)] },
            ],
        )
    },
    Route {
        description: "All that are attached, whichever worker runs them. Filters narrow them down: all of them must fit. One that \
                      comes several times asks for any of its values.",
        parameters: &FILTERS,
        ..Route::get(STREAMS, "All streams", &[good(&[(JSON, "Streams")]), BAD])
    },
    Route::get(STREAM, "One stream", &[good(&[(JSON, "Stream")]), BAD, UNKNOWN]),
    Route {
        description: "Answered once it is written down for good; other streams go on undisturbed. The stream starts, or \
                      starts anew where what it runs has changed, on whichever worker has its lease.",
        parameters: &CONDITIONS,
        body: Some("Attachment"),
        ..Route::write(
            Verb::Put,
            STREAM,
            "Attach a stream, or change what is attached",
            &[
                good(&[(JSON, "Stream")]),
                Answer { status: 201, description: "It was not there before.", content: &[(JSON, "Stream")] },
                BAD_BODY,
                NOT_YOURS,
                CHANGED,
                UNFIT,
                NOT_NOW,
            ],
        )
    },
    Route {
        description: "Only those that are named: a value sets one, `null` takes one away. Profiles whose selectors look at \
                      tags are bound anew at once. Other rules do not disturb the stream; what is open of a rule that is taken \
                      away is closed.",
        parameters: &CONDITIONS,
        body: Some("Patch"),
        ..Route::write(
            Verb::Patch,
            STREAM,
            "Change a stream's tags and rules",
            &[good(&[(JSON, "Stream")]), BAD_BODY, UNKNOWN, NOT_YOURS, CHANGED, UNFIT, NOT_NOW],
        )
    },
    Route {
        description: "Those of the configuration that are for it, and its own; any worker knows them. Its own are changed with \
                      `PATCH` of the stream.",
        ..Route::get(RULES, "A stream's rules, with their zones and lines", &[good(&[(JSON, "Rules")]), BAD, UNKNOWN])
    },
    Route {
        description: "What it has in hand is still analysed and published.",
        parameters: &CONDITIONS,
        ..Route::write(
            Verb::Delete,
            STREAM,
            "Detach a stream",
            &[
                Answer { status: 204, description: "It is detached.", content: &[] },
                BAD,
                UNKNOWN,
                NOT_YOURS,
                CHANGED,
                NOT_NOW,
            ],
        )
    },
    Route {
        description: "The newest record of each, those first that were told of last. Filters narrow them down: all of them must \
                      fit. One that comes several times asks for any of its values. Of the streams that this worker runs.",
        parameters: &ALERT_FILTERS,
        ..Route::get("/v1/alerts", "Alerts that are kept", &[good(&[(JSON, "Alerts")]), BAD, NO_EVIDENCE])
    },
    Route {
        description: "One record an event, of all streams that this worker runs; the event's id is the record's. Who comes back \
                      with `Last-Event-ID` gets what came meanwhile, restarts of the service included; who comes back too late \
                      gets a `lost` event and then all that is kept.",
        parameters: &[
            ALERT_FILTERS[0],
            ALERT_FILTERS[1],
            ALERT_FILTERS[2],
            ALERT_FILTERS[3],
            query("last_event_id", "Go on after the record of this id.", Schema::Text),
            header("Last-Event-ID", "As `last_event_id`, before which it goes."),
        ],
        ..Route::get(
            "/v1/alerts/events",
            "Alerts of all streams, live (server-sent events)",
            &[good(&[("text/event-stream", "")]), BAD, NO_EVIDENCE, BUSY],
        )
    },
    Route::get(
        "/v1/alerts/{id}",
        "The newest record of an alert",
        &[good(&[(JSON, "KeptAlert")]), BAD, NO_ALERT, NO_EVIDENCE],
    ),
    Route {
        description: "At first the analysed picture, some seconds later the camera's own, with the objects and the rule's zones.",
        parameters: &[IF_NONE_MATCH],
        ..Route::get(
            "/v1/alerts/{id}/snapshot.jpg",
            "The annotated picture of an alert",
            &[good(&[("image/jpeg", "")]), SAME, BAD, NO_ALERT, NO_EVIDENCE],
        )
    },
    Route {
        description: "The stream's own pictures and sound from before the alert was opened until after it was closed. There once \
                      the alert is closed, or the clip has its full length.",
        parameters: &[RANGE[0], RANGE[1], IF_NONE_MATCH],
        ..Route::get(
            "/v1/alerts/{id}/clip.mp4",
            "The clip of an alert",
            &[good(&[("video/mp4", "")]), RANGE_GIVEN, SAME, BAD, NO_ALERT, NOTHING_THERE, NO_EVIDENCE],
        )
    },
    Route::get("/v1/profiles", "What can be run on a stream", &[good(&[(JSON, "Profiles")]), BAD]),
    Route::get("/v1/workers", "Who runs the streams", &[good(&[(JSON, "Workers")]), BAD]),
    Route {
        description: "Connects as the stream would and looks at the first media: codecs, picture size, rate and one picture. \
                      Keeps nothing. With `Accept: image/jpeg` the answer is the picture alone.",
        body: Some("ProbeRequest"),
        ..Route::write(
            Verb::Post,
            "/v1/probe",
            "Try a URL before it is kept",
            &[
                good(&[(JSON, "Probe"), ("image/jpeg", "")]),
                BAD_BODY,
                Answer { status: 422, description: "It cannot be played; why.", content: &[(JSON, ERROR)] },
                Answer { status: 501, description: "This service cannot probe.", content: &[(JSON, ERROR)] },
                Answer { status: 503, description: "Four are being tried already.", content: &[(JSON, ERROR)] },
            ],
        )
    },
    Route {
        description: "As a WebSocket when asked to upgrade (one record a text message); else as server-sent events, live \
                      WebVTT (final cues only) or JSON (the newest revision of each recent cue), by `format` or `Accept`. \
                      A reader that is too slow, or comes back too late, gets a `lost` record and goes on with the oldest \
                      that is kept.",
        parameters: &[
            query(
                "types",
                "Kinds of records. Default: `captions`, and for SSE and WebSocket also `status` and `gaps`.",
                Schema::SomeOf(&KINDS),
            ),
            query("format", "Goes before `Accept`.", Schema::OneOf(&captions::FORMATS)),
            query(
                "recent",
                "Begin with at most so many of the last records. Default: 100 for JSON, otherwise 0.",
                Schema::Number,
            ),
            query("last_event_id", "Go on after the record of this id. Not for JSON.", Schema::Text),
            Parameter {
                name: "Last-Event-ID",
                place: "header",
                description: "As `last_event_id`, before which it goes.",
                schema: Schema::Text,
            },
        ],
        ..Route::get(
            "/v1/streams/{name}/captions",
            "Captions and transcripts of a stream, live",
            &[
                good(&[(JSON, "Captions"), ("text/event-stream", ""), ("text/vtt", "")]),
                SWITCHING,
                BAD,
                UNKNOWN,
                NO_UPGRADE,
                BUSY,
            ],
        )
    },
    Route {
        description: "One record a text message, as on the wire. First of all, and whenever a stream came into view or went, \
                      comes `{\"type\":\"streams\",\"streams\":[...]}` with those that are there; a stream that is \
                      attached meanwhile begins with its first record. The client may say at any time what it wants from now \
                      on: `{\"streams\":[...],\"types\":[...]}`, `null` for all streams; what is left out stays. A \
                      reader that is too slow gets a `lost` record and goes on. Detections are not kept: who is late gets the newest.",
        parameters: &[
            query(
                "types",
                "Kinds of records. Default: `captions`, `status`, `gaps` and `alerts`.",
                Schema::SomeOf(&LIVE_KINDS),
            ),
            query("stream", "Name of a stream, attached or not. Default: all.", Schema::Texts),
            query(
                "recent",
                "A stream that comes into view begins with so many of its last records. Default: 0.",
                Schema::Number,
            ),
        ],
        ..Route::get(
            "/v1/live",
            "Records of many streams, live, with detections (WebSocket)",
            &[SWITCHING, BAD, NO_UPGRADE, BUSY],
        )
    },
    Route {
        description: "As the detector gets it, in the proportions of the source and without boxes. Headers say of which moment it \
                      is: `eyewitness-session`, `eyewitness-pts-ms`, `eyewitness-captured-at`. The first one asked for \
                      may be there only a moment later (404 with `Retry-After`).",
        parameters: &[IF_NONE_MATCH],
        ..Route::get(
            "/v1/streams/{name}/preview.jpg",
            "The newest analysed picture of a stream",
            &[
                good(&[("image/jpeg", "")]),
                SAME,
                BAD,
                Answer {
                    status: 404,
                    description: "No such stream, or it has no picture; why.",
                    content: &[(JSON, ERROR)],
                },
            ],
        )
    },
    Route {
        description: "For Media Source Extensions, well under a second late: the text message `{\"type\":\"init\",\"session\", \
                      \"mime\",\"width\",\"height\",\"has_audio\"}`, then binary messages: the initialisation segment \
                      (ISO/IEC 14496-12), then fragments, from the last keyframe on; their times are the stream's PTS. About once a second \
                      `{\"type\":\"clock\",\"pts_ms\",\"captured_at\",\"quality\",\"sent_at\"}`. Each session \
                      and each change of format begins with another `init`; `{\"type\":\"end\",\"detail\"}` is the last \
                      message. Who is too slow is cut to the next keyframe. Without an upgrade, says whether it can be watched (426, else why not).",
        parameters: &[query("sound", "`off` leaves the sound out. Default: `on`.", Schema::OneOf(&video::SOUND))],
        ..Route::get(
            "/v1/streams/{name}/live.mp4",
            "A stream's own video and sound, live (WebSocket, fragmented MP4)",
            &[
                SWITCHING,
                BAD,
                UNKNOWN,
                Answer {
                    status: 409,
                    description: "It cannot be carried, or is over; why.",
                    content: &[(JSON, ERROR)],
                },
                NO_UPGRADE,
                Answer {
                    status: 503,
                    description: "It does not play yet, or all places for readers are taken.",
                    content: &[(JSON, ERROR)],
                },
            ],
        )
    },
    Route {
        description: "Binary messages hold mono sound of 16 kHz, at most 256 KiB each. The text message `{\"type\":\"end\"}` \
                      says that no more comes: what is pending is transcribed, then `{\"type\":\"end\",\"n_samples\":...}` \
                      comes back and the socket is closed. Answers are transcript records, and gap records for speech that was not transcribed.",
        parameters: &[
            query("language", "ISO 639-1 code of what is spoken. Default: the model tells.", Schema::Text),
            query("format", "Samples, little endian. Default: `s16le`.", Schema::OneOf(&transcribe::FORMATS)),
            query("types", "Kinds of records that come back. Default: `transcripts,gaps`.", Schema::SomeOf(&KINDS)),
        ],
        // It takes others' share of the models.
        role: Role::Operator,
        ..Route::get(
            "/v1/transcribe",
            "Send sound, get transcripts back (WebSocket)",
            &[
                SWITCHING,
                BAD,
                NO_UPGRADE,
                Answer { status: 501, description: "No speech model is loaded.", content: &[(JSON, ERROR)] },
                BUSY,
            ],
        )
    },
    Route::get("/metrics", "Metrics in Prometheus' text format", &[good(&[("text/plain", "")])]),
    Route { open: true, ..Route::get("/healthz", "Whether the process lives", &[good(&[("text/plain", "")])]) },
    Route {
        open: true,
        ..Route::get(
            "/readyz",
            "Whether models are loaded and streams started",
            &[good(&[("text/plain", "")]), Answer { status: 503, description: "Not yet.", content: &[(JSON, ERROR)] }],
        )
    },
    Route::get("/openapi.json", "This document", &[good(&[(JSON, "")])]),
];
