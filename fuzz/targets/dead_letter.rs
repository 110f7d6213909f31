//! Records of the dead letters: one line for each header, `name=value`, then the payload
//! after an empty line.
#![no_main]

use eventlog::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut record = Record::new("key", Vec::new(), 0);
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        let at = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
        let name = String::from_utf8_lossy(&line[..at]).into_owned();
        record.headers.push((name, line[at..].get(1..).unwrap_or_default().to_vec()));
    }
    record.payload = rest.to_vec().into();
    gateway::fuzzing::parse_dead_letter(&record);
});
