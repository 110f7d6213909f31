use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::folder_scanner::FileVersion;

/// Content of a file, and how much of it was ingested earlier.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Lines of an earlier version that this one continues; 0 if it continues none.
    pub(super) lines_taken: u64,
}

/// Reads a file once. `earlier` are the ingested versions, shortest first.
pub(super) fn fingerprint_content(
    mut content: impl Read,
    earlier_versions: &[&FileVersion],
) -> io::Result<Fingerprint> {
    let mut earlier = earlier_versions.iter().peekable();
    let (mut hasher, mut bytes, mut lines) = (Sha256::new(), 0_u64, 0_u64);
    let mut buffer = vec![0; 1 << 16];
    // Whether the last line of the continued version had no line end.
    let (mut lines_taken, mut is_open, mut last) = (0, false, b'\n');
    loop {
        while let Some(mark) = earlier.next_if(|mark| mark.bytes <= bytes) {
            if mark.bytes == bytes && bytes > 0 && mark.sha256 == hex_digest(&hasher) {
                (lines_taken, is_open) = (lines, last != b'\n');
            }
        }
        // Stop where an earlier version ended.
        let until = earlier.peek().map_or(u64::MAX, |mark| mark.bytes - bytes);
        let len = usize::try_from(until).unwrap_or(usize::MAX).min(buffer.len());
        let read = content.read(&mut buffer[..len])?;
        if read == 0 {
            return Ok(Fingerprint { bytes, sha256: hex_digest(&hasher), lines_taken });
        }
        let part = &buffer[..read];
        if is_open {
            // A last line without a line end was complete if a line end comes next; otherwise it
            // has become another line.
            lines_taken += u64::from(matches!(part[0], b'\n' | b'\r'));
            is_open = false;
        }
        hasher.update(part);
        bytes += read as u64;
        lines += memchr::memchr_iter(b'\n', part).count() as u64;
        last = part[read - 1];
    }
}

fn hex_digest(hasher: &Sha256) -> String {
    hasher.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> FileVersion {
        let Fingerprint { bytes, sha256, .. } = fingerprint_content(text.as_bytes(), &[]).unwrap();
        FileVersion { path: "a.csv".into(), bytes, sha256 }
    }

    #[test]
    fn lines_that_were_taken_are_those_of_the_longest_version_that_it_continues() {
        let check = |text: &str, earlier: &[&str], expect: u64| {
            let marks: Vec<FileVersion> = earlier.iter().map(|text| mark(text)).collect();
            let marks: Vec<&FileVersion> = marks.iter().collect();
            let got = fingerprint_content(text.as_bytes(), &marks).unwrap();
            assert_eq!(got.lines_taken, expect, "{text:?} after {earlier:?}");
            assert_eq!((got.bytes, got.sha256), (mark(text).bytes, mark(text).sha256));
        };
        check("h\n1\n2\n", &[], 0);
        check("h\n1\n2\n", &["h\n1\n"], 2);
        check("h\n1\n2\n3\n", &["h\n", "h\n1\n", "h\n1\n2\n"], 3);
        check("h\n1\n2\n", &["h\n", "x\n1\n"], 1);
        check("h\n1\n2\n", &["x\n"], 0);
        check("h\n1", &["h\n1\n2\n"], 0);
        // A last line without a line end: complete, or half of another.
        check("h\n1\n2\n", &["h\n1"], 2);
        check("h\r\n1\r\n2\r\n", &["h\r\n1"], 2);
        check("h\n12\n", &["h\n1"], 1);
        check("h\n1\n", &[""], 0);
    }
}
