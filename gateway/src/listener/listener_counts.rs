//! Counts of refused, cut and evicted connections and sessions, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// The reasons to refuse a connection, or to close it from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutReason {
    /// `mqtt.connections_max`, or the limit of open files. The client got a refusal.
    TooMany,
    /// The same, but too many were getting a refusal: closed at once.
    TooManyToTell,
    /// Nothing, or an incomplete CONNECT or handshake, within some seconds; or too many of these
    /// from one address.
    HalfOpen,
    /// An incomplete packet, and then no progress.
    Stalled,
    /// It held the most bytes when `limits.connections_bytes_max` was reached.
    HeldTooMuch,
    /// Wrong user, password or certificate.
    BadCredentials,
    /// Too many different wrong passwords.
    TooManyAttempts,
    /// Too many passwords were being verified.
    Busy,
    /// A message or will on a topic that the user may not publish to.
    NotAuthorized,
    /// The users file was read again, and the user was changed or removed.
    RightsChanged,
}

const CUT_REASON_NAMES: [(CutReason, &str); 10] = [
    (CutReason::TooMany, "too_many"),
    (CutReason::TooManyToTell, "too_many_to_tell"),
    (CutReason::HalfOpen, "half_open"),
    (CutReason::Stalled, "stalled"),
    (CutReason::HeldTooMuch, "held_too_much"),
    (CutReason::BadCredentials, "bad_credentials"),
    (CutReason::TooManyAttempts, "too_many_attempts"),
    (CutReason::Busy, "busy"),
    (CutReason::NotAuthorized, "not_authorized"),
    (CutReason::RightsChanged, "rights_changed"),
];

/// Counts of one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounts {
    cut: [AtomicU64; CUT_REASON_NAMES.len()],
    /// Number of messages that were refused because their user may not publish to the topic.
    pub(crate) denied_publishes: AtomicU64,
    /// Number of subscriptions that were refused because the user may not subscribe to the
    /// topics.
    pub(crate) denied_subscriptions: AtomicU64,
    /// Bytes that connections hold: incomplete packets, names, wills.
    pub(crate) held_bytes: AtomicU64,
    /// Number of stored sessions; then those that were evicted for lack of room.
    pub(crate) sessions: AtomicU64,
    pub(crate) sessions_evicted: AtomicU64,
}

impl ListenerCounts {
    pub(super) fn count_cut(&self, reason: CutReason) {
        if let Some(index) = CUT_REASON_NAMES.iter().position(|(known, _)| *known == reason) {
            self.cut[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of connections that were refused or cut, by reason.
    pub(crate) fn cut_counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CUT_REASON_NAMES
            .iter()
            .zip(&self.cut)
            .map(|((_, name), n)| (*name, n.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let counts = ListenerCounts::default();
        for (reason, name) in CUT_REASON_NAMES {
            counts.count_cut(reason);
            assert!(counts.cut_counts().any(|(found, n)| found == name && n == 1), "{reason:?}");
        }
        assert_eq!(counts.cut_counts().map(|(_, n)| n).sum::<u64>(), CUT_REASON_NAMES.len() as u64);
    }
}
