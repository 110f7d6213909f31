use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::StoreError;

/// Where files are written before they are renamed into place.
const ASIDE: &str = ".moving";

/// The folder of the lake.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|source| failed(path, source))?;
        let path = std::path::absolute(path).map_err(|source| failed(path, source))?;
        Ok(Self(path))
    }

    /// Of one of its files.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    /// A new empty folder to write a move into.
    pub(super) fn aside(&self, move_id: u32) -> Result<PathBuf, StoreError> {
        let aside = self.0.join(ASIDE).join(move_id.to_string());
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(|source| failed(&aside, source))?;
        }
        fs::create_dir_all(&aside).map_err(|source| failed(&aside, source))?;
        Ok(aside)
    }

    /// Syncs what was written aside and renames it into place below `table`;
    /// the paths below the lake's folder.
    pub(super) fn settle(
        &self,
        aside: &Path,
        table: &str,
        move_id: u32,
    ) -> Result<Vec<String>, StoreError> {
        let mut written = Vec::new();
        walk(aside, &mut written).map_err(|source| failed(aside, source))?;
        written.sort();
        let mut settled = Vec::new();
        let mut folders = HashSet::new();
        for (number, from) in written.iter().enumerate() {
            let within = from.strip_prefix(aside).unwrap_or(from);
            let partition = within.parent().unwrap_or(Path::new(""));
            let below =
                Path::new(table).join(partition).join(format!("{move_id}-{number}.parquet"));
            let to = self.0.join(&below);
            let mut settle = || -> io::Result<()> {
                File::open(from)?.sync_all()?;
                let folder = to.parent().unwrap_or(&self.0);
                fs::create_dir_all(folder)?;
                folders.insert(folder.to_owned());
                fs::rename(from, &to)
            };
            settle().map_err(|source| failed(&to, source))?;
            settled.push(below.to_string_lossy().into_owned());
        }
        for folder in folders {
            // A name is durable once its folder is.
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(|source| failed(&folder, source))?;
        }
        fs::remove_dir_all(aside).map_err(|source| failed(aside, source))?;
        // Goes where no other move is under way: a folder that is not empty stays.
        let _ = fs::remove_dir(self.0.join(ASIDE));
        Ok(settled)
    }

    pub(super) fn remove(&self, below: &str) -> Result<(), StoreError> {
        let path = self.path(below);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self, below: &str) -> u64 {
        fs::metadata(self.path(below)).map_or(0, |meta| meta.len())
    }

    /// Removes files of moves that were not committed: named like those of a
    /// move, and not listed.
    pub(super) fn clean(
        &self,
        tables: &[&str],
        listed: &HashSet<String>,
    ) -> Result<(), StoreError> {
        let aside = self.0.join(ASIDE);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(|source| failed(&aside, source))?;
        }
        for table in tables {
            let folder = self.0.join(table);
            let mut there = Vec::new();
            if folder.exists() {
                walk(&folder, &mut there).map_err(|source| failed(&folder, source))?;
            }
            for path in there {
                let below = path.strip_prefix(&self.0).unwrap_or(&path).to_string_lossy();
                if is_own(&path) && !listed.contains(&*below) {
                    tracing::warn!(path = %path.display(), "left over from a crash: removed");
                    self.remove(&below)?;
                }
            }
        }
        Ok(())
    }
}

/// Named like a file of a move: `<move>-<number>.parquet`.
fn is_own(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".parquet")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(a, b)| number(a) && number(b))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|own| own == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Folder { path: path.to_owned(), source }
}
