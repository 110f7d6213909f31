//! Storage of artifacts and decisions.

use std::{
    fmt::Debug,
    fs::{self, File},
    io::{Error, ErrorKind, Read, Result, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::artifact::BYTES_MAX;

/// Age after which an unfinished file is abandoned.
const UNFINISHED: Duration = Duration::from_secs(3600);
/// Prefix of the names of unfinished files.
const PREFIX: &str = ".unfinished-";

/// Storage of named objects that exist whole or not at all, and never change. Keys are
/// `folder/name`. One operation suffices for all writes: create an object that did not exist
/// before. S3 has it (`If-None-Match: *`), and so do files.
pub trait RegistryStore: Debug + Send + Sync {
    /// Returns the location for messages: a path or an address, without a slash at its end.
    fn location(&self) -> String;

    /// Reads the object under `key`, or returns `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if the object cannot be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Creates the object `key`. Returns false if it already exists; the existing object stays
    /// unchanged. Once this returns, the object survives a loss of power.
    ///
    /// # Errors
    /// Fails if the object cannot be written; it may exist nevertheless.
    fn create_new(&self, key: &str, bytes: &[u8]) -> Result<bool>;

    /// Returns the names of objects and folders directly in `folder` (`""` for the root), in no
    /// particular order; empty if the folder does not exist.
    ///
    /// # Errors
    /// Fails if the folder cannot be listed.
    fn list_names(&self, folder: &str) -> Result<Vec<String>>;

    /// Removes the object `key` if it exists.
    ///
    /// # Errors
    /// Fails if the object cannot be removed.
    fn remove_key(&self, key: &str) -> Result<()>;

    /// Removes abandoned unfinished files in `folder`. Returns how many.
    ///
    /// # Errors
    /// Fails if a file cannot be removed.
    fn remove_unfinished(&self, folder: &str) -> Result<usize>;
}

/// A local folder.
#[derive(Clone, Debug)]
pub struct FolderStore {
    dir: PathBuf,
}

impl FolderStore {
    /// Opens the folder `dir`, which is created with the first object.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn key_path(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }
}

impl RegistryStore for FolderStore {
    fn location(&self) -> String {
        self.dir.display().to_string()
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let file = match File::open(self.key_path(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // One byte more than any object of ours has says that it is none.
        let mut bytes = Vec::new();
        file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn create_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.key_path(key);
        let folder = path.parent().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        make_folder(folder)?;
        let mut file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => File::open(folder)?.sync_all().map(|()| true),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.error),
        }
    }

    fn list_names(&self, folder: &str) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.key_path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let name = |entry: Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        let names = entries.map(name).collect::<Result<Vec<String>>>()?;
        Ok(names.into_iter().filter(|name| !name.starts_with('.')).collect())
    }

    fn remove_key(&self, key: &str) -> Result<()> {
        let path = self.key_path(key);
        match fs::remove_file(&path) {
            Ok(()) => File::open(path.parent().unwrap_or(&self.dir))?.sync_all(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remove_unfinished(&self, folder: &str) -> Result<usize> {
        let Ok(entries) = fs::read_dir(self.key_path(folder)) else { return Ok(0) };
        let mut removed = 0;
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            let begun = entry.metadata().and_then(|known| known.modified());
            let is_removed = begun.and_then(|begun| {
                let age = SystemTime::now().duration_since(begun).unwrap_or_default();
                let is_left = age > UNFINISHED;
                if is_left {
                    fs::remove_file(entry.path())?;
                }
                Ok(is_left)
            });
            match is_removed {
                Ok(is_removed) => removed += usize::from(is_removed),
                // Another process has finished or removed it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

/// Creates a folder whose name also survives a loss of power.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_created_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = FolderStore::new(&dir.path().join("a/b"));
        assert_eq!(store.get("t/1").unwrap(), None);
        assert!(store.list_names("t").unwrap().is_empty());
        assert!(store.create_new("t/1", b"one").unwrap());
        assert!(!store.create_new("t/1", b"two").unwrap(), "it is there already");
        assert_eq!(store.get("t/1").unwrap().unwrap(), b"one");
        let unfinished = dir.path().join("a/b/t/.unfinished-x");
        fs::write(&unfinished, b"ha").unwrap();
        assert_eq!(store.list_names("t").unwrap(), ["1"]);
        assert_eq!(store.remove_unfinished("t").unwrap(), 0, "someone may be writing it");
        let long_ago = SystemTime::now() - 2 * UNFINISHED;
        File::options().append(true).open(&unfinished).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(store.remove_unfinished("t").unwrap(), 1);
        store.remove_key("t/1").unwrap();
        store.remove_key("t/1").unwrap();
        assert_eq!(store.get("t/1").unwrap(), None);
    }
}
