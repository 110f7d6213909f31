use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use duckdb::Connection;
use object_store::Bucket;

use super::{
    files::{Folder, Made, failed},
    place::Listed,
};
use crate::StoreError;

/// The object that says whose lake it is.
const OWNER: &str = "owner";
/// Longest content of it, bytes.
const OWNER_BYTES_MAX: usize = 100;
/// All tables of the lake have a folder each.
const EVERYTHING: &str = "";

/// A lake in a bucket, with a folder of copies: DuckDB reads files of this machine. Objects
/// are never changed, so a copy of the same size is the object.
#[derive(Debug)]
pub(super) struct Elsewhere {
    bucket: Bucket,
    cache: Folder,
    cache_bytes_max: u64,
}

impl Elsewhere {
    pub(super) fn open(
        address: &str,
        settings: &object_store::Settings,
        cache: Folder,
        cache_bytes_max: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self { bucket: Bucket::open(address, settings)?, cache, cache_bytes_max })
    }

    pub(super) const fn cache(&self) -> &Folder {
        &self.cache
    }

    /// Leaves the mark of this DuckDB file, or finds it: a move removes what its own file
    /// does not list, and must not find another's.
    pub(super) fn claim(&self, connection: &Connection) -> Result<(), StoreError> {
        connection.execute_batch(
            "INSERT INTO meta.lake_owner SELECT uuid()::VARCHAR
             WHERE NOT EXISTS (SELECT 1 FROM meta.lake_owner)",
        )?;
        let sql = "SELECT id FROM meta.lake_owner";
        let own: String = connection.query_row(sql, [], |row| row.get(0))?;
        let read = || self.bucket.get(OWNER, OWNER_BYTES_MAX).map_err(|error| self.failed(error));
        if read()?.is_none() {
            self.bucket.create(OWNER, own.as_bytes()).map_err(|error| self.failed(error))?;
        }
        if read()?.is_some_and(|found| found == own.as_bytes()) {
            return Ok(());
        }
        Err(StoreError::LakeTaken { place: self.bucket.place(), marker: OWNER })
    }

    pub(super) fn settle(&self, made: &[Made]) -> Result<(), StoreError> {
        let files = made.iter().map(|made| (made.below.clone(), made.from.clone()));
        self.bucket.upload(&files.collect::<Vec<_>>()).map_err(|error| self.failed(error))
    }

    /// Fetches what is not in the cache, after what was used longest ago has made room.
    pub(super) fn fetch(&self, files: &[Listed]) -> Result<Vec<PathBuf>, StoreError> {
        let needed: u64 = files.iter().map(|file| file.bytes).sum();
        if needed > self.cache_bytes_max {
            return Err(StoreError::TooMuch {
                what: "bytes of the lake",
                found: needed,
                max: self.cache_bytes_max,
                hint: "ask for fewer tables, zones or days (--zone, --from, --to), or raise lake.cache_bytes_max",
            });
        }
        self.make_room(files, needed)?;
        let paths: Vec<PathBuf> = files.iter().map(|file| self.cache.path(&file.path)).collect();
        let mut missing = Vec::new();
        for (file, path) in files.iter().zip(&paths) {
            let is_there = fs::metadata(path).is_ok_and(|meta| meta.len() == file.bytes);
            if is_there {
                // Used now: others make room first.
                let used = File::options().append(true).open(path);
                let used = used.and_then(|file| file.set_modified(SystemTime::now()));
                used.map_err(|source| failed(path, source))?;
            } else {
                missing.push((file.path.clone(), path.clone()));
            }
        }
        if !missing.is_empty() {
            tracing::info!(files = missing.len(), "fetching from {}", self.bucket.place());
            self.bucket.download(&missing).map_err(|error| self.failed(error))?;
        }
        Ok(paths)
    }

    fn make_room(&self, files: &[Listed], needed: u64) -> Result<(), StoreError> {
        let wanted: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let mut others = Vec::new();
        for path in self.cache.below(EVERYTHING)? {
            if !wanted.contains(path.as_str()) {
                let full = self.cache.path(&path);
                let about = |full: &Path| -> io::Result<(SystemTime, u64)> {
                    let meta = fs::metadata(full)?;
                    Ok((meta.modified()?, meta.len()))
                };
                let (used, bytes) = about(&full).map_err(|source| failed(&full, source))?;
                others.push((used, bytes, path));
            }
        }
        others.sort_unstable();
        let mut taken = needed + others.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, bytes, path) in others {
            if taken <= self.cache_bytes_max {
                break;
            }
            self.cache.remove(&path)?;
            taken -= bytes;
        }
        Ok(())
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), StoreError> {
        self.bucket.remove(path).map_err(|error| self.failed(error))
    }

    pub(super) fn below(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.bucket.keys(table).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Lake { place: self.bucket.place(), source }
    }
}
