//! Tells copies of a message from new messages by the sender's own counter, whose
//! width, start and reliability are unknown.
//!
//! MQTT delivers at least once, so a message may come again: after a reconnection, after a
//! crash, hours later from a broker that kept a session. Firmware counts its messages so that
//! copies can be told. But counters wrap (8, 16 or 32 bits, modulo 10,000), begin again at
//! each start, stand still, and the name of the run (`boot`) may be the firmware's version and
//! never change. A repeated number alone therefore proves nothing.
//!
//! A **copy** has the same run, the same number and the same content as a message of the last
//! [`SPAN_MS`] and of the last messages that are remembered, and one of these holds:
//!
//! - the content has a time of its own ([`NumberedMessage::is_stamped`]): the very same
//!   measurement,
//! - the transport says that it sends again ([`NumberedMessage::is_redelivery`]),
//! - the message before was a copy, and this one followed it the first time too,
//! - sending again the messages since the original is more plausible than a new cycle of the
//!   counter. A redelivery goes back to what was not acknowledged, anywhere in the run; a
//!   restart or a wrap goes back to the beginning of the run. So a number within the first
//!   ninth of what has been counted begins a new cycle; any other repeats,
//! - it follows its original within [`SAME_MOMENT_MS`], [`FEW_MESSAGES`] or fewer back: no
//!   device restarts so soon.
//!
//! In doubt a message is new, since a measurement that is lost cannot be had again. Two things
//! remain undecidable without a time in the payload: everything since the first message of a
//! run, sent again, looks like a restart with the same values and is kept; and a device that
//! restarts within a second after at most eight messages, with the same values, looks like a
//! redelivery.
//!
//! Sources: serial-number arithmetic, RFC 1982; wraps, restarts and reordering of RTP's
//! sequence numbers, RFC 3550, appendix A.1; the DUP flag, MQTT 5, 3.3.1.1.

use std::collections::VecDeque;

use smol_str::SmolStr;

/// Originals are remembered for this long behind the newest message, ms. A copy may come any
/// time later, as long as nothing newer has come in between.
pub const SPAN_MS: i64 = 15 * 60 * 1000;
/// So many of the newest messages are remembered however old they are.
pub const MESSAGES_MIN: usize = 32;
/// A copy without a time of its own comes within this time of its original, ms: brokers are
/// asked to keep a session for so long.
pub const COPY_AGE_MAX_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Within this time no device restarts, ms.
pub const SAME_MOMENT_MS: i64 = 1000;
/// How far back a copy of the same moment may be, messages.
pub const FEW_MESSAGES: u64 = 8;
/// A message that comes more often than this and one is none that is sent again: its counter
/// stands still.
const COPIES_MAX: u16 = 1000;
/// A number within the first 1/(1 + this) of a run is near its beginning.
const NEAR_BEGINNING: u64 = 8;
/// Runs that are remembered.
const RUNS_MAX: usize = 32;

/// One message as its sender numbered it.
#[derive(Clone, Copy, Debug)]
pub struct NumberedMessage<'a> {
    /// The run of the device that the number belongs to, where the device names it.
    pub boot: Option<&'a SmolStr>,
    /// The number.
    pub number: u64,
    /// A hash of what the message says, with its time where it has one.
    pub content: u64,
    /// When it arrived, UTC ms.
    pub arrival_ms: i64,
    /// Whether the content has a time of its own.
    pub is_stamped: bool,
    /// Whether the transport says that it has sent the message before (MQTT's DUP).
    pub is_redelivery: bool,
}

/// What the numbers say about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It was not there before.
    New {
        /// Whether the device began to count again, by a restart or by a wrap.
        begins_run: bool,
    },
    /// It came before.
    Copy {
        /// What shows it.
        evidence: CopyEvidence,
        /// When the original arrived, UTC ms.
        original_ms: i64,
    },
}

/// What shows that a message is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEvidence {
    /// The same measurement: number, content and the content's own time.
    EventTime,
    /// The same number and content, and the transport says that it sends again.
    RedeliveryFlag,
    /// The same numbers and contents in the same order as before.
    Redelivery,
    /// The same number and content a moment before.
    SameMoment,
}

impl CopyEvidence {
    /// The evidence for a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventTime => "same number, content and time of measurement",
            Self::RedeliveryFlag => "same number and content, and flagged as sent again (DUP)",
            Self::Redelivery => {
                "same number and content, too far from the run's beginning for a restart"
            }
            Self::SameMoment => "same number and content within a second",
        }
    }
}

impl SequenceCheck {
    /// Whether the message came before.
    #[must_use]
    pub const fn is_copy(self) -> bool {
        matches!(self, Self::Copy { .. })
    }
}

/// The newest numbers of one sender: of one device's topic, or of one metric of a device.
#[derive(Clone, Debug, Default)]
pub struct SequenceHistory {
    /// Messages that were new, oldest first.
    entries: VecDeque<SequenceEntry>,
    /// Entries that were forgotten: the position of the first that is not.
    forgotten: u64,
    /// In the order in which they began.
    runs: VecDeque<NumberingRun>,
    runs_begun: u32,
    /// The position of the original, where the message before was a copy.
    copied: Option<u64>,
    /// When the message before arrived.
    arrival_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct SequenceEntry {
    number: u64,
    content: u64,
    arrival_ms: i64,
    run: u32,
    is_stamped: bool,
    copies: u16,
}

#[derive(Clone, Debug)]
struct NumberingRun {
    id: u32,
    boot: Option<SmolStr>,
    first: u64,
    highest: u64,
    /// Whether the number says nothing, because it does not change.
    stands_still: bool,
}

impl SequenceHistory {
    /// Judges the next message in the order of arrival, and remembers it among at most
    /// `messages_max`.
    pub fn check_message(
        &mut self,
        message: &NumberedMessage<'_>,
        messages_max: usize,
    ) -> SequenceCheck {
        let arrival_before_ms = std::mem::replace(&mut self.arrival_ms, message.arrival_ms);
        let copied = self.copied.take();
        let known = self.runs.iter().rposition(|run| run.boot.as_ref() == message.boot);
        let Some(run) = known else {
            let begins_run = !self.runs.is_empty();
            self.begin_run(message, messages_max);
            return SequenceCheck::New { begins_run };
        };
        let (highest, is_only) = (self.runs[run].highest, self.is_only_run(run));
        if message.number > highest {
            // Nothing was there before; or the next number, which needs no other message to
            // have been lost.
            let is_plain = !message.is_stamped && !message.is_redelivery && copied.is_none();
            if is_only || (is_plain && message.number - highest == 1) {
                self.runs[run].highest = message.number;
                self.runs[run].stands_still = false;
                self.remember_message(message, run, messages_max);
                return SequenceCheck::New { begins_run: false };
            }
        }
        let Some((position, original)) = self.find_original(message) else {
            return self.accept_new(message, run, messages_max);
        };
        match self.judge_repeat(message, run, position, original, copied, arrival_before_ms) {
            CopyJudgement::Copy(evidence) => {
                self.copied = Some(position);
                let at = (position - self.forgotten) as usize;
                let copies = &mut self.entries[at].copies;
                *copies = copies.saturating_add(1);
                SequenceCheck::Copy { evidence, original_ms: original.arrival_ms }
            }
            CopyJudgement::NewRun => {
                self.begin_run(message, messages_max);
                SequenceCheck::New { begins_run: true }
            }
            CopyJudgement::StandsStill => {
                self.runs[run].stands_still = true;
                self.remember_message(message, run, messages_max);
                SequenceCheck::New { begins_run: false }
            }
            CopyJudgement::Accept => self.accept_new(message, run, messages_max),
        }
    }

    /// Messages that are remembered.
    #[must_use]
    pub fn remembered_messages(&self) -> usize {
        self.entries.len()
    }

    /// The highest number of the newest run of that name.
    #[must_use]
    pub fn highest_number(&self, boot: Option<&SmolStr>) -> Option<u64> {
        self.runs.iter().rfind(|run| run.boot.as_ref() == boot).map(|run| run.highest)
    }

    fn judge_repeat(
        &self,
        message: &NumberedMessage<'_>,
        run: usize,
        position: u64,
        original: SequenceEntry,
        copied: Option<u64>,
        arrival_before_ms: i64,
    ) -> CopyJudgement {
        use CopyEvidence::{EventTime, Redelivery, RedeliveryFlag, SameMoment};
        if message.is_stamped != original.is_stamped {
            return CopyJudgement::Accept;
        }
        if message.is_stamped {
            return CopyJudgement::Copy(EventTime);
        }
        if message.is_redelivery {
            return CopyJudgement::Copy(RedeliveryFlag);
        }
        let NumberingRun { id, first, highest, stands_still, .. } = self.runs[run];
        let age_ms = message.arrival_ms.saturating_sub(original.arrival_ms);
        if message.boot.is_none() || age_ms > COPY_AGE_MAX_MS {
            return CopyJudgement::Accept;
        }
        if stands_still && original.run == id {
            return CopyJudgement::StandsStill;
        }
        if original.copies >= COPIES_MAX {
            return if message.number == highest {
                CopyJudgement::StandsStill
            } else {
                CopyJudgement::NewRun
            };
        }
        // What is sent again comes as fast as the line takes it, not as it was measured.
        let gap_ms = message.arrival_ms.saturating_sub(arrival_before_ms);
        let before = (position - self.forgotten).checked_sub(1);
        let before = before.and_then(|at| self.entries.get(at as usize));
        let first_gap_ms = before.map_or(0, |of| original.arrival_ms.saturating_sub(of.arrival_ms));
        let is_paced = gap_ms >= SAME_MOMENT_MS && gap_ms.saturating_mul(2) >= first_gap_ms;
        match copied {
            Some(copied) if copied + 1 == position => {
                return if is_paced {
                    CopyJudgement::NewRun
                } else {
                    CopyJudgement::Copy(Redelivery)
                };
            }
            Some(copied) if copied == position && is_paced => return CopyJudgement::StandsStill,
            _ => {}
        }
        let messages_back = self.forgotten + self.entries.len() as u64 - position;
        if original.run != id {
            // Of a cycle before. Either numbers were lost on the way up to it, or as many
            // messages are sent again as have come since.
            let is_ahead = message.number > highest;
            return if is_ahead && message.number - highest > messages_back {
                CopyJudgement::Copy(Redelivery)
            } else {
                CopyJudgement::Accept
            };
        }
        let is_same_moment = messages_back <= FEW_MESSAGES && age_ms <= SAME_MOMENT_MS;
        if first == highest {
            // A counter that has not counted yet.
            let is_still = self.entries.iter().any(|entry| {
                entry.run == id
                    && entry.number == original.number
                    && entry.content != original.content
            });
            return match is_same_moment && !is_still {
                true => CopyJudgement::Copy(SameMoment),
                false => CopyJudgement::StandsStill,
            };
        }
        if is_same_moment {
            return CopyJudgement::Copy(SameMoment);
        }
        let from_beginning = message.number.saturating_sub(first);
        match from_beginning.saturating_mul(NEAR_BEGINNING) <= messages_back {
            true => CopyJudgement::NewRun,
            false => CopyJudgement::Copy(Redelivery),
        }
    }

    /// Remembers a message that is no copy.
    fn accept_new(
        &mut self,
        message: &NumberedMessage<'_>,
        run: usize,
        messages_max: usize,
    ) -> SequenceCheck {
        let number = message.number;
        let NumberingRun { id, highest, .. } = self.runs[run];
        if number < highest {
            // Late is what was skipped among what is remembered of the run.
            let of_run = || self.entries.iter().filter(|entry| entry.run == id);
            let is_known = of_run().any(|entry| entry.number == number);
            let lowest = of_run().map(|entry| entry.number).min();
            let is_late = !is_known && lowest.is_some_and(|lowest| lowest < number);
            if !is_late {
                self.begin_run(message, messages_max);
                return SequenceCheck::New { begins_run: true };
            }
        } else if number > highest {
            self.runs[run].highest = number;
            self.runs[run].stands_still = false;
        }
        self.remember_message(message, run, messages_max);
        SequenceCheck::New { begins_run: false }
    }

    fn begin_run(&mut self, message: &NumberedMessage<'_>, messages_max: usize) {
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        let number = message.number;
        self.runs.push_back(NumberingRun {
            id: self.runs_begun,
            boot: message.boot.cloned(),
            first: number,
            highest: number,
            stands_still: false,
        });
        self.runs_begun = self.runs_begun.wrapping_add(1);
        self.remember_message(message, self.runs.len() - 1, messages_max);
    }

    fn remember_message(&mut self, message: &NumberedMessage<'_>, run: usize, messages_max: usize) {
        let NumberedMessage { number, content, arrival_ms, is_stamped, .. } = *message;
        let run = self.runs[run].id;
        self.entries.push_back(SequenceEntry {
            number,
            content,
            arrival_ms,
            run,
            is_stamped,
            copies: 0,
        });
        let mut is_any = false;
        while let Some(oldest) = self.entries.front() {
            let is_old = arrival_ms.saturating_sub(oldest.arrival_ms) > SPAN_MS;
            let kept_max = if is_old { MESSAGES_MIN.min(messages_max) } else { messages_max };
            if self.entries.len() <= kept_max {
                break;
            }
            self.entries.pop_front();
            self.forgotten += 1;
            is_any = true;
        }
        if is_any && self.runs.len() > 1 {
            self.forget_runs();
        }
    }

    /// Forgets runs of which no message is remembered, but for the newest of each name.
    fn forget_runs(&mut self) {
        while let Some(oldest) = self.runs.front() {
            let is_used = self.entries.front().is_none_or(|entry| entry.run <= oldest.id);
            let is_newest = !self.runs.iter().skip(1).any(|run| run.boot == oldest.boot);
            if is_used || is_newest {
                return;
            }
            self.runs.pop_front();
        }
    }

    /// Whether there is no other run of the same name.
    fn is_only_run(&self, at: usize) -> bool {
        self.runs.len() == 1
            || !self
                .runs
                .iter()
                .enumerate()
                .any(|(i, run)| i != at && run.boot == self.runs[at].boot)
    }

    /// The newest message that a message may be a copy of, with its position.
    fn find_original(&self, message: &NumberedMessage<'_>) -> Option<(u64, SequenceEntry)> {
        let found = self.entries.iter().enumerate().rev().find(|(_, entry)| {
            entry.number == message.number
                && entry.content == message.content
                && self
                    .runs
                    .iter()
                    .any(|run| run.id == entry.run && run.boot.as_ref() == message.boot)
        });
        found.map(|(at, entry)| (self.forgotten + at as u64, *entry))
    }
}

enum CopyJudgement {
    Copy(CopyEvidence),
    NewRun,
    StandsStill,
    Accept,
}

#[cfg(test)]
mod tests;
