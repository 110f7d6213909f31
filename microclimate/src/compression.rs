//! Bodies of answers, compressed where the client understands it.

use std::io::{self, Write as _};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;

/// What is smaller gains nothing.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// JSON for one client; quick compression, since it is made for each answer.
pub(crate) fn json_response(headers: &HeaderMap, what: &impl Serialize) -> io::Result<Response> {
    let mut body = serde_json::to_vec(what)?;
    let is_compressed = body.len() >= COMPRESSED_BYTES_MIN && accepts_gzip(headers);
    if is_compressed {
        body = gzip(&body, Compression::fast())?;
    }
    let mut response = Response::new(Body::from(body));
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    own.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        own.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether a client takes gzip. `gzip;q=0` refuses it.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| {
        accepted.split(',').any(|coding| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
            let quality: String = quality.split_whitespace().collect();
            let is_refused = quality
                .strip_prefix("q=")
                .and_then(|number| number.parse::<f64>().ok())
                .is_some_and(|number| number <= 0.0);
            name.trim().eq_ignore_ascii_case("gzip") && !is_refused
        })
    })
}

pub(crate) fn gzip(bytes: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_that_a_client_accepts() {
        let check = |accepted: &str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expect, "{accepted}");
        };
        check("gzip, deflate, br, zstd", true);
        check("br, gzip;q=0.5", true);
        check("br, gzip; q=0", false);
        check("br", false);
        check("identity", false);
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
