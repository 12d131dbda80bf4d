//! Detection transformers: RT-DETR (Zhao et al. 2023), D-FINE (Peng et al. 2024). No suppression needed: every object
//! has one query.
//!
//! Two exports: the bare network (logits and boxes as fractions), and the deployment export with its post-processing in
//! the graph (labels, boxes, scores), which asks for the picture's size: we give the input's. Runs on the inference thread.

use super::{Candidate, Dtype, Expected, Floors, Head, Layout, Side, Tensor, best, corners, sigmoid};
use crate::manifest::BoxFormat;

/// `logits [queries, classes]` (before the sigmoid), `boxes [queries, 4]`: centre and size, 0..1.
pub(super) struct Raw;

/// `labels [queries]` (`i64`), `boxes [queries, 4]`: left, top, right, bottom in input pixels, `scores [queries]`.
pub(super) struct Export;

fn boxes() -> Expected {
    let four = Side::Exactly(4, "sides of a box".into());
    Expected { role: "boxes", dtype: Dtype::F32, sides: vec![Side::Any, four] }
}

impl Layout for Raw {
    fn expects(&self, head: &Head) -> Vec<Expected> {
        let classes = Side::Exactly(head.n_classes, format!("{} labels", head.n_classes));
        let logits = Expected { role: "logits", dtype: Dtype::F32, sides: vec![Side::Any, classes] };
        vec![boxes(), logits]
    }

    fn decode(&self, head: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>) {
        let (w, h) = (head.width as f32, head.height as f32);
        for (b, logits) in tensors[0].f32().chunks_exact(4).zip(tensors[1].f32().chunks_exact(head.n_classes)) {
            let Some((class, score)) = best(logits).map(|(c, l)| (c, sigmoid(l))) else { continue };
            if floors.wants(class, score) {
                let [x1, y1, x2, y2] = corners(BoxFormat::Cxcywh, [b[0], b[1], b[2], b[3]]);
                out.push(Candidate { class, score, box_in_tensor: [x1 * w, y1 * h, x2 * w, y2 * h] });
            }
        }
    }

    fn needs_nms(&self) -> bool {
        false
    }
}

impl Layout for Export {
    fn expects(&self, _: &Head) -> Vec<Expected> {
        vec![
            boxes(),
            Expected { role: "scores", dtype: Dtype::F32, sides: vec![Side::Any] },
            Expected { role: "labels", dtype: Dtype::I64, sides: vec![Side::Any] },
        ]
    }

    fn decode(&self, _: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>) {
        let scores = tensors[1].f32().iter().zip(tensors[2].i64());
        for (b, (&score, &label)) in tensors[0].f32().chunks_exact(4).zip(scores) {
            if let Ok(class) = usize::try_from(label)
                && floors.wants(class, score)
            {
                out.push(Candidate { class, score, box_in_tensor: [b[0], b[1], b[2], b[3]] });
            }
        }
    }

    fn needs_nms(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{
        Data,
        testing::{decode, head},
    };

    #[test]
    fn logits_and_fractions() {
        let boxes = [0.5, 0.5, 0.2, 0.4, 0.1, 0.1, 0.1, 0.1];
        let logits = [2.0, -1.0, 0.0, -5.0, -5.0, -4.0];
        let tensors =
            [Tensor { sides: &[2, 4], data: Data::F32(&boxes) }, Tensor { sides: &[2, 3], data: Data::F32(&logits) }];
        let got = decode(&Raw, &head(100, 200, 3), &tensors, vec![0.4; 3]);
        assert_eq!(got, [(0, 0.881, [40.0, 60.0, 60.0, 140.0])]);
        let got = decode(&Raw, &head(100, 200, 3), &tensors, vec![0.01; 3]);
        assert_eq!(got[1], (2, 0.018, [5.0, 10.0, 15.0, 30.0]));
    }

    #[test]
    fn labels_boxes_scores() {
        let boxes = [1., 2., 3., 4., 5., 6., 7., 8., 9., 9., 9., 9.];
        let (scores, labels) = ([0.9, 0.3, 0.8], [1, 0, 7]);
        let tensors = [
            Tensor { sides: &[3, 4], data: Data::F32(&boxes) },
            Tensor { sides: &[3], data: Data::F32(&scores) },
            Tensor { sides: &[3], data: Data::I64(&labels) },
        ];
        // Label 7 is beyond the model's classes: left out, not a panic.
        assert_eq!(decode(&Export, &head(9, 9, 2), &tensors, vec![0.4; 2]), [(1, 0.9, [1., 2., 3., 4.])]);
        assert_eq!(decode(&Export, &head(9, 9, 2), &tensors, vec![0.2; 2]).len(), 2);
    }
}
