use serde::{Deserialize, Serialize};

/// Irrigation signal, held between its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct IrrigationSignal {
    on: bool,
    at_ms: Option<i64>,
    /// Latest time at which irrigation is known to have been on.
    pub(super) on_until_ms: Option<i64>,
    /// State sent at the latest time. It takes effect from the next time on, so that readings of
    /// one time may come in any order.
    pending: Option<(i64, bool)>,
}

/// Change of the signal by a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SignalChange {
    pub(super) at_ms: i64,
    /// Minutes of irrigation since the previous message.
    pub(super) on_min: f64,
    /// Whether irrigation has just begun.
    pub(super) begins: bool,
}

impl IrrigationSignal {
    /// Records a message. The caller has called [`IrrigationSignal::take_due_change`] before.
    pub(super) fn set_pending(&mut self, at_ms: i64, on: bool) {
        let before = self.pending.is_some_and(|(ms, on)| ms == at_ms && on);
        self.pending = Some((at_ms, on || before));
    }

    /// Takes the change that lies before a time, if any. A message is trusted for `hold_max_ms` at
    /// most.
    pub(super) fn take_due_change(
        &mut self,
        before_ms: i64,
        hold_max_ms: i64,
    ) -> Option<SignalChange> {
        let (at_ms, on) = self.pending.take_if(|(ms, _)| *ms < before_ms)?;
        let mut on_ms = 0;
        if let Some(since_ms) = self.at_ms.filter(|_| self.on) {
            on_ms = at_ms.saturating_sub(since_ms).min(hold_max_ms);
            self.on_until_ms = Some(since_ms.saturating_add(on_ms));
        }
        let lapsed = self.on_until_ms.is_none_or(|until_ms| until_ms < at_ms);
        let begins = on && (!self.on || lapsed);
        (self.on, self.at_ms) = (on, Some(at_ms));
        if on {
            self.on_until_ms = Some(at_ms);
        }
        Some(SignalChange { at_ms, on_min: on_ms as f64 / 60_000.0, begins })
    }

    /// Latest moment, up to a time, at which irrigation may have been on.
    pub(super) fn last_on_ms(&self, at_ms: i64, hold_max_ms: i64) -> Option<i64> {
        let on_since_ms = self.at_ms.filter(|_| self.on);
        on_since_ms
            .map(|since_ms| at_ms.min(since_ms.saturating_add(hold_max_ms)))
            .or(self.on_until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes messages of (minute, on) and expects changes of (minute, minutes on, begins). The hold
    /// is an hour.
    fn check(messages: &[(i64, bool)], changes: &[(i64, f64, bool)]) {
        let (mut signal, mut found) = (IrrigationSignal::default(), Vec::new());
        let hold_ms = 3_600_000;
        for (minute, on) in messages {
            found.extend(signal.take_due_change(minute * 60_000, hold_ms));
            signal.set_pending(minute * 60_000, *on);
        }
        found.extend(signal.take_due_change(i64::MAX, hold_ms));
        let found: Vec<_> = found.iter().map(|c| (c.at_ms / 60_000, c.on_min, c.begins)).collect();
        assert_eq!(found, changes, "{messages:?}");
    }

    #[test]
    fn minutes_are_counted_between_messages() {
        check(
            &[(0, false), (5, true), (20, false)],
            &[(0, 0.0, false), (5, 0.0, true), (20, 15.0, false)],
        );
        check(
            &[(0, true), (5, true), (10, false)],
            &[(0, 0.0, true), (5, 5.0, false), (10, 5.0, false)],
        );
    }

    #[test]
    fn a_lost_end_is_not_believed_for_ever() {
        check(&[(0, true), (600, false)], &[(0, 0.0, true), (600, 60.0, false)]);
        check(&[(0, true), (600, true)], &[(0, 0.0, true), (600, 60.0, true)]);
    }

    #[test]
    fn two_messages_of_one_time_are_one() {
        check(&[(0, true), (0, false)], &[(0, 0.0, true)]);
        check(&[(0, false), (0, true)], &[(0, 0.0, true)]);
    }
}
