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
            ("silero-vad", State::Embedded)
        ]
    );
    for row in rows.iter().filter(|r| r.state == State::Embedded) {
        let model = store.verify(&row.name).expect("right checksum");
        assert_eq!(model.read().expect("bytes").len() as u64, row.bytes.expect("size"));
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
    assert_eq!(found.weights.to_string(), beside);
    // A copy in the store goes before the embedded weights.
    let copy = f.write("store/silero-vad/silero_vad.onnx", WEIGHTS);
    assert_eq!(f.store.resolve("silero-vad").expect("store").weights.to_string(), copy);
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
