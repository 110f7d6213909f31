//! Authentication of the listener's clients, and the topics that each may publish and subscribe
//! to.
//!
//! # Layout
//! - [`users_file`]: users, hashes of their passwords, groups, rights
//! - `topic_rights`: the topics that a right covers
//! - `password_hash`: argon2id
//! - this file: authentication, and its rate limits
//!
//! Verifying a password costs tens of milliseconds and megabytes by design, so that nobody who
//! steals the file can guess fast. Three measures keep this from being used to stop the gateway.
//! Verifications run outside of the listener's thread, few at once, and a limited number may
//! wait. Verified passwords are remembered for some minutes. A client that sends one wrong
//! password after the other waits longer and longer.

pub(crate) mod password_hash;
pub(crate) mod topic_rights;
pub mod users_file;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use service::attempts::{AttemptLimiter, address_block};
use telemetry::SmolStr;
use tokio::sync::Semaphore;

use crate::{blocking::run_blocking, settings::MqttSettings};
use password_hash::is_password_of;
use topic_rights::TopicRights;
use users_file::{UserEntry, UsersByName, UsersFileError};

pub use password_hash::generate_password;

/// Builds the line of the users file for a user with a password, or with a certificate only.
///
/// # Errors
/// Returns an error if the name or a right is invalid.
pub fn users_file_line(
    name: &str,
    password: Option<&str>,
    rights: &[String],
) -> Result<String, String> {
    let hash = password.map(password_hash::hash_password).transpose()?;
    users_file::format_user_line(name, hash.as_deref(), rights)
}

/// Number of verifications at once. Each needs a core and some megabytes.
const VERIFICATIONS_MAX: usize = 2;
/// Number of clients that may wait for a verification. Further ones are asked to come back.
const WAITING_MAX: usize = 256;
/// Number of these clients from one address.
const WAITING_OF_ADDRESS_MAX: usize = WAITING_MAX / 4;
/// Interval at which a remembered password is compared while its user and address are slowed
/// down.
const SLOWED_COMPARE_EVERY: Duration = Duration::from_secs(1);
/// How long a verified password is remembered after its last use.
const REMEMBERED_FOR: Duration = Duration::from_mins(15);
/// Largest number of remembered passwords.
const REMEMBERED_MAX: usize = 16_384;
/// Number of different wrong passwords of one user from one address without a wait.
const GUESSES_OF_USER: u32 = 3;
/// Number of different wrong passwords from one address, for any users, without a wait.
const GUESSES_OF_ADDRESS: u32 = 20;
/// Largest number of remembered users and addresses that guess.
const GUESSERS_MAX: usize = 4096;

/// The access rules in force.
#[derive(Debug, Default)]
pub(crate) struct AccessRules {
    /// The user of `mqtt.user` and `mqtt.password`, who may do everything.
    user: String,
    password: service::Secret,
    /// The users of `mqtt.users_file`; `None` if there is no file.
    users: Option<UsersByName>,
}

/// The reasons to refuse a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessRefusal {
    /// The user does not exist, or the password is wrong.
    BadCredentials,
    /// The client has guessed too often and must wait.
    TooManyAttempts,
    /// Too many passwords are being verified.
    Busy,
}

/// The authenticated identity of a client.
#[derive(Clone, Debug)]
pub(crate) struct ClientIdentity {
    /// The user's name; empty for anonymous clients.
    name: SmolStr,
    kind: IdentityKind,
}

#[derive(Clone, Debug)]
enum IdentityKind {
    /// An anonymous client, because no users are configured.
    Anybody,
    /// The user of `mqtt.user`, with its password at that time.
    Main(service::Secret),
    /// A user of the users file.
    Listed(Arc<UserEntry>),
}

/// Authenticates clients.
#[derive(Debug)]
pub(crate) struct AccessControl {
    guesses_of_user: AttemptLimiter<GuesserKey>,
    guesses_of_address: AttemptLimiter<IpAddr>,
    remembered: Mutex<HashMap<GuesserKey, VerifiedPassword>>,
    hasher: RandomState,
    verifications: Semaphore,
    waiting: Mutex<WaitingClients>,
}

/// The key of a guesser: an address, and a keyed hash of the user's name. Clients choose names,
/// which may be long.
type GuesserKey = (IpAddr, u64);

/// A password that a client sent.
#[derive(Clone, Copy, Debug)]
struct PasswordGuess {
    key: GuesserKey,
    /// A keyed hash of the password and of the hash it is compared with. After a change of the
    /// users file it is therefore another guess.
    digest: u64,
}

/// A verified password.
#[derive(Debug)]
struct VerifiedPassword {
    /// The same digest as in [`PasswordGuess`].
    digest: u64,
    last_used: Instant,
    /// The last comparison while its client has to wait.
    compared_while_slowed: Option<Instant>,
}

/// The credentials of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientCredentials<'a> {
    pub(crate) address: IpAddr,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    /// The names in the client's verified certificate.
    pub(crate) certificate_names: &'a [String],
}

impl AccessRules {
    /// Reads the users file, if one is configured.
    pub(crate) fn load(mqtt: &MqttSettings) -> Result<Self, UsersFileError> {
        let has_file = !mqtt.users_file.as_os_str().is_empty();
        let users = has_file.then(|| users_file::load_users(&mqtt.users_file)).transpose()?;
        Ok(Self { user: mqtt.user.clone(), password: mqtt.password.clone(), users })
    }

    /// Whether no users are configured.
    fn is_open(&self) -> bool {
        self.user.is_empty() && self.password.expose_secret().is_none() && self.users.is_none()
    }

    /// Whether this is the user of `mqtt.user`, by name alone if it has no password.
    fn is_main_user(&self, user: &str, password: &[u8]) -> bool {
        let is_configured = !self.user.is_empty() || self.password.expose_secret().is_some();
        let password = std::str::from_utf8(password).unwrap_or_default();
        is_configured
            && user == self.user
            && (self.password.expose_secret().is_none() || self.password.matches(password))
    }

    /// Returns the password of `mqtt.password`, if this is its user.
    fn password_of(&self, user: &str) -> Option<&str> {
        (user == self.user).then(|| self.password.expose_secret()).flatten()
    }

    fn main_identity(&self) -> ClientIdentity {
        let kind = IdentityKind::Main(self.password.clone());
        ClientIdentity { name: self.user.as_str().into(), kind }
    }

    fn find_user(&self, name: &str) -> Option<&Arc<UserEntry>> {
        self.users.as_ref()?.get(name)
    }

    /// Whether these rules still give the client the same identity.
    pub(crate) fn is_still_valid(&self, identity: &ClientIdentity) -> bool {
        match &identity.kind {
            IdentityKind::Anybody => self.is_open(),
            IdentityKind::Main(password) => {
                identity.name == self.user && *password == self.password && !self.is_open()
            }
            IdentityKind::Listed(entry) => self.find_user(&entry.name) == Some(entry),
        }
    }
}

impl ClientIdentity {
    /// Returns the user's name; empty for anonymous clients.
    pub(crate) fn name(&self) -> &SmolStr {
        &self.name
    }

    /// Returns its rights on a connection with this client identifier.
    pub(crate) fn topic_rights(&self, client: &str) -> TopicRights {
        match &self.kind {
            IdentityKind::Listed(entry) => {
                TopicRights::from_patterns(&entry.rights, &entry.name, client)
            }
            IdentityKind::Anybody | IdentityKind::Main(_) => TopicRights::unlimited(),
        }
    }

    fn from_entry(entry: &Arc<UserEntry>) -> Self {
        Self { name: entry.name.clone(), kind: IdentityKind::Listed(entry.clone()) }
    }
}

impl Default for AccessControl {
    fn default() -> Self {
        Self {
            guesses_of_user: AttemptLimiter::new(GUESSES_OF_USER, GUESSERS_MAX),
            guesses_of_address: AttemptLimiter::new(GUESSES_OF_ADDRESS, GUESSERS_MAX),
            remembered: Mutex::default(),
            hasher: RandomState::new(),
            verifications: Semaphore::new(VERIFICATIONS_MAX),
            waiting: Mutex::default(),
        }
    }
}

impl AccessControl {
    /// Authenticates a client by its certificate or its password.
    pub(crate) async fn authenticate(
        &self,
        rules: &AccessRules,
        shown: ClientCredentials<'_>,
    ) -> Result<ClientIdentity, AccessRefusal> {
        let name = shown.user.unwrap_or_default();
        if rules.is_open() {
            return Ok(ClientIdentity { name: SmolStr::default(), kind: IdentityKind::Anybody });
        }
        // A certificate suffices, unless the client asks to be another user.
        let by_certificate = shown.certificate_names.iter().find_map(|name| rules.find_user(name));
        if let Some(entry) = by_certificate.filter(|entry| name.is_empty() || name == entry.name) {
            return Ok(ClientIdentity::from_entry(entry));
        }
        let Some(password) = shown.password else {
            // The client sent nothing that could be a guess.
            return if rules.is_main_user(name, b"") && rules.password.expose_secret().is_none() {
                Ok(rules.main_identity())
            } else {
                Err(AccessRefusal::BadCredentials)
            };
        };
        let entry = rules.find_user(name);
        let hash = entry.and_then(|entry| entry.password_hash.as_deref());
        let guess = PasswordGuess {
            key: (address_block(shown.address), self.hasher.hash_one(name)),
            digest: self.hasher.hash_one((name, password, rules.password_of(name), hash)),
        };
        if self.is_known_wrong(&guess) {
            return Err(AccessRefusal::BadCredentials);
        }
        let is_main = rules.is_main_user(name, password);
        if let Err(refusal) = self.check_pace(&guess.key) {
            // A neighbour's guesses do not keep out a client that was admitted before.
            if !self.is_remembered_while_slowed(&guess) {
                return Err(refusal);
            }
        } else {
            if is_main {
                self.remember_password(&guess);
            } else {
                self.verify_password(&guess, hash, password).await?;
            }
            self.guesses_of_user.note_success(&guess.key);
        }
        match entry {
            _ if is_main => Ok(rules.main_identity()),
            Some(entry) => Ok(ClientIdentity::from_entry(entry)),
            None => Err(AccessRefusal::BadCredentials),
        }
    }

    /// Number of attempts that were refused because of earlier ones.
    pub(crate) fn refused_attempts(&self) -> u64 {
        self.guesses_of_user.refused_total() + self.guesses_of_address.refused_total()
    }

    /// Number of guessers that were forgotten because there were too many.
    pub(crate) fn forgotten_guessers(&self) -> u64 {
        self.guesses_of_user.evicted_total() + self.guesses_of_address.evicted_total()
    }

    /// Makes a guesser wait. Clients behind the same address do not wait if they were admitted
    /// from there recently.
    fn check_pace(&self, key: &GuesserKey) -> Result<(), AccessRefusal> {
        let now = Instant::now();
        let too_many = |_| AccessRefusal::TooManyAttempts;
        self.guesses_of_user.check_allowed(key, now).map_err(too_many)?;
        if self.lock_remembered().contains_key(key) {
            return Ok(());
        }
        self.guesses_of_address.check_allowed(&key.0, now).map_err(too_many)
    }

    /// Verifies a password, and counts it if it is wrong.
    async fn verify_password(
        &self,
        guess: &PasswordGuess,
        hash: Option<&str>,
        password: &[u8],
    ) -> Result<(), AccessRefusal> {
        let Some(hash) = hash else { return Err(self.count_wrong(guess)) };
        if self.is_remembered(guess) {
            return Ok(());
        }
        let _place =
            WaitingPlace::try_acquire(&self.waiting, guess.key.0).ok_or(AccessRefusal::Busy)?;
        let _turn = self.verifications.acquire().await.map_err(|_| AccessRefusal::Busy)?;
        // Other connections with the same password, or other guesses of the same client, may have
        // been verified meanwhile.
        if self.is_remembered(guess) {
            return Ok(());
        }
        if self.is_known_wrong(guess) {
            return Err(AccessRefusal::BadCredentials);
        }
        self.check_pace(&guess.key)?;
        let (hash, password) = (hash.to_owned(), password.to_vec());
        if !run_blocking(move || is_password_of(&hash, &password)).await {
            return Err(self.count_wrong(guess));
        }
        self.remember_password(guess);
        Ok(())
    }

    fn is_known_wrong(&self, guess: &PasswordGuess) -> bool {
        self.guesses_of_user.is_known_wrong(&guess.key, guess.digest, Instant::now())
    }

    fn count_wrong(&self, guess: &PasswordGuess) -> AccessRefusal {
        let now = Instant::now();
        self.guesses_of_address.note_failure(&guess.key.0, guess.digest, now);
        self.guesses_of_user.note_failure(&guess.key, guess.digest, now);
        AccessRefusal::BadCredentials
    }

    fn is_remembered(&self, guess: &PasswordGuess) -> bool {
        let mut remembered = self.lock_remembered();
        remembered.get_mut(&guess.key).is_some_and(|one| one.is_met_by(guess))
    }

    /// Whether this password was verified recently, for a client whose user and address are
    /// slowed down. The rate is bounded, because the answer tells a guesser as much as a
    /// verification.
    fn is_remembered_while_slowed(&self, guess: &PasswordGuess) -> bool {
        let mut remembered = self.lock_remembered();
        let Some(one) = remembered.get_mut(&guess.key) else { return false };
        if one.compared_while_slowed.is_some_and(|last| last.elapsed() < SLOWED_COMPARE_EVERY) {
            return false;
        }
        one.compared_while_slowed = Some(Instant::now());
        one.is_met_by(guess)
    }

    fn remember_password(&self, guess: &PasswordGuess) {
        let mut remembered = self.lock_remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, one| one.last_used.elapsed() < REMEMBERED_FOR);
        }
        if remembered.len() >= REMEMBERED_MAX {
            // Each forgotten client costs one further verification.
            remembered.clear();
        }
        let PasswordGuess { key, digest } = *guess;
        let last_used = Instant::now();
        let one = VerifiedPassword { digest, last_used, compared_while_slowed: None };
        remembered.insert(key, one);
    }

    fn lock_remembered(&self) -> MutexGuard<'_, HashMap<GuesserKey, VerifiedPassword>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerifiedPassword {
    /// Whether the guess is this password. If so, its last use is updated.
    fn is_met_by(&mut self, guess: &PasswordGuess) -> bool {
        let is_met = self.digest == guess.digest && self.last_used.elapsed() < REMEMBERED_FOR;
        if is_met {
            self.last_used = Instant::now();
        }
        is_met
    }
}

/// The clients that wait for a verification: their number in all, and for each address.
#[derive(Debug, Default)]
struct WaitingClients {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place in the queue for a verification.
struct WaitingPlace<'a> {
    waiting: &'a Mutex<WaitingClients>,
    address: IpAddr,
}

impl<'a> WaitingPlace<'a> {
    fn try_acquire(waiting: &'a Mutex<WaitingClients>, address: IpAddr) -> Option<Self> {
        let mut state = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = state.by_address.get(&address).copied().unwrap_or_default();
        if state.all >= WAITING_MAX || of_address >= WAITING_OF_ADDRESS_MAX {
            return None;
        }
        state.all += 1;
        state.by_address.insert(address, of_address + 1);
        Some(Self { waiting, address })
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut state = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        state.all -= 1;
        if let Some(of_address) = state.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                state.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
