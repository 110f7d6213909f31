use telemetry::{SmolStr, ZoneId};

use super::{
    HOUR_MS,
    sorted_readings::{PackedReading, hour_of},
};

/// Version of the snapshot format. A snapshot of any other version is refused; its zone is
/// replayed.
pub const SNAPSHOT_VERSION: u16 = 1;

/// First bytes of every part of a snapshot.
const MAGIC: [u8; 4] = *b"mczs";
/// Bytes before the content of a part: magic, version, kind, length of the content.
const HEADER_BYTES: usize = 4 + 2 + 1 + 8;
/// Bytes of the checksum (CRC-32C) after the content.
const CHECKSUM_BYTES: usize = 4;

/// Reason why a snapshot is not restored. The engine stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are something else.
    #[error("these bytes are not {expected} of a feature engine")]
    NotASnapshot {
        /// The expected part.
        expected: &'static str,
    },
    /// Another version of the program wrote the snapshot.
    #[error("the snapshot has format version {found}, expected version {expected}")]
    OtherVersion {
        /// Version in the snapshot.
        found: u16,
        /// Version of this program: [`SNAPSHOT_VERSION`].
        expected: u16,
    },
    /// The end is missing.
    #[error("the snapshot is cut off: {found} bytes, expected {expected}")]
    Truncated {
        /// Number of bytes given.
        found: u64,
        /// Number of bytes needed, as far as that can be read.
        expected: u64,
    },
    /// There are bytes after the end.
    #[error("{0} bytes follow the end of the snapshot")]
    TrailingBytes(u64),
    /// Bytes have changed since the snapshot was written.
    #[error("the snapshot is damaged: its checksum is {found:08x}, expected {expected:08x}")]
    Corrupted {
        /// Checksum of the bytes given.
        found: u32,
        /// Checksum in the snapshot.
        expected: u32,
    },
    /// The snapshot has state of other feature definitions, or of another version of the
    /// computation.
    #[error("the snapshot is of feature definitions {found}, expected {expected}")]
    OtherDefinitions {
        /// Hash of the snapshot's definitions.
        found: SmolStr,
        /// Hash of the engine's definitions.
        expected: SmolStr,
    },
    /// The snapshot has state of other engine settings: grid, lateness, time zone, place or
    /// drying.
    #[error("the snapshot is of engine settings {found}, expected {expected}")]
    OtherSettings {
        /// Hash of the snapshot's settings.
        found: SmolStr,
        /// Hash of the engine's settings.
        expected: SmolStr,
    },
    /// A metric of the zone has another plausible range or resolution than in the snapshot.
    #[error("the snapshot is of other metrics: {found}, expected {expected}")]
    OtherMetrics {
        /// Hash of the snapshot's metrics.
        found: SmolStr,
        /// Hash of the engine's metrics of the same names.
        expected: SmolStr,
    },
    /// An hour of readings that the head lists is missing, or is of another snapshot.
    #[error("hour {hour} of {zone} is {problem}")]
    WrongHour {
        /// The zone.
        zone: ZoneId,
        /// Number of the hour: (hour·3,600,000 ms, (hour + 1)·3,600,000 ms].
        hour: i64,
        /// Found and expected hour.
        problem: &'static str,
    },
    /// The checksum holds and the content has no meaning: a defect of the program that wrote it.
    #[error("the snapshot has no meaning: {0}")]
    Invalid(&'static str),
}

/// Kinds of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SnapshotPart {
    /// Head and hours in one.
    Whole = 1,
    /// Everything but the readings that are not pending.
    Head = 2,
    /// Readings of one hour.
    Hour = 3,
}

impl SnapshotPart {
    const fn describe(self) -> &'static str {
        match self {
            Self::Whole => "a snapshot",
            Self::Head => "the head of a snapshot",
            Self::Hour => "an hour of a snapshot",
        }
    }
}

/// Frames the content of a part with its version, length and checksum.
pub(super) fn frame_part(part: SnapshotPart, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len() + CHECKSUM_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(SNAPSHOT_VERSION.to_le_bytes());
    bytes.push(part as u8);
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(content);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// Returns the checksum of a framed part.
pub(super) fn read_checksum(framed: &[u8]) -> u32 {
    framed.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Checks a framed part and returns its content.
pub(super) fn unframe_part(part: SnapshotPart, bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    let is_other = MAGIC.iter().zip(bytes).any(|(expected, found)| expected != found);
    if is_other || bytes.is_empty() {
        return Err(SnapshotError::NotASnapshot { expected: part.describe() });
    }
    let found = bytes.len() as u64;
    let least = (HEADER_BYTES + CHECKSUM_BYTES) as u64;
    let cut_off = |expected| SnapshotError::Truncated { found, expected };
    let version = bytes.get(4..6).ok_or_else(|| cut_off(least))?;
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version != SNAPSHOT_VERSION {
        return Err(SnapshotError::OtherVersion { found: version, expected: SNAPSHOT_VERSION });
    }
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(cut_off(least));
    };
    if header[6] != part as u8 {
        return Err(SnapshotError::NotASnapshot { expected: part.describe() });
    }
    let content_bytes = header.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let expected = content_bytes.saturating_add(least);
    if found < expected {
        return Err(cut_off(expected));
    }
    if found > expected {
        return Err(SnapshotError::TrailingBytes(found - expected));
    }
    let checked = &bytes[..bytes.len() - CHECKSUM_BYTES];
    let (found, expected) = (crc32c::crc32c(checked), read_checksum(bytes));
    if found != expected {
        return Err(SnapshotError::Corrupted { found, expected });
    }
    Ok(&checked[HEADER_BYTES..])
}

/// Appends sorted readings of one hour. For each: milliseconds since the reading before it, the
/// device, and the bits in which the value differs from the value before it.
pub(super) fn pack_readings<'a>(
    hour: i64,
    readings: impl Iterator<Item = &'a PackedReading>,
) -> Vec<u8> {
    let (mut bytes, mut before_ms, mut before) = (Vec::new(), hour * HOUR_MS, 0);
    for reading in readings {
        push_varint(&mut bytes, (reading.event_ms() - before_ms) as u64);
        push_varint(&mut bytes, u64::from(reading.device()));
        let bits = reading.value.to_bits();
        let changed: u64 = bits ^ before;
        let zeros = changed.trailing_zeros();
        bytes.push(zeros as u8);
        if changed != 0 {
            push_varint(&mut bytes, changed >> zeros);
        }
        (before_ms, before) = (reading.event_ms(), bits);
    }
    bytes
}

/// Reads back what [`pack_readings`] wrote.
pub(super) fn unpack_readings(
    hour: i64,
    mut bytes: &[u8],
) -> Result<Vec<PackedReading>, SnapshotError> {
    const INVALID: SnapshotError = SnapshotError::Invalid("readings that cannot be read");
    let start_ms = hour.checked_mul(HOUR_MS).ok_or(INVALID)?;
    let (mut readings, mut before_ms, mut before) = (Vec::<PackedReading>::new(), start_ms, 0);
    while !bytes.is_empty() {
        let passed_ms = take_varint(&mut bytes).ok_or(INVALID)?;
        let device = take_varint(&mut bytes).and_then(|n| u16::try_from(n).ok()).ok_or(INVALID)?;
        let zeros = u32::from(*bytes.split_off_first().ok_or(INVALID)?);
        let changed = match zeros {
            64 => 0,
            65.. => return Err(INVALID),
            _ => take_varint(&mut bytes).ok_or(INVALID)? << zeros,
        };
        let event_ms = before_ms.checked_add_unsigned(passed_ms).ok_or(INVALID)?;
        let bits = before ^ changed;
        let reading = PackedReading::new(event_ms, f64::from_bits(bits), device);
        if hour_of(event_ms) != hour || readings.last().is_some_and(|last| reading.precedes(last)) {
            return Err(SnapshotError::Invalid("readings outside their hour or their order"));
        }
        readings.push(reading);
        (before_ms, before) = (event_ms, bits);
    }
    Ok(readings)
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        let low = u64::from(byte & 0x7f);
        if low.leading_zeros() < shift {
            return None;
        }
        number |= low << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_readings_are_read_back_bit_for_bit(
            hour in -500_000..500_000_i64,
            readings in prop::collection::vec((1..=HOUR_MS, any::<f64>(), any::<u16>()), 0..80),
        ) {
            let mut sorted: Vec<_> = readings
                .into_iter()
                .map(|(ms, value, device)| PackedReading::new(hour * HOUR_MS + ms, value, device))
                .collect();
            sorted.sort_by(PackedReading::compare);
            let bits = |all: &[PackedReading]| {
                all.iter().map(|one| (one.event_ms(), one.device(), one.value.to_bits())).collect::<Vec<_>>()
            };
            let packed = pack_readings(hour, sorted.iter());
            prop_assert_eq!(bits(&unpack_readings(hour, &packed).unwrap()), bits(&sorted));
        }

        #[test]
        fn any_bytes_are_readings_or_refused(hour in any::<i64>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(readings) = unpack_readings(hour, &bytes) {
                prop_assert!(readings.len() <= bytes.len());
            }
        }

        #[test]
        fn a_changed_byte_is_noticed(content in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let mut framed = frame_part(SnapshotPart::Hour, &content);
            prop_assert_eq!(unframe_part(SnapshotPart::Hour, &framed), Ok(&content[..]));
            let at = at.index(framed.len());
            framed[at] ^= flip;
            prop_assert!(unframe_part(SnapshotPart::Hour, &framed).is_err());
        }
    }

    #[test]
    fn every_reason_is_named() {
        let framed = frame_part(SnapshotPart::Head, b"content");
        let check = |bytes: &[u8], part, expect: SnapshotError| {
            assert_eq!(unframe_part(part, bytes), Err(expect));
        };
        let whole = framed.len() as u64;
        let is_cut_off = |found, expected| SnapshotError::Truncated { found, expected };
        check(&framed[..3], SnapshotPart::Head, is_cut_off(3, 19));
        check(&framed[..14], SnapshotPart::Head, is_cut_off(14, 19));
        check(&framed[..20], SnapshotPart::Head, is_cut_off(20, whole));
        check(
            b"",
            SnapshotPart::Head,
            SnapshotError::NotASnapshot { expected: "the head of a snapshot" },
        );
        check(
            b"PAR1....................",
            SnapshotPart::Whole,
            SnapshotError::NotASnapshot { expected: "a snapshot" },
        );
        check(
            &framed,
            SnapshotPart::Hour,
            SnapshotError::NotASnapshot { expected: "an hour of a snapshot" },
        );
        check(&[&framed[..], &[0]].concat(), SnapshotPart::Head, SnapshotError::TrailingBytes(1));
        let mut newer = framed.clone();
        newer[4] = 2;
        check(
            &newer,
            SnapshotPart::Head,
            SnapshotError::OtherVersion { found: 2, expected: SNAPSHOT_VERSION },
        );
        // A length that promises far more than there is allocates nothing.
        let mut endless = framed.clone();
        endless[7..15].copy_from_slice(&u64::MAX.to_le_bytes());
        check(&endless, SnapshotPart::Head, is_cut_off(whole, u64::MAX));
    }
}
