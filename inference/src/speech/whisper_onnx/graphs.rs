//! The two graphs of a Whisper model and their tensors. Nothing here knows what tokens mean.

use std::borrow::Cow;

use ort::{
    session::{Session, SessionInputValue, SessionOutputs},
    value::{DynValue, Tensor, TensorRef, ValueType},
};

use super::{POSITIONS, View, WhisperFiles};
use crate::{
    InferenceError,
    speech::{onnx, transcriber::Token},
};

/// Encoder and decoder. Sizes are read from the graphs.
pub(super) struct Graphs {
    name: String,
    encoder: Session,
    decoder: Session,
    n_mels: usize,
    n_layers: usize,
    n_heads: usize,
    n_aligned: usize,
    vocabulary: usize,
    /// Names of the cross keys and values.
    cross: Vec<String>,
}

/// What the encoder made of a sound: keys and values, one pair a decoder layer. They stay where ONNX Runtime put them.
pub(super) struct Sound {
    view: View,
    cross: Vec<DynValue>,
}

/// What the decoder remembers of the tokens before. Stays where ONNX Runtime put it.
#[derive(Default)]
pub(super) struct Cache {
    key_and_value: Option<[DynValue; 2]>,
    /// How many of its positions are valid; those behind are forgotten in the next pass.
    pub(super) len: usize,
}

/// What one pass of the decoder gave.
pub(super) struct Pass {
    name: String,
    vocabulary: usize,
    probabilities: DynValue,
    attention: DynValue,
}

/// Width of a head in every Whisper.
const HEAD: usize = 64;

impl Graphs {
    /// Makes the sessions and checks their tensors. `vocabulary` is how many tokens the vocabulary has.
    pub(super) fn load(files: &WhisperFiles, threads: usize, vocabulary: usize) -> Result<Self, InferenceError> {
        let open = |file: &str, weights: &[u8]| {
            onnx::session(&files.name, weights, threads).map_err(|e| match e {
                InferenceError::Onnx { name, cause } => {
                    InferenceError::Onnx { name, cause: format!("{file}: {cause}") }
                }
                other => other,
            })
        };
        let encoder = open("encoder.onnx", &files.encoder)?;
        let decoder = open("decoder.onnx", &files.decoder)?;
        let of_encoder = Sides { model: &files.name, file: "encoder.onnx", session: &encoder };
        let of_decoder = Sides { model: &files.name, file: "decoder.onnx", session: &decoder };
        let [_, n_mels, _] = of_encoder.input("mel", [1, -1, -1])?;
        let [n_layers, _, n_heads, ..] = of_decoder.input("past_key", [-1, 1, -1, -1, HEAD as i64])?;
        let [_, n_aligned, ..] = of_decoder.output("attention", [1, -1, -1, -1])?;
        of_decoder.output("probabilities", [1, -1, vocabulary as i64])?;
        for input in ["frames", "places", "weights"] {
            of_encoder.input(input, [-1])?;
        }
        let mut cross = Vec::new();
        for layer in 0..n_layers {
            let sides = [("key", [1, n_heads, HEAD as i64, -1]), ("value", [1, n_heads, -1, HEAD as i64])];
            for (part, sides) in sides {
                let name = format!("cross_{part}_{layer}");
                of_encoder.output(&name, sides)?;
                of_decoder.input(&name, sides)?;
                cross.push(name);
            }
        }
        // Sides that say nothing are -1; then there is nothing to run.
        let size = |side: i64| usize::try_from(side).unwrap_or(0);
        let (n_mels, n_layers, n_heads) = (size(n_mels), size(n_layers), size(n_heads));
        let (name, n_aligned) = (files.name.clone(), size(n_aligned));
        Ok(Self { name, encoder, decoder, n_mels, n_layers, n_heads, n_aligned, vocabulary, cross })
    }

    /// Bands of the spectrogram.
    pub(super) fn n_mels(&self) -> usize {
        self.n_mels
    }

    /// Heads whose attention tells times.
    pub(super) fn n_aligned(&self) -> usize {
        self.n_aligned
    }

    /// Runs the encoder on a spectrogram f32 [n_mels, t] that covers the view.
    pub(super) fn encode(&mut self, mel: &[f32], view: View) -> Result<Sound, InferenceError> {
        let failed = failed(&self.name);
        let shape = [1, self.n_mels, mel.len() / self.n_mels.max(1)];
        let s = [view.places.len()];
        let inputs = ort::inputs! {
            "mel" => TensorRef::from_array_view((shape, mel)).map_err(&failed)?,
            "frames" => TensorRef::from_array_view((s, &view.frames[..])).map_err(&failed)?,
            "places" => TensorRef::from_array_view((s, &view.places[..])).map_err(&failed)?,
            "weights" => TensorRef::from_array_view((s, &view.weights[..])).map_err(&failed)?,
        };
        let mut outputs = self.encoder.run(inputs).map_err(&failed)?;
        let cross = self.cross.iter().map(|name| take(&self.name, &mut outputs, name)).collect::<Result<_, _>>()?;
        drop(outputs);
        Ok(Sound { view, cross })
    }

    /// Runs the decoder on `tokens`, which come after those in the cache. Gives probabilities after those of them that
    /// `rows` names. The cache then holds all of `tokens`, but how many of them count is for the caller to say.
    ///
    /// A token's probabilities do not depend on which others are computed with it, with one exception: ONNX Runtime has
    /// another kernel for a single row, whose rounding is coarser. So there must be two tokens and two rows at least, in
    /// every pass that is to agree with others.
    pub(super) fn decode(
        &mut self,
        tokens: &[Token],
        rows: &[i64],
        cache: &mut Cache,
        sound: &Sound,
    ) -> Result<Pass, InferenceError> {
        let failed = failed(&self.name);
        debug_assert!(cache.len + tokens.len() <= POSITIONS, "positions are limited by the caller");
        let ids: Vec<i64> = tokens.iter().map(|t| i64::from(*t)).collect();
        let n_past = [cache.len as i64];
        let [key, value] = match cache.key_and_value.take() {
            Some(both) => both,
            None => {
                let shape = [self.n_layers, 1, self.n_heads, 1, HEAD];
                let nothing = || Tensor::from_array((shape, vec![0.0_f32; shape.iter().product()]));
                [nothing().map_err(&failed)?.into_dyn(), nothing().map_err(&failed)?.into_dyn()]
            }
        };
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            ("tokens".into(), TensorRef::from_array_view(([1, ids.len()], &ids[..])).map_err(&failed)?.into()),
            ("rows".into(), TensorRef::from_array_view(([rows.len()], rows)).map_err(&failed)?.into()),
            ("n_past".into(), TensorRef::from_array_view(([1], &n_past[..])).map_err(&failed)?.into()),
            (
                "weights".into(),
                TensorRef::from_array_view(([sound.view.weights.len()], &sound.view.weights[..]))
                    .map_err(&failed)?
                    .into(),
            ),
            ("past_key".into(), key.into()),
            ("past_value".into(), value.into()),
        ];
        let cross = self.cross.iter().zip(&sound.cross);
        inputs.extend(cross.map(|(name, value)| (Cow::from(name.as_str()), SessionInputValue::from(value))));
        let mut outputs = self.decoder.run(inputs).map_err(&failed)?;
        let mut taken = |name: &str| take(&self.name, &mut outputs, name);
        cache.key_and_value = Some([taken("present_key")?, taken("present_value")?]);
        let (probabilities, attention) = (taken("probabilities")?, taken("attention")?);
        Ok(Pass { name: self.name.clone(), vocabulary: self.vocabulary, probabilities, attention })
    }
}

impl Pass {
    /// Probabilities of all tokens after the `i`th of the rows that were asked for.
    pub(super) fn row(&mut self, i: usize) -> Result<&mut [f32], InferenceError> {
        let (_, values) = self.probabilities.try_extract_tensor_mut::<f32>().map_err(failed(&self.name))?;
        values.chunks_exact_mut(self.vocabulary).nth(i).ok_or_else(|| InferenceError::Onnx {
            name: self.name.clone(),
            cause: format!("the decoder gave no row {i} of probabilities"),
        })
    }

    /// Where the tokens looked: f32 [heads, n, s].
    pub(super) fn attention(&self) -> Result<&[f32], InferenceError> {
        self.attention.try_extract_tensor::<f32>().map(|(_, values)| values).map_err(failed(&self.name))
    }
}

fn failed(model: &str) -> impl Fn(ort::Error) -> InferenceError {
    move |e| InferenceError::Onnx { name: model.to_owned(), cause: e.to_string() }
}

fn take(model: &str, outputs: &mut SessionOutputs<'_>, name: &str) -> Result<DynValue, InferenceError> {
    let absent = || InferenceError::Onnx { name: model.to_owned(), cause: format!("no output `{name}`") };
    outputs.remove(name).ok_or_else(absent)
}

/// The declared tensors of one graph.
struct Sides<'a> {
    model: &'a str,
    file: &'static str,
    session: &'a Session,
}

impl Sides<'_> {
    /// The sides of an input, which are `expected` where that is not -1.
    fn input<const N: usize>(&self, tensor: &str, expected: [i64; N]) -> Result<[i64; N], InferenceError> {
        self.check(
            "input",
            tensor,
            expected,
            self.session.inputs().iter().find(|o| o.name() == tensor).map(|o| o.dtype()),
        )
    }

    fn output<const N: usize>(&self, tensor: &str, expected: [i64; N]) -> Result<[i64; N], InferenceError> {
        let found = self.session.outputs().iter().find(|o| o.name() == tensor).map(|o| o.dtype());
        self.check("output", tensor, expected, found)
    }

    fn check<const N: usize>(
        &self,
        side: &str,
        tensor: &str,
        expected: [i64; N],
        found: Option<&ValueType>,
    ) -> Result<[i64; N], InferenceError> {
        let sides = match found {
            Some(ValueType::Tensor { shape, .. }) => <[i64; N]>::try_from(&shape[..]).ok(),
            _ => None,
        };
        let fits =
            |sides: &[i64; N]| sides.iter().zip(&expected).all(|(found, wanted)| *wanted == -1 || found == wanted);
        sides.filter(fits).ok_or_else(|| InferenceError::WrongTensor {
            name: self.model.to_owned(),
            what: format!("{}: {side} `{tensor}`", self.file),
            expected: format!("f32 {expected:?}"),
            found: found.map_or("none".into(), ToString::to_string),
        })
    }
}
