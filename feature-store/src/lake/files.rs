use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::StoreError;

/// Where files are written before they are renamed into place.
const ASIDE: &str = ".moving";

/// A folder of this machine: the lake's, or that of copies of its files.
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

    /// Syncs what was made aside and renames it into place.
    pub(super) fn settle(&self, made: &[Made]) -> Result<(), StoreError> {
        let mut folders = HashSet::new();
        for Made { from, below, .. } in made {
            let to = self.0.join(below);
            let mut settle = || -> io::Result<()> {
                File::open(from)?.sync_all()?;
                let folder = to.parent().unwrap_or(&self.0);
                fs::create_dir_all(folder)?;
                folders.insert(folder.to_owned());
                fs::rename(from, &to)
            };
            settle().map_err(|source| failed(&to, source))?;
        }
        for folder in folders {
            // A name is durable once its folder is.
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(|source| failed(&folder, source))?;
        }
        Ok(())
    }

    /// Removes the folder of a move that is done.
    pub(super) fn leave(&self, aside: &Path) -> Result<(), StoreError> {
        fs::remove_dir_all(aside).map_err(|source| failed(aside, source))?;
        // Goes where no other move is under way: a folder that is not empty stays.
        let _ = fs::remove_dir(self.0.join(ASIDE));
        Ok(())
    }

    pub(super) fn remove(&self, below: &str) -> Result<(), StoreError> {
        let path = self.path(below);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    /// Removes what moves that were not ended have left aside.
    pub(super) fn clean_aside(&self) -> Result<(), StoreError> {
        let aside = self.0.join(ASIDE);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(|source| failed(&aside, source))?;
        }
        Ok(())
    }

    /// The Parquet files below one of its folders, by their paths below this one.
    pub(super) fn below(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.0.join(table);
        let mut there = Vec::new();
        if folder.exists() {
            walk(&folder, &mut there).map_err(|source| failed(&folder, source))?;
        }
        let below = |path: &PathBuf| path.strip_prefix(&self.0).unwrap_or(path).to_owned();
        Ok(there.iter().map(|path| below(path).to_string_lossy().into_owned()).collect())
    }
}

/// A file that a move has written aside.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) from: PathBuf,
    /// Where it belongs, below the lake's place.
    pub(super) below: String,
    pub(super) bytes: u64,
}

impl Made {
    /// What is aside, in the order of names.
    pub(super) fn all(aside: &Path, table: &str, move_id: u32) -> Result<Vec<Self>, StoreError> {
        let mut written = Vec::new();
        walk(aside, &mut written).map_err(|source| failed(aside, source))?;
        written.sort();
        let made = |(number, from): (usize, PathBuf)| {
            let within = from.strip_prefix(aside).unwrap_or(&from);
            let partition = within.parent().unwrap_or(Path::new(""));
            let below =
                Path::new(table).join(partition).join(format!("{move_id}-{number}.parquet"));
            let bytes = fs::metadata(&from).map_err(|source| failed(&from, source))?.len();
            Ok(Self { below: below.to_string_lossy().into_owned(), bytes, from })
        };
        written.into_iter().enumerate().map(made).collect()
    }
}

/// Named like a file of a move: `<move>-<number>.parquet`.
pub(super) fn is_own(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".parquet")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(a, b)| number(a) && number(b))
}

/// The Parquet files below a folder, less what is aside.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with(ASIDE) {
                walk(&path, files)?;
            }
        } else if path.extension().is_some_and(|own| own == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

pub(super) fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Folder { path: path.to_owned(), source }
}
