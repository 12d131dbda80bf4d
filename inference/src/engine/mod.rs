//! The engine: one model, one session, one named thread (`infer-<model>`), shared by all streams.
//!
//! Streams open a [`Lane`] each. The thread takes one frame a stream, round robin, fills the tensor, runs the model, and
//! calls each lane's callback with boxes in source pixels. It must never hold a lock while it does, and never lets one
//! stream's bad frame disturb another's.

mod config;
mod lanes;
mod session;
mod tensors;

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use base::{
    event::{Detection, ModelId},
    ledger::{DropReason, Ledger},
    media::{PictureRequest, StreamName},
};
use parking_lot::Mutex;

pub use self::{
    config::{Auto, EngineConfig, MaxBatch, Provider},
    lanes::{Lane, LanePolicy, OnResult},
    session::ProviderReport,
};
use self::{
    lanes::{Job, Lanes},
    session::Runner,
};
use crate::{
    InferenceError,
    filter::{DetectionFilter, ReportThresholds},
    layout::{Candidate, Floors},
    manifest::Manifest,
    store::Model,
    tensor::Placement,
};

pub(crate) use self::session::{NamedThreads, hex};

/// A loaded detector.
pub struct Engine {
    manifest: Manifest,
    model_id: Arc<ModelId>,
    picture_request: PictureRequest,
    providers: ProviderReport,
    max_batch: usize,
    lanes: Arc<Lanes>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Loads ONNX Runtime and the model, checks the model against its manifest, runs it once on an empty picture, and
    /// starts its thread. Takes a second or so; blocks.
    ///
    /// # Errors
    /// [`InferenceError::WrongChecksum`], [`InferenceError::WrongTensor`] and [`InferenceError::WrongTask`] when weights and
    /// manifest disagree; [`InferenceError::BadSetting`]; [`InferenceError::RuntimeMissing`],
    /// [`InferenceError::RuntimeUnusable`], [`InferenceError::Onnx`], [`InferenceError::Thread`].
    pub fn load(model: &Model, config: &EngineConfig) -> Result<Self, InferenceError> {
        let (runner, providers) = session::load(model, config)?;
        let manifest = model.manifest.clone();
        let model_id = Arc::new(ModelId { name: manifest.name.clone(), version: manifest.version() });
        let picture_request = runner.input.request();
        let max_batch = runner.max_batch;
        let lanes = Arc::new(Lanes::default());
        let name = format!("infer-{}", manifest.name);
        let worker = Worker { runner, lanes: Arc::clone(&lanes), model: Arc::clone(&model_id), n_failed: 0 };
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || worker.work())
            .map_err(|source| InferenceError::Thread { name, source })?;
        tracing::info!(
            model = model_id.name,
            version = model_id.version,
            provider = providers.running.first().map(|p| p.as_str()),
            max_batch,
            "model loaded"
        );
        Ok(Self { manifest, model_id, picture_request, providers, max_batch, lanes, thread: Mutex::new(Some(thread)) })
    }

    /// The picture that frames must carry: ingest scales to it.
    pub fn picture_request(&self) -> PictureRequest {
        self.picture_request
    }

    /// Name and version for the wire.
    pub fn model_id(&self) -> Arc<ModelId> {
        Arc::clone(&self.model_id)
    }

    /// The manifest that the model was loaded by.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All classes that it knows, in the model's order.
    pub fn classes(&self) -> Arc<[Arc<str>]> {
        self.manifest.labels.as_ref().map(|labels| labels.names().into()).unwrap_or_default()
    }

    /// What runs the model, and why what was asked for does not.
    pub fn providers(&self) -> &ProviderReport {
        &self.providers
    }

    /// Pictures in one run at most.
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// The scores from which on a stream with this filter reports detections: for its tracker.
    ///
    /// # Errors
    /// [`InferenceError::UnknownClass`], [`InferenceError::BadSetting`].
    pub fn thresholds(&self, filter: &DetectionFilter) -> Result<ReportThresholds, InferenceError> {
        filter.thresholds(&self.manifest)
    }

    /// Opens a stream's way in. `ledger` counts each submitted frame exactly once: inferred, or dropped with its reason.
    ///
    /// # Errors
    /// [`InferenceError::UnknownClass`], [`InferenceError::BadSetting`].
    pub fn lane(
        &self,
        stream: StreamName,
        policy: LanePolicy,
        ledger: Ledger,
        filter: &DetectionFilter,
        on_result: OnResult,
    ) -> Result<Lane, InferenceError> {
        let floors = filter.floors(&self.manifest)?;
        Ok(self.lanes.open(stream, policy, ledger, floors, on_result))
    }

    /// Stops the thread after the batch it is at; waiting frames are dropped as [`DropReason::Shutdown`]. Drain the lanes
    /// first to lose none. A second call does nothing. Never call it from a callback.
    pub fn shutdown(&self) {
        self.lanes.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(model = self.model_id.name, "the inference thread had panicked; this is a bug");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// What lives on the engine's thread.
struct Worker {
    runner: Runner,
    lanes: Arc<Lanes>,
    model: Arc<ModelId>,
    n_failed: u64,
}

/// Wakes everybody who waits when the thread ends, even by a panic.
struct WakeAtEnd(Arc<Lanes>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.worker_gone();
    }
}

impl Worker {
    fn work(mut self) {
        let _wake = WakeAtEnd(Arc::clone(&self.lanes));
        let mut boxes = vec![Vec::new(); self.runner.max_batch];
        while let Some(jobs) = self.lanes.take(self.runner.max_batch) {
            let batch = self.fill(jobs);
            if batch.is_empty() {
                continue;
            }
            let floors: Vec<&Floors> = batch.iter().map(|(job, _)| &*job.floors).collect();
            let outcome = self.runner.run(&floors, &mut boxes);
            if let Err(error) = &outcome {
                self.report_failure(&batch, error);
            }
            for ((mut job, placement), boxes) in batch.into_iter().zip(&boxes) {
                match outcome {
                    Ok(()) => {
                        let seen = self.detections(boxes, &placement);
                        job.ledger.inferred();
                        (job.on_result)(job.frame, seen);
                    }
                    Err(_) => job.ledger.dropped(DropReason::InferenceFailed),
                }
                self.lanes.done(job.lane, job.on_result);
            }
        }
    }

    /// Writes the jobs' pictures into the tensor; those that do not fit are dropped here, the others move up.
    fn fill(&mut self, jobs: Vec<Job>) -> Vec<(Job, Placement)> {
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.runner.input.write(batch.len(), &job.frame) {
                Ok(placement) => batch.push((job, placement)),
                Err(error) => {
                    job.ledger.dropped(DropReason::Conversion);
                    let (stream, pts) = (job.stream.as_str(), job.frame.pts.nanos());
                    tracing::error!(stream, pts, "frame dropped: {error}");
                    self.lanes.done(job.lane, job.on_result);
                }
            }
        }
        batch
    }

    fn detections(&self, boxes: &[Candidate], placement: &Placement) -> Vec<Detection> {
        let detection = |c: &Candidate| {
            let box_in_image = placement.box_in_image(c.box_in_tensor)?;
            Some(Detection { class: Arc::clone(self.runner.labels.get(c.class)?), score: c.score, box_in_image })
        };
        boxes.iter().filter_map(detection).collect()
    }

    /// A device that is lost fails on every frame: told at the 1st, 2nd, 4th, 8th... failure. The ledgers count them all.
    fn report_failure(&mut self, batch: &[(Job, Placement)], error: &InferenceError) {
        self.n_failed += 1;
        if self.n_failed.is_power_of_two() {
            let streams: Vec<&str> = batch.iter().map(|(job, _)| job.stream.as_str()).collect();
            let (model, n_failed) = (&self.model.name, self.n_failed);
            tracing::error!(model, n_failed, streams = streams.join(","), "frames dropped, inference failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
