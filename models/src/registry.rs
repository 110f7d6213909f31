//! The folder of artifacts: `<task>/<version>/model`, and in
//! `<task>/champion.json` which of them is served.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Artifact;

/// Versions that a champion's history remembers.
const HISTORY_MAX: usize = 100;

/// Why the registry could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An artifact is not what it should be.
    #[error(
        "{path}: this model is refused: {why}\nhint: train it again with `trainer compare`; the champion stays"
    )]
    Refused {
        /// The artifact.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// There is no such version.
    #[error("{task}: there is no version {version}{}", only(.known))]
    NoVersion {
        /// The task.
        task: String,
        /// The version.
        version: u64,
        /// Those that there are.
        known: Vec<u64>,
    },
    /// There is no earlier champion.
    #[error("{task}: there is no earlier champion to go back to")]
    NoHistory {
        /// The task.
        task: String,
    },
    /// A model that cannot be written.
    #[error("{task}: this model has no written form: {source}")]
    Unwritable {
        /// The task.
        task: String,
        /// What is missing.
        source: serde_json::Error,
    },
}

fn only(versions: &[u64]) -> String {
    let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
    if versions.is_empty() { String::new() } else { format!(", only {}", versions.join(", ")) }
}

/// A folder of artifacts.
#[derive(Clone, Debug)]
pub struct Registry {
    dir: PathBuf,
}

/// Who is champion, and who was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Champion {
    /// The version that is served.
    pub version: u64,
    /// The versions before it, oldest first.
    pub history: Vec<u64>,
}

impl Registry {
    /// The registry in `dir`, which is made with the first artifact.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn task_dir(&self, task: &str) -> PathBuf {
        self.dir.join(task)
    }

    fn artifact_path(&self, task: &str, version: u64) -> PathBuf {
        self.task_dir(task).join(version.to_string()).join("model")
    }

    /// Keeps an artifact as the next version; it is there whole or not at all.
    ///
    /// # Errors
    /// [`RegistryError::Io`], [`RegistryError::Unwritable`].
    pub fn keep(&self, artifact: &Artifact) -> Result<u64, RegistryError> {
        let task = &artifact.task;
        let bytes = artifact
            .to_bytes()
            .map_err(|source| RegistryError::Unwritable { task: task.clone(), source })?;
        let version = self.versions(task)?.last().map_or(1, |last| last + 1);
        let path = self.artifact_path(task, version);
        let folder = path.parent().expect("a model is in its version's folder");
        fs::create_dir_all(folder)
            .map_err(|source| RegistryError::Io { path: folder.into(), source })?;
        write_whole(&path, &bytes)?;
        Ok(version)
    }

    /// The versions of a task, in order.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn versions(&self, task: &str) -> Result<Vec<u64>, RegistryError> {
        let dir = self.task_dir(task);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(RegistryError::Io { path: dir, source }),
        };
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut versions: Vec<u64> = entries.flatten().filter_map(number).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Reads an artifact and checks it.
    ///
    /// # Errors
    /// [`RegistryError::NoVersion`], [`RegistryError::Refused`],
    /// [`RegistryError::Io`].
    pub fn load(&self, task: &str, version: u64) -> Result<Artifact, RegistryError> {
        let known = self.versions(task)?;
        if !known.contains(&version) {
            return Err(RegistryError::NoVersion { task: task.to_owned(), version, known });
        }
        Artifact::read(&self.artifact_path(task, version))
    }

    /// Who is champion of a task, if anyone.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] where the alias cannot be read.
    pub fn champion(&self, task: &str) -> Result<Option<Champion>, RegistryError> {
        let path = self.task_dir(task).join("champion.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RegistryError::Io { path, source }),
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| RegistryError::Refused { path, why: error.to_string() })
    }

    /// Makes a version champion, after reading and checking it, at once.
    ///
    /// # Errors
    /// As [`Registry::load`]; the champion stays then.
    pub fn promote(&self, task: &str, version: u64) -> Result<(), RegistryError> {
        self.load(task, version)?;
        let mut champion = match self.champion(task)? {
            Some(before) => {
                let mut history = before.history;
                history.push(before.version);
                Champion { version, history }
            }
            None => Champion { version, history: Vec::new() },
        };
        let surplus = champion.history.len().saturating_sub(HISTORY_MAX);
        champion.history.drain(..surplus);
        self.write_champion(task, &champion)
    }

    /// Makes the champion before this one champion again; returns its version.
    ///
    /// # Errors
    /// [`RegistryError::NoHistory`], or as [`Registry::promote`].
    pub fn rollback(&self, task: &str) -> Result<u64, RegistryError> {
        let none = || RegistryError::NoHistory { task: task.to_owned() };
        let Champion { mut history, .. } = self.champion(task)?.ok_or_else(none)?;
        let version = history.pop().ok_or_else(none)?;
        self.load(task, version)?;
        self.write_champion(task, &Champion { version, history })?;
        Ok(version)
    }

    fn write_champion(&self, task: &str, champion: &Champion) -> Result<(), RegistryError> {
        let json = serde_json::to_vec_pretty(champion).expect("numbers have a JSON form");
        write_whole(&self.task_dir(task).join("champion.json"), &json)
    }
}

/// Writes a file so that it is there whole or not at all, even if power fails.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let unfinished = path.with_extension("unfinished");
    let write = || {
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| RegistryError::Io { path: path.to_owned(), source })
}
