//! The gateway's own payloads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::{MetricTable, PayloadLimits, payload::decode_payload};

fuzz_target!(|payload: &[u8]| {
    let (metrics, limits) = (MetricTable::default(), PayloadLimits::default());
    for topic in ["sensors/farm/bay-1/probe", "sensors/farm/bay-1/probe/temperature"] {
        if let Ok(decoded) = decode_payload(topic, payload, 1_700_000_000_000, &metrics, limits) {
            assert!(!decoded.report.readings.is_empty());
        }
    }
});
