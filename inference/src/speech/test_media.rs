//! Real speech and the default model's files, for tests.

/// Of the default speech model.
pub(crate) const ENCODER: &[u8] = include_bytes!("../../../models/whisper-tiny.en/encoder.onnx");
/// Of the default speech model.
pub(crate) const DECODER: &[u8] = include_bytes!("../../../models/whisper-tiny.en/decoder.onnx");
/// Of the default speech model.
pub(crate) const VOCABULARY: &[u8] = include_bytes!("../../../models/whisper-tiny.en/vocabulary.bin");

/// 11 s: "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
pub(crate) fn jfk() -> Vec<f32> {
    samples(include_bytes!("../../tests/data/jfk.wav"))
}

/// 3.3 s: "He might even have been made amiable himself."
pub(crate) fn austen() -> Vec<f32> {
    samples(include_bytes!("../../tests/data/austen_0930.wav"))
}

/// 7.1 s: "Buenos días. Hoy hace muy buen tiempo y vamos juntos al parque. Después tomamos un café."
pub(crate) fn spanish() -> Vec<f32> {
    samples(include_bytes!("../../tests/data/spanish.wav"))
}

/// Samples of a WAV file of 16-bit mono at 16 kHz.
fn samples(file: &[u8]) -> Vec<f32> {
    let data = file.windows(4).position(|w| w == b"data").expect("a WAV file") + 8;
    file[data..].chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect()
}
