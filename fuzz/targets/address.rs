//! Topics of the gateway's own convention.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::Address;

fuzz_target!(|topic: &str| {
    if let Ok(address) = Address::parse(topic) {
        assert_eq!(address.topic(), topic);
    }
});
