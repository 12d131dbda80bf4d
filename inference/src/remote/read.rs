//! From a model server's answer to boxes and labels. Pure. Answers come from elsewhere: nothing in them may panic, and
//! what does not fit is refused in words.
//!
//! Sources: Amazon SageMaker Developer Guide, "Object Detection Request and Response Formats" and "Inference with Image
//! Classification"; Open Inference Protocol (v2) and its binary tensor data extension.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::config::{BoxUnit, EndpointConfig, Protocol, Task};

/// One box of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) class: Arc<str>,
    pub(super) score: f32,
    /// Left, top, right, bottom as fractions of the picture's sides, within 0..=1.
    pub(super) corners: [f32; 4],
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// Boxes, best first.
    Boxes(Vec<Found>),
    /// Classes with their scores, best first.
    Labels(Vec<(Arc<str>, f32)>),
    /// Whatever it is.
    Unread,
}

/// A server's answer, as it came.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) content_type: String,
    /// Length of the JSON before the tensors, where it says one.
    pub(super) json_bytes: Option<usize>,
    pub(super) body: bytes::Bytes,
}

/// Reads an answer; `sent` is the size of the picture that it is about.
pub(super) fn read(
    config: &EndpointConfig,
    classes: &[Arc<str>],
    raw: &Raw,
    sent: (u32, u32),
) -> Result<Reading, String> {
    let mut reading = match (config.task(), config.protocol) {
        (Task::Answer, _) | (_, Protocol::Raw) => return Ok(Reading::Unread),
        (Task::Detection, Protocol::Sagemaker) => Reading::Boxes(prediction(&json(&raw.body)?, classes)?),
        (Task::Classification, Protocol::Sagemaker) => Reading::Labels(probabilities(&json(&raw.body)?, classes)?),
        (Task::Detection, Protocol::Kserve) => Reading::Boxes(boxes(config, &outputs(raw)?, classes, sent)?),
        (Task::Classification, Protocol::Kserve) => Reading::Labels(scores(config, &outputs(raw)?, classes)?),
    };
    // Stable: the server's order decides among equals.
    match &mut reading {
        Reading::Boxes(found) => found.sort_by(|a, b| b.score.total_cmp(&a.score)),
        Reading::Labels(labels) => labels.sort_by(|a, b| b.1.total_cmp(&a.1)),
        Reading::Unread => {}
    }
    Ok(reading)
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|e| format!("its answer is no JSON: {e}"))
}

fn name(classes: &[Arc<str>], index: f64) -> Result<Arc<str>, String> {
    if !(index.fract() == 0.0 && (0.0..1e9).contains(&index)) {
        return Err(format!("{index} is no number of a class"));
    }
    Ok(classes.get(index as usize).cloned().unwrap_or_else(|| index.to_string().into()))
}

fn found(class: Arc<str>, score: f64, corners: [f64; 4]) -> Result<Found, String> {
    if !score.is_finite() || corners.iter().any(|corner| !corner.is_finite()) {
        return Err("a score or a box is not a number".into());
    }
    Ok(Found { class, score: score as f32, corners: corners.map(|c| c.clamp(0.0, 1.0) as f32) })
}

/// `{"prediction": [[class, score, xmin, ymin, xmax, ymax], ...]}`, sides as fractions.
fn prediction(answer: &Value, classes: &[Arc<str>]) -> Result<Vec<Found>, String> {
    let rows = answer.get("prediction").and_then(Value::as_array).ok_or("its answer has no list `prediction`")?;
    let mut boxes = Vec::with_capacity(rows.len());
    for row in rows {
        let numbers: Option<Vec<f64>> = row.as_array().and_then(|row| row.iter().map(Value::as_f64).collect());
        let Some([class, score, corners @ ..]) = numbers.as_deref() else {
            return Err("a row of `prediction` is no list of six numbers".into());
        };
        let corners = corners.try_into().map_err(|_| "a row of `prediction` is no list of six numbers".to_owned())?;
        // Class -1 stands for a box that the server itself has suppressed.
        if *class >= 0.0 {
            boxes.push(found(name(classes, *class)?, *score, corners)?);
        }
    }
    Ok(boxes)
}

/// A list of probabilities, bare or as the only one of a list, or as `prediction` or `probabilities` of an object.
fn probabilities(answer: &Value, classes: &[Arc<str>]) -> Result<Vec<(Arc<str>, f32)>, String> {
    let list = ["prediction", "predictions", "probabilities"].iter().find_map(|key| answer.get(key)).unwrap_or(answer);
    let list = match list.as_array().map(Vec::as_slice) {
        Some([inner @ Value::Array(_)]) => inner,
        _ => list,
    };
    let numbers: Option<Vec<f64>> = list.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
    let numbers = numbers.filter(|n| !n.is_empty()).ok_or("its answer is no list of probabilities")?;
    labelled(&Values::Numbers((0..numbers.len()).map(|n| n as f64).collect()), &numbers, classes)
}

fn labelled(labels: &Values, scores: &[f64], classes: &[Arc<str>]) -> Result<Vec<(Arc<str>, f32)>, String> {
    if scores.iter().any(|score| !score.is_finite()) {
        return Err("a score is not a number".into());
    }
    (0..scores.len()).map(|at| Ok((labels.class(at, classes)?, scores[at] as f32))).collect()
}

/// The values of an output tensor.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl Values {
    fn class(&self, at: usize, classes: &[Arc<str>]) -> Result<Arc<str>, String> {
        match self {
            Self::Numbers(numbers) => name(classes, numbers.get(at).copied().unwrap_or(-1.0)),
            Self::Texts(texts) => texts.get(at).map(|text| Arc::from(text.as_str())).ok_or("a class is missing".into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }
}

type Outputs = BTreeMap<String, Values>;

/// The tensors of an inference response.
fn outputs(raw: &Raw) -> Result<Outputs, String> {
    let split = raw.json_bytes.unwrap_or(raw.body.len());
    let (head, mut rest) = raw.body.split_at_checked(split).ok_or("its answer is shorter than its own JSON")?;
    let head = json(head)?;
    let list = head.get("outputs").and_then(Value::as_array).ok_or("its answer has no `outputs`")?;
    let mut outputs = Outputs::new();
    for output in list {
        let name = output.get("name").and_then(Value::as_str).ok_or("an output has no name")?;
        let datatype = output.get("datatype").and_then(Value::as_str).unwrap_or_default();
        let size = output.pointer("/parameters/binary_data_size").and_then(Value::as_u64);
        let values = match size {
            Some(size) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let (tensor, after) =
                    rest.split_at_checked(size).ok_or_else(|| format!("output `{name}` is cut short"))?;
                rest = after;
                binary(datatype, tensor)
            }
            None => written(output.get("data")),
        };
        outputs.insert(
            name.to_owned(),
            values.ok_or_else(|| format!("output `{name}` of type `{datatype}` is not read"))?,
        );
    }
    Ok(outputs)
}

/// Little endian, row-major, without padding.
fn binary(datatype: &str, tensor: &[u8]) -> Option<Values> {
    macro_rules! numbers {
        ($kind:ty) => {{
            let (whole, rest) = tensor.as_chunks::<{ size_of::<$kind>() }>();
            rest.is_empty().then(|| Values::Numbers(whole.iter().map(|b| <$kind>::from_le_bytes(*b) as f64).collect()))
        }};
    }
    match datatype {
        "FP32" => numbers!(f32),
        "FP64" => numbers!(f64),
        "INT64" => numbers!(i64),
        "UINT64" => numbers!(u64),
        "INT32" => numbers!(i32),
        "UINT32" => numbers!(u32),
        "INT16" => numbers!(i16),
        "UINT16" => numbers!(u16),
        "INT8" => numbers!(i8),
        "UINT8" | "BOOL" => numbers!(u8),
        "BYTES" => {
            let (mut rest, mut texts) = (tensor, Vec::new());
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                texts.push(String::from_utf8_lossy(text).into_owned());
                rest = after;
            }
            rest.is_empty().then_some(Values::Texts(texts))
        }
        _ => None,
    }
}

/// Numbers or texts, in lists within lists or flat.
fn written(data: Option<&Value>) -> Option<Values> {
    fn flatten<'v>(value: &'v Value, into: &mut Vec<&'v Value>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| flatten(value, into)),
            value => into.push(value),
        }
    }
    let mut flat = Vec::new();
    flatten(data?, &mut flat);
    if let Some(numbers) = flat.iter().map(|value| value.as_f64()).collect() {
        return Some(Values::Numbers(numbers));
    }
    flat.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>().map(Values::Texts)
}

fn output<'o>(outputs: &'o Outputs, name: &str) -> Result<&'o Values, String> {
    let known = || outputs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    outputs.get(name).ok_or_else(|| format!("its answer has no output `{name}`; it has {}", known()))
}

fn numbers<'o>(outputs: &'o Outputs, name: &str) -> Result<&'o [f64], String> {
    match output(outputs, name)? {
        Values::Numbers(numbers) => Ok(numbers),
        Values::Texts(_) => Err(format!("output `{name}` holds no numbers")),
    }
}

fn boxes(
    config: &EndpointConfig,
    outputs: &Outputs,
    classes: &[Arc<str>],
    (width, height): (u32, u32),
) -> Result<Vec<Found>, String> {
    let kserve = &config.kserve;
    let (boxes, scores) = (numbers(outputs, &kserve.boxes)?, numbers(outputs, &kserve.scores)?);
    let labels = output(outputs, &kserve.labels)?;
    let (boxes, rest) = boxes.as_chunks::<4>();
    if !rest.is_empty() || boxes.len() != scores.len() || labels.len() != scores.len() {
        return Err(format!(
            "its outputs do not fit each other: {} boxes, {} scores, {} labels",
            boxes.len(),
            scores.len(),
            labels.len()
        ));
    }
    let unit = match kserve.box_unit {
        BoxUnit::Relative => [1.0; 4],
        BoxUnit::Pixels => [width, height, width, height].map(|side| f64::from(side.max(1))),
    };
    let at = |n: usize| {
        let corners = std::array::from_fn(|side| boxes[n][side] / unit[side]);
        found(labels.class(n, classes)?, scores[n], corners)
    };
    (0..boxes.len()).map(at).collect()
}

fn scores(config: &EndpointConfig, outputs: &Outputs, classes: &[Arc<str>]) -> Result<Vec<(Arc<str>, f32)>, String> {
    let scores = numbers(outputs, &config.kserve.scores)?;
    match outputs.get(&config.kserve.labels) {
        Some(labels) if labels.len() == scores.len() => labelled(labels, scores, classes),
        Some(labels) => Err(format!("its outputs do not fit: {} scores, {} labels", scores.len(), labels.len())),
        None => labelled(&Values::Numbers((0..scores.len()).map(|n| n as f64).collect()), scores, classes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes() -> Vec<Arc<str>> {
        ["person", "car"].map(Arc::from).to_vec()
    }

    fn raw(body: impl Into<Vec<u8>>, json_bytes: Option<usize>) -> Raw {
        Raw { content_type: "application/json".into(), json_bytes, body: body.into().into() }
    }

    fn config(protocol: Protocol, task: Task) -> EndpointConfig {
        EndpointConfig { task: Some(task), ..EndpointConfig::new("http://h", protocol) }
    }

    fn shown(reading: Result<Reading, String>) -> String {
        match reading {
            Ok(Reading::Boxes(found)) => {
                found.iter().map(|f| format!("{} {:.2} {:.2?}; ", f.class, f.score, f.corners)).collect()
            }
            Ok(Reading::Labels(labels)) => {
                labels.iter().map(|(class, score)| format!("{class} {score:.2}; ")).collect()
            }
            Ok(Reading::Unread) => "unread".into(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn sagemaker() {
        let check = |task, body: &str, expected: &str| {
            let got = shown(read(&config(Protocol::Sagemaker, task), &classes(), &raw(body, None), (100, 50)));
            assert!(got.starts_with(expected), "{body}: {got}");
        };
        let two = r#"{"prediction":[[1.0,0.25,0.1,0.2,0.3,0.4],[0.0,0.86,0.3,0.07,0.71,1.5]]}"#;
        check(Task::Detection, two, "person 0.86 [0.30, 0.07, 0.71, 1.00]; car 0.25 [0.10, 0.20, 0.30, 0.40]; ");
        check(
            Task::Detection,
            r#"{"prediction":[[-1,0.9,0,0,1,1],[7,0.5,0,0,1,1]]}"#,
            "7 0.50 [0.00, 0.00, 1.00, 1.00]; ",
        );
        check(Task::Detection, r#"{"prediction":[]}"#, "");
        for wrong in [r#"{"prediction":[[1,2]]}"#, r#"{"prediction":[["a",1,1,1,1,1]]}"#, r#"{"prediction":[7]}"#] {
            check(Task::Detection, wrong, "error: a row of `prediction` is no list of six numbers");
        }
        check(Task::Detection, r#"{"prediction":[[0.5,1,0,0,1,1]]}"#, "error: 0.5 is no number of a class");
        check(Task::Detection, r#"{"predictions":[]}"#, "error: its answer has no list `prediction`");
        check(Task::Detection, "<html>", "error: its answer is no JSON");
        check(Task::Classification, "[0.1, 0.7, 0.2]", "car 0.70; 2 0.20; person 0.10; ");
        check(Task::Classification, r#"{"prediction":[[0.1, 0.7]]}"#, "car 0.70; person 0.10; ");
        check(Task::Classification, r#"{"probabilities":[0.9]}"#, "person 0.90; ");
        check(Task::Classification, r#"{"other":[0.9]}"#, "error: its answer is no list of probabilities");
        check(Task::Answer, "<html>", "unread");
    }

    #[test]
    fn kserve() {
        let check = |config: &EndpointConfig, raw: &Raw, expected: &str| {
            let got = shown(read(config, &classes(), raw, (100, 50)));
            assert!(got.starts_with(expected), "{got}");
        };
        let detection = config(Protocol::Kserve, Task::Detection);
        let written = |labels: &str| {
            raw(
                format!(
                    r#"{{"model_name":"m","outputs":[{{"name":"boxes","shape":[2,4],"datatype":"FP32","data":[[0,0,0.5,1],[0.1,0.2,0.3,0.4]]}},
                    {{"name":"scores","shape":[2],"datatype":"FP32","data":[0.2,0.9]}},{{"name":"labels","shape":[2],"datatype":"INT64","data":{labels}}}]}}"#
                ),
                None,
            )
        };
        let expected = "car 0.90 [0.10, 0.20, 0.30, 0.40]; person 0.20 [0.00, 0.00, 0.50, 1.00]; ";
        check(&detection, &written("[0,1]"), expected);
        check(&detection, &written(r#"["person","car"]"#), expected);
        check(&detection, &written("[0]"), "error: its outputs do not fit each other: 2 boxes, 2 scores, 1 labels");
        check(&detection, &written("[0,{}]"), "error: output `labels` of type `INT64` is not read");
        let mut pixels = detection.clone();
        pixels.kserve.box_unit = BoxUnit::Pixels;
        let json = br#"{"outputs":[{"name":"boxes","datatype":"FP32","parameters":{"binary_data_size":16}},{"name":"scores","datatype":"FP64","parameters":{"binary_data_size":8}},{"name":"labels","datatype":"BYTES","parameters":{"binary_data_size":7}}]}"#;
        let boxes: Vec<u8> = [10.0_f32, 5.0, 50.0, 25.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let body = [json.as_slice(), &boxes, &0.5_f64.to_le_bytes(), &3_u32.to_le_bytes(), b"dog"].concat();
        check(&pixels, &raw(body.clone(), Some(json.len())), "dog 0.50 [0.10, 0.10, 0.50, 0.50]; ");
        let cut = raw(body[..body.len() - 1].to_vec(), Some(json.len()));
        check(&pixels, &cut, "error: output `labels` is cut short");
        check(&pixels, &raw("{}", Some(99)), "error: its answer is shorter than its own JSON");
        let classification = config(Protocol::Kserve, Task::Classification);
        let scores = r#"{"outputs":[{"name":"scores","datatype":"FP32","data":[0.2,0.8]}]}"#;
        check(&classification, &raw(scores, None), "car 0.80; person 0.20; ");
        check(&detection, &raw(scores, None), "error: its answer has no output `boxes`; it has scores");
    }

    proptest! {
        /// Whatever a server answers, nothing panics, and boxes lie within the picture.
        #[test]
        fn any_answer_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..220) {
            for protocol in [Protocol::Sagemaker, Protocol::Kserve] {
                for task in [Task::Detection, Task::Classification] {
                    let _ = read(&config(protocol, task), &classes(), &raw(body.clone(), Some(at)), (1, 1));
                }
            }
        }

        /// The same for rows of any numbers.
        #[test]
        fn boxes_lie_within_the_picture(row in proptest::collection::vec(any::<f64>(), 6)) {
            let body = serde_json::json!({ "prediction": [row] }).to_string();
            let got = read(&config(Protocol::Sagemaker, Task::Detection), &classes(), &raw(body, None), (1, 1));
            if let Ok(Reading::Boxes(found)) = got {
                prop_assert!(found.iter().flat_map(|f| f.corners).all(|corner| (0.0..=1.0).contains(&corner)));
            }
        }
    }
}
