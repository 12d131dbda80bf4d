//! Any bytes as a record.

#![no_main]

use sinks;

#[path = "../cases.rs"]
#[allow(dead_code)]
mod cases;

libfuzzer_sys::fuzz_target!(|input: &[u8]| cases::record(input));
