//! The models that the program knows by name, and the weights that are part of it. One line a model.

use std::sync::LazyLock;

use crate::manifest::Manifest;

/// A built-in model.
pub(super) struct Entry {
    pub(super) manifest: Manifest,
    /// The weights, for small models under a permissive licence.
    pub(super) embedded: Option<&'static [u8]>,
}

struct Source {
    shown: &'static str,
    manifest: &'static str,
    embedded: Option<&'static [u8]>,
}

macro_rules! models {
    ($($manifest:literal => $weights:expr,)+) => {
        const SOURCES: &[Source] = &[$(Source {
            shown: concat!("models/", $manifest),
            manifest: include_str!(concat!("../../../models/", $manifest)),
            embedded: $weights,
        },)+];
    };
}

models! {
    "ssdlite-mbv2.toml" => Some(include_bytes!("../../../models/ssdlite_mbv2_coco_300.onnx")),
    "yolox-nano.toml" => None,
    "centerface.toml" => Some(include_bytes!("../../../models/centerface_dyn.onnx")),
    "silero-vad.toml" => Some(include_bytes!("../../../models/silero_vad.onnx")),
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
