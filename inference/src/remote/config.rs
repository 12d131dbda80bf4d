//! The endpoint's keys, their checks, and the secrets they name. On the caller's thread; reads files and the environment
//! only in [`EndpointConfig::secrets`].

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use base::redact::{BadUrl, SourceUrl};
use reqwest::{
    Certificate, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::InferenceError;

/// An HTTP model server that looks at the frames, in place of a detector that runs here.
///
/// Each sampled frame is one request, over all streams of the profiles with the same endpoint. After no answer, 408, 424,
/// 425, 429 and 500 to 599 it is tried again; whatever else is no success is final, and the frame counts as
/// `inference_failed`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Where to post, `http` or `https`, such as `http://127.0.0.1:8080/invocations`; for `kserve` the server's address,
    /// such as `http://triton:8000`, to which `/v2/models/MODEL/infer` is added. A user and password in it are sent as
    /// basic authentication, and never shown.
    pub url: String,
    /// How to talk to it.
    pub protocol: Protocol,
    /// What it answers. Default: `detection`; `answer` for `raw`.
    #[serde(default)]
    pub task: Option<Task>,
    /// The model's name in records, and in the path of `kserve`. Default: the endpoint's address without credentials.
    #[serde(default)]
    pub model: Option<String>,
    /// The model's version in records, and in the path of `kserve`, where it is left out by default. Default: `unknown`.
    #[serde(default)]
    pub version: Option<String>,
    /// How frames are encoded. Default: `jpeg`.
    #[serde(default)]
    pub image: ImageFormat,
    /// Quality of JPEG, 1 to 100. Default: 85.
    #[serde(default = "default_quality")]
    pub quality: u8,
    /// Wider frames are made smaller, their aspect kept, before they are encoded. Default: 1920.
    #[serde(default = "default_side")]
    pub max_width: u32,
    /// Higher ones too. Default: 1920.
    #[serde(default = "default_side")]
    pub max_height: u32,
    /// Names of the classes, by the numbers that the server answers. A number beyond them is written as it is.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Most labels of a classification that are told, best first. Default: 5.
    #[serde(default = "default_top")]
    pub top: usize,
    /// Media type to ask for. Default: `application/json`.
    #[serde(default = "default_accept")]
    pub accept: String,
    /// Tensors of `kserve`.
    #[serde(default)]
    pub kserve: KserveConfig,
    /// Most encoded frames that wait, over all streams. Live, the oldest of the stream with the most of them makes room
    /// and counts as `superseded`; a recording waits. Default: 5000.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// Most bytes of them. Default: 268435456 (256 MiB).
    #[serde(default = "default_queue_max_bytes")]
    pub queue_max_bytes: usize,
    /// Most requests at a time, 1 to 256. Default: 20.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Seconds for one request, from connecting to the end of the answer, 1 to 3600. Default: 20.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// How often a frame is tried again, 0 to 20, each time after a longer wait, up to 5 seconds; an answer's `Retry-After`
    /// is waited for where it is longer, up to one minute. Default: 3.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Most bytes of an answer, up to 16777216; larger ones are refused. Default: 262144 (256 KiB).
    #[serde(default = "default_max_answer_bytes")]
    pub max_answer_bytes: usize,
    /// More headers, such as `{ "x-site" = "north" }`. Not for secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers whose value is in a file, such as `{ authorization = "/run/secrets/model" }`, where the file says
    /// `Bearer ...`. Spaces and newlines around it are ignored.
    #[serde(default)]
    pub header_files: BTreeMap<String, PathBuf>,
    /// Headers whose value is in an environment variable, such as `{ authorization = "MODEL_TOKEN" }`.
    #[serde(default)]
    pub header_env: BTreeMap<String, String>,
    /// Certificates (PEM) of authorities to trust besides those of the operating system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// How to talk to a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// SageMaker's `/invocations`: the picture is the body; answers as its built-in algorithms give them.
    Sagemaker,
    /// KServe's Open Inference Protocol (v2), as Triton, KServe, MLServer and others speak it.
    Kserve,
    /// The picture is the body; any answer becomes a part of the record.
    Raw,
}

/// What a model server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Boxes.
    Detection,
    /// Classes of the whole picture.
    Classification,
    /// Anything: the record gets the answer itself.
    Answer,
}

/// How frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// Small, with losses.
    #[default]
    Jpeg,
    /// Without losses, and several times the size.
    Png,
}

impl ImageFormat {
    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

/// Tensors of KServe's protocol.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KserveConfig {
    /// The input's name.
    pub input: String,
    /// What the input holds.
    pub datatype: Datatype,
    /// Order of the sides of a `uint8` input.
    pub layout: Layout,
    /// Shape of a `bytes` input: one element, in as many dimensions as the model wants, such as `[1, 1]`.
    pub shape: Vec<u32>,
    /// Send tensors as bytes behind the JSON (the binary tensor data extension, which Triton and KServe know). `false` writes
    /// them into the JSON: pixels as numbers, an encoded picture in base64, with the parameter `content_type`.
    pub binary: bool,
    /// Output with the boxes `[N, 4]`: left, top, right, bottom.
    pub boxes: String,
    /// Output with the scores `[N]`: of the boxes, or of the classes.
    pub scores: String,
    /// Output with the classes `[N]`, as numbers or names.
    pub labels: String,
    /// Unit of the boxes.
    pub box_unit: BoxUnit,
}

impl Default for KserveConfig {
    fn default() -> Self {
        Self {
            input: "image".into(),
            datatype: Datatype::Bytes,
            layout: Layout::Nhwc,
            shape: vec![1],
            binary: true,
            boxes: "boxes".into(),
            scores: "scores".into(),
            labels: "labels".into(),
            box_unit: BoxUnit::Relative,
        }
    }
}

/// What an input tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Datatype {
    /// The picture as encoded (`BYTES`).
    Bytes,
    /// Its pixels, red first, 0 to 255 (`UINT8`).
    Uint8,
}

/// Order of a tensor's sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[1, height, width, 3]`.
    Nhwc,
    /// `[height, width, 3]`.
    Hwc,
    /// `[1, 3, height, width]`.
    Nchw,
    /// `[3, height, width]`.
    Chw,
}

/// Unit of boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxUnit {
    /// Fractions of the picture's sides, 0 to 1.
    Relative,
    /// Pixels of the picture that was sent.
    Pixels,
}

/// Without the address's credentials; its other keys hold no secrets, only where they are.
impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("url", &self.shown())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

const fn default_quality() -> u8 {
    85
}
const fn default_side() -> u32 {
    1920
}
const fn default_top() -> usize {
    5
}
fn default_accept() -> String {
    "application/json".into()
}
const fn default_queue() -> usize {
    5000
}
const fn default_queue_max_bytes() -> usize {
    256 * 1024 * 1024
}
const fn default_concurrency() -> usize {
    20
}
const fn default_timeout_secs() -> u64 {
    20
}
const fn default_retries() -> u32 {
    3
}
const fn default_max_answer_bytes() -> usize {
    256 * 1024
}

/// Shorter values are no secrets, and stand in many words.
const SHORTEST_SECRET: usize = 6;
/// Parts of a path from this length on may be tokens.
const SHORTEST_TOKEN: usize = 16;

/// What was read from files and the environment, and every text that nobody may see.
pub(super) struct Secrets {
    pub(super) headers: HeaderMap,
    pub(super) certificates: Vec<Certificate>,
    source: SourceUrl,
    texts: Vec<String>,
}

impl Secrets {
    /// Takes all secrets out of a text that comes from elsewhere.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = self.source.scrub(text);
        self.texts.iter().fold(text, |text, secret| text.replace(secret.as_str(), base::redact::REDACTED))
    }
}

fn wrong(key: impl Into<String>, problem: impl Into<String>) -> InferenceError {
    InferenceError::Endpoint { key: key.into(), problem: problem.into() }
}

impl EndpointConfig {
    /// For this address, everything else as it is by default.
    pub fn new(url: impl Into<String>, protocol: Protocol) -> Self {
        Self {
            url: url.into(),
            protocol,
            task: None,
            model: None,
            version: None,
            image: ImageFormat::default(),
            quality: default_quality(),
            max_width: default_side(),
            max_height: default_side(),
            classes: Vec::new(),
            top: default_top(),
            accept: default_accept(),
            kserve: KserveConfig::default(),
            queue: default_queue(),
            queue_max_bytes: default_queue_max_bytes(),
            concurrency: default_concurrency(),
            timeout_secs: default_timeout_secs(),
            retries: default_retries(),
            max_answer_bytes: default_max_answer_bytes(),
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            header_env: BTreeMap::new(),
            ca_file: None,
        }
    }

    /// Checks what the types cannot, touching neither disk nor network.
    ///
    /// # Errors
    /// [`InferenceError::Endpoint`], naming the key.
    pub fn check(&self) -> Result<(), InferenceError> {
        let url = self.post_url()?;
        debug_assert!(!url.cannot_be_a_base());
        let range = |key: &str, value: u64, least: u64, most: u64| {
            let ok = (least..=most).contains(&value);
            if ok { Ok(()) } else { Err(wrong(key, format!("is {value} and must be {least} to {most}"))) }
        };
        range("quality", self.quality.into(), 1, 100)?;
        range("max_width", self.max_width.into(), 16, 8192)?;
        range("max_height", self.max_height.into(), 16, 8192)?;
        range("top", self.top as u64, 1, 1000)?;
        range("queue", self.queue as u64, 1, 1_000_000)?;
        range("queue_max_bytes", self.queue_max_bytes as u64, 1 << 20, 1 << 40)?;
        range("concurrency", self.concurrency as u64, 1, 256)?;
        range("timeout_secs", self.timeout_secs, 1, 3600)?;
        range("retries", self.retries.into(), 0, 20)?;
        range("max_answer_bytes", self.max_answer_bytes as u64, 1024, 16 << 20)?;
        HeaderValue::from_str(&self.accept).map_err(|_| wrong("accept", "is no media type"))?;
        if self.protocol == Protocol::Raw && self.task.is_some_and(|task| task != Task::Answer) {
            return Err(wrong("task", "a `raw` endpoint's answer is not read: leave `task` out, or take `sagemaker`"));
        }
        if self.kserve.shape.is_empty() || self.kserve.shape.iter().any(|side| *side != 1) {
            return Err(wrong("kserve.shape", "one picture is one element: write ones, such as [1] or [1, 1]"));
        }
        let tables = [
            ("headers", self.headers.keys().collect::<Vec<_>>()),
            ("header_files", self.header_files.keys().collect()),
            ("header_env", self.header_env.keys().collect()),
        ];
        let mut names = Vec::new();
        for (table, name) in tables.into_iter().flat_map(|(table, names)| names.into_iter().map(move |n| (table, n))) {
            let header = header_name(table, name)?;
            if names.contains(&header) {
                return Err(wrong(format!("{table}.{name}"), "is given twice"));
            }
            names.push(header);
        }
        for (name, value) in &self.headers {
            header_value(&format!("headers.{name}"), value)?;
        }
        Ok(())
    }

    /// What it answers.
    pub fn task(&self) -> Task {
        self.task.unwrap_or(match self.protocol {
            Protocol::Raw => Task::Answer,
            Protocol::Sagemaker | Protocol::Kserve => Task::Detection,
        })
    }

    /// The address without credentials, for people.
    pub fn shown(&self) -> String {
        let Ok(url) = self.post_url() else { return "endpoint".into() };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let is_token =
            |part: &str| part.len() >= SHORTEST_TOKEN && part.chars().any(|c| c.is_ascii_digit() || c.is_uppercase());
        let path: Vec<&str> =
            url.path().split('/').map(|p| if is_token(p) { base::redact::REDACTED } else { p }).collect();
        format!("{}{port}{}", url.host_str().unwrap_or_default(), path.join("/"))
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_secs)
    }

    /// Where requests go.
    pub(super) fn post_url(&self) -> Result<Url, InferenceError> {
        let source = SourceUrl::parse(&self.url).map_err(|BadUrl::Malformed { shown, cause }| {
            wrong("url", format!("`{shown}` is no URL ({cause}); write something like http://host:8080/invocations"))
        })?;
        if !matches!(source.scheme(), "http" | "https") {
            return Err(wrong(
                "url",
                format!("model servers are reached over `http` or `https`, not `{}`", source.scheme()),
            ));
        }
        let mut url = Url::parse(&self.url).map_err(|cause| wrong("url", cause.to_string()))?;
        if self.protocol == Protocol::Kserve && !url.path().ends_with("/infer") {
            let model = self.model.as_deref().filter(|model| !model.is_empty());
            let model = model.ok_or_else(|| wrong("model", "`kserve` needs the model's name for its path"))?;
            let mut path = url.path_segments_mut().map_err(|()| wrong("url", "has no path"))?;
            path.pop_if_empty().extend(["v2", "models", model]);
            if let Some(version) = &self.version {
                path.extend(["versions", version]);
            }
            path.push("infer");
        }
        Ok(url)
    }

    /// Reads what the keys name.
    pub(super) fn secrets(&self) -> Result<Secrets, InferenceError> {
        let (mut headers, mut texts) = (HeaderMap::new(), Vec::new());
        for (name, value) in &self.headers {
            headers.insert(header_name("headers", name)?, header_value(&format!("headers.{name}"), value)?);
        }
        let mut put = |table: &str, name: &str, value: &str| {
            let mut header = header_value(&format!("{table}.{name}"), value.trim())?;
            header.set_sensitive(true);
            headers.insert(header_name(table, name)?, header);
            // Also without the scheme before it, as in `Bearer ...`.
            texts.extend(value.trim().split_once(' ').map(|(_, token)| token.to_owned()));
            texts.push(value.trim().to_owned());
            Ok::<_, InferenceError>(())
        };
        for (name, path) in &self.header_files {
            let text = read(&format!("header_files.{name}"), path)?;
            put("header_files", name, &text)?;
        }
        for (name, variable) in &self.header_env {
            let value = std::env::var(variable).map_err(|_| {
                let problem = format!("the environment has no variable `{variable}` with text in it");
                wrong(format!("header_env.{name}"), problem)
            })?;
            put("header_env", name, &value)?;
        }
        let mut certificates = Vec::new();
        if let Some(path) = &self.ca_file {
            certificates = Certificate::from_pem_bundle(read("ca_file", path)?.as_bytes())
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| wrong("ca_file", format!("{} holds no certificate in PEM form", path.display())))?;
        }
        let url = self.post_url()?;
        texts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        texts.retain(|text| text.len() >= SHORTEST_SECRET);
        // One secret may be a part of another.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let source = SourceUrl::parse(&self.url).map_err(|error| wrong("url", error.to_string()))?;
        Ok(Secrets { headers, certificates, source, texts })
    }
}

fn read(key: &str, path: &std::path::Path) -> Result<String, InferenceError> {
    std::fs::read_to_string(path).map_err(|cause| wrong(key, format!("cannot read {}: {cause}", path.display())))
}

fn header_value(key: &str, value: &str) -> Result<HeaderValue, InferenceError> {
    if value.is_empty() {
        return Err(wrong(key, "is empty"));
    }
    HeaderValue::from_str(value).map_err(|_| wrong(key, "a header's value is one line of text"))
}

/// The header's name, where it is one that may be set.
fn header_name(table: &str, name: &str) -> Result<HeaderName, InferenceError> {
    let refuse = |problem: &str| Err(wrong(format!("{table}.{name}"), problem));
    let Ok(header) = HeaderName::try_from(name) else { return refuse("is no name of a header") };
    let own = ["accept", "connection", "content-length", "content-type", "host", "inference-header-content-length"];
    if own.contains(&header.as_str()) {
        return refuse("is set by eyewitness itself; take it out");
    }
    let words = ["authorization", "cookie", "token", "secret", "key", "password"];
    if table == "headers" && words.iter().any(|word| header.as_str().contains(word)) {
        return refuse("looks like a secret: put its value into a file (`header_files`) or a variable (`header_env`)");
    }
    Ok(header)
}

#[cfg(test)]
mod tests;
