//! The registry: artifacts that never change, and a log of decisions that says
//! which of them is served.
//!
//! ```text
//! <task>/1.model, 2.model, …          versions
//! <task>/log/00000001.json, …         decisions, each with who is who after it
//! ```
//!
//! The newest decision counts. It is one file, created whole where there was
//! none of its number, so that a champion changes at once or not at all,
//! whoever else writes at the same time and whenever the power fails; and the
//! decisions are the audit log.
//!
//! # Layout
//! - [`store`]: where it lies: a local folder, or objects elsewhere
//! - `log`: decisions
//! - [`gate`]: what a version must show before it is served
//! - `error`: what can go wrong, and what to do

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

/// Attempts at a decision while others decide too.
const TRIES_MAX: usize = 20;

/// Who decides, and why.
#[derive(Clone, Copy, Debug)]
pub struct DecisionAuthor<'a> {
    /// As in `anna@greenhouse` or `trainer watch`.
    pub who: &'a str,
    /// For people.
    pub why: &'a str,
}

/// A registry. Clones share it; so do processes.
#[derive(Clone, Debug)]
pub struct ModelRegistry {
    store: Arc<dyn RegistryStore>,
}

impl ModelRegistry {
    /// The registry in the folder `dir`, which is made with the first artifact.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::in_store(Arc::new(FolderStore::new(dir)))
    }

    /// The registry in `store`.
    #[must_use]
    pub fn in_store(store: Arc<dyn RegistryStore>) -> Self {
        Self { store }
    }

    /// The tasks that have versions or decisions, in order.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn list_tasks(&self) -> Result<Vec<String>, RegistryError> {
        let mut tasks = self.store.list_names("").map_err(|source| self.io_error("", source))?;
        tasks.retain(|name| check_task(name).is_ok());
        tasks.sort_unstable();
        Ok(tasks)
    }

    /// Keeps an artifact as the next version, whole or not at all; returns its
    /// number.
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

    /// The versions of a task, in order.
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

    /// Reads what an artifact says of itself, without the model.
    ///
    /// # Errors
    /// As [`ModelRegistry::load_artifact`].
    pub fn load_card(&self, task: &str, version: u64) -> Result<(ModelCard, usize), RegistryError> {
        let bytes = self.read_version_bytes(task, version)?;
        let refuse =
            |why| RegistryError::Refused { key: self.describe_key(&model_key(task, version)), why };
        ModelCard::from_bytes(&bytes).map(|card| (card, bytes.len())).map_err(refuse)
    }

    /// For messages.
    fn describe_key(&self, key: &str) -> String {
        format!("{}/{key}", self.store.location())
    }

    fn io_error(&self, key: &str, source: std::io::Error) -> RegistryError {
        RegistryError::Io { key: self.describe_key(key), source }
    }

    /// The bytes of a version's file.
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

    /// Who is who now.
    ///
    /// # Errors
    /// [`RegistryError::Log`], [`RegistryError::Io`],
    /// [`RegistryError::BadTask`].
    pub fn current_aliases(&self, task: &str) -> Result<ModelAliases, RegistryError> {
        Ok(self.newest_decision(task)?.map(|entry| entry.aliases).unwrap_or_default())
    }

    /// The version that is served, if there is one.
    ///
    /// # Errors
    /// As [`ModelRegistry::current_aliases`].
    pub fn champion_version(&self, task: &str) -> Result<Option<u64>, RegistryError> {
        Ok(self.current_aliases(task)?.champion.map(|slot| slot.version))
    }

    /// The last `most` decisions, newest first.
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

    /// Adds a decision; `change` is asked again where another came first.
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

    /// Does as the gate says: a version that passed becomes champion, another
    /// becomes challenger. So does one that was compared with a champion that
    /// is none any more.
    ///
    /// # Errors
    /// As [`ModelRegistry::load_artifact`] and [`ModelRegistry::current_aliases`]; the champion stays then.
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

    /// Makes a version champion that passed the gate against the present one;
    /// with `force` any that is whole, which is recorded as such.
    ///
    /// # Errors
    /// [`RegistryError::PromotionGate`] with what the gate said last, or as
    /// [`ModelRegistry::load_artifact`] and [`ModelRegistry::current_aliases`]; the champion stays then.
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

    /// What the gate said last of a version, if it was asked.
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

    /// Whether a verdict was made against the present champion. One that is
    /// damaged holds nobody back.
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

    /// Makes the champion before this one champion again; returns its version.
    ///
    /// # Errors
    /// [`RegistryError::NoHistory`], or as [`ModelRegistry::load_artifact`] and
    /// [`ModelRegistry::current_aliases`]; the champion stays then.
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

    /// The versions that [`ModelRegistry::remove`] may take: all but the champion,
    /// the challenger, the last `keep` champions and the newest `keep`.
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

    /// Removes versions, and what was begun long ago and never finished.
    /// Champion and challenger stay, even where they became so meanwhile.
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

/// Names of tasks become names of files.
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

/// The gate did not open.
fn gate_closed_error(task: &str, version: u64, verdict: Option<GateVerdict>) -> RegistryError {
    RegistryError::Gate { task: task.to_owned(), version, verdict: verdict.map(Box::new) }
}
