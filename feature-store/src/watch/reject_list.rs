use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use recordings::RejectedLine;

/// Largest number of rejects that are listed; all are counted.
const REJECTS_LISTED_MAX: usize = 100_000;

/// Writes the rejected lines to `<folder>/rejects/<file>.csv`, whole or not at all. The same file
/// gives the same list, however often it is read.
pub(super) fn write_reject_list(
    folder: &Path,
    file: &str,
    rejects: &[RejectedLine],
) -> io::Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let within = folder.join("rejects");
    fs::create_dir_all(&within)?;
    let (to, staging) = (within.join(format!("{file}.csv")), within.join(format!(".{file}.tmp")));
    let mut out = io::BufWriter::new(fs::File::create(&staging)?);
    writeln!(out, "line,column,found,reason")?;
    for reject in rejects.iter().take(REJECTS_LISTED_MAX) {
        let found = reject.found.replace('"', "\"\"");
        let reason = format!("expected {}", reject.expected).replace('"', "\"\"");
        let place = &reject.place;
        writeln!(out, "{},{},\"{found}\",\"{reason}\"", place.line, place.column)?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(staging, to)
}
