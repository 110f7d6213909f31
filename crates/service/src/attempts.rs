//! Slows down clients that guess passwords or tokens.
//!
//! Only *different* wrong secrets count. A client with an outdated password, which sends the same
//! one again and again, is not guessing and is not slowed down.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Wait after the first guess beyond the free ones. Each further guess doubles it.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Number of the latest guesses of a key that are recognised. A repeated older guess counts
/// again.
const GUESSES_KNOWN: usize = 4;
/// Age of the last guess after which a key is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);

/// Counts wrong guesses by key (an address, or an address with a user) and how long each key has
/// to wait. The table is bounded: a full one forgets the key that guessed longest ago.
#[derive(Debug)]
pub struct AttemptLimiter<K> {
    entries: Mutex<HashMap<K, AttemptEntry>>,
    entries_max: usize,
    /// Number of different wrong guesses without a wait.
    free: u32,
    hasher: RandomState,
    evicted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct AttemptEntry {
    guesses: u32,
    /// Hashes of the latest guesses, newest first.
    known: [u64; GUESSES_KNOWN],
    last: Instant,
    wait: Duration,
}

impl<K: Hash + Eq + Clone> AttemptLimiter<K> {
    /// Creates a limiter that allows each key `free` guesses without a wait and remembers at most
    /// `entries_max` keys.
    #[must_use]
    pub fn new(free: u32, entries_max: usize) -> Self {
        Self {
            entries: Mutex::default(),
            entries_max: entries_max.max(1),
            free,
            hasher: RandomState::new(),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Checks whether `key` may try now.
    ///
    /// # Errors
    /// Returns how long the key has to wait. Refuse the attempt without checking its secret.
    pub fn check_allowed(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let wait = self.lock_entries().get(key).map_or(Duration::ZERO, |entry| {
            entry.wait.saturating_sub(now.saturating_duration_since(entry.last))
        });
        if wait.is_zero() {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(wait)
    }

    /// Whether this secret is one of the latest wrong ones of `key`, so that the cost of
    /// verifying it can be saved.
    pub fn is_known_wrong(&self, key: &K, secret: impl Hash, now: Instant) -> bool {
        let guess = self.hasher.hash_one(secret);
        self.lock_entries().get(key).is_some_and(|entry| {
            now.saturating_duration_since(entry.last) <= FORGOTTEN_AFTER
                && entry.is_known_guess(guess)
        })
    }

    /// Counts a wrong secret, unless it is one of the key's latest guesses.
    pub fn note_failure(&self, key: &K, secret: impl Hash, now: Instant) {
        let guess = self.hasher.hash_one(secret);
        let mut entries = self.lock_entries();
        if !entries.contains_key(key) && entries.len() >= self.entries_max {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                entries.remove(&oldest);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        let entry = entries.entry(key.clone()).or_insert_with(|| AttemptEntry::new(now));
        if now.saturating_duration_since(entry.last) > FORGOTTEN_AFTER {
            *entry = AttemptEntry::new(now);
        }
        if entry.is_known_guess(guess) {
            return;
        }
        entry.known.rotate_right(1);
        entry.known[0] = guess;
        entry.guesses = entry.guesses.saturating_add(1);
        entry.last = now;
        let over = entry.guesses.saturating_sub(self.free);
        if over > 0 {
            let doubled = 1_u32.checked_shl(over - 1).unwrap_or(u32::MAX);
            entry.wait = WAIT_MIN.saturating_mul(doubled).min(WAIT_MAX);
        }
    }

    /// Forgets the wrong guesses of a key that has sent the right secret.
    pub fn note_success(&self, key: &K) {
        self.lock_entries().remove(key);
    }

    /// Number of attempts that were refused without checking their secret.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Number of keys that were forgotten because the table was full.
    #[must_use]
    pub fn evicted_total(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn lock_entries(&self) -> MutexGuard<'_, HashMap<K, AttemptEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttemptEntry {
    fn new(now: Instant) -> Self {
        Self { guesses: 0, known: [0; GUESSES_KNOWN], last: now, wait: Duration::ZERO }
    }

    fn is_known_guess(&self, guess: u64) -> bool {
        self.guesses > 0 && self.known.contains(&guess)
    }
}

/// Returns the part of an address that identifies one client: an IPv4 address, or the /64 network
/// of an IPv6 address, since one host has all of that network.
#[must_use]
pub fn address_block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes guesses one second apart and checks the wait in seconds after the last one.
    fn check(guesses: &[&str], expect: u64) {
        let limiter = AttemptLimiter::new(2, 8);
        let began = Instant::now();
        let mut now = began;
        for guess in guesses {
            now += Duration::from_secs(1);
            limiter.note_failure(&"a", guess, now);
        }
        let wait = limiter.check_allowed(&"a", now).err().unwrap_or_default();
        assert_eq!(wait, Duration::from_secs(expect), "{guesses:?}");
        assert!(limiter.check_allowed(&"b", now).is_ok());
        limiter.note_success(&"a");
        assert!(limiter.check_allowed(&"a", now).is_ok());
    }

    #[test]
    fn each_different_guess_doubles_the_wait() {
        check(&[], 0);
        check(&["1", "2"], 0);
        check(&["1", "2", "3"], 1);
        check(&["1", "2", "3", "4"], 2);
        check(&["1", "2", "3", "4", "5", "6", "7"], 16);
        let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        check(&many.iter().map(String::as_str).collect::<Vec<_>>(), 60);
    }

    #[test]
    fn an_outdated_password_is_no_guess() {
        check(&["old"; 50], 0);
        check(&["old", "older", "old", "older", "old", "older"], 0);
    }

    #[test]
    fn a_wrong_secret_is_known_again_for_its_key_and_a_while() {
        let (limiter, now) = (AttemptLimiter::new(2, 8), Instant::now());
        for secret in ["1", "2", "3", "4", "5"] {
            limiter.note_failure(&"a", secret, now);
        }
        let check = |key, secret, now, expect| {
            assert_eq!(limiter.is_known_wrong(&key, secret, now), expect, "{key} {secret}");
        };
        check("a", "5", now, true);
        check("a", "2", now + FORGOTTEN_AFTER, true);
        check("a", "1", now, false);
        check("a", "6", now, false);
        check("b", "5", now, false);
        check("a", "5", now + 2 * FORGOTTEN_AFTER, false);
    }

    #[test]
    fn the_wait_passes_and_guesses_are_forgotten() {
        let limiter = AttemptLimiter::new(0, 8);
        let now = Instant::now();
        limiter.note_failure(&1, "x", now);
        assert_eq!(limiter.check_allowed(&1, now), Err(WAIT_MIN));
        assert!(limiter.check_allowed(&1, now + WAIT_MIN).is_ok());
        limiter.note_failure(&1, "y", now + WAIT_MIN + FORGOTTEN_AFTER);
        limiter.note_failure(&1, "z", now + 3 * FORGOTTEN_AFTER);
        assert_eq!(limiter.check_allowed(&1, now + 3 * FORGOTTEN_AFTER), Err(WAIT_MIN));
    }

    #[test]
    fn the_table_is_bounded_and_says_what_it_forgot() {
        let limiter = AttemptLimiter::new(0, 100);
        let now = Instant::now();
        for key in 0..1000_u32 {
            limiter.note_failure(&key, key, now + Duration::from_millis(key.into()));
        }
        assert_eq!(limiter.lock_entries().len(), 100);
        assert_eq!(limiter.evicted_total(), 900);
        assert!(limiter.check_allowed(&999, now + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn an_address_block_is_what_one_host_has() {
        let check = |address: &str, expect: &str| {
            let block = address_block(address.parse().unwrap());
            assert_eq!(block, expect.parse::<IpAddr>().unwrap(), "{address}");
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("::1", "::");
    }
}
