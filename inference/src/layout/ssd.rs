//! SSD-style: `boxes [anchors, 4]`, already decoded from the priors, and `scores [anchors, classes]`.
//!
//! The manifest says what the four numbers mean, whether they are fractions, and whether class 0 is the background (then
//! it has no label and never wins). Runs on the inference thread.

use super::{Candidate, Dtype, Expected, Floors, Head, Layout, Side, Tensor, best, corners};

pub(super) struct Ssd;

impl Layout for Ssd {
    fn expects(&self, head: &Head) -> Vec<Expected> {
        let skipped = usize::from(head.background);
        let why = match head.background {
            true => format!("background + {} labels", head.n_classes),
            false => format!("{} labels", head.n_classes),
        };
        let four = Side::Exactly(4, "sides of a box".into());
        let classes = Side::Exactly(skipped + head.n_classes, why);
        vec![
            Expected { role: "boxes", dtype: Dtype::F32, sides: vec![Side::Any, four] },
            Expected { role: "scores", dtype: Dtype::F32, sides: vec![Side::Any, classes] },
        ]
    }

    fn decode(&self, head: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>) {
        let skipped = usize::from(head.background);
        let (sx, sy) = if head.normalized { (head.width as f32, head.height as f32) } else { (1.0, 1.0) };
        let boxes = tensors[0].f32().chunks_exact(4);
        for (b, scores) in boxes.zip(tensors[1].f32().chunks_exact(skipped + head.n_classes)) {
            let Some((class, score)) = best(&scores[skipped..]) else { continue };
            if floors.wants(class, score) {
                let [x1, y1, x2, y2] = corners(head.boxes, [b[0], b[1], b[2], b[3]]);
                out.push(Candidate { class, score, box_in_tensor: [x1 * sx, y1 * sy, x2 * sx, y2 * sy] });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layout::{
            Data,
            testing::{decode, head},
        },
        manifest::BoxFormat,
    };

    #[test]
    fn formats_and_background() {
        let boxes = [0.1, 0.2, 0.5, 0.6, 0.0, 0.0, 0.5, 0.5];
        let check = |format, normalized, background, scores: &[f32], expected: &[(usize, f32, [f32; 4])]| {
            let head = Head { boxes: format, normalized, background, ..head(100, 200, 2) };
            let n = (scores.len() / 2) as i64;
            let tensors = [
                Tensor { sides: &[2, 4], data: Data::F32(&boxes) },
                Tensor { sides: &[2, n], data: Data::F32(scores) },
            ];
            assert_eq!(decode(&Ssd, &head, &tensors, vec![0.4; 2]), expected);
        };
        check(BoxFormat::Xyxy, true, false, &[0.9, 0.1, 0.2, 0.3], &[(0, 0.9, [10., 40., 50., 120.])]);
        check(BoxFormat::Yxyx, true, false, &[0.9, 0.1, 0.2, 0.3], &[(0, 0.9, [20., 20., 60., 100.])]);
        check(BoxFormat::Cxcywh, false, false, &[0.1, 0.8, 0.2, 0.3], &[(1, 0.8, [-0.15, -0.1, 0.35, 0.5])]);
        let with_background = [0.99, 0.0, 0.5, 0.9, 0.1, 0.2];
        check(BoxFormat::Xyxy, true, true, &with_background, &[(1, 0.5, [10., 40., 50., 120.])]);
    }
}
