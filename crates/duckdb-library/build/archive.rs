use std::io::{Cursor, Read};

/// The library in a package of npm (`.tgz`) or an archive of DuckDB's release (`.zip`), or
/// what was fetched itself.
pub(crate) fn library(fetched: Vec<u8>, file_name: &str) -> Result<Vec<u8>, String> {
    match fetched.as_slice() {
        [0x1f, 0x8b, ..] => of_tar(&fetched, file_name),
        [b'P', b'K', ..] => of_zip(&fetched, file_name),
        _ => Ok(fetched),
    }
}

fn of_tar(bytes: &[u8], file_name: &str) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| format!("not a .tgz: {error}");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    for entry in archive.entries().map_err(text)? {
        let mut entry = entry.map_err(text)?;
        let path = entry.path().map_err(text)?;
        if path.file_name().is_some_and(|own| own == file_name) {
            let mut library = Vec::new();
            entry.read_to_end(&mut library).map_err(text)?;
            return Ok(library);
        }
    }
    Err(format!("no {file_name} in the package"))
}

fn of_zip(bytes: &[u8], file_name: &str) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| format!("{file_name} in the archive: {error}");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| text(&error))?;
    let mut entry = archive.by_name(file_name).map_err(|error| text(&error))?;
    let mut library = Vec::new();
    entry.read_to_end(&mut library).map_err(|error| text(&error))?;
    Ok(library)
}
