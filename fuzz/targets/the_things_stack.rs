//! Messages by `deploy/examples/the-things-stack.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod messages;

fuzz_target!(|data: &[u8]| messages::run("the-things-stack", data));
