//! Values that the types let through and that cannot be meant. Pure.

use std::{ops::RangeInclusive, path::Path};

/// Why a table cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// A number out of its range.
    #[error("`{key}` is {value} and must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// As written.
        value: u64,
        /// What it may be, in words.
        range: &'static str,
    },
    /// No folder.
    #[error("`{key}` is empty: name a folder, or set `enabled` to false")]
    NoFolder {
        /// The key.
        key: &'static str,
    },
}

/// A number: its key, as written, what it may be, and that in words.
pub type Ranged = (&'static str, u64, RangeInclusive<u64>, &'static str);

/// Checks numbers.
///
/// # Errors
/// The first that is out of its range.
pub fn in_range(all: impl IntoIterator<Item = Ranged>) -> Result<(), BadValue> {
    let bad = all.into_iter().find(|(_, value, good, _)| !good.contains(value));
    bad.map_or(Ok(()), |(key, value, _, range)| Err(BadValue::Range { key, value, range }))
}

/// Checks the path of a folder.
///
/// # Errors
/// When it is empty.
pub fn folder(key: &'static str, path: &Path) -> Result<(), BadValue> {
    if path.as_os_str().is_empty() { Err(BadValue::NoFolder { key }) } else { Ok(()) }
}

/// Reads a table and checks it; what is wrong must hold `expected`.
#[cfg(test)]
#[track_caller]
pub(crate) fn check<T: serde::de::DeserializeOwned>(
    json: &str,
    valid: impl Fn(&T) -> Result<(), BadValue>,
    expected: Result<(), &str>,
) {
    let read = serde_json::from_str::<T>(json).map_err(|e| e.to_string());
    let got = read.and_then(|table| valid(&table).map_err(|e| e.to_string()));
    match (&got, expected) {
        (Ok(()), Ok(())) => {}
        (Err(got), Err(part)) => assert!(got.contains(part), "{json}: {got}"),
        _ => panic!("{json}: {got:?}, not {expected:?}"),
    }
}
