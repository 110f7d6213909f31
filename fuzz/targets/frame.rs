//! Frames of the embedded log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| eventlog::fuzzing::frame(bytes));
