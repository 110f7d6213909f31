//! Messages by `deploy/examples/senml.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod messages;

fuzz_target!(|data: &[u8]| messages::run("senml", data));
