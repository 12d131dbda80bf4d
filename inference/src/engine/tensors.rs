//! A session's declared tensors against what the manifest's layout expects: which is which, or a refusal that shows both.
//!
//! Pure: knows names, types and sides, not ONNX Runtime.

use std::fmt;

use crate::{
    InferenceError,
    layout::{Dtype, Expected, Side},
};

/// A tensor as the weights declare it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// None for types that we do not read.
    pub(super) dtype: Option<Dtype>,
    /// The type in ONNX Runtime's words.
    pub(super) shown: String,
    /// With the batch side; -1 where free. Empty when not even the number of sides is known.
    pub(super) sides: Vec<i64>,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<String> =
            self.sides.iter().map(|s| if *s < 0 { "any".to_owned() } else { s.to_string() }).collect();
        write!(f, "`{}` {} [{}]", self.name, self.shown, sides.join(", "))
    }
}

/// Expected and found do not agree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mismatch {
    what: String,
    expected: String,
    found: String,
}

impl Mismatch {
    pub(super) fn new(what: String, expected: &Expected, found: String) -> Self {
        Self { what, expected: show(expected), found }
    }

    pub(super) fn into_error(self, model: &str) -> InferenceError {
        InferenceError::WrongTensor {
            name: model.to_owned(),
            what: self.what,
            expected: self.expected,
            found: self.found,
        }
    }
}

fn show(expected: &Expected) -> String {
    let dtype = match expected.dtype {
        Dtype::F32 => "f32",
        Dtype::I64 => "i64",
    };
    let sides: Vec<String> = expected
        .sides
        .iter()
        .map(|side| match side {
            Side::Any => "any".to_owned(),
            Side::Exactly(n, why) => format!("{n} ({why})"),
        })
        .collect();
    format!("{dtype} [batch, {}]", sides.join(", "))
}

fn show_all(declared: &[Declared]) -> String {
    declared.iter().map(Declared::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether sides (without the batch side; -1 where free) can be the expected ones.
pub(super) fn sides_fit(sides: &[i64], expected: &[Side]) -> bool {
    let fits = |(&side, expected): (&i64, &Side)| match expected {
        Side::Any => true,
        Side::Exactly(n, _) => side < 0 || side == *n as i64,
    };
    sides.len() == expected.len() && sides.iter().zip(expected).all(fits)
}

/// The model's inputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inputs {
    /// Name of the picture input.
    pub(super) pictures: String,
    /// Name of the input `i64 [batch, 2]` that asks for the picture's size, if there is one.
    pub(super) sizes: Option<String>,
    /// Whether the batch side is free.
    pub(super) free_batch: bool,
}

/// Finds the picture input of the given sides (without batch) and, where there is one, the size input.
pub(super) fn bind_inputs(declared: &[Declared], sides: [usize; 3]) -> Result<Inputs, Mismatch> {
    let sides = sides.map(|s| Side::Exactly(s, "manifest".into())).to_vec();
    let expected = Expected { role: "picture", dtype: Dtype::F32, sides };
    let mismatch = || Mismatch::new("input".into(), &expected, show_all(declared));
    let is_picture = |d: &&Declared| {
        let batch_fits = d.sides.first().is_some_and(|b| matches!(b, -1 | 1));
        d.dtype == Some(Dtype::F32) && batch_fits && sides_fit(&d.sides[1..], &expected.sides)
    };
    let pictures = declared.iter().find(is_picture).ok_or_else(mismatch)?;
    let others: Vec<&Declared> = declared.iter().filter(|d| d.name != pictures.name).collect();
    let is_size = |d: &Declared| d.dtype == Some(Dtype::I64) && d.sides.len() == 2 && matches!(d.sides[1], -1 | 2);
    let sizes = match others[..] {
        [] => None,
        [other] if is_size(other) => Some(other.name.clone()),
        _ => return Err(mismatch()),
    };
    Ok(Inputs { pictures: pictures.name.clone(), sizes, free_batch: pictures.sides[0] == -1 })
}

/// The index of the declared output for each expected tensor. Where several fit, one whose name holds the role's name is
/// taken, else the first in the graph's order; none is taken twice.
pub(super) fn bind_outputs(declared: &[Declared], expected: &[Expected]) -> Result<Vec<usize>, Mismatch> {
    let mut taken: Vec<usize> = Vec::new();
    for wanted in expected {
        // `boxes` finds `pred_boxes`, `scores` finds `score`.
        let hint = wanted.role.trim_end_matches(['s', 'e']);
        let named = |i: &usize| declared[*i].name.to_lowercase().contains(hint);
        let fits = |i: &usize| {
            let d = &declared[*i];
            let sides_known = d.sides.get(1..).is_none_or(|sides| sides_fit(sides, &wanted.sides));
            !taken.contains(i) && d.dtype == Some(wanted.dtype) && sides_known
        };
        let mut candidates = (0..declared.len()).filter(fits);
        let first = candidates.clone().next();
        match candidates.find(named).or(first) {
            Some(i) => taken.push(i),
            None => {
                return Err(Mismatch::new(format!("output ({})", wanted.role), wanted, show_all(declared)));
            }
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layout::{Head, OutputLayout},
        manifest::BoxFormat,
    };

    fn declared(name: &str, dtype: Dtype, sides: &[i64]) -> Declared {
        let shown = if dtype == Dtype::F32 { "f32" } else { "i64" };
        Declared { name: name.into(), dtype: Some(dtype), shown: shown.into(), sides: sides.to_vec() }
    }

    fn f32(name: &str, sides: &[i64]) -> Declared {
        declared(name, Dtype::F32, sides)
    }

    fn head(n_classes: usize) -> Head {
        Head { width: 416, height: 416, n_classes, boxes: BoxFormat::Xyxy, normalized: true, background: false }
    }

    #[test]
    fn outputs_are_told_apart() {
        let check = |layout: OutputLayout, n_classes, outputs: &[Declared], expected: &[usize]| {
            let wanted = layout.layout().expects(&head(n_classes));
            assert_eq!(bind_outputs(outputs, &wanted).as_deref(), Ok(expected), "{layout:?}");
        };
        check(OutputLayout::Yolov8, 80, &[f32("o", &[1, 84, 1917])], &[0]);
        check(OutputLayout::Yolov8, 80, &[f32("other", &[-1, 3]), f32("o", &[-1, 84, -1])], &[1]);
        check(OutputLayout::Yolox, 80, &[f32("o", &[-1, 3549, 85])], &[0]);
        check(OutputLayout::Yolox, 80, &[f32("o", &[])], &[0]);
        // Four classes: only the names tell logits from boxes.
        let four = [f32("logits", &[-1, 300, 4]), f32("pred_boxes", &[-1, 300, 4])];
        check(OutputLayout::Rtdetr, 4, &four, &[1, 0]);
        let export =
            [declared("labels", Dtype::I64, &[-1, 300]), f32("boxes", &[-1, 300, 4]), f32("scores", &[-1, 300])];
        check(OutputLayout::RtdetrExport, 80, &export, &[1, 2, 0]);
        let maps = [("537", 1), ("538", 2), ("539", 2), ("540", 10)].map(|(n, c)| f32(n, &[-1, c, -1, -1]));
        check(OutputLayout::Centerface, 1, &maps, &[0, 1, 2]);
    }

    #[test]
    fn a_refusal_shows_expected_and_found() {
        let check = |layout: OutputLayout, outputs: &[Declared], expected: &str| {
            let wanted = layout.layout().expects(&head(79));
            let error = bind_outputs(outputs, &wanted).expect_err("refused").into_error("m").to_string();
            assert_eq!(error, expected);
        };
        check(
            OutputLayout::Yolov8,
            &[f32("output0", &[-1, 84, 1917])],
            "model `m` does not fit its manifest: output (output): expected f32 [batch, 83 (4 + 79 labels), any], \
             found `output0` f32 [any, 84, 1917]",
        );
        check(
            OutputLayout::RtdetrExport,
            &[f32("boxes", &[1, 9, 4]), f32("scores", &[1, 9])],
            "model `m` does not fit its manifest: output (labels): expected i64 [batch, any], \
             found `boxes` f32 [1, 9, 4], `scores` f32 [1, 9]",
        );
    }

    #[test]
    fn inputs() {
        let check = |inputs: &[Declared], expected: Option<(&str, Option<&str>, bool)>| {
            let got = bind_inputs(inputs, [3, 416, 416]);
            let got = got.as_ref().ok().map(|i| (i.pictures.as_str(), i.sizes.as_deref(), i.free_batch));
            assert_eq!(got, expected, "{inputs:?}");
        };
        check(&[f32("images", &[1, 3, 416, 416])], Some(("images", None, false)));
        check(&[f32("images", &[-1, 3, -1, -1])], Some(("images", None, true)));
        let size = declared("orig_target_sizes", Dtype::I64, &[-1, 2]);
        check(&[size.clone(), f32("images", &[-1, 3, 416, 416])], Some(("images", Some("orig_target_sizes"), true)));
        check(&[f32("images", &[1, 3, 640, 416])], None);
        check(&[f32("images", &[4, 3, 416, 416])], None);
        check(&[f32("images", &[1, 416, 416, 3])], None);
        check(&[declared("images", Dtype::I64, &[1, 3, 416, 416])], None);
        check(&[f32("images", &[1, 3, 416, 416]), f32("other", &[1])], None);
        check(&[], None);
    }
}
