//! What the listener refused, cut and evicted, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection was not let in, or was closed by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutReason {
    /// `mqtt.connections_max`, or the limit of open files; the client was told.
    TooMany,
    /// The same, and too many were being told: closed without a word.
    TooManyToTell,
    /// Nothing, or half a CONNECT or handshake, within some seconds; or too many of these
    /// from one address.
    HalfOpen,
    /// Half a packet, and then no progress.
    Stalled,
    /// It held most when `limits.connections_bytes_max` was reached.
    HeldTooMuch,
    /// Wrong user, password or certificate.
    BadCredentials,
    /// Too many different wrong passwords.
    TooManyAttempts,
    /// Too many passwords were being verified.
    Busy,
    /// A message or will on a topic that the user may not publish to.
    NotAuthorized,
    /// The users file was read again, and the user is another or gone.
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
    /// Messages that were not taken because their user may not publish to the topic.
    pub(crate) denied_publishes: AtomicU64,
    /// Subscriptions that were refused because the user may not read the topics.
    pub(crate) denied_subscriptions: AtomicU64,
    /// Bytes that connections hold: packets in part, names, wills.
    pub(crate) held_bytes: AtomicU64,
    /// Sessions that are remembered, and those forgotten for want of room.
    pub(crate) sessions: AtomicU64,
    pub(crate) sessions_evicted: AtomicU64,
}

impl ListenerCounts {
    pub(super) fn count_cut(&self, reason: CutReason) {
        if let Some(index) = CUT_REASON_NAMES.iter().position(|(known, _)| *known == reason) {
            self.cut[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Connections that were refused or cut, by reason.
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
