//! One model on ONNX Runtime: makes the session, checks its tensors against the manifest, and runs batches.
//!
//! Made on the thread that loads the model, then owned by that model's inference thread. Spinning is off: idle threads
//! sleep, which costs a little latency and saves 40 % of the CPU.

use std::{borrow::Cow, sync::Arc, thread};

use ort::{
    environment::ThreadManager,
    ep::{self, ExecutionProviderDispatch},
    logging::LogLevel,
    session::{Session, SessionInputValue, SessionOutputs, builder::GraphOptimizationLevel},
    value::{DynValue, TensorElementType, TensorRef, ValueType},
};

use super::{
    config::{EngineConfig, MaxBatch, Provider},
    tensors::{self, Declared},
};
use crate::{
    InferenceError,
    layout::{Candidate, Data, Dtype, Expected, Floors, Head, Layout, Tensor, nms},
    manifest::{Axes, Manifest, Role},
    runtime,
    store::Model,
    tensor::InputTensor,
};

/// What really runs a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderReport {
    /// In order; operators that the first does not know run on the next. `cpu` is always the last.
    pub running: Vec<Provider>,
    /// Why each provider that was asked for is not among them.
    pub warnings: Vec<String>,
}

/// A session with everything around it that one run needs.
pub(super) struct Runner {
    name: String,
    session: Session,
    pub(super) input: InputTensor,
    pictures: String,
    /// Name of the input that asks for the picture's size (deployment exports of RT-DETR), and its values.
    sizes: Option<(String, Vec<i64>)>,
    outputs: Vec<String>,
    expected: Vec<Expected>,
    head: Head,
    layout: &'static dyn Layout,
    iou: Option<f32>,
    pub(super) labels: Vec<Arc<str>>,
    pub(super) max_batch: usize,
}

/// Checks the weights, makes the session, and runs it once on an empty picture: wrong tensors show now, not later.
pub(super) fn load(model: &Model, config: &EngineConfig) -> Result<(Runner, ProviderReport), InferenceError> {
    let manifest = &model.manifest;
    let spec = manifest.detector()?;
    config.check()?;
    let [width, height] = input_size(manifest, config)?;
    let weights = model.read(Role::Weights)?;
    runtime::init()?;
    let (session, providers) = build(manifest, &weights, config)?;
    drop(weights);

    let labels = spec.labels.names();
    let head = Head {
        width,
        height,
        n_classes: labels.len(),
        boxes: spec.output.boxes,
        normalized: spec.output.normalized,
        background: spec.output.background,
    };
    let layout = spec.output.layout.layout();
    let refuse = |m: tensors::Mismatch| m.into_error(&manifest.name);
    let sides = match spec.input.axes {
        Axes::Nchw => [3, height as usize, width as usize],
        Axes::Nhwc => [height as usize, width as usize, 3],
    };
    let declared: Vec<Declared> = session.inputs().iter().map(|o| declare(o.name(), o.dtype())).collect();
    let inputs = tensors::bind_inputs(&declared, sides).map_err(refuse)?;
    let expected = layout.expects(&head);
    let declared: Vec<Declared> = session.outputs().iter().map(|o| declare(o.name(), o.dtype())).collect();
    let bound = tensors::bind_outputs(&declared, &expected).map_err(refuse)?;

    let gains = providers.running.first().is_some_and(|p| p.gains_from_batches());
    let max_batch = match config.max_batch {
        _ if !inputs.free_batch => 1,
        MaxBatch::Pictures(n) => n,
        MaxBatch::Word(_) if gains => 8,
        MaxBatch::Word(_) => 1,
    };
    let mut runner = Runner {
        name: manifest.name.clone(),
        input: InputTensor::new(spec.input, spec.input.picture_request(width, height), max_batch),
        pictures: inputs.pictures,
        sizes: inputs.sizes.map(|name| (name, [i64::from(width), i64::from(height)].repeat(max_batch))),
        outputs: bound.into_iter().map(|i| declared[i].name.clone()).collect(),
        expected,
        head,
        layout,
        iou: layout.needs_nms().then_some(manifest.thresholds.iou),
        labels,
        max_batch,
        session,
    };
    let nothing = Floors::new(vec![f32::INFINITY; runner.head.n_classes]);
    runner.run(&[&nothing], &mut [Vec::new()])?;
    Ok((runner, providers))
}

fn input_size(manifest: &Manifest, config: &EngineConfig) -> Result<[u32; 2], InferenceError> {
    let input = manifest.detector()?.input;
    let Some(size) = config.input_size else { return Ok([input.width, input.height]) };
    let fits = input.multiple_of.is_some_and(|step| size.iter().all(|s| (1..=4096).contains(s) && s % step == 0));
    if fits {
        return Ok(size);
    }
    Err(InferenceError::WrongTensor {
        name: manifest.name.clone(),
        what: "input_size".into(),
        expected: match input.multiple_of {
            Some(step) => format!("multiples of {step} up to 4096"),
            None => format!("{}x{}, this model's only size", input.width, input.height),
        },
        found: format!("{}x{}", size[0], size[1]),
    })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// ONNX Runtime's worker threads carry the model's name.
pub(crate) struct NamedThreads(pub(crate) String);

impl ThreadManager for NamedThreads {
    type Thread = thread::JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        let builder = thread::Builder::new().name(self.0.clone());
        builder.spawn(work).map_err(|e| ort::Error::new(format!("cannot start thread: {e}")))
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a worker thread panicked"))
    }
}

fn dispatch(provider: Provider, device_id: u32) -> Option<ExecutionProviderDispatch> {
    let device_id = i32::try_from(device_id).unwrap_or(i32::MAX);
    Some(match provider {
        Provider::Cpu => return None,
        Provider::Cuda => ep::CUDA::default().with_device_id(device_id).build(),
        Provider::Tensorrt => ep::TensorRT::default().with_device_id(device_id).build(),
        Provider::Openvino => ep::OpenVINO::default().build(),
        Provider::Coreml => ep::CoreML::default().build(),
    })
}

/// The session on the best of the configured providers that works; each that does not leaves a warning.
fn build(
    manifest: &Manifest,
    weights: &[u8],
    config: &EngineConfig,
) -> Result<(Session, ProviderReport), InferenceError> {
    let info = runtime::init()?;
    let mut warnings = Vec::new();
    let mut wanted: Vec<Provider> = Vec::new();
    for &provider in config.providers.iter().take_while(|p| **p != Provider::Cpu) {
        if info.providers.contains(&provider) {
            wanted.push(provider);
        } else {
            let has: Vec<_> = info.providers.iter().map(|p| p.as_str()).collect();
            let (path, has) = (info.path.display(), has.join(", "));
            warnings
                .push(format!("{}: the ONNX Runtime at {path} was built without it (it has {has})", provider.as_str()));
        }
    }
    loop {
        match commit(manifest, weights, config, &wanted) {
            Ok(session) => {
                wanted.push(Provider::Cpu);
                for warning in &warnings {
                    tracing::warn!(model = manifest.name, "execution provider left out: {warning}");
                }
                return Ok((session, ProviderReport { running: wanted, warnings }));
            }
            Err((Some(failed), cause)) => {
                warnings.push(format!("{}: {cause}", failed.as_str()));
                wanted.retain(|p| *p != failed);
            }
            Err((None, cause)) => {
                return Err(InferenceError::Onnx { name: manifest.name.clone(), cause: cause.to_string() });
            }
        }
    }
}

/// One try. An error names the provider to leave out, if it is one's fault.
fn commit(
    manifest: &Manifest,
    weights: &[u8],
    config: &EngineConfig,
    providers: &[Provider],
) -> Result<Session, (Option<Provider>, String)> {
    let environment = runtime::environment().map_err(|e| (None, e.to_string()))?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { (cores / 2).clamp(1, 4) } else { config.threads };
    let plain = || -> ort::Result<_> {
        Ok(Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_intra_op_spinning(false)?
            .with_thread_manager(NamedThreads(format!("infer-{}", manifest.name)))?
            .with_log_id(&manifest.name)?
            .with_log_level(LogLevel::Error)?)
    };
    let mut builder = plain().map_err(|e| (None, e.to_string()))?;
    for &provider in providers {
        if let Some(dispatch) = dispatch(provider, config.device_id) {
            dispatch.register(&mut builder).map_err(|e| (Some(provider), e.to_string()))?;
        }
    }
    builder.commit_from_memory(weights).map_err(|e| (providers.first().copied(), e.to_string()))
}

/// What a session says of one of its tensors. A tensor of unknown rank has no sides.
fn declare(name: &str, value: &ValueType) -> Declared {
    let ValueType::Tensor { ty, shape, .. } = value else {
        return Declared { name: name.into(), dtype: None, shown: value.to_string(), sides: Vec::new() };
    };
    let dtype = match ty {
        TensorElementType::Float32 => Some(Dtype::F32),
        TensorElementType::Int64 => Some(Dtype::I64),
        _ => None,
    };
    Declared { name: name.into(), dtype, shown: ty.to_string(), sides: shape.to_vec() }
}

impl Runner {
    /// Runs what was written into the input tensor: one picture for each of `floors`. `out` gets each picture's boxes,
    /// best first, after suppression.
    pub(super) fn run(&mut self, floors: &[&Floors], out: &mut [Vec<Candidate>]) -> Result<(), InferenceError> {
        let n = floors.len();
        let name = &self.name;
        let failed = |e: ort::Error| InferenceError::Onnx { name: name.clone(), cause: e.to_string() };
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(2);
        let pictures = TensorRef::from_array_view((self.input.shape(n), self.input.values(n))).map_err(failed)?;
        inputs.push((self.pictures.as_str().into(), pictures.into()));
        if let Some((name, values)) = &self.sizes {
            let sizes = TensorRef::from_array_view(([n, 2], &values[..2 * n])).map_err(failed)?;
            inputs.push((name.as_str().into(), sizes.into()));
        }
        let values = self.session.run(inputs).map_err(failed)?;
        let mut batch = Vec::with_capacity(self.outputs.len());
        for (output, expected) in self.outputs.iter().zip(&self.expected) {
            batch.push(extract(&values, output, expected, n).map_err(|m| m.into_error(name))?);
        }
        let mut tensors = Vec::with_capacity(batch.len());
        for (i, (floors, out)) in floors.iter().zip(out).enumerate() {
            tensors.clear();
            tensors.extend(batch.iter().map(|t| one_of(t, n, i)));
            out.clear();
            self.layout.decode(&self.head, &tensors, floors, out);
            nms::suppress(out, self.iou);
        }
        Ok(())
    }
}

/// One output of a run, checked: its sides after the batch side, and all the batch's values.
fn extract<'v>(
    values: &'v SessionOutputs<'_>,
    name: &str,
    expected: &Expected,
    n: usize,
) -> Result<Tensor<'v>, tensors::Mismatch> {
    let value: Option<&DynValue> = values.get(name);
    let found = match (value, expected.dtype) {
        (Some(v), Dtype::F32) => v.try_extract_tensor::<f32>().ok().map(|(s, d)| (&s[..], Data::F32(d))),
        (Some(v), Dtype::I64) => v.try_extract_tensor::<i64>().ok().map(|(s, d)| (&s[..], Data::I64(d))),
        (None, _) => None,
    };
    match found {
        Some(([batch, sides @ ..], data)) if *batch == n as i64 && tensors::sides_fit(sides, &expected.sides) => {
            Ok(Tensor { sides, data })
        }
        _ => {
            let shown = value.map_or("nothing".into(), |v| declare(name, v.dtype()).to_string());
            Err(tensors::Mismatch::new(format!("output of a run ({})", expected.role), expected, shown))
        }
    }
}

/// Picture `i` of a batch of `n`.
fn one_of<'v>(batch: &Tensor<'v>, n: usize, i: usize) -> Tensor<'v> {
    let part = |len: usize| i * (len / n)..(i + 1) * (len / n);
    let data = match batch.data {
        Data::F32(v) => Data::F32(&v[part(v.len())]),
        Data::I64(v) => Data::I64(&v[part(v.len())]),
    };
    Tensor { sides: batch.sides, data }
}
