//! Manifests as people write them, and their mistakes.

use super::*;

const GOOD: &str = r#"
name = "m"
task = "detect"
file = "m.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
licence = "MIT"
origin = "a test"
labels = ["person", "car"]
[input]
width = 64
height = 32
[output]
layout = "yolov8"
[thresholds]
per_class = { car = 0.3 }
"#;

#[test]
fn defaults() {
    let manifest = Manifest::parse("m.toml", GOOD).expect("good");
    let input = manifest.input.clone().expect("input");
    assert_eq!((input.color, input.range, input.fit, input.axes), Default::default());
    assert_eq!((input.mean, input.std), ([0.0; 3], [1.0; 3]));
    assert_eq!(manifest.thresholds.score, 0.4);
    let coco = Manifest::parse("m.toml", &GOOD.replace("[\"person\", \"car\"]", "\"coco80\"")).expect("coco");
    let names = coco.labels.expect("labels").names();
    assert_eq!((names.len(), &*names[0], &*names[79]), (80, "person", "toothbrush"));
}

#[test]
fn mistakes_are_named_with_file_and_key() {
    let check = |from: &str, to: &str, expected: &str| {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        let error = Manifest::parse("m.toml", &text).expect_err(expected).to_string();
        assert!(error.starts_with("manifest m.toml: ") && error.contains(expected), "{error}");
    };
    check("width", "widht", "unknown field `widht`");
    check("width = 64", "width = 0", "input.width = 0: expected 1 to 4096");
    check("height = 32", "height = 32\nmultiple_of = 64", "input.height = 32: expected a multiple of multiple_of = 64");
    check("height = 32", "height = 32\nstd = [1.0, 0.0, 1.0]", "std not zero");
    check("\"yolov8\"", "\"yolov9000\"", "unknown variant `yolov9000`");
    check("m.onnx", "../m.onnx", "expected a file name without folders");
    check("\"m\"", "\"M x\"", "use lower-case letters");
    check("000\"", "00g\"", "sha256 of m.onnx: expected 64 lower-case hexadecimal digits");
    check("file = \"m.onnx\"", "", "expected both file and sha256");
    check(
        "licence",
        "files = []\ntranscribe = { engine = 'whisper_cpp', languages = ['en'] }\nlicence",
        "takes no [transcribe]",
    );
    check("licence = \"MIT\"", "", "missing field `licence`");
    check("\"car\"]", "\"person\"]", "\"person\" stands there twice");
    check("[\"person\", \"car\"]", "[]", "expected at least one");
    check("[\"person\", \"car\"]", "\"coco81\"", "labels");
    check("{ car = 0.3 }", "{ cat = 0.3 }", "thresholds.per_class.cat: no such label");
    check("{ car = 0.3 }", "{ car = 1.3 }", "car = 1.3: expected 0 to 1");
    check("per_class", "iou = -1.0\nper_class", "iou = -1: expected 0 to 1");
    check("\"detect\"", "\"vad\"", "takes no [input]");
    check("[output]\nlayout = \"yolov8\"", "", "needs [input], [output] and labels");
}

const SEVERAL: &str = r#"
name = "w"
task = "transcribe"
licence = "MIT"
origin = "a test"
[transcribe]
engine = "whisper_onnx"
languages = ["en"]
[[files]]
role = "encoder"
file = "e.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
bytes = 3
[[files]]
role = "decoder"
file = "d.onnx"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
bytes = 4
[[files]]
role = "vocabulary"
file = "v.txt"
sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
"#;

const ONE: &str = r#"
name = "c"
task = "transcribe"
file = "c.bin"
sha256 = "0123456789000000000000000000000000000000000000000000000000000000"
bytes = 7
licence = "MIT"
origin = "a test"
[transcribe]
engine = "whisper_cpp"
languages = "whisper99"
"#;

#[test]
fn speech_models_have_one_file_or_several() {
    let several = Manifest::parse("w.toml", SEVERAL).expect("good");
    let names: Vec<&str> = several.files.iter().map(|f| f.file.as_str()).collect();
    assert_eq!(names, ["e.onnx", "d.onnx", "v.txt"]);
    assert_eq!(several.file(Role::Decoder).expect("decoder").sha256, "1".repeat(64));
    assert_eq!(several.bytes(), None);
    let speech = several.transcriber().expect("speech");
    let limits = (speech.floor_secs, speech.no_speech, speech.logprob, speech.compression);
    assert_eq!(limits, (10.0, 0.6, -1.0, 2.4));
    assert_eq!(speech.languages.codes(), ["en"]);

    let one = Manifest::parse("c.toml", ONE).expect("good");
    assert_eq!((one.files.len(), one.files[0].role, one.bytes()), (1, Role::Weights, Some(7)));
    assert_eq!(one.transcriber().expect("speech").languages.codes().len(), 99);
    // The version changes with any of the files.
    assert_eq!(one.version(), "01234567");
    let other = Manifest::parse("w.toml", &SEVERAL.replace("22\"", "23\"")).expect("good");
    assert_eq!(several.version().len(), 8);
    assert_ne!(several.version(), other.version());

    let detector = Manifest::parse("m.toml", GOOD).expect("good");
    let error = detector.transcriber().expect_err("a detector").to_string();
    assert_eq!(error, "model `m` is for `detect`, not for `transcribe`");
}

#[test]
fn mistakes_of_speech_models_are_named() {
    let check = |good: &str, from: &str, to: &str, expected: &str| {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        let error = Manifest::parse("w.toml", &text).expect_err(expected).to_string();
        assert!(error.starts_with("manifest w.toml: ") && error.contains(expected), "{error}");
    };
    check(
        SEVERAL,
        "\"vocabulary\"",
        "\"encoder\"",
        "needs [[files]] of the roles encoder, decoder, vocabulary; found encoder, encoder, decoder",
    );
    check(SEVERAL, "\"vocabulary\"", "\"tokens\"", "unknown variant `tokens`");
    check(SEVERAL, "d.onnx", "e.onnx", "files: \"e.onnx\" stands there twice");
    check(SEVERAL, "d.onnx", "x/d.onnx", "file = \"x/d.onnx\": expected a file name without folders");
    check(SEVERAL, "\"1111", "\"x111", "sha256 of d.onnx: expected 64");
    check(
        SEVERAL,
        "whisper_onnx",
        "whisper_cpp",
        "engine = \"whisper_cpp\" has one file, of role weights; found encoder, decoder, vocabulary",
    );
    check(SEVERAL, "whisper_onnx", "whisper_tpu", "unknown variant `whisper_tpu`");
    check(SEVERAL, "licence", "file = \"m.bin\"\nlicence", "either file, sha256 and bytes, or [[files]]");
    check(SEVERAL, "\"transcribe\"", "\"vad\"", "task = \"vad\" takes no [transcribe]");
    check(SEVERAL, "[\"en\"]", "[\"en\", \"xx\"]", "transcribe.languages: \"xx\" is no language of Whisper");
    check(SEVERAL, "[\"en\"]", "[]", "transcribe.languages: expected at least one");
    check(SEVERAL, "[\"en\"]", "\"whisper98\"", "languages");
    check(
        SEVERAL,
        "[[files]]\nrole = \"encoder\"",
        "floor_secs = 0.5\n[[files]]\nrole = \"encoder\"",
        "transcribe.floor_secs = 0.5: expected 1 to 30",
    );
    check(ONE, "\"whisper99\"", "\"whisper99\"\nlogprob = 0.5", "transcribe.logprob = 0.5: expected 0 or less");
    check(ONE, "\"whisper99\"", "\"whisper99\"\nno_speech = nan", "transcribe.no_speech = NaN: expected 0 to 1");
    check(
        ONE,
        "whisper_cpp",
        "whisper_onnx",
        "engine = \"whisper_onnx\" needs [[files]] of the roles encoder, decoder, vocabulary; found weights",
    );
    check(ONE, "origin", "labels = \"coco80\"\norigin", "task = \"transcribe\" takes no [input], [output] or labels");
    let no_table = ONE.split("[transcribe]").next().expect("head");
    let error = Manifest::parse("c.toml", no_table).expect_err("no table").to_string();
    assert!(error.contains("task = \"transcribe\" needs [transcribe]"), "{error}");
    let no_file =
        no_table.replace("\"transcribe\"", "\"vad\"").replace("file = \"c.bin\"", "").replace("bytes = 7", "");
    let error = Manifest::parse("c.toml", &no_file.replace("sha256", "#")).expect_err("no file").to_string();
    assert!(error.ends_with("expected file and sha256"), "{error}");
}
