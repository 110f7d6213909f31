//! The byte layout of a record. All numbers are little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 4 | length of everything after the checksum |
//! | 4 | CRC32C of the length and of everything after the checksum |
//! | 8 | offset |
//! | 8 | first offset of the group that was written and synced together |
//! | 8 | timestamp, UTC ms |
//! | 4 + n | key |
//! | 4 | number of headers, each 4 + n name, 4 + n value |
//! | rest | payload |
//!
//! The group distinguishes a torn write from damage: every record below a frame's group was
//! durable when that frame was written.

use bytes::{Buf, Bytes};

use crate::{Record, config::RECORD_BYTES_MAX};

/// Size of a frame around an empty record, bytes.
pub(super) const OVERHEAD_BYTES: usize = PREFIX_BYTES + BODY_BYTES_MIN;

/// Size of length and checksum, bytes.
const PREFIX_BYTES: usize = 8;
/// Size of offset, group, timestamp, length of the key, and number of headers, bytes.
const BODY_BYTES_MIN: usize = 8 + 8 + 8 + 4 + 4;
/// Largest body, bytes: a record's content, with room for the lengths of its headers.
const BODY_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// A decoded frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecordFrame {
    pub(super) offset: i64,
    pub(super) group: i64,
    pub(super) record: Record,
}

/// Appends `record` to `group_bytes`.
pub(super) fn encode_frame(record: &Record, offset: i64, group: i64, group_bytes: &mut Vec<u8>) {
    let start = group_bytes.len();
    group_bytes.extend_from_slice(&[0; PREFIX_BYTES]);
    group_bytes.extend_from_slice(&offset.to_le_bytes());
    group_bytes.extend_from_slice(&group.to_le_bytes());
    group_bytes.extend_from_slice(&record.timestamp_ms.to_le_bytes());
    write_field(group_bytes, record.key.as_bytes());
    group_bytes.extend_from_slice(&encode_length(record.headers.len()));
    for (name, value) in &record.headers {
        write_field(group_bytes, name.as_bytes());
        write_field(group_bytes, value);
    }
    group_bytes.extend_from_slice(&record.payload);
    let body = start + PREFIX_BYTES;
    let len = encode_length(group_bytes.len() - body);
    let crc = frame_checksum(len, &group_bytes[body..]);
    group_bytes[start..start + 4].copy_from_slice(&len);
    group_bytes[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// Returns the size of the frame that `bytes` starts with, according to its length field; `None`
/// if the field is incomplete.
///
/// # Errors
/// Describes an invalid length.
pub(super) fn frame_len_bytes(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(len) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*len) as usize;
    if (BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&len) {
        Ok(Some(PREFIX_BYTES + len))
    } else {
        Err(format!("a frame of {len} bytes, expected {BODY_BYTES_MIN} to {BODY_BYTES_MAX}"))
    }
}

/// Decodes exactly one frame.
///
/// # Errors
/// States what was found and what was expected.
pub(super) fn decode_frame(mut bytes: Bytes) -> Result<RecordFrame, String> {
    let mut prefix = bytes.split_to(PREFIX_BYTES);
    let mut len = [0; 4];
    prefix.copy_to_slice(&mut len);
    let (stored, found) = (prefix.get_u32_le(), frame_checksum(len, &bytes));
    if stored != found {
        return Err(format!("checksum {found:08x}, expected {stored:08x}"));
    }
    let inner = "a length inside the frame is over its end";
    let (offset, group) = (bytes.get_i64_le(), bytes.get_i64_le());
    let timestamp_ms = bytes.get_i64_le();
    let key = decode_utf8(read_field(&mut bytes).ok_or(inner)?)?;
    let count = bytes.try_get_u32_le().map_err(|_| inner)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = decode_utf8(read_field(&mut bytes).ok_or(inner)?)?;
        headers.push((name, read_field(&mut bytes).ok_or(inner)?.to_vec()));
    }
    Ok(RecordFrame { offset, group, record: Record { key, payload: bytes, headers, timestamp_ms } })
}

/// Decodes bytes as a damaged segment may hold them, unchanged and with a matching checksum; for
/// `fuzz/`.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let frame_of = |bytes: &[u8]| match frame_len_bytes(bytes) {
        Ok(Some(len)) if len <= bytes.len() => {
            decode_frame(Bytes::copy_from_slice(&bytes[..len])).ok()
        }
        _ => None,
    };
    let mut with_checksum = bytes.to_vec();
    if let Some(body) = bytes.get(PREFIX_BYTES..) {
        let len = encode_length(body.len());
        let crc = frame_checksum(len, body).to_le_bytes();
        with_checksum[..4].copy_from_slice(&len);
        with_checksum[4..PREFIX_BYTES].copy_from_slice(&crc);
    }
    for RecordFrame { offset, group, record } in
        frame_of(bytes).into_iter().chain(frame_of(&with_checksum))
    {
        let mut again = Vec::new();
        encode_frame(&record, offset, group, &mut again);
        assert_eq!(frame_of(&again), Some(RecordFrame { offset, group, record }));
    }
}

fn write_field(to: &mut Vec<u8>, field: &[u8]) {
    to.extend_from_slice(&encode_length(field.len()));
    to.extend_from_slice(field);
}

fn read_field(from: &mut Bytes) -> Option<Bytes> {
    let len = from.try_get_u32_le().ok()? as usize;
    (len <= from.len()).then(|| from.split_to(len))
}

fn decode_utf8(bytes: Bytes) -> Result<String, String> {
    String::from_utf8(bytes.into()).map_err(|_| "a name that is not UTF-8".to_owned())
}

fn encode_length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("records are limited to far below 4 GiB").to_le_bytes()
}

fn frame_checksum(len: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_frame(record, 7, 5, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn round_trip(
            key in ".{0,20}",
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            headers in proptest::collection::vec((".{0,8}", proptest::collection::vec(any::<u8>(), 0..20)), 0..4),
            timestamp_ms in any::<i64>(),
        ) {
            let record = Record { key, payload: payload.into(), headers, timestamp_ms };
            let bytes = bytes_of(&record);
            prop_assert_eq!(frame_len_bytes(&bytes), Ok(Some(bytes.len())));
            let frame = decode_frame(bytes.into()).unwrap();
            prop_assert_eq!(frame, RecordFrame { offset: 7, group: 5, record });
        }

        #[test]
        fn any_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..100), at in any::<usize>()) {
            let mut bytes = bytes_of(&Record::new("farm/bay-1", payload, 1));
            let (whole, at) = (bytes.len(), at % (bytes.len() * 8));
            bytes[at / 8] ^= 1 << (at % 8);
            let noticed = frame_len_bytes(&bytes) != Ok(Some(whole)) || decode_frame(bytes.into()).is_err();
            prop_assert!(noticed);
        }
    }
}
