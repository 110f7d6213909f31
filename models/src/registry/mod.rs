//! Registry: artifacts that never change, and a log of decisions that states which of them is
//! served.
//!
//! ```text
//! <task>/1.model, 2.model, …          versions
//! <task>/log/00000001.json, …         decisions, each with champion and challenger after it
//! ```
//!
//! The latest decision counts. It is one file, created atomically and only if no decision has its
//! number yet. A champion therefore changes at once or not at all, whoever else writes at the same
//! time and whenever the power fails. The decisions are also the audit log.
//!
//! # Layout
//! - [`store`]: where files are kept: a local folder or an object store
//! - [`decision_log`]: the log of decisions
//! - [`gate`]: the tests that a version must pass before it is served
//! - `error`: failures, each with a hint

pub mod decision_log;
mod error;
pub mod gate;
pub mod store;

use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

use crate::{
    ModelArtifact,
    artifact::{BYTES_MAX, ModelCard},
    dataset::encode_hex,
};
pub use decision_log::{DecisionKind, DecisionRecord, ModelAliases, VersionRef};
pub use error::RegistryError;
pub use gate::{ChampionTrial, GateVerdict, PromotionGate};
use store::{FolderStore, RegistryStore};

/// Number of attempts to append a decision while other processes append too.
const TRIES_MAX: usize = 20;

/// Author of a decision and the reason.
#[derive(Clone, Copy, Debug)]
pub struct DecisionAuthor<'a> {
    /// Name of the author, as in `anna@greenhouse` or `trainer watch`.
    pub who: &'a str,
    /// Reason, for people.
    pub why: &'a str,
}

/// A registry. Clones share it, and so can several processes.
#[derive(Clone, Debug)]
pub struct ModelRegistry {
    store: Arc<dyn RegistryStore>,
}

impl ModelRegistry {
    /// Opens the registry in the folder `dir`, which is created with the first artifact.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::in_store(Arc::new(FolderStore::new(dir)))
    }

    /// Opens the registry in `store`.
    #[must_use]
    pub fn in_store(store: Arc<dyn RegistryStore>) -> Self {
        Self { store }
    }

    /// Returns the tasks that have versions or decisions, in order.
    ///
    /// # Errors
    /// Fails with [`RegistryError::Io`].
    pub fn list_tasks(&self) -> Result<Vec<String>, RegistryError> {
        let mut tasks = self.store.list_names("").map_err(|source| self.io_error("", source))?;
        tasks.retain(|name| check_task(name).is_ok());
        tasks.sort_unstable();
        Ok(tasks)
    }

    /// Stores an artifact as the next version, whole or not at all. Returns its number.
    ///
    /// # Errors
    /// [`RegistryError::Unwritable`], [`RegistryError::BadTask`],
    /// [`RegistryError::Busy`], [`RegistryError::Io`].
    pub fn add_version(
        &self,
        artifact: &ModelArtifact,
        by: DecisionAuthor,
    ) -> Result<u64, RegistryError> {
        let task = &artifact.card.task;
        check_task(task)?;
        let unwritable = |source| RegistryError::Unwritable { task: task.clone(), source };
        let bytes = artifact.to_bytes().map_err(unwritable)?;
        for _ in 0..TRIES_MAX {
            let there = self.list_versions(task)?.last().copied().unwrap_or_default();
            let version = self.current_aliases(task)?.newest.max(there) + 1;
            let key = model_key(task, version);
            if !self.store.create_new(&key, &bytes).map_err(|source| self.io_error(&key, source))? {
                continue;
            }
            self.append_decision(task, version, DecisionKind::Kept, by, None, |aliases| {
                aliases.newest = aliases.newest.max(version);
                Ok(())
            })?;
            return Ok(version);
        }
        Err(RegistryError::Busy { task: task.clone(), tries: TRIES_MAX })
    }

    /// Returns the versions of a task, in order.
    ///
    /// # Errors
    /// [`RegistryError::Io`], [`RegistryError::BadTask`].
    pub fn list_versions(&self, task: &str) -> Result<Vec<u64>, RegistryError> {
        check_task(task)?;
        let names = self.store.list_names(task).map_err(|source| self.io_error(task, source))?;
        let number = |name: &String| name.strip_suffix(".model")?.parse().ok();
        let mut versions: Vec<u64> = names.iter().filter_map(number).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Reads an artifact and checks it.
    ///
    /// # Errors
    /// [`RegistryError::NoVersion`], [`RegistryError::Refused`],
    /// [`RegistryError::Io`].
    pub fn load_artifact(&self, task: &str, version: u64) -> Result<ModelArtifact, RegistryError> {
        let bytes = self.read_version_bytes(task, version)?;
        let refuse =
            |why| RegistryError::Refused { key: self.describe_key(&model_key(task, version)), why };
        let artifact = ModelArtifact::from_bytes(&bytes).map_err(refuse)?;
        if artifact.card.task != task {
            return Err(refuse(format!("it is of the task {}", artifact.card.task)));
        }
        Ok(artifact)
    }

    /// Reads the description of an artifact, without the model, and the size of its file in bytes.
    ///
    /// # Errors
    /// As [`ModelRegistry::load_artifact`].
    pub fn load_card(&self, task: &str, version: u64) -> Result<(ModelCard, usize), RegistryError> {
        let bytes = self.read_version_bytes(task, version)?;
        let refuse =
            |why| RegistryError::Refused { key: self.describe_key(&model_key(task, version)), why };
        ModelCard::from_bytes(&bytes).map(|card| (card, bytes.len())).map_err(refuse)
    }

    /// Returns the location of a key, for messages.
    fn describe_key(&self, key: &str) -> String {
        format!("{}/{key}", self.store.location())
    }

    fn io_error(&self, key: &str, source: std::io::Error) -> RegistryError {
        RegistryError::Io { key: self.describe_key(key), source }
    }

    /// Reads the bytes of a version's file.
    fn read_version_bytes(&self, task: &str, version: u64) -> Result<Vec<u8>, RegistryError> {
        check_task(task)?;
        let key = model_key(task, version);
        match self.store.get(&key).map_err(|source| self.io_error(&key, source))? {
            Some(bytes) if bytes.len() <= BYTES_MAX => self.check_chosen(task, version, bytes),
            Some(_) => {
                let why = format!("it is larger than {BYTES_MAX} bytes");
                Err(RegistryError::Refused { key: self.describe_key(&key), why })
            }
            None => Err(RegistryError::NoVersion {
                task: task.to_owned(),
                version,
                known: self.list_versions(task)?,
            }),
        }
    }

    /// Refuses bytes that are not those that the log has of this version, before anything
    /// in them is read.
    fn check_chosen(
        &self,
        task: &str,
        version: u64,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, RegistryError> {
        let expected =
            self.current_aliases(task)?.find_version(version).map(|slot| slot.sha256.clone());
        let Some(expected) = expected else { return Ok(bytes) };
        match sha256_hex(&bytes) {
            found if found == expected => Ok(bytes),
            found => Err(RegistryError::Refused {
                key: self.describe_key(&model_key(task, version)),
                why: format!(
                    "it is another model than the one that was chosen, or was changed since: its \
                     checksum (SHA-256) is {found}, and the log has {expected}"
                ),
            }),
        }
    }

    /// Returns the present champion and challenger of a task.
    ///
    /// # Errors
    /// [`RegistryError::Log`], [`RegistryError::Io`],
    /// [`RegistryError::BadTask`].
    pub fn current_aliases(&self, task: &str) -> Result<ModelAliases, RegistryError> {
        Ok(self.newest_decision(task)?.map(|entry| entry.aliases).unwrap_or_default())
    }

    /// Returns the version that is served, if there is one.
    ///
    /// # Errors
    /// As [`ModelRegistry::current_aliases`].
    pub fn champion_version(&self, task: &str) -> Result<Option<u64>, RegistryError> {
        Ok(self.current_aliases(task)?.champion.map(|slot| slot.version))
    }

    /// Returns the last `most` decisions, latest first.
    ///
    /// # Errors
    /// As [`ModelRegistry::current_aliases`].
    pub fn recent_decisions(
        &self,
        task: &str,
        most: usize,
    ) -> Result<Vec<DecisionRecord>, RegistryError> {
        let newest = self.newest_decision(task)?.map_or(0, |entry| entry.number);
        let numbers = (1..=newest).rev().take(most);
        numbers.filter_map(|number| self.read_decision(task, number).transpose()).collect()
    }

    fn newest_decision(&self, task: &str) -> Result<Option<DecisionRecord>, RegistryError> {
        check_task(task)?;
        let folder = format!("{task}/log");
        let names =
            self.store.list_names(&folder).map_err(|source| self.io_error(&folder, source))?;
        let numbers = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        numbers.max().map_or(Ok(None), |number| self.read_decision(task, number))
    }

    fn read_decision(
        &self,
        task: &str,
        number: u64,
    ) -> Result<Option<DecisionRecord>, RegistryError> {
        let key = log_key(task, number);
        let Some(bytes) = self.store.get(&key).map_err(|source| self.io_error(&key, source))?
        else {
            return Ok(None);
        };
        let refuse = |why| RegistryError::Log { key: self.describe_key(&key), why };
        let entry: DecisionRecord =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        match entry.number == number {
            true => Ok(Some(entry)),
            false => Err(refuse(format!("it is number {}", entry.number))),
        }
    }

    /// Appends a decision. Calls `change` again if another process appended one first.
    fn append_decision(
        &self,
        task: &str,
        version: u64,
        what: DecisionKind,
        by: DecisionAuthor,
        evidence: Option<&GateVerdict>,
        change: impl Fn(&mut ModelAliases) -> Result<(), RegistryError>,
    ) -> Result<DecisionRecord, RegistryError> {
        for _ in 0..TRIES_MAX {
            let last = self.newest_decision(task)?;
            let number = last.as_ref().map_or(0, |entry| entry.number) + 1;
            let mut aliases = last.map(|entry| entry.aliases).unwrap_or_default();
            change(&mut aliases)?;
            if evidence.is_some() {
                aliases.note_verdict(version, number);
            }
            let entry = DecisionRecord {
                number,
                at_ms: now_ms(),
                who: by.who.to_owned(),
                what,
                version,
                why: by.why.to_owned(),
                evidence: evidence.cloned(),
                aliases,
            };
            let json = serde_json::to_vec_pretty(&entry).expect("an entry has a JSON form");
            let key = log_key(task, number);
            if self.store.create_new(&key, &json).map_err(|source| self.io_error(&key, source))? {
                return Ok(entry);
            }
        }
        Err(RegistryError::Busy { task: task.to_owned(), tries: TRIES_MAX })
    }

    fn checked_version_ref(&self, task: &str, version: u64) -> Result<VersionRef, RegistryError> {
        // It must be whole, and say what it said.
        self.load_artifact(task, version)?;
        Ok(VersionRef { version, sha256: sha256_hex(&self.read_version_bytes(task, version)?) })
    }

    /// Applies the gate's verdict: a version that passed becomes champion, any other becomes
    /// challenger. So does a version that was compared with a champion that has been replaced
    /// since.
    ///
    /// # Errors
    /// As [`ModelRegistry::load_artifact`] and [`ModelRegistry::current_aliases`]; the champion
    /// then stays.
    pub fn propose_version(
        &self,
        task: &str,
        version: u64,
        verdict: &GateVerdict,
        who: &str,
    ) -> Result<DecisionRecord, RegistryError> {
        let slot = self.checked_version_ref(task, version)?;
        if verdict.passed {
            let by = DecisionAuthor { who, why: &verdict.reason() };
            let moved = |aliases: &mut ModelAliases| {
                if !self.is_against_champion(task, aliases, verdict) {
                    return Err(gate_closed_error(task, version, Some(verdict.clone())));
                }
                aliases.promote_version(slot.clone());
                Ok(())
            };
            match self.append_decision(
                task,
                version,
                DecisionKind::Promoted,
                by,
                Some(verdict),
                moved,
            ) {
                Err(RegistryError::Gate { .. }) => {}
                done => return done,
            }
        }
        let why = match verdict.passed {
            true => "the champion changed during the comparison".to_owned(),
            false => verdict.reason(),
        };
        self.append_decision(
            task,
            version,
            DecisionKind::Held,
            DecisionAuthor { who, why: &why },
            Some(verdict),
            |aliases| {
                aliases.challenger = Some(slot.clone());
                Ok(())
            },
        )
    }

    /// Makes a version champion if it passed the gate against the present champion. With `force`,
    /// promotes any intact version, and the log records that it was forced.
    ///
    /// # Errors
    /// [`RegistryError::Gate`] with the gate's last verdict, or as [`ModelRegistry::load_artifact`]
    /// and [`ModelRegistry::current_aliases`]; the champion then stays.
    pub fn promote_version(
        &self,
        task: &str,
        version: u64,
        by: DecisionAuthor,
        force: bool,
    ) -> Result<DecisionRecord, RegistryError> {
        let slot = self.checked_version_ref(task, version)?;
        let verdict = self.last_verdict(task, version)?;
        let what = if force { DecisionKind::Forced } else { DecisionKind::Promoted };
        self.append_decision(task, version, what, by, verdict.as_ref(), |aliases| {
            let passed =
                |own: &GateVerdict| own.passed && self.is_against_champion(task, aliases, own);
            if !force && !verdict.as_ref().is_some_and(passed) {
                let verdict = verdict.clone().filter(|own| !own.passed);
                return Err(gate_closed_error(task, version, verdict));
            }
            aliases.promote_version(slot.clone());
            Ok(())
        })
    }

    /// Returns the gate's last verdict on a version, if the version was evaluated.
    ///
    /// # Errors
    /// As [`ModelRegistry::current_aliases`].
    pub fn last_verdict(
        &self,
        task: &str,
        version: u64,
    ) -> Result<Option<GateVerdict>, RegistryError> {
        let aliases = self.current_aliases(task)?;
        let number = aliases.judged.iter().find(|judged| judged.version == version);
        let entry = number.map_or(Ok(None), |judged| self.read_decision(task, judged.entry))?;
        Ok(entry.and_then(|entry| entry.evidence))
    }

    /// Returns whether a verdict compares with the present champion. A damaged entry refuses
    /// nobody.
    fn is_against_champion(
        &self,
        task: &str,
        aliases: &ModelAliases,
        verdict: &GateVerdict,
    ) -> bool {
        let champion = aliases.champion.as_ref().map(|slot| slot.version);
        let is_damaged = |version| {
            matches!(
                self.load_artifact(task, version),
                Err(RegistryError::Refused { .. } | RegistryError::NoVersion { .. })
            )
        };
        champion == verdict.against || champion.is_some_and(is_damaged)
    }

    /// Makes the previous champion champion again. Returns its version.
    ///
    /// # Errors
    /// [`RegistryError::NoHistory`], or as [`ModelRegistry::load_artifact`] and
    /// [`ModelRegistry::current_aliases`]; the champion then stays.
    pub fn rollback_champion(&self, task: &str, by: DecisionAuthor) -> Result<u64, RegistryError> {
        let none = || RegistryError::NoHistory { task: task.to_owned() };
        let before = self.current_aliases(task)?.before.pop().ok_or_else(none)?;
        self.load_artifact(task, before.version)?;
        self.append_decision(
            task,
            before.version,
            DecisionKind::RolledBack,
            by,
            None,
            |aliases| {
                match aliases.before.pop() {
                    Some(slot) if slot == before => aliases.champion = Some(slot),
                    // Another process went back first.
                    _ => return Err(none()),
                }
                Ok(())
            },
        )?;
        Ok(before.version)
    }

    /// Returns the versions that [`ModelRegistry::remove_versions`] may remove: all but the
    /// champion, the challenger, the last `keep` champions and the latest `keep` versions.
    ///
    /// # Errors
    /// As [`ModelRegistry::current_aliases`].
    pub fn surplus_versions(&self, task: &str, keep: usize) -> Result<Vec<u64>, RegistryError> {
        let aliases = self.current_aliases(task)?;
        let mut versions = self.list_versions(task)?;
        versions.truncate(versions.len().saturating_sub(keep));
        let before = aliases.before.iter().rev().take(keep);
        let kept: Vec<u64> = aliases
            .champion
            .iter()
            .chain(&aliases.challenger)
            .chain(before)
            .map(|slot| slot.version)
            .collect();
        versions.retain(|version| !kept.contains(version));
        Ok(versions)
    }

    /// Removes versions, and files whose writing began long ago and never finished. Champion and
    /// challenger stay, even if they were promoted in the meantime.
    ///
    /// # Errors
    /// As [`ModelRegistry::current_aliases`].
    pub fn remove_versions(
        &self,
        task: &str,
        versions: &[u64],
        by: DecisionAuthor,
    ) -> Result<(), RegistryError> {
        for version in versions {
            let version = *version;
            let is_gone = |slot: &VersionRef| slot.version == version;
            let decided =
                self.append_decision(task, version, DecisionKind::Removed, by, None, |aliases| {
                    if aliases.champion.iter().chain(&aliases.challenger).any(is_gone) {
                        return Err(gate_closed_error(task, version, None));
                    }
                    aliases.before.retain(|slot| !is_gone(slot));
                    Ok(())
                });
            match decided {
                Err(RegistryError::Gate { .. }) => continue,
                decided => decided?,
            };
            let key = model_key(task, version);
            self.store.remove_key(&key).map_err(|source| self.io_error(&key, source))?;
        }
        for folder in [task.to_owned(), format!("{task}/log")] {
            self.store
                .remove_unfinished(&folder)
                .map_err(|source| self.io_error(&folder, source))?;
        }
        Ok(())
    }
}

fn model_key(task: &str, version: u64) -> String {
    format!("{task}/{version}.model")
}

fn log_key(task: &str, number: u64) -> String {
    format!("{task}/log/{number:08}.json")
}

/// Checks the name of a task, which becomes the name of a folder.
fn check_task(task: &str) -> Result<(), RegistryError> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match (1..=100).contains(&task.len()) && task.bytes().all(known) {
        true => Ok(()),
        false => Err(RegistryError::BadTask(task.chars().take(100).collect())),
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    encode_hex(&Sha256::digest(bytes))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Returns the error for a version that did not pass the gate.
fn gate_closed_error(task: &str, version: u64, verdict: Option<GateVerdict>) -> RegistryError {
    RegistryError::Gate { task: task.to_owned(), version, verdict: verdict.map(Box::new) }
}
