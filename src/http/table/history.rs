//! The rows about what was: what was said, and how streams fared.

use super::{
    super::{
        history::FORMATS,
        openapi::{Answer, ERROR, Parameter, Route, Schema},
    },
    BAD, IF_NONE_MATCH, JSON, NOTHING_THERE, RANGE, RANGE_GIVEN, SAME, good, query,
};

const NO_HISTORY: Answer =
    Answer { status: 501, description: "This service keeps no history.", content: &[(JSON, ERROR)] };
const UNREAD: Answer = Answer {
    status: 503,
    description: "The history cannot be read now, or it took too long: ask for a shorter time.",
    content: &[(JSON, ERROR)],
};
const FROM: Parameter = query("from", "At this time or later (RFC 3339).", Schema::Text);
const TO: Parameter = query("to", "Before this time (RFC 3339).", Schema::Text);

pub(super) const ROUTES: &[Route] = &[
    Route {
        description: "Words must all be there; the last one may be the beginning of a word, and words in double quotes must stand \
                      together. Accents and case do not matter. JSON has what was said last first, and goes on with `after`; \
                      files are as it was said, and whole. `from` and `to` are about when it was said (`at`). Of the streams \
                      that this worker runs or has run.",
        parameters: &[
            query("q", "What is searched for; without it, whatever was said.", Schema::Text),
            query("stream", "Name of the stream.", Schema::Texts),
            FROM,
            TO,
            query("limit", "At most so many. JSON: up to 1000, by default 100. Files: by default all.", Schema::Number),
            query("after", "Go on behind an earlier answer: its `after`.", Schema::Text),
            query(
                "format",
                "Default: `json`. `jsonl` has the records as on the wire; `vtt` and `srt` want one stream.",
                Schema::OneOf(&FORMATS),
            ),
        ],
        ..Route::get(
            "/v1/history/transcripts",
            "Search what was said, or fetch it as a file",
            &[
                good(&[
                    (JSON, "HistoryTranscripts"),
                    ("text/vtt", ""),
                    ("application/x-subrip", ""),
                    ("application/jsonl", ""),
                    ("text/csv", ""),
                ]),
                BAD,
                NO_HISTORY,
                UNREAD,
            ],
        )
    },
    Route {
        description: "MP4 of the stream's own pictures and sound, from some two seconds before its first word; there a few \
                      seconds after its last. A JSON answer of the search says which have one. Of streams with H.264, until \
                      there is no more room for it (`history.clips_bytes`).",
        parameters: &[RANGE[0], RANGE[1], IF_NONE_MATCH],
        ..Route::get(
            "/v1/history/transcripts/{id}/clip.mp4",
            "See and hear what was said",
            &[
                good(&[("video/mp4", "")]),
                RANGE_GIVEN,
                SAME,
                BAD,
                Answer { status: 404, description: "There is no clip of it.", content: &[(JSON, ERROR)] },
                NOTHING_THERE,
                NO_HISTORY,
            ],
        )
    },
    Route {
        description: "Sampled every 10 s. Each list has one entry a step, null where nothing is known.",
        parameters: &[
            query("stream", "Name of the stream; required.", Schema::Text),
            query("from", "Begin (RFC 3339). Default: an hour before `to`.", Schema::Text),
            query("to", "End (RFC 3339). Default: now.", Schema::Text),
            query(
                "step_secs",
                "Length of a step, from 10 s; at most 2000 steps. Default: what gives about 360.",
                Schema::Number,
            ),
        ],
        ..Route::get(
            "/v1/history/series",
            "How a stream fared over time",
            &[good(&[(JSON, "HistorySeries")]), BAD, NO_HISTORY, UNREAD],
        )
    },
];
