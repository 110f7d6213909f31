//! The log of decisions: who is champion, and why.

use serde::{Deserialize, Serialize};

use super::GateVerdict;

/// A version, and what its file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    /// Counted from 1.
    pub version: u64,
    /// SHA-256 of the artifact's file, hexadecimal.
    pub sha256: String,
}

/// Who is who after a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelAliases {
    /// The version that is served.
    pub champion: Option<VersionRef>,
    /// The version that waits.
    pub challenger: Option<VersionRef>,
    /// Champions before, oldest first.
    pub before: Vec<VersionRef>,
    /// The highest version that there ever was: numbers are not used again.
    pub newest: u64,
    /// Where the gate's words are, the newest last.
    pub judged: Vec<VerdictEntry>,
}

/// Which entry has what the gate said last of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictEntry {
    /// The version.
    pub version: u64,
    /// The entry's number.
    pub entry: u64,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A version was added.
    Kept,
    /// A version passed the gate and is champion.
    Promoted,
    /// A version did not pass the gate and is challenger.
    Held,
    /// A version was made champion by hand, whatever the gate says.
    Forced,
    /// The champion before is champion again.
    RolledBack,
    /// A version was removed.
    Removed,
}

impl DecisionKind {
    /// For people.
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

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Counted from 1, without a gap.
    pub number: u64,
    /// When, by the clock of who decided, UTC ms.
    pub at_ms: i64,
    /// Who.
    pub who: String,
    /// What.
    pub what: DecisionKind,
    /// The version that it is about.
    pub version: u64,
    /// Why, for people.
    pub why: String,
    /// What the gate was shown, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<GateVerdict>,
    /// Who is who from then on.
    pub aliases: ModelAliases,
}

/// Champions, and words of the gate, that are remembered.
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

    /// Remembers that the gate spoke of a version.
    pub(super) fn note_verdict(&mut self, version: u64, entry: u64) {
        self.judged.retain(|judged| judged.version != version);
        self.judged.push(VerdictEntry { version, entry });
        let surplus = self.judged.len().saturating_sub(REMEMBERED_MAX);
        self.judged.drain(..surplus);
    }

    /// The file that a version must be, where that is remembered.
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
