//! Output layouts: from a detector's raw output tensors to candidate boxes. One file a family, one line in the registry.
//!
//! Pure arithmetic on the inference thread: no ONNX Runtime in here, no allocation per frame beyond the candidates.

mod centerface;
pub(crate) mod nms;
mod rtdetr;
mod ssd;
mod yolov8;
mod yolox;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::manifest::BoxFormat;

/// Makes [`OutputLayout`] and its way to the code behind it.
macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $name:ident = $layout:expr,)+) => {
        /// Family of a detector's output tensors.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum OutputLayout {
            $($(#[doc = $doc])+ $name,)+
        }

        impl OutputLayout {
            pub(crate) fn layout(self) -> &'static dyn Layout {
                match self {
                    $(Self::$name => &$layout,)+
                }
            }
        }
    };
}

registry! {
    /// One tensor `[batch, 4 + classes, anchors]`: centre and size in input pixels, then one score a class (YOLOv8 to YOLO11, and converted SSDs).
    Yolov8 = yolov8::Yolov8,
    /// One tensor `[batch, anchors, 5 + classes]` over grids of stride 8, 16 and 32: offsets and log sizes, objectness, class scores (YOLOX).
    Yolox = yolox::Yolox,
    /// Tensors `boxes [batch, anchors, 4]` and `scores [batch, anchors, classes]`, already decoded, before suppression (SSD).
    Ssd = ssd::Ssd,
    /// Tensors `logits [batch, queries, classes]` and `boxes [batch, queries, 4]`, centre and size as fractions (RT-DETR, D-FINE).
    Rtdetr = rtdetr::Raw,
    /// Tensors `labels`, `boxes` (left, top, right, bottom in pixels of `orig_target_sizes`) and `scores`: the deployment export of RT-DETR and D-FINE.
    RtdetrExport = rtdetr::Export,
    /// Tensors heatmap, scale, offset and landmarks at a quarter of the input (CenterFace).
    Centerface = centerface::CenterFace,
}

/// What a layout must know of the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    /// Width of the model's input in pixels.
    pub(crate) width: u32,
    /// Height of the model's input in pixels.
    pub(crate) height: u32,
    pub(crate) n_classes: usize,
    pub(crate) boxes: BoxFormat,
    pub(crate) normalized: bool,
    pub(crate) background: bool,
}

/// One side of an expected tensor; the batch side is not among them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Side {
    /// Any length.
    Any,
    /// This length, and how it comes about.
    Exactly(usize, String),
}

/// Element type of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    I64,
}

/// One tensor that a layout reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    /// What it holds. An output whose name contains it is preferred where several fit.
    pub(crate) role: &'static str,
    pub(crate) dtype: Dtype,
    pub(crate) sides: Vec<Side>,
}

/// One picture's part of an output: the batch side is taken off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor<'a> {
    pub(crate) sides: &'a [i64],
    pub(crate) data: Data<'a>,
}

/// The values of a tensor, row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
}

impl<'a> Tensor<'a> {
    /// The values; empty when they are of another type, which the check at load rules out.
    fn f32(&self) -> &'a [f32] {
        if let Data::F32(v) = self.data { v } else { &[] }
    }

    fn i64(&self) -> &'a [i64] {
        if let Data::I64(v) = self.data { v } else { &[] }
    }

    fn side(&self, i: usize) -> usize {
        self.sides.get(i).map_or(0, |&s| s.max(0) as usize)
    }
}

/// Least score per class from which on a box is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Floors {
    /// By class; infinite for classes that nobody asked for.
    pub(crate) by_class: Vec<f32>,
    /// The least of them.
    pub(crate) least: f32,
}

impl Floors {
    pub(crate) fn new(by_class: Vec<f32>) -> Self {
        let least = by_class.iter().copied().fold(f32::INFINITY, f32::min);
        Self { by_class, least }
    }

    fn wants(&self, class: usize, score: f32) -> bool {
        self.by_class.get(class).is_some_and(|floor| score >= *floor)
    }
}

/// A box before suppression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) class: usize,
    pub(crate) score: f32,
    /// Left, top, right, bottom in pixels of the model's input.
    pub(crate) box_in_tensor: [f32; 4],
}

/// One family of outputs.
pub(crate) trait Layout: Sync {
    /// The tensors it reads, in the order in which `decode` gets them.
    fn expects(&self, head: &Head) -> Vec<Expected>;

    /// Appends the boxes of one picture that the floors let through. An anchor gives at most one: its best class.
    fn decode(&self, head: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>);

    /// Whether boxes of one object must still be suppressed.
    fn needs_nms(&self) -> bool {
        true
    }
}

fn corners(format: BoxFormat, b: [f32; 4]) -> [f32; 4] {
    match format {
        BoxFormat::Xyxy => b,
        BoxFormat::Yxyx => [b[1], b[0], b[3], b[2]],
        BoxFormat::Cxcywh => {
            let [cx, cy, w, h] = b;
            [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
        }
    }
}

/// The best class of a row of scores; the first among equals. NaN never wins.
fn best(scores: &[f32]) -> Option<(usize, f32)> {
    scores.iter().copied().enumerate().fold(None, |best, (i, s)| match best {
        Some((_, b)) if s <= b || s.is_nan() => best,
        None if s.is_nan() => None,
        _ => Some((i, s)),
    })
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Hand-made tensors for the layouts' tests.

    use super::*;

    pub(crate) fn head(width: u32, height: u32, n_classes: usize) -> Head {
        Head { width, height, n_classes, boxes: BoxFormat::Xyxy, normalized: true, background: false }
    }

    /// Decodes and rounds to three places, which hides the last bits of `exp`.
    pub(crate) fn decode(
        layout: &dyn Layout,
        head: &Head,
        tensors: &[Tensor<'_>],
        floors: Vec<f32>,
    ) -> Vec<(usize, f32, [f32; 4])> {
        let round = |v: f32| (v * 1000.0).round() / 1000.0;
        let mut out = Vec::new();
        layout.decode(head, tensors, &Floors::new(floors), &mut out);
        out.iter().map(|c| (c.class, round(c.score), c.box_in_tensor.map(round))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_of_every_format() {
        let check = |format, b, expected| assert_eq!(corners(format, b), expected, "{format:?}");
        check(BoxFormat::Xyxy, [1., 2., 3., 4.], [1., 2., 3., 4.]);
        check(BoxFormat::Yxyx, [1., 2., 3., 4.], [2., 1., 4., 3.]);
        check(BoxFormat::Cxcywh, [10., 20., 4., 6.], [8., 17., 12., 23.]);
    }

    #[test]
    fn best_class() {
        let check = |scores: &[f32], expected| assert_eq!(best(scores), expected, "{scores:?}");
        check(&[], None);
        check(&[0.2, 0.9, 0.9], Some((1, 0.9)));
        check(&[f32::NAN, 0.1], Some((1, 0.1)));
        check(&[0.3, f32::NAN], Some((0, 0.3)));
    }
}
