//! A file of frames, named after the offset of its first one. Its header is magic, version,
//! checksum and that offset.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use tracing::warn;

use super::{
    frame::{self, RecordFrame},
    io_error, sync_dir,
};
use crate::LogError;

/// Size of the header, bytes.
pub(super) const HEADER_BYTES: u64 = HEADER_LEN as u64;
const HEADER_LEN: usize = 24;
const MAGIC: &[u8; 8] = b"mclimlog";
const VERSION: u32 = 1;
/// Size of one read, bytes.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Returns the path of the segment that begins with `base`.
pub(super) fn segment_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// Lists the first offsets of the segments in a folder, in order.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<i64>, LogError> {
    let failed = |e| io_error(dir, "list the folder", e);
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log"));
        bases.extend(base.and_then(|base| base.parse::<i64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Creates an empty segment and makes its name durable.
pub(super) fn create_segment(dir: &Path, base: i64) -> Result<File, LogError> {
    let path = segment_path(dir, base);
    let failed = |e| io_error(&path, "create the segment", e);
    let created = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let file = created.map_err(failed)?;
    file.write_all_at(&encode_header(base), 0).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    sync_dir(dir)?;
    Ok(file)
}

/// The last segment, opened for appending after a crash or a clean shutdown.
pub(super) struct RecoveredSegment {
    pub(super) file: File,
    /// The offset after the last complete frame.
    pub(super) next: i64,
    /// End of the last complete frame, bytes.
    pub(super) len_bytes: u64,
}

/// Scans the last segment and cuts off a torn write, of which no record was acknowledged.
///
/// # Errors
/// [`LogError::Corrupt`] if a later group proves that the damaged frame was durable.
pub(super) fn recover_segment(dir: &Path, base: i64) -> Result<RecoveredSegment, LogError> {
    let path = segment_path(dir, base);
    let failed = |e| io_error(&path, "recover the segment", e);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    if file_bytes <= HEADER_BYTES {
        // It never held a record. A crash may have left its header unwritten.
        return Ok(RecoveredSegment {
            file: create_segment(dir, base)?,
            next: base,
            len_bytes: HEADER_BYTES,
        });
    }
    let mut frames = FrameReader::open(dir, base)?;
    let mut next = base;
    let torn = loop {
        let position = frames.position;
        match frames.next_frame(file_bytes) {
            Ok(Some(frame)) if frame.offset == next => next += 1,
            Ok(Some(frame)) => {
                let what = format!("offset {}, expected {next}", frame.offset);
                return Err(LogError::Corrupt { path, position, what });
            }
            Ok(None) => break None,
            Err(LogError::Corrupt { what, .. }) => break Some((position, what)),
            Err(error) => return Err(error),
        }
    };
    let len_bytes = frames.position;
    if let Some((position, what)) = torn {
        let mut rest = vec![0; usize::try_from(file_bytes - position).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut rest, position).map_err(failed)?;
        if was_durable(&rest.into(), next) {
            return Err(LogError::Corrupt { path, position, what });
        }
        let cut_bytes = file_bytes - position;
        warn!(path = %path.display(), position, cut_bytes, what, "cut off a torn write");
        file.set_len(position).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(RecoveredSegment { file, next, len_bytes })
}

/// Whether a frame anywhere in `rest` was written after `offset` was synced.
fn was_durable(rest: &Bytes, offset: i64) -> bool {
    (1..rest.len()).any(|at| {
        let here = rest.slice(at..);
        let Ok(Some(len)) = frame::frame_len_bytes(&here) else { return false };
        len <= here.len() && frame::decode_frame(here.slice(..len)).is_ok_and(|f| f.group > offset)
    })
}

/// Reads the frames of one segment in order.
#[derive(Debug)]
pub(super) struct FrameReader {
    file: File,
    path: PathBuf,
    /// Position of the next frame, bytes.
    pub(super) position: u64,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn open(dir: &Path, base: i64) -> Result<Self, LogError> {
        let path = segment_path(dir, base);
        let file = File::open(&path).map_err(|e| io_error(&path, "open the segment", e))?;
        let mut found = [0; HEADER_LEN];
        file.read_exact_at(&mut found, 0).map_err(|e| io_error(&path, "read the header", e))?;
        if found != encode_header(base) {
            let what = format!(
                "the header is not that of a segment, version {VERSION}, from offset {base}"
            );
            return Err(LogError::Corrupt { path, position: 0, what });
        }
        Ok(Self { file, path, position: HEADER_BYTES, buffer: BytesMut::new() })
    }

    /// Returns the size of the file, bytes.
    pub(super) fn file_bytes(&self) -> Result<u64, LogError> {
        let metadata = self.file.metadata();
        metadata.map(|m| m.len()).map_err(|e| io_error(&self.path, "read the size", e))
    }

    /// Returns the next frame that ends at or before `end` (bytes); `None` at `end`.
    pub(super) fn next_frame(&mut self, end: u64) -> Result<Option<RecordFrame>, LogError> {
        let mut want_bytes = CHUNK_BYTES;
        loop {
            match frame::frame_len_bytes(&self.buffer).map_err(|what| self.corrupt_error(what))? {
                Some(len) if len <= self.buffer.len() => {
                    let bytes = self.buffer.split_to(len).freeze();
                    let frame = frame::decode_frame(bytes).map_err(|what| {
                        // A repeated call then returns the same error.
                        self.buffer.clear();
                        self.corrupt_error(what)
                    })?;
                    self.position += len as u64;
                    return Ok(Some(frame));
                }
                Some(len) => want_bytes = want_bytes.max(len as u64),
                None => {}
            }
            if !self.fill_buffer(end, want_bytes)? {
                return match self.buffer.len() {
                    0 => Ok(None),
                    cut => Err(self.corrupt_error(format!("{cut} bytes, expected a whole frame"))),
                };
            }
        }
    }

    /// Reads further, until the buffer has at least `want_bytes`; `false` at `end`.
    fn fill_buffer(&mut self, end: u64, want_bytes: u64) -> Result<bool, LogError> {
        let have = self.buffer.len();
        let from = self.position + have as u64;
        let more = end.saturating_sub(from).min(want_bytes);
        if more == 0 {
            return Ok(false);
        }
        self.buffer.resize(have + usize::try_from(more).unwrap_or(usize::MAX), 0);
        self.file
            .read_exact_at(&mut self.buffer[have..], from)
            .map_err(|e| io_error(&self.path, "read", e))?;
        Ok(true)
    }

    pub(super) fn corrupt_error(&self, what: String) -> LogError {
        LogError::Corrupt { path: self.path.clone(), position: self.position, what }
    }
}

fn encode_header(base: i64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..].copy_from_slice(&base.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header
}
