//! Which detections of a stream are wanted: classes and least scores. Configuration in, thresholds per class out.
//!
//! Two thresholds stand side by side: the REPORT threshold, from which on a detection is worth telling by itself, and the
//! lower `low_score`, from which on the engine hands detections to the tracker, whose second pass keeps tracks alive with
//! them. [`crate::track::Tracker`] gives back what is to be published; without a tracker leave `low_score` out.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{InferenceError, error::suggestion, layout::Floors, manifest::Manifest};

/// What of a model's detections one stream wants.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionFilter {
    /// Classes to report, by the model's labels, e.g. `["person", "car"]`. Empty: all.
    pub classes: Vec<String>,
    /// Least score of a reported detection, 0 to 1. Absent: the model manifest's.
    pub score: Option<f32>,
    /// Least score per class where it differs, e.g. `{ person = 0.3 }`. Goes before `score`.
    pub per_class: BTreeMap<String, f32>,
    /// Least score of what the tracker may see. Set from the tracker's configuration, not by hand.
    #[serde(skip)]
    pub low_score: Option<f32>,
}

/// Report thresholds with everything filled in: those of the filter over those of the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportThresholds {
    /// For classes not named below.
    pub score: f32,
    /// By class.
    pub per_class: BTreeMap<Arc<str>, f32>,
}

impl ReportThresholds {
    /// The same threshold for every class.
    pub fn same(score: f32) -> Self {
        Self { score, per_class: BTreeMap::new() }
    }

    /// Least score of a reported detection of `class`.
    pub fn of(&self, class: &str) -> f32 {
        self.per_class.get(class).copied().unwrap_or(self.score)
    }
}

impl DetectionFilter {
    /// The report thresholds of this filter on a model.
    ///
    /// # Errors
    /// [`InferenceError::UnknownClass`] and [`InferenceError::BadSetting`].
    pub fn thresholds(&self, manifest: &Manifest) -> Result<ReportThresholds, InferenceError> {
        let labels = manifest.detector()?.labels.names();
        for class in self.classes.iter().chain(self.per_class.keys()) {
            if !labels.iter().any(|l| **l == **class) {
                return Err(InferenceError::UnknownClass {
                    name: manifest.name.clone(),
                    class: class.clone(),
                    suggestion: suggestion(class, labels.iter().map(|l| &**l)),
                    known: labels.join(", "),
                });
            }
        }
        let scores = self.score.iter().map(|s| ("score", s)).chain(self.per_class.values().map(|s| ("per_class", s)));
        for (key, score) in scores.chain(self.low_score.iter().map(|s| ("low_score", s))) {
            if !(0.0..=1.0).contains(score) {
                return Err(InferenceError::BadSetting { key, value: score.to_string(), expected: "0 to 1" });
            }
        }
        let from_manifest = &manifest.thresholds;
        let mut per_class = BTreeMap::new();
        if self.score.is_none() {
            per_class.extend(from_manifest.per_class.iter().map(|(c, s)| (Arc::from(c.as_str()), *s)));
        }
        per_class.extend(self.per_class.iter().map(|(c, s)| (Arc::from(c.as_str()), *s)));
        Ok(ReportThresholds { score: self.score.unwrap_or(from_manifest.score), per_class })
    }

    /// Least score per class index that the engine hands on.
    pub(crate) fn floors(&self, manifest: &Manifest) -> Result<Floors, InferenceError> {
        let thresholds = self.thresholds(manifest)?;
        let wanted = |label: &str| self.classes.is_empty() || self.classes.iter().any(|c| c == label);
        let floor = |label: &str| match wanted(label) {
            true => thresholds.of(label).min(self.low_score.unwrap_or(1.0)),
            false => f32::INFINITY,
        };
        Ok(Floors::new(manifest.detector()?.labels.names().iter().map(|l| floor(l)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Thresholds;

    fn manifest(per_class: &[(&str, f32)]) -> Manifest {
        let text = format!(
            "name = 'm'\ntask = 'detect'\nfile = 'm.onnx'\nsha256 = '{}'\nlicence = 'MIT'\norigin = 'here'\n\
             labels = ['person', 'car', 'dog']\n[input]\nwidth = 8\nheight = 8\n[output]\nlayout = 'yolov8'\n",
            "0".repeat(64)
        );
        let per_class = per_class.iter().map(|(c, s)| ((*c).to_owned(), *s)).collect();
        Manifest {
            thresholds: Thresholds { score: 0.5, iou: 0.5, per_class },
            ..Manifest::parse("test", &text).expect("manifest")
        }
    }

    #[test]
    fn filter_over_manifest() {
        const OUT: f32 = f32::INFINITY;
        let check = |in_manifest: &[(&str, f32)], filter: DetectionFilter, expected: [f32; 3]| {
            let floors = filter.floors(&manifest(in_manifest)).expect("filter");
            assert_eq!(floors.by_class, expected, "{filter:?}");
        };
        let none = DetectionFilter::default;
        let car = |s| BTreeMap::from([("car".to_owned(), s)]);
        check(&[], none(), [0.5, 0.5, 0.5]);
        check(&[("dog", 0.7)], none(), [0.5, 0.5, 0.7]);
        check(&[("dog", 0.7)], DetectionFilter { score: Some(0.3), ..none() }, [0.3, 0.3, 0.3]);
        check(&[("dog", 0.7)], DetectionFilter { per_class: car(0.2), ..none() }, [0.5, 0.2, 0.7]);
        let person = DetectionFilter { classes: vec!["person".into()], ..none() };
        check(&[], person.clone(), [0.5, OUT, OUT]);
        check(&[], DetectionFilter { low_score: Some(0.1), ..person }, [0.1, OUT, OUT]);
        check(&[], DetectionFilter { low_score: Some(0.1), per_class: car(0.05), ..none() }, [0.1, 0.05, 0.1]);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |filter: DetectionFilter, expected: &str| {
            let error = filter.floors(&manifest(&[])).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        let persn = DetectionFilter { classes: vec!["persn".into()], ..Default::default() };
        check(persn, "model `m` knows no class `persn`, did you mean `person`?; it knows person, car, dog");
        check(DetectionFilter { score: Some(1.5), ..Default::default() }, "score = 1.5 is out of range: 0 to 1");
    }
}
