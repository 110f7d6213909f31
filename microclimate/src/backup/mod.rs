//! `microclimate backup` and `restore`: a data folder, whole and verified.
//!
//! A backup is the folder's files and a manifest with the SHA-256 of each. Where nothing runs on
//! the folder, the log's lock is held meanwhile; where Microclimate runs, it puts a consistent
//! copy beside its data (`running`), and goes on. A backup appears under its name when everything
//! is on the disk, or not at all; so does what is restored.

mod running;

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use service::disk::DiskSpace;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "microclimate-backup.json";
/// Files that are computed again, or belong to a process.
const LEFT_OUT: [&str; 4] = ["lake-cache", "log/lock", "ready.json", running::STAGING];
/// Version of the layout; a newer one is refused.
const FORMAT: u32 = 1;
const BUFFER_BYTES: usize = 1 << 20;

/// List of the files of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct BackupManifest {
    format: u32,
    /// The program that made it.
    version: String,
    created: jiff::Timestamp,
    files: Vec<BackedUpFile>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct BackedUpFile {
    /// Below the data folder.
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// Number and size of the copied files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackupSummary {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl fmt::Display for BackupSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {:.1} MB, each verified", self.files, self.bytes as f64 / 1e6)
    }
}

pub(crate) use running::serve_backups;

/// Copies a data folder to a folder that does not exist yet.
///
/// # Errors
/// Where the disk has no room, another program uses the folder, or the system says so.
pub(crate) fn back_up(data_dir: &Path, to: &Path) -> Result<BackupSummary> {
    ensure!(data_dir.is_dir(), "{}: no such data folder\nhint: --data-dir", data_dir.display());
    ensure!(!to.exists(), "{} exists\nhint: name a folder that does not", to.display());
    let Some(_lock) = lock(data_dir)? else {
        let staged = running::StagedCopy::request(data_dir)?;
        return copy_to_backup(&staged.dir, to);
    };
    copy_to_backup(data_dir, to)
}

fn copy_to_backup(from: &Path, to: &Path) -> Result<BackupSummary> {
    let paths = files_below(from)?;
    let part = part_of(to)?;
    room_for(from, &paths, &part)?;
    let copied = copy_all(from, &paths, &part).and_then(|files| {
        let bytes = files.iter().map(|file| file.bytes).sum();
        let copied = BackupSummary { files: files.len(), bytes };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let created = jiff::Timestamp::now();
        let manifest = BackupManifest { format: FORMAT, version, created, files };
        let mut file = File::create(part.join(MANIFEST))?;
        file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
        file.sync_all()?;
        Ok(copied)
    });
    finish(copied, &part, to)
}

/// Puts a backup in the place of a data folder that is empty or does not exist.
///
/// # Errors
/// Where the backup is not whole, the folder has something in it, or the system says so.
pub(crate) fn restore(from: &Path, data_dir: &Path) -> Result<BackupSummary> {
    let path = from.join(MANIFEST);
    let text = fs::read(&path).with_context(|| {
        format!(
            "{}: no backup\nhint: name the folder that `microclimate backup` made",
            path.display()
        )
    })?;
    let manifest: BackupManifest =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    ensure!(
        manifest.format <= FORMAT,
        "{}: made by Microclimate {}, which is newer\nhint: restore it with that version",
        from.display(),
        manifest.version
    );
    let is_empty = !data_dir.exists() || fs::read_dir(data_dir)?.next().is_none();
    ensure!(
        is_empty,
        "{} has something in it\nhint: move it away first, or restore to another --data-dir",
        data_dir.display()
    );
    let paths: Vec<PathBuf> = manifest.files.iter().map(|file| file.path.clone()).collect();
    ensure!(
        paths.iter().all(|path| path.components().all(|own| matches!(own, Component::Normal(_)))),
        "{}: names a file outside of the data folder",
        from.display()
    );
    let part = part_of(data_dir)?;
    room_for(from, &paths, &part)?;
    let copied = copy_all(from, &paths, &part).and_then(|files| {
        for (found, expect) in files.iter().zip(&manifest.files) {
            ensure!(
                found == expect,
                "{}: changed since the backup was made: {} bytes, expected {}",
                from.join(&expect.path).display(),
                found.bytes,
                expect.bytes
            );
        }
        if data_dir.exists() {
            fs::remove_dir(data_dir)?;
        }
        Ok(BackupSummary { files: files.len(), bytes: files.iter().map(|file| file.bytes).sum() })
    });
    finish(copied, &part, data_dir)
}

/// Locks the log as a running Microclimate does; `None` where one has it.
fn lock(data_dir: &Path) -> Result<Option<LogLock>> {
    let path = data_dir.join("log/lock");
    // A folder without a log has none to lock.
    let Ok(file) = File::open(&path) else { return Ok(Some(LogLock(None))) };
    match file.try_lock() {
        Ok(()) => Ok(Some(LogLock(Some(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context(path.display().to_string()),
    }
}

/// Keeps Microclimate from starting on a folder.
struct LogLock(#[expect(dead_code, reason = "the lock ends with the file")] Option<File>);

/// Files below a folder, relative to it, in the order of their names.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = folders.pop() {
        let whole = folder.join(&below);
        for entry in fs::read_dir(&whole).with_context(|| whole.display().to_string())? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if LEFT_OUT.iter().any(|own| path == Path::new(own)) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The folder in which everything is put together, new.
fn part_of(to: &Path) -> Result<PathBuf> {
    let name = to.file_name().with_context(|| format!("{}: no name of a folder", to.display()))?;
    let mut part_name = name.to_owned();
    part_name.push(".part");
    let part = to.with_file_name(part_name);
    if part.exists() {
        // Of an earlier one that was interrupted.
        fs::remove_dir_all(&part).with_context(|| part.display().to_string())?;
    }
    fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    Ok(part)
}

fn room_for(from: &Path, paths: &[PathBuf], part: &Path) -> Result<()> {
    let mut bytes = 0;
    for path in paths {
        bytes += fs::metadata(from.join(path)).map_or(0, |found| found.len());
    }
    let free_bytes = DiskSpace::at_path(part)?.free_bytes;
    if free_bytes < bytes {
        fs::remove_dir_all(part)?;
        bail!(
            "{}: {:.1} GB free, {:.1} GB needed\nhint: make room, or name a folder on another disk",
            part.display(),
            free_bytes as f64 / 1e9,
            bytes as f64 / 1e9
        );
    }
    Ok(())
}

fn copy_all(from: &Path, paths: &[PathBuf], to: &Path) -> Result<Vec<BackedUpFile>> {
    let mut folders = BTreeSet::from([to.to_owned()]);
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let (source, place) = (from.join(path), to.join(path));
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            folders.insert(folder.to_owned());
        }
        let (bytes, sha256) =
            copy_file(&source, &place).with_context(|| source.display().to_string())?;
        files.push(BackedUpFile { path: path.clone(), bytes, sha256 });
    }
    for folder in folders {
        File::open(&folder)?.sync_all()?;
    }
    Ok(files)
}

/// Copies a file to the disk; its size and SHA-256.
fn copy_file(from: &Path, to: &Path) -> io::Result<(u64, String)> {
    let (mut source, mut place) = (File::open(from)?, File::create_new(to)?);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        place.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
    place.set_permissions(source.metadata()?.permissions())?;
    place.sync_all()?;
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, sha256))
}

/// Gives what was put together its name, or removes it.
fn finish(copied: Result<BackupSummary>, part: &Path, to: &Path) -> Result<BackupSummary> {
    let named = copied.and_then(|copied| {
        fs::rename(part, to).with_context(|| to.display().to_string())?;
        if let Some(parent) = to.parent().filter(|own| !own.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(copied)
    });
    if named.is_err() {
        drop(fs::remove_dir_all(part));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(root: &Path) -> PathBuf {
        let data = root.join("var");
        for folder in ["log/readings", "models/light", "lake-cache"] {
            fs::create_dir_all(data.join(folder)).unwrap();
        }
        fs::write(data.join("microclimate.duckdb"), vec![7; 3 << 20]).unwrap();
        fs::write(data.join("log/readings/0.segment"), "readings").unwrap();
        fs::write(data.join("log/lock"), "").unwrap();
        fs::write(data.join("models/light/champion"), "2").unwrap();
        fs::write(data.join("lake-cache/x"), "again").unwrap();
        data
    }

    fn error(result: Result<BackupSummary>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_is_restored_is_what_was_backed_up() {
        let root = tempfile::tempdir().unwrap();
        let (data, kept, back) =
            (data(root.path()), root.path().join("kept"), root.path().join("back"));
        assert_eq!(
            back_up(&data, &kept).unwrap(),
            BackupSummary { files: 3, bytes: (3 << 20) + 9 }
        );
        restore(&kept, &back).unwrap();
        for path in ["microclimate.duckdb", "log/readings/0.segment", "models/light/champion"] {
            assert_eq!(fs::read(data.join(path)).unwrap(), fs::read(back.join(path)).unwrap());
        }
        assert!(!back.join("lake-cache").exists() && !back.join(MANIFEST).exists());
        assert!(error(restore(&kept, &back)).contains("has something in it"));
        assert!(error(back_up(&data, &kept)).contains("exists"));
    }

    #[test]
    fn a_folder_that_something_else_uses_is_not_backed_up() {
        let root = tempfile::tempdir().unwrap();
        let (data, kept) = (data(root.path()), root.path().join("kept"));
        let running = File::open(data.join("log/lock")).unwrap();
        running.lock().unwrap();
        let refused = error(back_up(&data, &kept));
        assert!(refused.contains("in use") && refused.contains("hint: "), "{refused}");
        assert!(!kept.exists());
    }

    #[test]
    fn a_changed_backup_is_not_restored() {
        let root = tempfile::tempdir().unwrap();
        let (data, kept, back) =
            (data(root.path()), root.path().join("kept"), root.path().join("back"));
        back_up(&data, &kept).unwrap();
        fs::write(kept.join("models/light/champion"), "3").unwrap();
        assert!(error(restore(&kept, &back)).contains("changed since the backup"));
        fs::remove_file(kept.join("models/light/champion")).unwrap();
        assert!(error(restore(&kept, &back)).contains("champion"));
        assert!(!back.exists() && !root.path().join("back.part").exists());
        assert!(error(restore(root.path(), &back)).contains("no backup"));
    }

    #[test]
    fn an_interrupted_one_leaves_nothing_under_the_name() {
        let root = tempfile::tempdir().unwrap();
        let (data, kept) = (data(root.path()), root.path().join("kept"));
        fs::create_dir_all(root.path().join("kept.part/log")).unwrap();
        fs::write(root.path().join("kept.part/microclimate.duckdb"), "half").unwrap();
        back_up(&data, &kept).unwrap();
        assert_eq!(fs::metadata(kept.join("microclimate.duckdb")).unwrap().len(), 3 << 20);
        assert!(!root.path().join("kept.part").exists());
    }
}
