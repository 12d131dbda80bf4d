//! Any bytes as the files of a spool.

#![no_main]

use sinks;

#[path = "../cases.rs"]
#[allow(dead_code)]
mod cases;

libfuzzer_sys::fuzz_target!(|input: &[u8]| cases::spool(input));
