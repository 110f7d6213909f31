//! Several MQTT messages as one input: topic, line feed, payload, and between
//! two messages `\n~~\n`. A topic that begins with `!` is a retained message.

use std::{path::Path, sync::OnceLock};

use gateway::{GatewaySettings, fuzzing::FuzzDecoder};

static DECODER: OnceLock<FuzzDecoder> = OnceLock::new();

/// Decodes the messages with the mappings of `deploy/examples/<example>.toml`.
pub fn run(example: &str, data: &[u8]) {
    let decoder = DECODER.get_or_init(|| {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
        let path = examples.join(example).with_extension("toml");
        let settings = GatewaySettings::load(Some(&path), &[]).unwrap_or_else(|e| panic!("{e}"));
        FuzzDecoder::new(&settings)
    });
    decoder.forget();
    let mut rest = data;
    for second in 0.. {
        let end = rest.windows(4).position(|window| window == b"\n~~\n");
        let message = &rest[..end.unwrap_or(rest.len())];
        let at = message.iter().position(|byte| *byte == b'\n').unwrap_or(message.len());
        let topic = String::from_utf8_lossy(&message[..at]);
        let payload = message.get(at + 1..).unwrap_or_default();
        let (topic, is_retained) = match topic.strip_prefix('!') {
            Some(topic) => (topic, true),
            None => (&*topic, false),
        };
        decoder.decode_message(topic, payload, 1_700_000_000_000 + 1_000 * second, is_retained);
        match end {
            Some(end) => rest = &rest[end + 4..],
            None => return,
        }
    }
}
