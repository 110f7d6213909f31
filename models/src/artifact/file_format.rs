//! The file's form: a line with the format and a checksum, then JSON.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{ModelArtifact, ModelCard, Predictor, safety};
use crate::dataset::encode_hex;

/// The first word of the file; the second is the format, the third the
/// SHA-256 of everything after the first line.
const MAGIC: &str = "microclimate-model";
const FORMAT: &str = "3";
/// A file larger than this is no model of ours, bytes.
pub const BYTES_MAX: usize = 512 << 20;

impl ModelArtifact {
    /// The file's content.
    ///
    /// # Errors
    /// Where the model has no JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let mut bytes =
            format!("{MAGIC} {FORMAT} {}\n", encode_hex(&Sha256::digest(&body))).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads a file's content, checks that its parts fit, and runs its golden rows within
    /// limits: a bad file is refused, and does nothing else.
    ///
    /// # Errors
    /// Says why it is refused: half-written, changed, of another format, of
    /// another schema than it says, of parts that do not fit, or no longer what it was.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let body: serde_json::Value = parse_file(bytes)?;
        let features = body.pointer("/card/schema/features").and_then(|own| own.as_array());
        safety::check_structure(&body, features.map_or(0, Vec::len))?;
        drop(body);
        let artifact: Self = parse_file(bytes)?;
        let Self { card, predictor, .. } = &artifact;
        let width = card.schema.features.len();
        if ![0, width].contains(&card.facts.profile.inputs.len()) {
            let found = card.facts.profile.inputs.len();
            return Err(format!("its profile is of {found} inputs, its schema of {width}"));
        }
        if let Predictor::Regressor(fitted) = predictor {
            fitted.check_shape(width)?;
        }
        safety::ask_within_limits(artifact)
    }
}

impl ModelCard {
    /// Reads what a file says of its model, without the model.
    ///
    /// # Errors
    /// Says why it is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        /// Reading this passes over the model.
        #[derive(Deserialize)]
        struct CardOnly {
            card: ModelCard,
        }
        parse_file::<CardOnly>(bytes).map(|only| only.card)
    }
}

fn parse_file<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("{} bytes, expected at most {BYTES_MAX}", bytes.len()));
    }
    let end = bytes.iter().take(200).position(|byte| *byte == b'\n');
    let head = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()).unwrap_or_default();
    let words: Vec<&str> = head.split(' ').collect();
    let (sum, body) = match (words.as_slice(), end) {
        ([MAGIC, FORMAT, sum], Some(end)) => (*sum, &bytes[end + 1..]),
        ([MAGIC, format, _], _) => return Err(format!("format {format}, expected {FORMAT}")),
        _ => return Err(format!("it does not begin with `{MAGIC}`")),
    };
    if encode_hex(&Sha256::digest(body)) != sum {
        let why = "its content does not match its checksum: half-written or changed";
        return Err(why.to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
