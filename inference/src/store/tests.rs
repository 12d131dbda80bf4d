//! The store on a real folder, with small files in place of weights; downloads from a real HTTP server on loopback.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use super::*;

const WEIGHTS: &[u8] = b"stand-in for weights";

struct Fixture {
    folder: tempfile::TempDir,
    store: ModelStore,
    /// Of a manifest whose weights are `WEIGHTS`, in `m.onnx`.
    manifest: String,
}

fn fixture(url: Option<&str>) -> Fixture {
    let folder = tempfile::tempdir().expect("folder");
    let url = url.map(|u| format!("url = '{u}'\n")).unwrap_or_default();
    let manifest = folder.path().join("m.toml");
    let text = format!(
        "name = 'm'\ntask = 'vad'\nfile = 'm.onnx'\nsha256 = '{}'\nlicence = 'MIT'\norigin = 'a test'\n{url}",
        hex(&Sha256::digest(WEIGHTS))
    );
    fs::write(&manifest, text).expect("manifest");
    let store = ModelStore::at(folder.path().join("store"));
    Fixture { store, manifest: manifest.display().to_string(), folder }
}

impl Fixture {
    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        fs::write(&path, bytes).expect("file");
        path.display().to_string()
    }

    fn pull(&self, from: Option<&str>) -> Result<Pulled, InferenceError> {
        self.store.pull(&self.manifest, from, &mut |_| {})
    }

    /// Everything in the store, relative to it.
    fn in_store(&self) -> Vec<String> {
        let folder = self.store.root().join("m");
        let Ok(entries) = folder.read_dir() else { return Vec::new() };
        entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Answers every request with this, until the test ends.
fn serve(status: &'static str, body: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address");
    let answer = move |stream: std::net::TcpStream| -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines.next().transpose()?.is_some_and(|l| !l.is_empty()) {}
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        stream.write_all(body)
    };
    std::thread::Builder::new()
        .spawn(move || listener.incoming().flatten().for_each(|s| answer(s).unwrap_or_default()))
        .expect("thread");
    format!("http://{address}/m.onnx")
}

#[test]
fn built_in_models_are_what_their_manifests_say() {
    let store = ModelStore::at("/nonexistent");
    let rows = store.list();
    let names: Vec<(&str, State)> = rows.iter().map(|r| (r.name.as_str(), r.state)).collect();
    assert_eq!(
        names,
        [
            ("ssdlite-mbv2", State::Embedded),
            ("yolox-nano", State::Missing),
            ("centerface", State::Embedded),
            ("silero-vad", State::Embedded),
            ("whisper-tiny.en", State::Embedded),
            ("whisper-tiny.en-cpp", State::Missing),
            ("whisper-base", State::Missing),
        ]
    );
    for row in rows.iter().filter(|r| r.state == State::Embedded) {
        let model = store.verify(&row.name).expect("right checksum");
        let sizes = model.manifest.files.iter().map(|f| model.read(f.role).expect("bytes").len() as u64);
        assert_eq!(sizes.sum::<u64>(), row.bytes.expect("size"));
    }
}

#[test]
fn names_and_paths_are_resolved() {
    let f = fixture(None);
    let check = |name: &str, expected: &str| {
        let error = f.store.resolve(name).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("yolox-nan", "no model `yolox-nan`, did you mean `yolox-nano`?; known are ssdlite-mbv2, yolox-nano,");
    check("yolox-nano", "run `eyewitness models pull yolox-nano`");
    check("./absent.toml", "manifest ./absent.toml: No such file");
    check(&f.manifest, "m.toml --from FILE|DIR|URL`");
    let beside = f.write("m.onnx", WEIGHTS);
    let found = f.store.resolve(&f.manifest).expect("beside the manifest");
    assert_eq!(found.place(), beside);
    // A copy in the store goes before the embedded weights.
    let copy = f.write("store/silero-vad/silero_vad.onnx", WEIGHTS);
    assert_eq!(f.store.resolve("silero-vad").expect("store").place(), copy);
    let row = f.store.list().into_iter().find(|r| r.name == "silero-vad").expect("row");
    assert_eq!((row.state, row.place), (State::Corrupt, copy));
    let error = f.store.verify("silero-vad").expect_err("not the weights").to_string();
    assert!(error.contains("expected sha256 1a153a22") && error.contains("found "), "{error}");
}

#[test]
fn pulls_from_file_folder_and_address() {
    let f = fixture(None);
    let file = f.write("elsewhere/m.onnx", WEIGHTS);
    let folder = f.folder.path().join("elsewhere").display().to_string();
    let target = f.store.root().join("m/m.onnx");
    for from in [file.clone(), folder, format!("file://{file}"), serve("200 OK", WEIGHTS)] {
        let mut last = None;
        let pulled = f.store.pull(&f.manifest, Some(&from), &mut |p| last = Some(p)).expect("pulled");
        assert_eq!(pulled, Pulled::Fetched(target.clone()), "{from}");
        let n = WEIGHTS.len() as u64;
        assert_eq!(last, Some(Progress { done: n, total: Some(n) }));
        assert_eq!(fs::read(&target).expect("weights"), WEIGHTS);
        assert_eq!(f.in_store(), ["m.onnx"]);
        assert_eq!(f.pull(Some("/nonexistent")).expect("no need"), Pulled::AlreadyThere(target.clone()));
        f.store.verify(&f.manifest).expect("right");
        // Damage is repaired by the next pull.
        fs::write(&target, "damaged").expect("damage");
        f.store.verify(&f.manifest).expect_err("damaged");
    }
    let by_manifest = fixture(Some(&serve("200 OK", WEIGHTS)));
    assert!(matches!(by_manifest.pull(None), Ok(Pulled::Fetched(_))));
}

#[test]
fn what_cannot_be_pulled_leaves_nothing_behind() {
    let f = fixture(None);
    let wrong = f.write("wrong.onnx", b"other bytes");
    let check = |from: Option<&str>, expected: &[&str]| {
        let error = f.pull(from).expect_err("refused").to_string();
        assert!(expected.iter().all(|e| error.contains(e)), "{error}");
        assert_eq!(f.in_store(), [""; 0]);
    };
    let (expected, found) = (hex(&Sha256::digest(WEIGHTS)), hex(&Sha256::digest(b"other bytes")));
    check(Some(&wrong), &["wrong checksum of model `m`", &expected, &found]);
    check(Some(&serve("200 OK", b"other bytes")), &[&expected, &found]);
    check(Some(&serve("404 Not Found", b"")), &["cannot fetch model `m`", "404"]);
    check(Some("/nonexistent/m.onnx"), &["cannot fetch model `m` from /nonexistent/m.onnx: No such file"]);
    check(Some("ftp://host/m.onnx"), &["only http, https and file"]);
    check(None, &["no address to pull m.onnx from (origin: a test)", "--from FILE|DIR|URL"]);
    let secret = serve("404 Not Found", b"").replace("http://", "http://user:hunter2@");
    let error = f.pull(Some(&secret)).expect_err("refused").to_string();
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(f.store.pull("silero-vad", None, &mut |_| {}).expect("built in"), Pulled::Embedded);
}

/// A model of three files, and what is in them.
const SEVERAL: [(&str, &str, &[u8]); 3] =
    [("encoder", "e.onnx", b"encoder's"), ("decoder", "d.onnx", b"decoder's"), ("vocabulary", "v.txt", b"words")];

/// The fixture's manifest, with three files.
fn several(extra: &str) -> Fixture {
    let f = fixture(None);
    let mut text = format!("name = 'm'\ntask = 'transcribe'\nlicence = 'MIT'\norigin = 'a test'\n{extra}\n");
    text += "[transcribe]\nengine = 'whisper_onnx'\nlanguages = ['en']\n";
    for (role, file, bytes) in SEVERAL {
        let sum = hex(&Sha256::digest(bytes));
        text += &format!("[[files]]\nrole = '{role}'\nfile = '{file}'\nsha256 = '{sum}'\nbytes = {}\n", bytes.len());
    }
    fs::write(&f.manifest, text).expect("manifest");
    f
}

#[test]
fn a_model_of_several_files_is_pulled_whole() {
    let f = several("");
    let error = f.store.resolve(&f.manifest).expect_err("nothing is there").to_string();
    assert!(SEVERAL.iter().all(|(_, file, _)| error.contains(&format!("/store/m/{file}"))), "{error}");
    for (_, file, bytes) in SEVERAL {
        f.write(&format!("elsewhere/{file}"), bytes);
    }
    let folder = f.folder.path().join("elsewhere").display().to_string();
    let mut last = None;
    let pulled = f.store.pull(&f.manifest, Some(&folder), &mut |p| last = Some(p)).expect("pulled");
    assert_eq!(pulled, Pulled::Fetched(f.store.root().join("m")));
    assert_eq!(last, Some(Progress { done: 23, total: Some(23) }));
    let model = f.store.verify(&f.manifest).expect("right");
    assert_eq!(&*model.read(Role::Decoder).expect("decoder"), b"decoder's");
    let error = model.read(Role::Weights).expect_err("no such file").to_string();
    assert_eq!(error, "model `m` is for `transcribe`, not for `weights`");
    assert_eq!(f.pull(Some("/nonexistent")).expect("no need"), Pulled::AlreadyThere(f.store.root().join("m")));

    // One damaged file is named, and alone fetched again.
    let damaged = f.write("store/m/d.onnx", b"not these");
    for error in [f.store.verify(&f.manifest).expect_err("damaged"), model.read(Role::Decoder).expect_err("damaged")] {
        let error = error.to_string();
        assert!(error.contains(&format!("wrong checksum of model `m` in {damaged}")), "{error}");
    }
    fs::remove_file(f.folder.path().join("elsewhere/e.onnx")).expect("not needed");
    assert_eq!(f.pull(Some(&folder)).expect("mended"), Pulled::Fetched(f.store.root().join("m")));
    f.store.verify(&f.manifest).expect("right");

    // One missing file is named, and only it; a file beside the manifest goes before the store's.
    fs::remove_file(f.store.root().join("m/v.txt")).expect("removed");
    let error = f.store.resolve(&f.manifest).expect_err("missing").to_string();
    assert!(error.contains("/store/m/v.txt") && !error.contains("d.onnx"), "{error}");
    f.write("v.txt", b"words");
    assert!(f.store.verify(&f.manifest).expect("beside").place().ends_with("v.txt"));
}

#[test]
fn a_part_of_a_model_is_not_enough() {
    let f = several("recipe = 'make m'");
    let one = f.write("elsewhere/e.onnx", b"encoder's");
    let error = f.pull(Some(&one)).expect_err("one file").to_string();
    assert!(error.contains("has several files (e.onnx, d.onnx, v.txt): name the folder that holds them"), "{error}");
    let folder = f.folder.path().join("elsewhere").display().to_string();
    let error = f.pull(Some(&folder)).expect_err("two are missing").to_string();
    assert!(error.contains("elsewhere/d.onnx: No such file"), "{error}");
    let error = f.store.resolve(&f.manifest).expect_err("two are missing").to_string();
    assert!(error.contains("run `make m` in a checkout of the source, or `eyewitness models pull"), "{error}");
    let error = f.pull(None).expect_err("no address").to_string();
    assert!(error.contains("no address to pull e.onnx, d.onnx, v.txt from") && error.contains("`make m`"), "{error}");

    // An address is the folder's: this one answers with the encoder whatever is asked for.
    let f = several(&format!("url = '{}'", serve("200 OK", b"encoder's")));
    let error = f.pull(None).expect_err("the second is wrong").to_string();
    assert!(error.contains("/m.onnx/d.onnx") && error.contains("wrong checksum"), "{error}");
    assert_eq!(f.in_store(), ["e.onnx"]);
}
