use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use duckdb::Connection;

use super::{
    elsewhere::Elsewhere,
    files::{Folder, Made, is_own},
};
use crate::{Settings, StoreError};

/// Where the files of the lake are.
#[derive(Debug)]
pub(super) enum Place {
    Here(Folder),
    Elsewhere(Elsewhere),
}

/// A file that is listed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Below the lake's place.
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl Place {
    /// That of the settings, where there is a lake.
    pub(super) fn open(settings: &Settings) -> Result<Option<Self>, StoreError> {
        let lake = &settings.lake;
        let Some(folder) = lake.folder() else { return Ok(None) };
        let folder = Folder::open(folder)?;
        Ok(Some(match lake.address() {
            None => Self::Here(folder),
            Some(address) => Self::Elsewhere(Elsewhere::open(
                address,
                &settings.s3,
                folder,
                lake.cache_bytes_max,
            )?),
        }))
    }

    /// Whether its files need not be fetched to be read.
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// Makes sure that nobody else writes here; before anything is written.
    pub(super) fn claim(&self, connection: &Connection) -> Result<(), StoreError> {
        match self {
            // Its DuckDB file has one owner, and the folder is beside it.
            Self::Here(_) => Ok(()),
            Self::Elsewhere(elsewhere) => elsewhere.claim(connection),
        }
    }

    /// A new empty folder to write a move into.
    pub(super) fn aside(&self, move_id: u32) -> Result<PathBuf, StoreError> {
        self.folder().aside(move_id)
    }

    /// Puts what was made aside in its place: durable once this returns.
    pub(super) fn settle(&self, aside: &Path, made: &[Made]) -> Result<(), StoreError> {
        match self {
            Self::Here(folder) => folder.settle(made)?,
            Self::Elsewhere(elsewhere) => elsewhere.settle(made)?,
        }
        self.folder().leave(aside)
    }

    /// Where files can be read, in their order, until others are asked for.
    pub(super) fn fetch(&self, files: &[Listed]) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Self::Here(folder) => Ok(files.iter().map(|file| folder.path(&file.path)).collect()),
            Self::Elsewhere(elsewhere) => elsewhere.fetch(files),
        }
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), StoreError> {
        if let Self::Elsewhere(elsewhere) = self {
            elsewhere.remove(path)?;
        }
        self.folder().remove(path)
    }

    /// Removes files of moves that were not committed: named like those of a
    /// move, and not listed.
    pub(super) fn clean(
        &self,
        tables: &[&str],
        listed: &HashSet<String>,
    ) -> Result<(), StoreError> {
        self.folder().clean_aside()?;
        for table in tables {
            let there = match self {
                Self::Here(folder) => folder.below(table)?,
                Self::Elsewhere(elsewhere) => elsewhere.below(table)?,
            };
            for path in there.iter().filter(|path| is_own(path) && !listed.contains(*path)) {
                tracing::warn!(path, "left over from a crash: removed");
                self.remove(path)?;
            }
        }
        Ok(())
    }

    fn folder(&self) -> &Folder {
        match self {
            Self::Here(folder) => folder,
            Self::Elsewhere(elsewhere) => elsewhere.cache(),
        }
    }
}
