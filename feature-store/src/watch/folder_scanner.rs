use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 5] = ["csv", "jsonl", "ndjson", "json", "parquet"];

/// Identifies a file together with its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileVersion {
    /// Path below the folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Size and modification time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileMetadata {
    bytes: u64,
    modified: SystemTime,
}

/// Finds new files that no longer change.
#[derive(Debug)]
pub(super) struct FolderScanner {
    folder: PathBuf,
    settle: Duration,
    /// Metadata of each file, and since when it is unchanged.
    seen: HashMap<PathBuf, (FileMetadata, Instant)>,
    /// Metadata with which each file was read.
    read: HashMap<PathBuf, FileMetadata>,
    taken: HashSet<FileVersion>,
}

impl FolderScanner {
    pub(super) fn new(folder: &Path, settle: Duration, taken: Vec<FileVersion>) -> Self {
        let (folder, taken) = (folder.to_owned(), taken.into_iter().collect());
        Self { folder, settle, seen: HashMap::new(), read: HashMap::new(), taken }
    }

    /// Returns files at rest that were not read in their present state, sorted by name.
    pub(super) fn files_at_rest(&mut self, now: Instant) -> std::io::Result<Vec<PathBuf>> {
        let mut there = HashMap::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let known = path
                .extension()
                .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
            // A file may vanish after it was listed.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if !known || name.starts_with('.') || !meta.is_file() {
                continue;
            }
            let look = FileMetadata { bytes: meta.len(), modified: meta.modified()? };
            there.insert(path, look);
        }
        self.seen.retain(|path, _| there.contains_key(path));
        self.read.retain(|path, _| there.contains_key(path));
        let mut ready = Vec::new();
        for (path, look) in there {
            let (before, since) = self.seen.entry(path.clone()).or_insert((look, now));
            if *before != look {
                (*before, *since) = (look, now);
            }
            let rests = now.duration_since(*since) >= self.settle;
            if rests && self.read.get(&path) != Some(&look) {
                ready.push(path);
            }
        }
        ready.sort();
        Ok(ready)
    }

    /// Returns whether a file with this content was ingested.
    pub(super) fn is_ingested(&self, mark: &FileVersion) -> bool {
        self.taken.contains(mark)
    }

    /// Returns the ingested versions of a file, shortest first.
    pub(super) fn earlier_versions(&self, path: &str) -> Vec<&FileVersion> {
        let mut earlier: Vec<&FileVersion> =
            self.taken.iter().filter(|mark| mark.path == path).collect();
        earlier.sort_by_key(|mark| mark.bytes);
        earlier
    }

    /// Records that a file was read.
    pub(super) fn mark_read(&mut self, path: &Path, mark: FileVersion) {
        if let Some((look, _)) = self.seen.get(path) {
            self.read.insert(path.to_owned(), *look);
        }
        self.taken.insert(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_waits_until_it_rests_and_is_found_once() {
        let dir = tempfile::TempDir::new().unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut scan = FolderScanner::new(dir.path(), Duration::from_secs(2), Vec::new());
        let path = dir.path().join("a.csv");
        let mark =
            |sha256: &str| FileVersion { path: "a.csv".into(), bytes: 4, sha256: sha256.into() };
        std::fs::write(&path, "half").unwrap();
        std::fs::write(dir.path().join(".b.csv"), "hidden").unwrap();
        std::fs::write(dir.path().join("c.csv.tmp"), "another kind").unwrap();
        let none: Vec<PathBuf> = Vec::new();
        assert_eq!(scan.files_at_rest(at(0)).unwrap(), none);
        std::fs::write(&path, "half and more").unwrap();
        assert_eq!(scan.files_at_rest(at(2)).unwrap(), none, "it changed");
        assert_eq!(scan.files_at_rest(at(3)).unwrap(), none);
        assert_eq!(scan.files_at_rest(at(4)).unwrap(), std::slice::from_ref(&path));
        assert!(!scan.is_ingested(&mark("x")));
        scan.mark_read(&path, mark("x"));
        assert_eq!(scan.files_at_rest(at(9)).unwrap(), none, "it was read");
        std::fs::write(&path, "other").unwrap();
        assert_eq!(scan.files_at_rest(at(10)).unwrap(), none);
        assert_eq!(scan.files_at_rest(at(12)).unwrap(), std::slice::from_ref(&path));
        assert!(scan.is_ingested(&mark("x")) && !scan.is_ingested(&mark("y")));
    }
}
