//! ONNX Runtime itself: finds the shared library, loads it once, and keeps its environment for the life of the process.
//!
//! Called on whichever thread comes first, usually at start. Nothing else of this crate may touch ONNX Runtime before.

use std::{
    env,
    path::{Path, PathBuf},
};

use ort::{
    environment::Environment,
    ep::{CPU, CUDA, CoreML, ExecutionProvider, OpenVINO, TensorRT},
    logging::LogLevel,
};
use parking_lot::Mutex;

use crate::{InferenceError, engine::Provider};

/// The version of ONNX Runtime that is tested and that `make setup` installs. A later 1.x works too, an earlier does not.
pub const ORT_VERSION: &str = "1.31.1";

const FILE: &str = "libonnxruntime.so";

/// The library in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Where it was loaded from; only `libonnxruntime.so` when the system's loader found it.
    pub path: PathBuf,
    /// Version, where the file's name tells it.
    pub version: Option<String>,
    /// Execution providers that it was built with. Whether they work shows only when a model is loaded.
    pub providers: Vec<Provider>,
}

struct Loaded {
    environment: Environment,
    info: RuntimeInfo,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Loads ONNX Runtime; a second call gives the same answer at no cost.
///
/// Looks at `$ORT_DYLIB_PATH`, else `$EYEWITNESS_ONNXRUNTIME` (file or folder), else
/// `$XDG_DATA_HOME/eyewitness/lib` (`~/.local/share/eyewitness/lib`), else where the system's loader looks.
///
/// # Errors
/// [`InferenceError::RuntimeMissing`] names every place looked at; [`InferenceError::RuntimeUnusable`] for a library that
/// is there but is too old or is no ONNX Runtime.
pub fn init() -> Result<RuntimeInfo, InferenceError> {
    with_loaded(|loaded| loaded.info.clone())
}

/// The environment in which sessions are made.
pub(crate) fn environment() -> Result<Environment, InferenceError> {
    with_loaded(|loaded| loaded.environment.clone())
}

fn with_loaded<T>(take: impl FnOnce(&Loaded) -> T) -> Result<T, InferenceError> {
    let mut slot = LOADED.lock();
    if let Some(loaded) = &*slot {
        return Ok(take(loaded));
    }
    let loaded = load(&find(&Places::of_this_process())?)?;
    Ok(take(slot.insert(loaded)))
}

/// Where the library may be.
struct Places {
    /// Named by a variable: taken or refused, never passed over.
    named: Option<PathBuf>,
    data: Option<PathBuf>,
}

impl Places {
    fn of_this_process() -> Self {
        let variable = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            named: variable("ORT_DYLIB_PATH").or_else(|| variable("EYEWITNESS_ONNXRUNTIME")),
            data: data_dir().map(|d| d.join("lib")),
        }
    }
}

/// `$XDG_DATA_HOME/eyewitness`, by default `~/.local/share/eyewitness`.
pub(crate) fn data_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|h| h.join(".local/share")))?;
    Some(base.join("eyewitness"))
}

fn find(places: &Places) -> Result<PathBuf, InferenceError> {
    if let Some(named) = &places.named {
        let file = if named.is_dir() { in_folder(named) } else { named.exists().then(|| named.clone()) };
        return file.ok_or_else(|| missing([named.display().to_string()]));
    }
    Ok(places.data.as_deref().and_then(in_folder).unwrap_or_else(|| FILE.into()))
}

fn missing(looked: impl IntoIterator<Item = String>) -> InferenceError {
    let looked = looked.into_iter().collect::<Vec<_>>().join(", ");
    InferenceError::RuntimeMissing { version: ORT_VERSION, looked }
}

/// The tested version if the folder has it, else the last by name.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let exact = folder.join(format!("{FILE}.{ORT_VERSION}"));
    if exact.exists() {
        return Some(exact);
    }
    let entries = folder.read_dir().ok()?.filter_map(Result::ok).map(|e| e.path());
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(FILE))).max()
}

fn load(path: &Path) -> Result<Loaded, InferenceError> {
    let by_loader = path == Path::new(FILE);
    let unusable = |cause: String| match by_loader {
        true => missing([
            "ORT_DYLIB_PATH and EYEWITNESS_ONNXRUNTIME (not set)".to_owned(),
            data_dir().map_or("no data folder (HOME is not set)".into(), |d| d.join("lib").display().to_string()),
            format!("the system's loader ({cause})"),
        ]),
        false => InferenceError::RuntimeUnusable { path: path.display().to_string(), cause, version: ORT_VERSION },
    };
    let builder = ort::init_from(path).map_err(|e| unusable(e.to_string()))?;
    let environment =
        builder.with_name("eyewitness").with_telemetry(false).build().map_err(|e| unusable(e.to_string()))?;
    // Its INFO is about every arena and every buffer.
    environment.set_log_level(LogLevel::Warning);
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let version = name.strip_prefix("libonnxruntime.so.").map(str::to_owned);
    let providers = Provider::ALL.into_iter().filter(|p| is_built_in(*p)).collect();
    Ok(Loaded { environment, info: RuntimeInfo { path: real, version, providers } })
}

/// Whether the loaded library was built with a provider.
fn is_built_in(provider: Provider) -> bool {
    let answer = match provider {
        Provider::Cpu => CPU::is_available(),
        Provider::Cuda => CUDA::is_available(),
        Provider::Tensorrt => TensorRT::is_available(),
        Provider::Openvino => OpenVINO::is_available(),
        Provider::Coreml => CoreML::is_available(),
    };
    answer.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_library_is_looked_for() {
        let dir = tempfile::tempdir().expect("folder");
        let touch = |name: &str| std::fs::write(dir.path().join(name), "").expect("file");
        let data = Some(dir.path().to_owned());
        let check = |named: Option<PathBuf>, expected: &str| {
            let found = find(&Places { named, data: data.clone() }).expect("found");
            assert_eq!(found.strip_prefix(dir.path()).unwrap_or(&found), Path::new(expected));
        };
        check(None, FILE);
        touch("libonnxruntime.so.1.99.0");
        touch("other.so");
        check(None, "libonnxruntime.so.1.99.0");
        touch(&format!("libonnxruntime.so.{ORT_VERSION}"));
        check(None, &format!("libonnxruntime.so.{ORT_VERSION}"));
        check(Some(dir.path().join("other.so")), "other.so");
        check(Some(dir.path().to_owned()), &format!("libonnxruntime.so.{ORT_VERSION}"));
        let named = Some(dir.path().join("absent.so"));
        let error = find(&Places { named, data: data.clone() }).expect_err("named but absent").to_string();
        assert!(error.contains("absent.so") && error.contains("make setup"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("fake.so");
        std::fs::write(&path, "not a library").expect("file");
        // Nobody else may load in between: the loader remembers the first library it could open.
        let _slot = LOADED.lock();
        let error = load(&path).err().expect("refused").to_string();
        assert!(error.contains("fake.so") && error.contains(ORT_VERSION), "{error}");
    }

    #[test]
    fn loads_once_and_has_the_cpu() {
        let first = init().expect("ONNX Runtime; run `make setup`");
        assert!(first.providers.contains(&Provider::Cpu));
        assert_eq!(init().expect("again"), first);
    }
}
