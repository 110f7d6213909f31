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

mod error;
pub mod gate;
pub mod log;
pub mod store;

use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

use crate::{
    Artifact,
    artifact::{BYTES_MAX, Card},
    dataset::hex,
};
pub use error::RegistryError;
pub use gate::{Gate, Trial, Verdict};
pub use log::{Aliases, Entry, Slot, What};
use store::{Folder, Store};

/// Attempts at a decision while others decide too.
const TRIES_MAX: usize = 20;

/// Who decides, and why.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// As in `anna@greenhouse` or `trainer watch`.
    pub who: &'a str,
    /// For people.
    pub why: &'a str,
}

/// A registry. Clones share it; so do processes.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
}

impl Registry {
    /// The registry in the folder `dir`, which is made with the first artifact.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::in_store(Arc::new(Folder::new(dir)))
    }

    /// The registry in `store`.
    #[must_use]
    pub fn in_store(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The tasks that have versions or decisions, in order.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn tasks(&self) -> Result<Vec<String>, RegistryError> {
        let mut tasks = self.store.list("").map_err(|source| self.io("", source))?;
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
    pub fn keep(&self, artifact: &Artifact, by: By) -> Result<u64, RegistryError> {
        let task = &artifact.card.task;
        check_task(task)?;
        let unwritable = |source| RegistryError::Unwritable { task: task.clone(), source };
        let bytes = artifact.to_bytes().map_err(unwritable)?;
        for _ in 0..TRIES_MAX {
            let there = self.versions(task)?.last().copied().unwrap_or_default();
            let version = self.aliases(task)?.newest.max(there) + 1;
            let key = model_key(task, version);
            if !self.store.create(&key, &bytes).map_err(|source| self.io(&key, source))? {
                continue;
            }
            self.decide(task, version, What::Kept, by, None, |aliases| {
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
    pub fn versions(&self, task: &str) -> Result<Vec<u64>, RegistryError> {
        check_task(task)?;
        let names = self.store.list(task).map_err(|source| self.io(task, source))?;
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
    pub fn load(&self, task: &str, version: u64) -> Result<Artifact, RegistryError> {
        let bytes = self.bytes(task, version)?;
        let refuse = |why| RegistryError::Refused { key: self.at(&model_key(task, version)), why };
        let artifact = Artifact::from_bytes(&bytes).map_err(refuse)?;
        if artifact.card.task != task {
            return Err(refuse(format!("it is of the task {}", artifact.card.task)));
        }
        let expected = self.aliases(task)?.slot(version).map(|slot| slot.sha256.clone());
        let found = sha256(&bytes);
        match expected.filter(|expected| *expected != found) {
            Some(expected) => Err(refuse(format!(
                "it is another model than the one that was chosen: SHA-256 {found}, expected {expected}"
            ))),
            None => Ok(artifact),
        }
    }

    /// Reads what an artifact says of itself, without the model.
    ///
    /// # Errors
    /// As [`Registry::load`].
    pub fn card(&self, task: &str, version: u64) -> Result<(Card, usize), RegistryError> {
        let bytes = self.bytes(task, version)?;
        let refuse = |why| RegistryError::Refused { key: self.at(&model_key(task, version)), why };
        Card::from_bytes(&bytes).map(|card| (card, bytes.len())).map_err(refuse)
    }

    /// For messages.
    fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.store.place())
    }

    fn io(&self, key: &str, source: std::io::Error) -> RegistryError {
        RegistryError::Io { key: self.at(key), source }
    }

    /// The bytes of a version's file.
    fn bytes(&self, task: &str, version: u64) -> Result<Vec<u8>, RegistryError> {
        check_task(task)?;
        let key = model_key(task, version);
        match self.store.get(&key).map_err(|source| self.io(&key, source))? {
            Some(bytes) if bytes.len() <= BYTES_MAX => Ok(bytes),
            Some(bytes) => {
                let why = format!("{} bytes, expected at most {BYTES_MAX}", bytes.len());
                Err(RegistryError::Refused { key: self.at(&key), why })
            }
            None => Err(RegistryError::NoVersion {
                task: task.to_owned(),
                version,
                known: self.versions(task)?,
            }),
        }
    }

    /// Who is who now.
    ///
    /// # Errors
    /// [`RegistryError::Log`], [`RegistryError::Io`],
    /// [`RegistryError::BadTask`].
    pub fn aliases(&self, task: &str) -> Result<Aliases, RegistryError> {
        Ok(self.newest(task)?.map(|entry| entry.aliases).unwrap_or_default())
    }

    /// The version that is served, if there is one.
    ///
    /// # Errors
    /// As [`Registry::aliases`].
    pub fn champion(&self, task: &str) -> Result<Option<u64>, RegistryError> {
        Ok(self.aliases(task)?.champion.map(|slot| slot.version))
    }

    /// The last `most` decisions, newest first.
    ///
    /// # Errors
    /// As [`Registry::aliases`].
    pub fn log(&self, task: &str, most: usize) -> Result<Vec<Entry>, RegistryError> {
        let newest = self.newest(task)?.map_or(0, |entry| entry.number);
        let numbers = (1..=newest).rev().take(most);
        numbers.filter_map(|number| self.entry(task, number).transpose()).collect()
    }

    fn newest(&self, task: &str) -> Result<Option<Entry>, RegistryError> {
        check_task(task)?;
        let folder = format!("{task}/log");
        let names = self.store.list(&folder).map_err(|source| self.io(&folder, source))?;
        let numbers = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        numbers.max().map_or(Ok(None), |number| self.entry(task, number))
    }

    fn entry(&self, task: &str, number: u64) -> Result<Option<Entry>, RegistryError> {
        let key = log_key(task, number);
        let Some(bytes) = self.store.get(&key).map_err(|source| self.io(&key, source))? else {
            return Ok(None);
        };
        let refuse = |why| RegistryError::Log { key: self.at(&key), why };
        let entry: Entry =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        match entry.number == number {
            true => Ok(Some(entry)),
            false => Err(refuse(format!("it is number {}", entry.number))),
        }
    }

    /// Adds a decision; `change` is asked again where another came first.
    fn decide(
        &self,
        task: &str,
        version: u64,
        what: What,
        by: By,
        evidence: Option<&Verdict>,
        change: impl Fn(&mut Aliases) -> Result<(), RegistryError>,
    ) -> Result<Entry, RegistryError> {
        for _ in 0..TRIES_MAX {
            let last = self.newest(task)?;
            let number = last.as_ref().map_or(0, |entry| entry.number) + 1;
            let mut aliases = last.map(|entry| entry.aliases).unwrap_or_default();
            change(&mut aliases)?;
            if evidence.is_some() {
                aliases.judge(version, number);
            }
            let entry = Entry {
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
            if self.store.create(&key, &json).map_err(|source| self.io(&key, source))? {
                return Ok(entry);
            }
        }
        Err(RegistryError::Busy { task: task.to_owned(), tries: TRIES_MAX })
    }

    fn slot(&self, task: &str, version: u64) -> Result<Slot, RegistryError> {
        // It must be whole, and say what it said.
        self.load(task, version)?;
        Ok(Slot { version, sha256: sha256(&self.bytes(task, version)?) })
    }

    /// Does as the gate says: a version that passed becomes champion, another
    /// becomes challenger. So does one that was compared with a champion that
    /// is none any more.
    ///
    /// # Errors
    /// As [`Registry::load`] and [`Registry::aliases`]; the champion stays then.
    pub fn propose(
        &self,
        task: &str,
        version: u64,
        verdict: &Verdict,
        who: &str,
    ) -> Result<Entry, RegistryError> {
        let slot = self.slot(task, version)?;
        if verdict.passed {
            let by = By { who, why: &verdict.reason() };
            let moved = |aliases: &mut Aliases| {
                if !self.was_rival(task, aliases, verdict) {
                    return Err(shut(task, version, Some(verdict.clone())));
                }
                aliases.promote(slot.clone());
                Ok(())
            };
            match self.decide(task, version, What::Promoted, by, Some(verdict), moved) {
                Err(RegistryError::Gate { .. }) => {}
                done => return done,
            }
        }
        let why = match verdict.passed {
            true => "the champion changed during the comparison".to_owned(),
            false => verdict.reason(),
        };
        self.decide(task, version, What::Held, By { who, why: &why }, Some(verdict), |aliases| {
            aliases.challenger = Some(slot.clone());
            Ok(())
        })
    }

    /// Makes a version champion that passed the gate against the present one;
    /// with `force` any that is whole, which is recorded as such.
    ///
    /// # Errors
    /// [`RegistryError::Gate`] with what the gate said last, or as
    /// [`Registry::load`] and [`Registry::aliases`]; the champion stays then.
    pub fn promote(
        &self,
        task: &str,
        version: u64,
        by: By,
        force: bool,
    ) -> Result<Entry, RegistryError> {
        let slot = self.slot(task, version)?;
        let verdict = self.verdict(task, version)?;
        let what = if force { What::Forced } else { What::Promoted };
        self.decide(task, version, what, by, verdict.as_ref(), |aliases| {
            let passed = |own: &Verdict| own.passed && self.was_rival(task, aliases, own);
            if !force && !verdict.as_ref().is_some_and(passed) {
                let verdict = verdict.clone().filter(|own| !own.passed);
                return Err(shut(task, version, verdict));
            }
            aliases.promote(slot.clone());
            Ok(())
        })
    }

    /// What the gate said last of a version, if it was asked.
    ///
    /// # Errors
    /// As [`Registry::aliases`].
    pub fn verdict(&self, task: &str, version: u64) -> Result<Option<Verdict>, RegistryError> {
        let aliases = self.aliases(task)?;
        let number = aliases.judged.iter().find(|judged| judged.version == version);
        let entry = number.map_or(Ok(None), |judged| self.entry(task, judged.entry))?;
        Ok(entry.and_then(|entry| entry.evidence))
    }

    /// Whether a verdict was made against the present champion. One that is
    /// damaged holds nobody back.
    fn was_rival(&self, task: &str, aliases: &Aliases, verdict: &Verdict) -> bool {
        let champion = aliases.champion.as_ref().map(|slot| slot.version);
        let is_damaged = |version| {
            matches!(
                self.load(task, version),
                Err(RegistryError::Refused { .. } | RegistryError::NoVersion { .. })
            )
        };
        champion == verdict.against || champion.is_some_and(is_damaged)
    }

    /// Makes the champion before this one champion again; returns its version.
    ///
    /// # Errors
    /// [`RegistryError::NoHistory`], or as [`Registry::load`] and
    /// [`Registry::aliases`]; the champion stays then.
    pub fn rollback(&self, task: &str, by: By) -> Result<u64, RegistryError> {
        let none = || RegistryError::NoHistory { task: task.to_owned() };
        let before = self.aliases(task)?.before.pop().ok_or_else(none)?;
        self.load(task, before.version)?;
        self.decide(task, before.version, What::RolledBack, by, None, |aliases| {
            match aliases.before.pop() {
                Some(slot) if slot == before => aliases.champion = Some(slot),
                // Another process went back first.
                _ => return Err(none()),
            }
            Ok(())
        })?;
        Ok(before.version)
    }

    /// The versions that [`Registry::remove`] may take: all but the champion,
    /// the challenger, the last `keep` champions and the newest `keep`.
    ///
    /// # Errors
    /// As [`Registry::aliases`].
    pub fn surplus(&self, task: &str, keep: usize) -> Result<Vec<u64>, RegistryError> {
        let aliases = self.aliases(task)?;
        let mut versions = self.versions(task)?;
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
    /// As [`Registry::aliases`].
    pub fn remove(&self, task: &str, versions: &[u64], by: By) -> Result<(), RegistryError> {
        for version in versions {
            let version = *version;
            let is_gone = |slot: &Slot| slot.version == version;
            let decided = self.decide(task, version, What::Removed, by, None, |aliases| {
                if aliases.champion.iter().chain(&aliases.challenger).any(is_gone) {
                    return Err(shut(task, version, None));
                }
                aliases.before.retain(|slot| !is_gone(slot));
                Ok(())
            });
            match decided {
                Err(RegistryError::Gate { .. }) => continue,
                decided => decided?,
            };
            let key = model_key(task, version);
            self.store.remove(&key).map_err(|source| self.io(&key, source))?;
        }
        for folder in [task.to_owned(), format!("{task}/log")] {
            self.store.tidy(&folder).map_err(|source| self.io(&folder, source))?;
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

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// The gate did not open.
fn shut(task: &str, version: u64, verdict: Option<Verdict>) -> RegistryError {
    RegistryError::Gate { task: task.to_owned(), version, verdict: verdict.map(Box::new) }
}
