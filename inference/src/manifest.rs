//! The model manifest: a TOML file that says what a model's weights are, where they come from, and how its input and
//! output are to be read. Pure data: nothing here opens weights or talks to ONNX Runtime.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base::media::{Fit, PictureRequest, PixelFormat};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use self::{
    files::{ModelFile, Role},
    transcribe::{KnownLanguages, Languages, SpeechEngine, Transcribe, WHISPER99},
};
use crate::{InferenceError, engine::hex, layout::OutputLayout};

mod files;
mod transcribe;

/// Everything needed to run a model, besides its weights.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name on the wire and on the command line: lower-case letters, digits, `.`, `_` and `-`, e.g. `yolox-nano`.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// For a model of one file: its name, without folders, e.g. `yolox_nano.onnx`. Beside the manifest or in the store.
    pub(crate) file: Option<String>,
    /// For a model of one file: its SHA-256, 64 hexadecimal digits.
    pub(crate) sha256: Option<String>,
    /// For a model of one file: its size in bytes; shown before a download.
    pub(crate) bytes: Option<u64>,
    /// The files of a model that has several. [`Manifest::parse`] puts the only file of the others here too, so that whoever
    /// reads a manifest looks here alone.
    #[serde(default)]
    pub files: Vec<ModelFile>,
    /// SPDX identifier of the weights' licence, e.g. `Apache-2.0`.
    pub licence: String,
    /// Where the weights come from, in words: package and version, repository, paper.
    pub origin: String,
    /// Address from which `eyewitness models pull` fetches the weights (for several files: the folder that holds them);
    /// checked against `sha256`.
    pub url: Option<String>,
    /// For weights that no address has: the command that makes them, run in a checkout of the program's source.
    pub recipe: Option<String>,
    /// The picture that goes in. Needed for task `detect`, absent otherwise.
    pub input: Option<Input>,
    /// The tensors that come out. Needed for task `detect`, absent otherwise.
    pub output: Option<Output>,
    /// Names of the classes in the order of the output: a list, or `coco80`. Needed for task `detect`, absent otherwise.
    pub labels: Option<Labels>,
    /// Scores and overlaps from which on a detection counts.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// How speech is transcribed. Needed for task `transcribe`, absent otherwise.
    pub transcribe: Option<Transcribe>,
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Finds objects in a picture: boxes, classes, scores.
    Detect,
    /// Tells speech from other sound.
    Vad,
    /// Turns speech into words.
    Transcribe,
}

impl Task {
    /// The word used in manifests and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Vad => "vad",
            Self::Transcribe => "transcribe",
        }
    }
}

/// The picture that a detector takes: `f32`, values `(pixel * scale - mean) / std`, where `scale` is 1 or 1/255 by `range`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// For models whose input size is free: both sides must be multiples of this, e.g. `32`. Then the sizes above are
    /// only the default.
    pub multiple_of: Option<u32>,
    /// Order of the colour channels.
    #[serde(default)]
    pub color: Color,
    /// Range of the values before `mean` and `std`.
    #[serde(default)]
    pub range: Range,
    /// Subtracted per channel, in the order of `color`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Divides per channel, in the order of `color`.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    /// How the source picture is fitted into the input.
    #[serde(default)]
    pub fit: FitTo,
    /// Where a letterboxed picture lies.
    #[serde(default)]
    pub anchor: Anchor,
    /// Pixel value 0 to 255 around a letterboxed picture.
    #[serde(default)]
    pub pad: u8,
    /// Order of the tensor's axes.
    #[serde(default)]
    pub axes: Axes,
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// Order of the colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Range of the tensor's values before mean and standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum Range {
    /// The bytes as they are.
    #[default]
    #[serde(rename = "0..255")]
    Bytes,
    /// Divided by 255.
    #[serde(rename = "0..1")]
    Unit,
}

/// How the source picture is fitted into the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitTo {
    /// Each axis on its own; changes the aspect ratio.
    #[default]
    Stretch,
    /// Aspect ratio kept, the rest padded.
    Letterbox,
}

/// Where a letterboxed picture lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// In the middle, padded on both sides.
    #[default]
    Center,
    /// In the corner, padded right or below.
    TopLeft,
}

/// Order of the tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Axes {
    /// `[batch, channel, y, x]`.
    #[default]
    Nchw,
    /// `[batch, y, x, channel]`.
    Nhwc,
}

/// How the output tensors are to be read.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Family of the output.
    pub layout: OutputLayout,
    /// Meaning of the four numbers of a box; only where the layout leaves it open (`ssd`).
    #[serde(default)]
    pub boxes: BoxFormat,
    /// Whether boxes are fractions of the input (0..1) and not pixels; only where the layout leaves it open (`ssd`).
    #[serde(default = "yes")]
    pub normalized: bool,
    /// Whether class 0 of the scores is the background, which has no label; only for `ssd`.
    #[serde(default)]
    pub background: bool,
}

fn yes() -> bool {
    true
}

/// Meaning of the four numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxFormat {
    /// Left, top, right, bottom.
    #[default]
    Xyxy,
    /// Top, left, bottom, right: TensorFlow's order.
    Yxyx,
    /// Centre and size.
    Cxcywh,
}

/// Names of the classes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Labels {
    /// A known list: `coco80`.
    Known(KnownLabels),
    /// The names themselves.
    List(Vec<String>),
}

/// Lists of labels that manifests may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KnownLabels {
    /// The 80 classes of COCO detection (Lin et al. 2014), in the usual order: person, bicycle, car...
    Coco80,
}

impl Labels {
    /// The names in the order of the model's classes.
    pub fn names(&self) -> Vec<Arc<str>> {
        match self {
            Self::Known(KnownLabels::Coco80) => COCO80.iter().map(|&n| n.into()).collect(),
            Self::List(names) => names.iter().map(|n| n.as_str().into()).collect(),
        }
    }
}

/// Scores and overlaps from which on a detection counts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Least score of a reported detection, 0 to 1.
    pub score: f32,
    /// Overlap (intersection over union) from which on the weaker of two boxes of one class is left out, 0 to 1.
    pub iou: f32,
    /// Least score per class, by label, where it differs.
    pub per_class: BTreeMap<String, f32>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { score: 0.4, iou: 0.5, per_class: BTreeMap::new() }
    }
}

/// The parts of a manifest that a detector needs, all there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DetectorSpec<'a> {
    pub(crate) input: &'a Input,
    pub(crate) output: &'a Output,
    pub(crate) labels: &'a Labels,
}

impl Manifest {
    /// Reads and checks the manifest in a file.
    ///
    /// # Errors
    /// [`InferenceError::BadManifest`].
    pub fn read(path: &Path) -> Result<Self, InferenceError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| InferenceError::BadManifest { path: shown.clone(), cause: e.to_string() })?;
        Self::parse(&shown, &text)
    }

    /// Parses and checks a manifest; `shown` names it in errors.
    ///
    /// # Errors
    /// [`InferenceError::BadManifest`], with line and key.
    pub fn parse(shown: &str, text: &str) -> Result<Self, InferenceError> {
        let bad = |cause: String| InferenceError::BadManifest { path: shown.to_owned(), cause };
        let mut manifest: Self = toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))?;
        manifest.gather_files().map_err(bad)?;
        manifest.check().map_err(bad)?;
        Ok(manifest)
    }

    /// Moves the only file of a one-file model to the others' place.
    fn gather_files(&mut self) -> Result<(), String> {
        match (self.file.take(), self.sha256.take(), self.bytes.take()) {
            (None, None, None) => Ok(()),
            _ if !self.files.is_empty() => Err("expected either file, sha256 and bytes, or [[files]]".into()),
            (Some(file), Some(sha256), bytes) => {
                self.files.push(ModelFile { role: Role::Weights, file, sha256, bytes });
                Ok(())
            }
            _ => Err("expected both file and sha256".into()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if !self.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !self.name.chars().all(plain) {
            return Err(format!("name = {:?}: use lower-case letters, digits, `.`, `_` and `-`", self.name));
        }
        let task = format!("task = {:?}", self.task.as_str());
        let pictures = (&self.input, &self.output, &self.labels);
        match (self.task, &self.transcribe) {
            (Task::Transcribe, Some(transcribe)) => {
                if !matches!(pictures, (None, None, None)) {
                    return Err(format!("{task} takes no [input], [output] or labels"));
                }
                transcribe.check()?;
                let engine = format!("engine = {:?}", transcribe.engine.as_str());
                return files::check_roles(&self.files, transcribe.engine.roles(), &engine);
            }
            (Task::Transcribe, None) => return Err(format!("{task} needs [transcribe]")),
            (_, Some(_)) => return Err(format!("{task} takes no [transcribe]")),
            (_, None) => files::check_roles(&self.files, &[Role::Weights], &task)?,
        }
        match (self.task, pictures) {
            (Task::Detect, (Some(input), Some(_), Some(labels))) => {
                check_input(input)?;
                self.check_classes(&labels.names())
            }
            (Task::Detect, _) => Err(format!("{task} needs [input], [output] and labels")),
            (_, (None, None, None)) => Ok(()),
            _ => Err(format!("{task} takes no [input], [output] or labels: its tensors are fixed")),
        }
    }

    /// The file of a role.
    pub fn file(&self, role: Role) -> Option<&ModelFile> {
        self.files.iter().find(|f| f.role == role)
    }

    /// Size of all files in bytes, where the manifest tells it.
    pub fn bytes(&self) -> Option<u64> {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Eight hexadecimal digits that change when the weights do: the first of the only file's SHA-256, or of the SHA-256 of
    /// all files' SHA-256 digits in the manifest's order.
    pub fn version(&self) -> String {
        let mut sum = match &self.files[..] {
            [only] => only.sha256.clone(),
            files => {
                let all = files.iter().fold(Sha256::new(), |hash, f| hash.chain_update(&f.sha256));
                hex(&all.finalize())
            }
        };
        sum.truncate(8);
        sum
    }

    /// The part that a transcriber needs.
    ///
    /// # Errors
    /// [`InferenceError::WrongTask`] for any other task.
    pub fn transcriber(&self) -> Result<&Transcribe, InferenceError> {
        self.transcribe.as_ref().ok_or_else(|| InferenceError::WrongTask {
            name: self.name.clone(),
            expected: Task::Transcribe.as_str(),
            found: self.task.as_str(),
        })
    }

    fn check_classes(&self, names: &[Arc<str>]) -> Result<(), String> {
        if names.is_empty() {
            return Err("labels: expected at least one".into());
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = names.iter().find(|n| !seen.insert(Arc::clone(n))) {
            return Err(format!("labels: {twice:?} stands there twice"));
        }
        let t = &self.thresholds;
        if let Some(unknown) = t.per_class.keys().find(|k| !seen.contains(k.as_str())) {
            return Err(format!("thresholds.per_class.{unknown}: no such label"));
        }
        let unit = [("score", t.score), ("iou", t.iou)];
        let per_class = t.per_class.iter().map(|(k, v)| (k.as_str(), *v));
        match unit.into_iter().chain(per_class).find(|(_, v)| !(0.0..=1.0).contains(v)) {
            Some((key, v)) => Err(format!("thresholds: {key} = {v}: expected 0 to 1")),
            None => Ok(()),
        }
    }

    /// The parts that a detector needs.
    ///
    /// # Errors
    /// [`InferenceError::WrongTask`] for any other task.
    pub(crate) fn detector(&self) -> Result<DetectorSpec<'_>, InferenceError> {
        match (&self.input, &self.output, &self.labels) {
            (Some(input), Some(output), Some(labels)) => Ok(DetectorSpec { input, output, labels }),
            _ => Err(InferenceError::WrongTask {
                name: self.name.clone(),
                expected: Task::Detect.as_str(),
                found: self.task.as_str(),
            }),
        }
    }
}

fn check_input(input: &Input) -> Result<(), String> {
    const MOST: u32 = 4096;
    for (key, side) in [("width", input.width), ("height", input.height)] {
        if !(1..=MOST).contains(&side) {
            return Err(format!("input.{key} = {side}: expected 1 to {MOST}"));
        }
        if let Some(step) = input.multiple_of
            && (step == 0 || side % step != 0)
        {
            return Err(format!("input.{key} = {side}: expected a multiple of multiple_of = {step}"));
        }
    }
    if input.std.iter().any(|s| !s.is_finite() || *s == 0.0) || input.mean.iter().any(|m| !m.is_finite()) {
        return Err("input.mean and input.std: expected finite numbers, std not zero".into());
    }
    Ok(())
}

impl Input {
    /// The picture that ingest is to deliver for this input at `width` x `height` pixels.
    pub(crate) fn picture_request(&self, width: u32, height: u32) -> PictureRequest {
        PictureRequest {
            width,
            height,
            fit: match self.fit {
                FitTo::Stretch => Fit::Stretch,
                FitTo::Letterbox => Fit::Letterbox,
            },
            format: match self.color {
                Color::Rgb => PixelFormat::Rgb8,
                Color::Bgr => PixelFormat::Bgr8,
            },
        }
    }
}

/// The classes of COCO detection as most models order them: the 80 that are used of COCO's 91 ids.
#[rustfmt::skip]
const COCO80: [&str; 80] = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
];

#[cfg(test)]
mod tests;
