use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use duckdb::{Connection, params};
use recordings::RejectedLine;

use crate::StoreError;

/// Largest number of stored rejects of a zone; all are counted.
const STORED_REJECTS_MAX: usize = 100_000;

/// Stores rejected lines in the open transaction.
pub(super) fn store_rejects(
    connection: &Connection,
    id: u32,
    rejects: &[RejectedLine],
) -> Result<(), StoreError> {
    if rejects.is_empty() {
        return Ok(());
    }
    let mut appender = connection.appender_to_db("rejects", "bronze")?;
    for RejectedLine { place, found, expected, .. } in rejects.iter().take(STORED_REJECTS_MAX) {
        let path = place.path.to_string_lossy();
        appender.append_row(params![
            id,
            path,
            place.line,
            place.column,
            found,
            expected.as_ref()
        ])?;
    }
    Ok(appender.flush()?)
}

/// Writes the rejected lines of the zones with these ids as CSV (RFC 4180). Returns their number.
pub(super) fn export_rejects_csv(
    connection: &Connection,
    ids: &[u32],
    to: &Path,
) -> Result<u64, StoreError> {
    let io = |source| StoreError::Folder { path: to.to_owned(), source };
    let id_list = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut statement = connection.prepare(&format!(
        "SELECT path, line, \"column\", found, expected FROM bronze.rejects
         WHERE list_contains([{id_list}]::UINTEGER[], backfill) ORDER BY path, line, \"column\""
    ))?;
    let mut found = statement.query([])?;
    let (mut file, mut count) = (None, 0);
    while let Some(row) = found.next()? {
        let file = match &mut file {
            Some(file) => file,
            None => {
                if let Some(folder) = to.parent() {
                    std::fs::create_dir_all(folder).map_err(io)?;
                }
                let mut writer = BufWriter::new(File::create(to).map_err(io)?);
                writeln!(writer, "file,line,column,found,expected").map_err(io)?;
                file.insert(writer)
            }
        };
        let text = |i: usize| row.get::<_, String>(i).map(|text| quote_csv_field(&text));
        let number = |i: usize| row.get::<_, u64>(i);
        let (path, line, column) = (text(0)?, number(1)?, number(2)?);
        writeln!(file, "{path},{line},{column},{},{}", text(3)?, text(4)?).map_err(io)?;
        count += 1;
    }
    if let Some(mut file) = file {
        file.flush().map_err(io)?;
    }
    Ok(count)
}

fn quote_csv_field(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
