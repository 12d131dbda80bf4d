//! CenterFace (Xu et al. 2019): faces as points on a map at a quarter of the input.
//!
//! Tensors `[channels, y, x]`: heatmap (score), scale (log of height and width in cells), offset (y, x within the cell),
//! landmarks (five points, not read). Runs on the inference thread.

use super::{Candidate, Dtype, Expected, Floors, Head, Layout, Side, Tensor};

pub(super) struct CenterFace;

const STRIDE: u32 = 4;

impl Layout for CenterFace {
    fn expects(&self, head: &Head) -> Vec<Expected> {
        let quarter = |side: u32| Side::Exactly((side / STRIDE) as usize, format!("{side} / {STRIDE}"));
        let map = |role, n: usize| {
            let channels = Side::Exactly(n, "channels".into());
            Expected { role, dtype: Dtype::F32, sides: vec![channels, quarter(head.height), quarter(head.width)] }
        };
        vec![map("heatmap", head.n_classes), map("scale", 2), map("offset", 2)]
    }

    fn decode(&self, _: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>) {
        let (h, w) = (tensors[0].side(1), tensors[0].side(2));
        let n = h * w;
        let (heat, scale, offset) = (tensors[0].f32(), tensors[1].f32(), tensors[2].f32());
        for (at, &score) in heat.iter().enumerate() {
            let (class, i) = (at / n, at % n);
            if !floors.wants(class, score) {
                continue;
            }
            let s = STRIDE as f32;
            let (box_h, box_w) = (scale[i].exp() * s, scale[n + i].exp() * s);
            let cy = ((i / w) as f32 + offset[i] + 0.5) * s;
            let cx = ((i % w) as f32 + offset[n + i] + 0.5) * s;
            let box_in_tensor = [cx - box_w / 2.0, cy - box_h / 2.0, cx + box_w / 2.0, cy + box_h / 2.0];
            out.push(Candidate { class, score, box_in_tensor });
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
    fn one_face() {
        // Input 12 x 8: a map of 3 x 2 cells; the face is in column 1 of row 1.
        let mut heat = [0.0; 6];
        heat[4] = 0.9;
        heat[0] = 0.2;
        let mut scale = [0.0; 12];
        (scale[4], scale[10]) = (2.0_f32.ln(), 0.0);
        let mut offset = [0.0; 12];
        (offset[4], offset[10]) = (0.25, -0.25);
        let tensors = [
            Tensor { sides: &[1, 2, 3], data: Data::F32(&heat) },
            Tensor { sides: &[2, 2, 3], data: Data::F32(&scale) },
            Tensor { sides: &[2, 2, 3], data: Data::F32(&offset) },
        ];
        let got = decode(&CenterFace, &head(12, 8, 1), &tensors, vec![0.5]);
        assert_eq!(got, [(0, 0.9, [3.0, 3.0, 7.0, 11.0])]);
        assert_eq!(decode(&CenterFace, &head(12, 8, 1), &tensors, vec![0.1]).len(), 2);
    }
}
