//! Distinguishes copies of a message from new messages by the sender's counter, whose width,
//! start and reliability are unknown.
//!
//! MQTT delivers at least once, so a message may be delivered again: after a reconnection, after
//! a crash, or hours later from a broker that kept a session. Firmware numbers its messages so
//! that copies can be recognised. But counters wrap (8, 16 or 32 bits, modulo 10,000), restart
//! with the device, or stand still. The name of the run (`boot`) may be the firmware's version
//! and never change. A repeated number alone therefore proves nothing.
//!
//! A **copy** has the same run, the same number and the same content as a remembered message of
//! the last [`SPAN_MS`], and one of these conditions holds:
//!
//! - The content has a time of its own ([`NumberedMessage::is_stamped`]), so it is the same
//!   measurement.
//! - The transport flags the message as sent again ([`NumberedMessage::is_redelivery`]).
//! - The previous message was a copy, and this one followed it the first time too.
//! - A redelivery of the messages since the original is more plausible than a new cycle of the
//!   counter. A redelivery goes back to what was not acknowledged, anywhere in the run. A restart
//!   or a wrap goes back to the beginning of the run. So a number within the first ninth of what
//!   has been counted begins a new cycle, and any other number is a repeat.
//! - It follows its original within [`SAME_MOMENT_MS`] and at most [`FEW_MESSAGES`] messages
//!   later. No device restarts so soon.
//!
//! In doubt a message counts as new, because a lost measurement cannot be recovered. Two cases
//! remain undecidable without a time in the payload. If every message since the first of a run is
//! sent again, it looks like a restart with the same values and is kept. If a device restarts
//! within a second after at most eight messages, with the same values, it looks like a
//! redelivery.
//!
//! Sources: serial-number arithmetic, RFC 1982; wraps, restarts and reordering of RTP's sequence
//! numbers, RFC 3550, appendix A.1; the DUP flag, MQTT 5, 3.3.1.1.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// How far the remembered originals reach back from the newest message, ms. A copy is recognised
/// at any later time if nothing newer has arrived in between.
pub const SPAN_MS: i64 = 15 * 60 * 1000;
/// Number of newest messages that are remembered regardless of their age.
pub const MESSAGES_MIN: usize = 32;
/// Largest age of a copy without a time of its own, ms. Brokers are asked to keep a session for
/// this long.
pub const COPY_AGE_MAX_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// No device restarts within this time, ms.
pub const SAME_MOMENT_MS: i64 = 1000;
/// Largest distance between a copy and its original within [`SAME_MOMENT_MS`], messages.
pub const FEW_MESSAGES: u64 = 8;
/// Largest number of copies of one message. If it repeats more often, its counter stands still.
const COPIES_MAX: u16 = 1000;
/// A number within the first 1/(1 + this) of a run is near the run's beginning.
const NEAR_BEGINNING: u64 = 8;
/// Largest number of remembered runs.
const RUNS_MAX: usize = 32;

/// One message with its sender's number.
#[derive(Clone, Copy, Debug)]
pub struct NumberedMessage<'a> {
    /// The run of the device that the number belongs to, if the device names it.
    pub boot: Option<&'a SmolStr>,
    /// The number.
    pub number: u64,
    /// A hash of the message's content, including its time if it has one.
    pub content: u64,
    /// Arrival time, UTC ms.
    pub arrival_ms: i64,
    /// Whether the content has its own time.
    pub is_stamped: bool,
    /// Whether the transport flags the message as sent before (MQTT's DUP).
    pub is_redelivery: bool,
}

/// The result of checking a message's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// The message is new.
    New {
        /// Whether the device started to count again, because of a restart or a wrap.
        begins_run: bool,
    },
    /// The message is a copy of an earlier one.
    Copy {
        /// The evidence.
        evidence: CopyEvidence,
        /// Arrival time of the original, UTC ms.
        original_ms: i64,
    },
}

/// The evidence that a message is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEvidence {
    /// The same measurement: number, content and the content's own time are equal.
    EventTime,
    /// The same number and content, and the transport's redelivery flag.
    RedeliveryFlag,
    /// The same numbers and contents in the same order as earlier.
    Redelivery,
    /// The same number and content within a moment.
    SameMoment,
}

impl CopyEvidence {
    /// The evidence in words, for people.
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
    /// Whether the message is a copy.
    #[must_use]
    pub const fn is_copy(self) -> bool {
        matches!(self, Self::Copy { .. })
    }
}

/// The newest numbers of one sender: a device's topic, or one metric of a device. Its serialized
/// form is for snapshots of the program that wrote it, not a format for exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceHistory {
    /// New messages, oldest first.
    entries: VecDeque<SequenceEntry>,
    /// Number of forgotten entries, which is the position of the first remembered one.
    forgotten: u64,
    /// The remembered runs, in the order in which they began.
    runs: VecDeque<NumberingRun>,
    runs_begun: u32,
    /// The position of the original, if the previous message was a copy.
    copied: Option<u64>,
    /// Arrival time of the previous message, UTC ms.
    arrival_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct SequenceEntry {
    number: u64,
    content: u64,
    arrival_ms: i64,
    run: u32,
    is_stamped: bool,
    copies: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NumberingRun {
    id: u32,
    boot: Option<SmolStr>,
    first: u64,
    highest: u64,
    /// Whether the number does not change and therefore identifies nothing.
    stands_still: bool,
}

impl SequenceHistory {
    /// Checks the next message in the order of arrival, and remembers it if it is new. At most
    /// `messages_max` messages are remembered.
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
            // Either no run of this name existed before, or this is the next number, so no other
            // message has to be lost to explain it.
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

    /// Number of remembered messages.
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
        // Redelivered messages arrive as fast as the connection allows, not at the pace of
        // measurement.
        let gap_ms = message.arrival_ms.saturating_sub(arrival_before_ms);
        let index_before = (position - self.forgotten).checked_sub(1);
        let before = index_before.and_then(|at| self.entries.get(at as usize));
        let first_gap_ms =
            before.map_or(0, |earlier| original.arrival_ms.saturating_sub(earlier.arrival_ms));
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
            // The original is from an earlier cycle. Either numbers were lost on the way up to
            // it, or as many messages are sent again as have arrived since.
            let is_ahead = message.number > highest;
            return if is_ahead && message.number - highest > messages_back {
                CopyJudgement::Copy(Redelivery)
            } else {
                CopyJudgement::Accept
            };
        }
        let is_same_moment = messages_back <= FEW_MESSAGES && age_ms <= SAME_MOMENT_MS;
        if first == highest {
            // The counter has not counted yet.
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

    /// Remembers a message that is not a copy.
    fn accept_new(
        &mut self,
        message: &NumberedMessage<'_>,
        run: usize,
        messages_max: usize,
    ) -> SequenceCheck {
        let number = message.number;
        let NumberingRun { id, highest, .. } = self.runs[run];
        if number < highest {
            // A late number was skipped among the remembered messages of its run.
            let entries_of_run = || self.entries.iter().filter(|entry| entry.run == id);
            let is_known = entries_of_run().any(|entry| entry.number == number);
            let lowest = entries_of_run().map(|entry| entry.number).min();
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

    /// Forgets runs without remembered messages, except the newest of each name.
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

    /// Whether no other run has the same name.
    fn is_only_run(&self, at: usize) -> bool {
        self.runs.len() == 1
            || !self
                .runs
                .iter()
                .enumerate()
                .any(|(i, run)| i != at && run.boot == self.runs[at].boot)
    }

    /// Finds the newest message that this one may be a copy of, with its position.
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
