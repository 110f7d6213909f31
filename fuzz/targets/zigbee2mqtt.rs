//! Messages by `deploy/examples/zigbee2mqtt.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod messages;

fuzz_target!(|data: &[u8]| messages::run("zigbee2mqtt", data));
