//! Topics of the gateway's own convention.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::DeviceAddress;

fuzz_target!(|topic: &str| {
    if let Ok(address) = DeviceAddress::parse(topic) {
        assert_eq!(address.to_topic(), topic);
    }
});
