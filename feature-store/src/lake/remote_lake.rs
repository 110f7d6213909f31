use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use object_store::Bucket;

use super::{
    lake_directory::{LakeDirectory, StagedFile, directory_error},
    ownership::{OWNER_BYTES_MAX, OWNER_FILE},
    storage::ListedFile,
};
use crate::StoreError;

/// Prefix for objects that are not listed.
pub(super) const QUARANTINE_KEY: &str = "orphans";
/// Prefix that contains the folders of all tables.
const ALL_TABLES: &str = "";

/// A lake in a bucket, with a local folder of copies for DuckDB to read. Objects never change, so
/// a copy of the same size is up to date.
#[derive(Debug)]
pub(super) struct RemoteLake {
    bucket: Bucket,
    cache: LakeDirectory,
    cache_bytes_max: u64,
}

impl RemoteLake {
    pub(super) fn open(
        address: &str,
        settings: &object_store::Settings,
        cache: LakeDirectory,
        cache_bytes_max: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self { bucket: Bucket::open(address, settings)?, cache, cache_bytes_max })
    }

    pub(super) const fn cache(&self) -> &LakeDirectory {
        &self.cache
    }

    pub(super) fn display_name(&self) -> String {
        self.bucket.place()
    }

    pub(super) fn read_owner(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.bucket.get(OWNER_FILE, OWNER_BYTES_MAX).map_err(|error| self.remote_error(error))
    }

    /// Creates the owner mark if the lake has none.
    pub(super) fn create_owner(&self, owner: &str) -> Result<(), StoreError> {
        self.bucket
            .create(OWNER_FILE, owner.as_bytes())
            .map_err(|error| self.remote_error(error))?;
        Ok(())
    }

    pub(super) fn remove_owner(&self) -> Result<(), StoreError> {
        self.bucket.remove(OWNER_FILE).map_err(|error| self.remote_error(error))
    }

    /// Moves an object to the quarantine.
    pub(super) fn quarantine_object(&self, path: &str) -> Result<(), StoreError> {
        let here = self.cache.full_path(path);
        let fetched = self.bucket.download(&[(path.to_owned(), here.clone())]);
        fetched.map_err(|error| self.remote_error(error))?;
        let mut quarantined = format!("{QUARANTINE_KEY}/{path}");
        let there = self.list_objects(QUARANTINE_KEY)?;
        let mut copies = 0;
        while there.contains(&quarantined) {
            copies += 1;
            quarantined = format!("{QUARANTINE_KEY}/{path}.{copies}");
        }
        self.bucket.upload(&[(quarantined, here)]).map_err(|error| self.remote_error(error))?;
        self.remove_object(path)?;
        self.cache.remove_file(path)
    }

    /// Fetches one object whose size is not known; returns its local path and size.
    pub(super) fn fetch_unlisted(&self, path: &str) -> Result<(PathBuf, u64), StoreError> {
        let here = self.cache.full_path(path);
        let fetched = self.bucket.download(&[(path.to_owned(), here.clone())]);
        fetched.map_err(|error| self.remote_error(error))?;
        let bytes = fs::metadata(&here).map_err(|source| directory_error(&here, source))?.len();
        Ok((here, bytes))
    }

    pub(super) fn upload_staged(&self, staged: &[StagedFile]) -> Result<(), StoreError> {
        let files = staged.iter().map(|file| (file.below.clone(), file.from.clone()));
        self.bucket.upload(&files.collect::<Vec<_>>()).map_err(|error| self.remote_error(error))
    }

    /// Fetches files that are not cached, after evicting the least recently used ones to make
    /// room.
    pub(super) fn fetch_to_cache(&self, files: &[ListedFile]) -> Result<Vec<PathBuf>, StoreError> {
        let needed: u64 = files.iter().map(|file| file.bytes).sum();
        if needed > self.cache_bytes_max {
            return Err(StoreError::LimitExceeded {
                what: "bytes of the lake",
                found: needed,
                max: self.cache_bytes_max,
                hint: "request fewer tables, zones or days (--zone, --from, --to), or raise lake.cache_bytes_max",
            });
        }
        self.evict_cached(files, needed)?;
        let paths: Vec<PathBuf> =
            files.iter().map(|file| self.cache.full_path(&file.path)).collect();
        let mut missing = Vec::new();
        for (file, path) in files.iter().zip(&paths) {
            let is_there = fs::metadata(path).is_ok_and(|meta| meta.len() == file.bytes);
            if is_there {
                // Mark it as used now, so that others are evicted first.
                let opened = File::options().append(true).open(path);
                let touched = opened.and_then(|file| file.set_modified(SystemTime::now()));
                touched.map_err(|source| directory_error(path, source))?;
            } else {
                missing.push((file.path.clone(), path.clone()));
            }
        }
        if !missing.is_empty() {
            tracing::info!(files = missing.len(), "fetching from {}", self.bucket.place());
            self.bucket.download(&missing).map_err(|error| self.remote_error(error))?;
        }
        Ok(paths)
    }

    fn evict_cached(&self, files: &[ListedFile], needed: u64) -> Result<(), StoreError> {
        let wanted: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let mut others = Vec::new();
        for path in self.cache.list_parquet_files(ALL_TABLES)? {
            if !wanted.contains(path.as_str()) {
                let full = self.cache.full_path(&path);
                let about = |full: &Path| -> io::Result<(SystemTime, u64)> {
                    let meta = fs::metadata(full)?;
                    Ok((meta.modified()?, meta.len()))
                };
                let (used, bytes) =
                    about(&full).map_err(|source| directory_error(&full, source))?;
                others.push((used, bytes, path));
            }
        }
        others.sort_unstable();
        let mut taken = needed + others.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, bytes, path) in others {
            if taken <= self.cache_bytes_max {
                break;
            }
            self.cache.remove_file(&path)?;
            taken -= bytes;
        }
        Ok(())
    }

    pub(super) fn remove_object(&self, path: &str) -> Result<(), StoreError> {
        self.bucket.remove(path).map_err(|error| self.remote_error(error))
    }

    pub(super) fn list_objects(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.bucket.keys(table).map_err(|error| self.remote_error(error))
    }

    fn remote_error(&self, source: io::Error) -> StoreError {
        StoreError::Lake { place: self.bucket.place(), source }
    }
}
