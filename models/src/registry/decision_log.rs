//! Log of decisions: which version is champion, and why.

use serde::{Deserialize, Serialize};

use super::GateVerdict;

/// A version and the hash that its file must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    /// Number of the version, counted from 1.
    pub version: u64,
    /// SHA-256 of the artifact's file, hexadecimal.
    pub sha256: String,
}

/// Champion and challenger after a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelAliases {
    /// Version that is served.
    pub champion: Option<VersionRef>,
    /// Version that did not pass the gate.
    pub challenger: Option<VersionRef>,
    /// Earlier champions, oldest first.
    pub before: Vec<VersionRef>,
    /// Highest version number ever assigned; numbers are not used again.
    pub newest: u64,
    /// Log entries with the gate's verdicts, latest last.
    pub judged: Vec<VerdictEntry>,
}

/// Log entry that holds the gate's last verdict on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictEntry {
    /// The version.
    pub version: u64,
    /// Number of the log entry.
    pub entry: u64,
}

/// Kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A version was added.
    Kept,
    /// A version passed the gate and is champion.
    Promoted,
    /// A version did not pass the gate and is challenger.
    Held,
    /// A version was made champion by hand, regardless of the gate.
    Forced,
    /// The previous champion is champion again.
    RolledBack,
    /// A version was removed.
    Removed,
}

impl DecisionKind {
    /// Returns the name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Promoted => "promoted",
            Self::Held => "held",
            Self::Forced => "forced",
            Self::RolledBack => "rolled back",
            Self::Removed => "removed",
        }
    }
}

/// Entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Number of the entry, counted from 1, without a gap.
    pub number: u64,
    /// Time of the decision, by the clock of its author, UTC ms.
    pub at_ms: i64,
    /// Author of the decision.
    pub who: String,
    /// Kind of the decision.
    pub what: DecisionKind,
    /// Version that the decision concerns.
    pub version: u64,
    /// Reason, for people.
    pub why: String,
    /// Verdict of the gate, if the version was evaluated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<GateVerdict>,
    /// Champion and challenger after the decision.
    pub aliases: ModelAliases,
}

/// Number of earlier champions, and of verdicts of the gate, that are stored.
const REMEMBERED_MAX: usize = 100;

impl ModelAliases {
    /// Makes `slot` champion.
    pub(super) fn promote_version(&mut self, slot: VersionRef) {
        if self.challenger.as_ref() == Some(&slot) {
            self.challenger = None;
        }
        if self.champion.as_ref() != Some(&slot) {
            self.before.extend(self.champion.replace(slot));
        }
        let surplus = self.before.len().saturating_sub(REMEMBERED_MAX);
        self.before.drain(..surplus);
    }

    /// Records which entry holds the gate's verdict on a version.
    pub(super) fn note_verdict(&mut self, version: u64, entry: u64) {
        self.judged.retain(|judged| judged.version != version);
        self.judged.push(VerdictEntry { version, entry });
        let surplus = self.judged.len().saturating_sub(REMEMBERED_MAX);
        self.judged.drain(..surplus);
    }

    /// Finds the hash that a version's file must have, if it is recorded.
    pub(super) fn find_version(&self, version: u64) -> Option<&VersionRef> {
        let mut all = self.champion.iter().chain(&self.challenger).chain(&self.before);
        all.find(|slot| slot.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(version: u64) -> VersionRef {
        VersionRef { version, sha256: String::new() }
    }

    #[test]
    fn champions_follow_one_another() {
        let mut aliases = ModelAliases { challenger: Some(slot(2)), ..ModelAliases::default() };
        for (version, before, challenger) in
            [(1, vec![], Some(2)), (1, vec![], Some(2)), (2, vec![1], None), (1, vec![1, 2], None)]
        {
            aliases.promote_version(slot(version));
            assert_eq!(aliases.champion, Some(slot(version)));
            assert_eq!(aliases.before, before.into_iter().map(slot).collect::<Vec<_>>());
            assert_eq!(aliases.challenger.as_ref().map(|own| own.version), challenger);
        }
        (3..300).for_each(|version| aliases.promote_version(slot(version)));
        assert_eq!(aliases.before.len(), REMEMBERED_MAX);
        assert_eq!(aliases.before.last(), Some(&slot(298)));
    }
}
