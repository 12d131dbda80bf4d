//! `[4 + classes, anchors]`: rows of centre x, centre y, width, height in input pixels, then one row of scores a class.
//!
//! The export of Ultralytics' YOLOv8 and later; our converted SSDLite has the same shape. Runs on the inference thread.

use super::{Candidate, Dtype, Expected, Floors, Head, Layout, Side, Tensor, corners};
use crate::manifest::BoxFormat;

pub(super) struct Yolov8;

impl Layout for Yolov8 {
    fn expects(&self, head: &Head) -> Vec<Expected> {
        let rows = Side::Exactly(4 + head.n_classes, format!("4 + {} labels", head.n_classes));
        vec![Expected { role: "output", dtype: Dtype::F32, sides: vec![rows, Side::Any] }]
    }

    fn decode(&self, head: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>) {
        let n = tensors[0].side(1);
        let (boxes, scores) = tensors[0].f32().split_at(4 * n);
        // One pass over whole rows keeps to the order in memory; `best` then holds each anchor's best class.
        let mut best = vec![(0_usize, f32::NEG_INFINITY); n];
        for (class, row) in scores.chunks_exact(n.max(1)).take(head.n_classes).enumerate() {
            for (b, &score) in best.iter_mut().zip(row) {
                if score > b.1 {
                    *b = (class, score);
                }
            }
        }
        for (i, &(class, score)) in best.iter().enumerate() {
            if floors.wants(class, score) {
                let b = [boxes[i], boxes[n + i], boxes[2 * n + i], boxes[3 * n + i]];
                out.push(Candidate { class, score, box_in_tensor: corners(BoxFormat::Cxcywh, b) });
            }
        }
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
    fn best_class_of_each_anchor() {
        // Three anchors, two classes.
        #[rustfmt::skip]
        let data = [
            10., 50., 90.,
            20., 60., 90.,
             4., 10., 10.,
             6., 20., 10.,
            0.9, 0.2, 0.1,
            0.3, 0.7, 0.2,
        ];
        let tensor = Tensor { sides: &[6, 3], data: Data::F32(&data) };
        let check = |floors: &[f32], expected: &[(usize, f32, [f32; 4])]| {
            assert_eq!(decode(&Yolov8, &head(100, 100, 2), &[tensor], floors.to_vec()), expected);
        };
        let (first, second) = ((0, 0.9, [8., 17., 12., 23.]), (1, 0.7, [45., 50., 55., 70.]));
        check(&[0.4, 0.4], &[first, second]);
        check(&[0.4, 0.8], &[first]);
        check(&[f32::INFINITY, 0.4], &[second]);
        check(&[0.95, 0.95], &[]);
    }
}
