//! Messages by `deploy/examples/shelly.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod messages;

fuzz_target!(|data: &[u8]| messages::run("shelly", data));
