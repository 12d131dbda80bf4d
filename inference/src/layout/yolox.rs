//! YOLOX (Ge et al. 2021) without its decoding in the graph: `[anchors, 5 + classes]` over grids of stride 8, 16, 32.
//!
//! A row is x and y as offsets in cells, log of width and height in cells, objectness, class scores (all scores already
//! through a sigmoid). Score = objectness x class. Runs on the inference thread.

use super::{Candidate, Dtype, Expected, Floors, Head, Layout, Side, Tensor, best, corners};
use crate::manifest::BoxFormat;

pub(super) struct Yolox;

const STRIDES: [u32; 3] = [8, 16, 32];

fn n_anchors(head: &Head) -> usize {
    STRIDES.iter().map(|s| ((head.width / s) * (head.height / s)) as usize).sum()
}

impl Layout for Yolox {
    fn expects(&self, head: &Head) -> Vec<Expected> {
        let anchors = format!("cells of {}x{} at strides 8, 16, 32", head.width, head.height);
        let row = Side::Exactly(5 + head.n_classes, format!("5 + {} labels", head.n_classes));
        let sides = vec![Side::Exactly(n_anchors(head), anchors), row];
        vec![Expected { role: "output", dtype: Dtype::F32, sides }]
    }

    fn decode(&self, head: &Head, tensors: &[Tensor<'_>], floors: &Floors, out: &mut Vec<Candidate>) {
        let mut rows = tensors[0].f32().chunks_exact(5 + head.n_classes);
        for stride in STRIDES {
            for y in 0..head.height / stride {
                for x in 0..head.width / stride {
                    let Some(row) = rows.next() else { return };
                    let objectness = row[4];
                    if objectness < floors.least {
                        continue;
                    }
                    let Some((class, score)) = best(&row[5..]).map(|(c, s)| (c, s * objectness)) else { continue };
                    if floors.wants(class, score) {
                        let s = stride as f32;
                        let b = [(x as f32 + row[0]) * s, (y as f32 + row[1]) * s, row[2].exp() * s, row[3].exp() * s];
                        out.push(Candidate { class, score, box_in_tensor: corners(BoxFormat::Cxcywh, b) });
                    }
                }
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
    fn grids_of_every_stride() {
        let head = head(64, 32, 2);
        assert_eq!(n_anchors(&head), 32 + 8 + 2);
        let mut data = vec![0.0; 42 * 7];
        let mut set = |anchor: usize, row: [f32; 7]| data[anchor * 7..anchor * 7 + 7].copy_from_slice(&row);
        // Stride 8: column 3 of row 2. Stride 16: the first cell. Stride 32: the second cell.
        set(2 * 8 + 3, [0.5, 0.25, 0.0, 2.0_f32.ln(), 0.8, 0.1, 0.9]);
        set(32, [0.5, 0.5, 0.0, 0.0, 1.0, 0.6, 0.5]);
        set(41, [0.0, 0.0, 0.0, 0.0, 0.5, 0.7, 0.0]);
        let tensor = Tensor { sides: &[42, 7], data: Data::F32(&data) };
        let check = |floor: f32, expected: &[(usize, f32, [f32; 4])]| {
            assert_eq!(decode(&Yolox, &head, &[tensor], vec![floor; 2]), expected);
        };
        let small = (1, 0.72, [24.0, 10.0, 32.0, 26.0]);
        let middle = (0, 0.6, [0.0, 0.0, 16.0, 16.0]);
        let large = (0, 0.35, [16.0, -16.0, 48.0, 16.0]);
        check(0.1, &[small, middle, large]);
        check(0.5, &[small, middle]);
        check(0.7, &[small]);
    }
}
