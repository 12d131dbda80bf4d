//! The rows about people and what they do: sessions, the audit, acknowledging and silencing, health.

use super::{
    super::{
        openapi::{Answer, ERROR, Route, Schema, Verb},
        users::Role,
    },
    BAD, BAD_BODY, JSON, NO_ALERT, NO_EVIDENCE, good, query,
};

const NOT_WRITTEN: Answer =
    Answer { status: 503, description: "It could not be written down, and does not hold.", content: &[(JSON, ERROR)] };

pub(super) const ROUTES: &[Route] = &[
    Route {
        description: "`Set-Cookie` holds a random id that stands for the user for 12 hours, or until the service is started \
                      anew; never the token. Five wrong tokens a minute may come from an address.",
        body: Some("Credentials"),
        open: true,
        ..Route::write(
            Verb::Post,
            "/v1/session",
            "Log in",
            &[
                good(&[(JSON, "Session")]),
                BAD_BODY,
                Answer { status: 401, description: "The token is wrong.", content: &[(JSON, ERROR)] },
            ],
        )
    },
    Route::get("/v1/session", "Who one is", &[good(&[(JSON, "Session")]), BAD]),
    Route {
        role: Role::Viewer,
        ..Route::write(
            Verb::Delete,
            "/v1/session",
            "Log out",
            &[Answer { status: 204, description: "The session is over.", content: &[] }, BAD],
        )
    },
    Route {
        description: "Every request that would have changed something, refused ones too, and every login; newest first. The \
                      last thousand; with `[history]` also those from before the service was started.",
        parameters: &[query("limit", "At most so many, up to 1000. Default: 100.", Schema::Number)],
        role: Role::Operator,
        ..Route::get("/v1/audit", "Who did what", &[good(&[(JSON, "Audit")]), BAD])
    },
    Route {
        description: "Says that somebody has seen to it. Changes nothing about the alert itself.",
        body: Some("Acknowledgement"),
        ..Route::write(
            Verb::Post,
            "/v1/alerts/{id}/acknowledge",
            "Acknowledge an alert",
            &[good(&[(JSON, "KeptAlert")]), BAD_BODY, NO_ALERT, NO_EVIDENCE, NOT_WRITTEN],
        )
    },
    Route::write(
        Verb::Delete,
        "/v1/alerts/{id}/acknowledge",
        "Take the acknowledgement back",
        &[good(&[(JSON, "KeptAlert")]), BAD, NO_ALERT, NO_EVIDENCE, NOT_WRITTEN],
    ),
    Route::get("/v1/silences", "What is silenced now", &[good(&[(JSON, "Silences")]), BAD]),
    Route {
        description: "Until then, alerts of this stream and this rule (of any, where one is left out) are kept, shown as silenced \
                      and published to Kafka and files; webhooks leave them out. Of the streams that this worker runs.",
        body: Some("SilenceRequest"),
        ..Route::write(
            Verb::Post,
            "/v1/silences",
            "Silence alerts for a while",
            &[
                Answer { status: 201, description: "It holds from now on.", content: &[(JSON, "Silence")] },
                BAD_BODY,
                Answer { status: 404, description: "There is no such stream.", content: &[(JSON, ERROR)] },
                Answer { status: 409, description: "There are too many.", content: &[(JSON, ERROR)] },
                NOT_WRITTEN,
            ],
        )
    },
    Route::write(
        Verb::Delete,
        "/v1/silences/{id}",
        "End a silence",
        &[
            Answer { status: 204, description: "It is over.", content: &[] },
            BAD,
            Answer { status: 404, description: "There is no such silence.", content: &[(JSON, ERROR)] },
            NOT_WRITTEN,
        ],
    ),
    Route {
        description: "What is wrong, how much it matters, and what to do about it: made of the numbers of `/metrics` and of what \
                      the workers tell. `level` is the worst of the checks.",
        ..Route::get("/v1/health", "How the service is", &[good(&[(JSON, "Health")]), BAD])
    },
];
