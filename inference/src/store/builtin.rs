//! The models that the program knows by name, and the weights that are part of it. One line a model.

use std::sync::LazyLock;

use crate::manifest::Manifest;

/// The bytes of a file that is part of the program.
macro_rules! embed {
    ($path:literal) => {
        ($path, include_bytes!(concat!("../../../models/", $path)))
    };
}

/// A built-in model.
pub(super) struct Entry {
    pub(super) manifest: Manifest,
    /// The weights, for small models under a permissive licence: by file name, all files of the manifest or none.
    embedded: &'static [Embedded],
}

/// Path below `models/`, and what is there.
type Embedded = (&'static str, &'static [u8]);

impl Entry {
    /// The file of that name, when it is part of the program.
    pub(super) fn embedded(&self, file: &str) -> Option<&'static [u8]> {
        let of_file = |(path, _): &&Embedded| path.rsplit('/').next() == Some(file);
        self.embedded.iter().find(of_file).map(|(_, bytes)| *bytes)
    }
}

struct Source {
    shown: &'static str,
    manifest: &'static str,
    embedded: &'static [Embedded],
}

macro_rules! models {
    ($($manifest:literal => [$($file:literal),*],)+) => {
        const SOURCES: &[Source] = &[$(Source {
            shown: concat!("models/", $manifest),
            manifest: include_str!(concat!("../../../models/", $manifest)),
            embedded: &[$(embed!($file)),*],
        },)+];
    };
}

models! {
    "ssdlite-mbv2.toml" => ["ssdlite_mbv2_coco_300.onnx"],
    "yolox-nano.toml" => [],
    "centerface.toml" => ["centerface_dyn.onnx"],
    "silero-vad.toml" => ["silero_vad.onnx"],
    "whisper-tiny.en.toml" =>
        ["whisper-tiny.en/encoder.onnx", "whisper-tiny.en/decoder.onnx", "whisper-tiny.en/vocabulary.bin"],
    "whisper-tiny.en-cpp.toml" => [],
    "whisper-base.toml" => [],
}

/// All of them, in the order of `eyewitness models list`.
pub(super) fn entries() -> &'static [Entry] {
    static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| SOURCES.iter().map(entry).collect());
    &ENTRIES
}

fn entry(source: &Source) -> Entry {
    let manifest = Manifest::parse(source.shown, source.manifest);
    Entry { manifest: manifest.expect("built-in manifests are valid; a test sees to it"), embedded: source.embedded }
}
