//! Delimiters and lines of delimited text files.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::RecordingError;

/// Known delimiters; the first is the default.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Longest first line that is read as a header, bytes.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Opens the text of a file, or its first `bytes`.
pub(crate) fn open_text(
    path: &Path,
    bytes: Option<u64>,
) -> Result<impl Read + Send + use<>, RecordingError> {
    let file = File::open(path).map_err(RecordingError::with_path(path))?;
    Ok(file.take(bytes.unwrap_or(u64::MAX)))
}

/// Detects the delimiter of a header: the known one that occurs most often outside quotes.
pub(crate) fn detect_delimiter(path: &Path, bytes: Option<u64>) -> Result<u8, RecordingError> {
    let mut header = Vec::new();
    BufReader::new(open_text(path, bytes)?)
        .take(HEADER_BYTES_MAX)
        .read_until(b'\n', &mut header)
        .map_err(RecordingError::with_path(path))?;
    if header.starts_with(&[0xff, 0xfe]) || header.starts_with(&[0xfe, 0xff]) {
        return Err(RecordingError::Header {
            path: path.to_owned(),
            line: 1,
            column: 1,
            found: "UTF-16".to_owned(),
            expected: "UTF-8".to_owned(),
            hint: "spreadsheets write it as `CSV UTF-8`",
        });
    }
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut is_quoted = false;
    for byte in header {
        is_quoted ^= byte == b'"';
        if !is_quoted && let Some(index) = DELIMITERS.iter().position(|known| *known == byte) {
            counts[index] += 1;
        }
    }
    let mut best = 0;
    for index in 1..counts.len() {
        if counts[index] > counts[best] {
            best = index;
        }
    }
    Ok(DELIMITERS[best])
}

/// Reader of a text that ends every line with a line feed alone.
///
/// [`csv::Reader`] reports that a record begins where the previous one ended, before the blank
/// lines between them. This reader records the blank lines, so that line numbers can be corrected.
pub(crate) struct LineFeedReader<R> {
    inner: R,
    chunk: Vec<u8>,
    ready: Vec<u8>,
    /// Number of bytes of `ready` that were handed out.
    given: usize,
    /// Number of bytes before those of `ready`.
    offset: u64,
    /// Whether the last chunk ended with a carriage return.
    is_return_pending: bool,
    is_line_start: bool,
    blank_lines: BlankLines,
}

/// Runs of blank lines: the byte offset at which each begins, and its number of lines.
#[derive(Clone, Default)]
pub(crate) struct BlankLines(Arc<Mutex<VecDeque<(u64, u64)>>>);

impl BlankLines {
    fn note_blank(&self, offset: u64) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match runs.back_mut() {
            Some((start, lines)) if *start + *lines == offset => *lines += 1,
            _ => runs.push_back((offset, 1)),
        }
    }

    /// Line number of a record, from 1. Must be called in the order of the records.
    pub(crate) fn line_number(&self, position: &csv::Position) -> u64 {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = position.byte();
        while runs.front().is_some_and(|(start, lines)| start + lines <= at) {
            runs.pop_front();
        }
        match runs.front() {
            Some((start, lines)) if *start <= at => position.line() + (start + lines - at),
            _ => position.line(),
        }
    }
}

impl<R: Read> LineFeedReader<R> {
    pub(crate) fn new(inner: R) -> (Self, BlankLines) {
        let blank_lines = BlankLines::default();
        let reader = Self {
            inner,
            chunk: vec![0; 1 << 16],
            ready: Vec::new(),
            given: 0,
            offset: 0,
            is_return_pending: false,
            is_line_start: true,
            blank_lines: blank_lines.clone(),
        };
        (reader, blank_lines)
    }

    fn push(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if self.is_line_start && part[0] == b'\n' {
            self.blank_lines.note_blank(self.offset + self.ready.len() as u64);
        }
        self.is_line_start = part.ends_with(b"\n");
        self.ready.extend_from_slice(part);
    }

    fn fill_buffer(&mut self) -> io::Result<()> {
        self.offset += self.ready.len() as u64;
        self.ready.clear();
        self.given = 0;
        let mut chunk = std::mem::take(&mut self.chunk);
        let read = self.inner.read(&mut chunk);
        let len = *read.as_ref().unwrap_or(&0);
        let mut rest = &chunk[..len];
        if std::mem::take(&mut self.is_return_pending) && rest.first() != Some(&b'\n') {
            self.push(b"\r");
        }
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.push(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]));
            self.push(b"\n");
            rest = &rest[end + 1..];
        }
        self.is_return_pending = rest.ends_with(b"\r");
        self.push(rest.strip_suffix(b"\r").unwrap_or(rest));
        self.chunk = chunk;
        read.map(|_| ())
    }
}

impl<R: Read> Read for LineFeedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.fill_buffer()?;
            // The chunk may have been a single carriage return.
            if self.ready.is_empty() && self.is_return_pending {
                self.fill_buffer()?;
            }
        }
        let part = &self.ready[self.given..];
        let len = part.len().min(buffer.len());
        buffer[..len].copy_from_slice(&part[..len]);
        self.given += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reader that returns a few bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(self.0.len()).min(buffer.len());
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    proptest! {
        #[test]
        fn every_record_is_on_its_line(lines in prop::collection::vec("(|x,y|\"a\r?\nb\",c)", 0..30), end in "(\n|\r\n)", step in 1..9_usize) {
            let text: String = lines.iter().map(|line| format!("{line}{end}")).collect();
            let mut expected = Vec::new();
            let mut at = 1;
            for line in &lines {
                if !line.is_empty() {
                    expected.push(at);
                }
                at += 1 + line.matches('\n').count() as u64;
            }
            let (reader, blank_lines) = LineFeedReader::new(Slowly(text.as_bytes(), step));
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(reader);
            let found: Vec<u64> = reader
                .records()
                .map(|record| blank_lines.line_number(record.unwrap().position().unwrap()))
                .collect();
            prop_assert_eq!(found, expected, "{:?}", text);
        }
    }

    #[test]
    fn what_is_between_fields() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("a.csv");
        let check = |text: &[u8], expect: Option<u8>| {
            std::fs::write(&path, text).unwrap();
            assert_eq!(detect_delimiter(&path, None).ok(), expect, "{text:?}");
        };
        check(b"time,zone,co2\n1;2;3;4;5\n", Some(b','));
        check("\u{feff}Zeit;Raum;Temperatur (°C, innen)\n".as_bytes(), Some(b';'));
        check(b"time\tzone\tco2", Some(b'\t'));
        check(b"\"a;b;c\",time\n", Some(b','));
        check(b"time\n", Some(b','));
        check(b"", Some(b','));
        check(&[0xff, 0xfe, b't', 0], None);
    }
}
