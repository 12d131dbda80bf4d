//! Who looks at a stream's pictures: a detector that runs here, or a model server. The one seam between the two.

use std::sync::Arc;

use base::{
    event::ModelId,
    ledger::Ledger,
    media::{Frame, PictureRequest, StreamName},
};
use inference::{
    InferenceError,
    engine::{Engine, Lane, LanePolicy},
    filter::{DetectionFilter, ReportThresholds},
    remote::{OnSeen, RemoteEngine, RemoteLane, Seen},
};

/// A shared detector.
#[derive(Clone)]
pub enum Eyes {
    /// Runs in this process.
    Here(Arc<Engine>),
    /// Behind an endpoint.
    There(Arc<RemoteEngine>),
}

/// One stream's way into it.
pub(super) enum EyesLane {
    Here(Lane),
    There(RemoteLane),
}

impl Eyes {
    /// The picture that frames must carry.
    pub fn picture_request(&self) -> PictureRequest {
        match self {
            Self::Here(engine) => engine.picture_request(),
            Self::There(engine) => engine.picture_request(),
        }
    }

    /// Name and version for the wire.
    pub fn model_id(&self) -> Arc<ModelId> {
        match self {
            Self::Here(engine) => engine.model_id(),
            Self::There(engine) => engine.model_id(),
        }
    }

    /// All classes that it knows, in its own order; empty when that is not known.
    pub fn classes(&self) -> Arc<[Arc<str>]> {
        match self {
            Self::Here(engine) => engine.classes(),
            Self::There(engine) => engine.classes(),
        }
    }

    /// The scores from which on a stream with this filter reports detections.
    ///
    /// # Errors
    /// For classes that it does not know, and scores out of range.
    pub fn thresholds(&self, filter: &DetectionFilter) -> Result<ReportThresholds, InferenceError> {
        match self {
            Self::Here(engine) => engine.thresholds(filter),
            Self::There(engine) => engine.thresholds(filter),
        }
    }

    pub(super) fn lane(
        &self,
        stream: StreamName,
        policy: LanePolicy,
        ledger: Ledger,
        filter: &DetectionFilter,
        mut on_seen: OnSeen,
    ) -> Result<EyesLane, InferenceError> {
        Ok(match self {
            Self::Here(engine) => {
                let on_result =
                    Box::new(move |frame, detections| on_seen(frame, Seen { detections, ..Seen::default() }));
                EyesLane::Here(engine.lane(stream, policy, ledger, filter, on_result)?)
            }
            Self::There(engine) => EyesLane::There(engine.lane(stream, policy, ledger, filter, on_seen)?),
        })
    }
}

impl EyesLane {
    pub(super) fn submit(&self, frame: Frame) {
        match self {
            Self::Here(lane) => lane.submit(frame),
            Self::There(lane) => lane.submit(frame),
        }
    }

    pub(super) fn drain(&self) {
        match self {
            Self::Here(lane) => lane.drain(),
            Self::There(lane) => lane.drain(),
        }
    }
}
