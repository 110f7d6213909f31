use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::StoreError;

/// Folder in which files are written before they are renamed into place.
const STAGING_DIR: &str = ".moving";
/// Folder for files that are not listed; nothing reads or removes them.
pub(super) const QUARANTINE_DIR: &str = ".orphans";

/// A local folder: the lake's, or that of copies of its files.
#[derive(Clone, Debug)]
pub(super) struct LakeDirectory(PathBuf);

impl LakeDirectory {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|source| directory_error(path, source))?;
        let path = std::path::absolute(path).map_err(|source| directory_error(path, source))?;
        Ok(Self(path))
    }

    /// Returns the full path of one of its files.
    pub(super) fn full_path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    /// Creates an empty staging folder for a move.
    pub(super) fn create_staging_dir(&self, move_id: u32) -> Result<PathBuf, StoreError> {
        let staging = self.0.join(STAGING_DIR).join(move_id.to_string());
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|source| directory_error(&staging, source))?;
        }
        fs::create_dir_all(&staging).map_err(|source| directory_error(&staging, source))?;
        Ok(staging)
    }

    /// Syncs staged files and renames them into place.
    pub(super) fn publish_staged(&self, staged: &[StagedFile]) -> Result<(), StoreError> {
        let mut folders = HashSet::new();
        for StagedFile { from, below, .. } in staged {
            let to = self.0.join(below);
            let mut settle = || -> io::Result<()> {
                File::open(from)?.sync_all()?;
                let folder = to.parent().unwrap_or(&self.0);
                fs::create_dir_all(folder)?;
                folders.insert(folder.to_owned());
                fs::rename(from, &to)
            };
            settle().map_err(|source| directory_error(&to, source))?;
        }
        for folder in folders {
            // A file name is durable once its folder is synced.
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(|source| directory_error(&folder, source))?;
        }
        Ok(())
    }

    /// Removes the staging folder of a completed move.
    pub(super) fn remove_staging_dir(&self, staging: &Path) -> Result<(), StoreError> {
        fs::remove_dir_all(staging).map_err(|source| directory_error(staging, source))?;
        // Fails harmlessly if another move is under way, as its folder is not empty.
        let _ = fs::remove_dir(self.0.join(STAGING_DIR));
        Ok(())
    }

    pub(super) fn remove_file(&self, below: &str) -> Result<(), StoreError> {
        let path = self.full_path(below);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(directory_error(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what interrupted moves have left in the staging folder.
    pub(super) fn clean_staging(&self) -> Result<(), StoreError> {
        let staging = self.0.join(STAGING_DIR);
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|source| directory_error(&staging, source))?;
        }
        Ok(())
    }

    /// Moves an unlisted file to the quarantine folder, and returns its new path.
    pub(super) fn quarantine_file(&self, below: &str) -> Result<String, StoreError> {
        let from = self.full_path(below);
        let mut quarantined = format!("{QUARANTINE_DIR}/{below}");
        let mut copies = 0;
        while self.full_path(&quarantined).exists() {
            copies += 1;
            quarantined = format!("{QUARANTINE_DIR}/{below}.{copies}");
        }
        let to = self.full_path(&quarantined);
        let moved = fs::create_dir_all(to.parent().unwrap_or(&self.0))
            .and_then(|()| fs::rename(&from, &to));
        moved.map_err(|source| directory_error(&to, source))?;
        Ok(quarantined)
    }

    /// Reads a small file; `None` if it does not exist.
    pub(super) fn read_small(
        &self,
        below: &str,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.full_path(below);
        match File::open(&path) {
            Ok(file) => {
                let mut content = Vec::new();
                let read = file.take(bytes_max as u64).read_to_end(&mut content);
                read.map_err(|source| directory_error(&path, source))?;
                Ok(Some(content))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(directory_error(&path, error)),
        }
    }

    /// Writes a small file durably, whole or not at all.
    pub(super) fn write_small(&self, below: &str, content: &[u8]) -> Result<(), StoreError> {
        let path = self.full_path(below);
        let new = self.full_path(&format!("{below}.new"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|source| directory_error(&path, source))
    }

    /// Lists every file below one of its folders, by path relative to this folder.
    pub(super) fn every_file_below(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let (mut folders, mut files) = (vec![self.full_path(folder)], Vec::new());
        while let Some(folder) = folders.pop() {
            if !folder.exists() {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(|source| directory_error(&folder, source))? {
                let path = entry.map_err(|source| directory_error(&folder, source))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let below = path.strip_prefix(&self.0).unwrap_or(&path);
                    files.push(below.to_string_lossy().into_owned());
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Lists the Parquet files below one of its folders, by path relative to this folder.
    pub(super) fn list_parquet_files(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.0.join(table);
        let mut there = Vec::new();
        if folder.exists() {
            collect_parquet_files(&folder, &mut there)
                .map_err(|source| directory_error(&folder, source))?;
        }
        let below = |path: &PathBuf| path.strip_prefix(&self.0).unwrap_or(path).to_owned();
        Ok(there.iter().map(|path| below(path).to_string_lossy().into_owned()).collect())
    }
}

/// A file that a move has written to the staging folder.
#[derive(Debug)]
pub(super) struct StagedFile {
    pub(super) from: PathBuf,
    /// Path below the lake where it belongs.
    pub(super) below: String,
    pub(super) bytes: u64,
}

impl StagedFile {
    /// Lists the files in a staging folder, sorted by name.
    pub(super) fn list_staged(
        staging: &Path,
        table: &str,
        move_id: u32,
    ) -> Result<Vec<Self>, StoreError> {
        let mut written = Vec::new();
        collect_parquet_files(staging, &mut written)
            .map_err(|source| directory_error(staging, source))?;
        written.sort();
        let to_staged = |(number, from): (usize, PathBuf)| {
            let within = from.strip_prefix(staging).unwrap_or(&from);
            let partition = within.parent().unwrap_or(Path::new(""));
            let below =
                Path::new(table).join(partition).join(format!("{move_id}-{number}.parquet"));
            let bytes = fs::metadata(&from).map_err(|source| directory_error(&from, source))?.len();
            Ok(Self { below: below.to_string_lossy().into_owned(), bytes, from })
        };
        written.into_iter().enumerate().map(to_staged).collect()
    }
}

/// Returns whether a file is named like one of a move: `<move>-<number>.parquet`.
pub(super) fn is_archive_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".parquet")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(a, b)| number(a) && number(b))
}

/// Collects the Parquet files below a folder, except those in the staging folder.
fn collect_parquet_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with(STAGING_DIR) {
                collect_parquet_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

pub(super) fn directory_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Folder { path: path.to_owned(), source }
}
