//! The sessions that outlive connections and restarts: which clients have one, and their
//! subscriptions.
//!
//! Devices store their unacknowledged messages. Some clients (espMqttClient, rumqttc) store them
//! only if the server still knows the session, and discard them at `session_present = 0`. So that
//! flag must be correct.
//!
//! The sessions are stored in a journal of JSON lines, each with the newest state of one session,
//! or its end. Lines are written at once and synced by the system. A crash of the gateway loses
//! nothing. After a power cut a session may be unknown, and its client learns that.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;
use tracing::warn;

use super::{connected_clients::ClientKey, listener_counts::ListenerCounts};

/// File name of the journal, in the folder of the log.
const FILE_NAME: &str = "mqtt-sessions";
/// Largest size of all sessions in the journal, bytes.
const SESSIONS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The journal is rewritten when it is this much longer than its content, bytes.
const JOURNAL_SLACK_BYTES: u64 = 1024 * 1024;

/// Wait before the journal is written again after a disk failure.
const JOURNAL_RETRY: Duration = Duration::from_mins(1);
/// Longest client identifier of a session that outlives its connection, bytes.
const CLIENT_BYTES_MAX: usize = 256;

/// The expiry interval of a session that never expires (MQTT 5, 3.1.2.11.2).
pub(super) const NEVER_EXPIRES: u32 = u32::MAX;

/// A stored session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredSession {
    user: SmolStr,
    client: SmolStr,
    /// How long it outlives its connection, seconds.
    expiry_s: u32,
    /// The filters, and whether each is at least once.
    pub(super) filters: Vec<(SmolStr, bool)>,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum SessionJournalLine {
    Ended { user: SmolStr, client: SmolStr, ended: bool },
    Stored(StoredSession),
}

/// All stored sessions.
#[derive(Debug)]
pub(super) struct StoredSessions {
    sessions_max: usize,
    counts: Arc<ListenerCounts>,
    state: Mutex<StoredSessionsState>,
}

#[derive(Debug, Default)]
struct StoredSessionsState {
    sessions: HashMap<ClientKey, RememberedSession>,
    bytes: usize,
    /// The journal; `None` if there is no folder or the disk refuses it. Sessions are then only
    /// in memory.
    journal: Option<SessionJournal>,
    /// The path of a journal that the disk refused, and since when.
    refused: Option<(PathBuf, Instant)>,
}

#[derive(Debug)]
struct RememberedSession {
    session: StoredSession,
    bytes: usize,
    /// The end of the last connection, or the restart; `None` while the client is connected.
    since: Option<Instant>,
}

#[derive(Debug)]
struct SessionJournal {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl StoredSessions {
    /// Loads the sessions that are stored in `dir`; `None` for memory only.
    pub(super) fn open(
        dir: Option<&Path>,
        sessions_max: usize,
        counts: Arc<ListenerCounts>,
    ) -> Self {
        let mut state = StoredSessionsState::default();
        if let Some(dir) = dir.filter(|_| sessions_max > 0) {
            let path = dir.join(FILE_NAME);
            match fs::read_to_string(&path) {
                Ok(text) => state.replay_journal(&text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    warn!(path = %path.display(), %error, "cannot read the stored sessions");
                }
            }
            state.compact_journal(&path);
        }
        let stored = Self { sessions_max, counts, state: Mutex::new(state) };
        stored.make_room(&mut stored.lock_state());
        stored
    }

    /// Whether sessions are stored at all.
    fn is_enabled(&self) -> bool {
        self.sessions_max > 0
    }

    /// Whether a client's session may outlive its connection.
    pub(super) fn may_store(&self, client: &str) -> bool {
        self.is_enabled() && client.len() <= CLIENT_BYTES_MAX
    }

    /// Notes a connection. Returns the client's earlier session if the client wants it
    /// (`is_clean` is false) and it has not expired. From now on the client has a session if
    /// `expiry_s` is above 0.
    pub(super) fn connect_client(
        &self,
        user: &SmolStr,
        client: &str,
        is_clean: bool,
        expiry_s: u32,
    ) -> Option<StoredSession> {
        let key = (user.clone(), SmolStr::from(client));
        let mut state = self.lock_state();
        let earlier = state.sessions.get(&key);
        let resumed = earlier.filter(|one| !is_clean && !one.has_expired());
        let earlier = resumed.map(|one| one.session.clone());
        if expiry_s == 0 || !self.is_enabled() {
            // The session lives until the end of this connection in any case.
            state.forget_session(&key);
        } else {
            let filters = earlier.as_ref().map(|one| one.filters.clone()).unwrap_or_default();
            let session =
                StoredSession { user: key.0.clone(), client: key.1.clone(), expiry_s, filters };
            state.store_session(key, session);
            self.make_room(&mut state);
        }
        self.counts.sessions.store(state.sessions.len() as u64, Ordering::Relaxed);
        earlier
    }

    /// Stores the new subscriptions of a connected client.
    pub(super) fn store_filters(
        &self,
        user: &SmolStr,
        client: &str,
        filters: Vec<(SmolStr, bool)>,
    ) {
        let key = (user.clone(), SmolStr::from(client));
        let mut state = self.lock_state();
        if let Some(one) = state.sessions.get(&key) {
            let session = StoredSession { filters, ..one.session.clone() };
            state.store_session(key, session);
            self.make_room(&mut state);
        }
    }

    /// Notes that the client's connection has ended; its session lives on.
    pub(super) fn mark_disconnected(&self, user: &SmolStr, client: &str) {
        let key = (user.clone(), SmolStr::from(client));
        if let Some(one) = self.lock_state().sessions.get_mut(&key) {
            one.since = Some(Instant::now());
        }
    }

    /// Ends the client's session.
    pub(super) fn end_session(&self, user: &SmolStr, client: &str) {
        let mut state = self.lock_state();
        state.forget_session(&(user.clone(), client.into()));
        self.counts.sessions.store(state.sessions.len() as u64, Ordering::Relaxed);
    }

    /// Removes expired sessions, and then those whose clients were away longest, until there is
    /// room.
    fn make_room(&self, state: &mut StoredSessionsState) {
        let is_over = |state: &StoredSessionsState| {
            state.sessions.len() > self.sessions_max || state.bytes > SESSIONS_BYTES_MAX
        };
        if is_over(state) {
            let expired = state.sessions.iter().filter(|(_, one)| one.has_expired());
            let expired: Vec<_> = expired.map(|(key, _)| key.clone()).collect();
            expired.iter().for_each(|key| state.forget_session(key));
        }
        while is_over(state) {
            // Sessions of connected clients are removed last.
            let oldest =
                state.sessions.iter().min_by_key(|(_, one)| (one.since.is_none(), one.since));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            state.forget_session(&oldest);
            self.counts.sessions_evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, StoredSessionsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RememberedSession {
    fn has_expired(&self) -> bool {
        let expiry_s = self.session.expiry_s;
        let expiry = Duration::from_secs(expiry_s.into());
        expiry_s != NEVER_EXPIRES && self.since.is_some_and(|since| since.elapsed() > expiry)
    }
}

impl StoredSessionsState {
    /// Applies a journal. A line that a crash cut off is ignored.
    fn replay_journal(&mut self, text: &str) {
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(SessionJournalLine::Stored(session)) => {
                    let key = (session.user.clone(), session.client.clone());
                    self.store_session(key.clone(), session);
                    if let Some(one) = self.sessions.get_mut(&key) {
                        one.since = Some(Instant::now());
                    }
                }
                Ok(SessionJournalLine::Ended { user, client, .. }) => {
                    self.forget_session(&(user, client));
                }
                Err(error) => warn!(%error, "ignoring an invalid line of the session journal"),
            }
        }
    }

    fn store_session(&mut self, key: ClientKey, session: StoredSession) {
        if let Some(one) = self.sessions.get_mut(&key)
            && one.session == session
        {
            one.since = None;
            return;
        }
        let line = serde_json::to_string(&session).unwrap_or_default();
        let one = RememberedSession { session, bytes: line.len() + 1, since: None };
        self.bytes += one.bytes;
        if let Some(before) = self.sessions.insert(key, one) {
            self.bytes -= before.bytes;
        }
        self.write_line(&line);
    }

    fn forget_session(&mut self, key: &ClientKey) {
        let Some(one) = self.sessions.remove(key) else { return };
        self.bytes -= one.bytes;
        let (user, client) = key.clone();
        let line = SessionJournalLine::Ended { user, client, ended: true };
        self.write_line(&serde_json::to_string(&line).unwrap_or_default());
    }

    fn write_line(&mut self, line: &str) {
        let Some(journal) = &mut self.journal else {
            if let Some((path, _)) =
                self.refused.take_if(|(_, since)| since.elapsed() > JOURNAL_RETRY)
            {
                // This writes the new line too.
                self.compact_journal(&path);
            }
            return;
        };
        if let Err(error) = journal.file.write_all(format!("{line}\n").as_bytes()) {
            let path = journal.path.clone();
            self.abandon_journal(path, &error);
            return;
        }
        journal.bytes += line.len() as u64 + 1;
        if journal.bytes > 2 * self.bytes as u64 + JOURNAL_SLACK_BYTES {
            let path = journal.path.clone();
            self.compact_journal(&path);
        }
    }

    /// Rewrites the journal with the current sessions.
    fn compact_journal(&mut self, path: &Path) {
        let new = path.with_extension("new");
        let lines =
            self.sessions.values().filter_map(|one| serde_json::to_string(&one.session).ok());
        let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        let written = fs::write(&new, &text)
            .and_then(|()| fs::rename(&new, path))
            .and_then(|()| OpenOptions::new().append(true).open(path));
        self.journal = match written {
            Ok(file) => {
                Some(SessionJournal { path: path.to_owned(), file, bytes: text.len() as u64 })
            }
            Err(error) => return self.abandon_journal(path.to_owned(), &error),
        };
    }

    /// Abandons the journal because the disk refuses it. Its content would soon be outdated: a
    /// session that has ended would be back after a restart. So the file is removed, and written
    /// again later.
    fn abandon_journal(&mut self, path: PathBuf, error: &io::Error) {
        warn!(path = %path.display(), %error, "sessions will be unknown after a restart; will retry");
        self.journal = None;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), %error, "cannot remove outdated sessions");
            }
            _ => {}
        }
        self.refused = Some((path, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open_sessions(dir: &Path, sessions_max: usize) -> StoredSessions {
        StoredSessions::open(Some(dir), sessions_max, Arc::default())
    }

    fn test_user() -> SmolStr {
        SmolStr::default()
    }

    #[test]
    fn a_session_is_there_when_it_was_kept_and_only_for_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open_sessions(dir.path(), 10);
        let connect = |client: &str, is_clean, expiry_s| {
            sessions.connect_client(&test_user(), client, is_clean, expiry_s).is_some()
        };
        assert!(!connect("a", false, 60));
        assert!(connect("a", false, 60));
        assert!(!connect("a", true, 60), "clean start");
        assert!(connect("a", false, 0), "the earlier session, for the last time");
        assert!(!connect("a", false, 60));
        assert!(sessions.connect_client(&"other".into(), "a", false, 60).is_none());
        sessions.end_session(&test_user(), "a");
        assert!(!connect("a", false, 60));
    }

    #[test]
    fn sessions_and_subscriptions_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let filters = vec![("commands/#".into(), true)];
        {
            let sessions = open_sessions(dir.path(), 10);
            sessions.connect_client(&test_user(), "kept", true, 60);
            sessions.store_filters(&test_user(), "kept", filters.clone());
            sessions.connect_client(&test_user(), "ended", true, 60);
            sessions.end_session(&test_user(), "ended");
        }
        let mut file = OpenOptions::new().append(true).open(dir.path().join(FILE_NAME)).unwrap();
        file.write_all(b"{\"user\":\"\",\"cli").unwrap();
        let sessions = open_sessions(dir.path(), 10);
        let session = sessions.connect_client(&test_user(), "kept", false, 60).unwrap();
        assert_eq!(session.filters, filters);
        assert!(sessions.connect_client(&test_user(), "ended", false, 60).is_none());
    }

    #[test]
    fn who_was_away_longest_is_forgotten_first_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open_sessions(dir.path(), 3);
        for client in ["a", "b", "c"] {
            sessions.connect_client(&test_user(), client, true, 60);
        }
        sessions.mark_disconnected(&test_user(), "b");
        sessions.connect_client(&test_user(), "d", true, 60);
        assert_eq!(sessions.counts.sessions_evicted.load(Ordering::Relaxed), 1);
        assert!(sessions.connect_client(&test_user(), "b", false, 0).is_none());
        assert!(sessions.connect_client(&test_user(), "a", false, 60).is_some());
    }

    #[test]
    fn sessions_that_ended_while_the_disk_refused_do_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let sessions = open_sessions(dir.path(), 10);
        sessions.connect_client(&test_user(), "ended", true, 60);
        // A file that cannot be written to.
        sessions.lock_state().journal.as_mut().unwrap().file = File::open(&path).unwrap();
        sessions.end_session(&test_user(), "ended");
        assert!(
            open_sessions(dir.path(), 10).connect_client(&test_user(), "ended", false, 0).is_none()
        );
        // The disk works again.
        sessions.lock_state().refused.as_mut().unwrap().1 -= 2 * JOURNAL_RETRY;
        sessions.connect_client(&test_user(), "kept", true, 60);
        drop(sessions);
        assert!(
            open_sessions(dir.path(), 10).connect_client(&test_user(), "kept", false, 0).is_some()
        );
    }

    #[test]
    fn a_client_with_a_very_long_name_has_no_session() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open_sessions(dir.path(), 10);
        for (bytes, expect) in [(1, true), (256, true), (257, false)] {
            assert_eq!(sessions.may_store(&"x".repeat(bytes)), expect, "{bytes}");
        }
        assert!(!open_sessions(dir.path(), 0).may_store("x"));
    }

    #[test]
    fn the_journal_does_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open_sessions(dir.path(), 10);
        for turn in 0..20_000_u32 {
            sessions.connect_client(&test_user(), "a", true, 60 + turn % 2);
        }
        let bytes = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert!(bytes <= JOURNAL_SLACK_BYTES + 1024, "{bytes}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_restart_changes_nothing_but_who_is_connected(
            steps in prop::collection::vec((0..5_u8, 0..4_u8, any::<bool>(), 0..3_u32), 1..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let sessions = open_sessions(dir.path(), 4);
            for (client, what, is_clean, expiry) in steps {
                let client = client.to_string();
                match what {
                    0 => sessions.end_session(&test_user(), &client),
                    1 => sessions.store_filters(&test_user(), &client, vec![("x".into(), is_clean)]),
                    _ => {
                        sessions.connect_client(&test_user(), &client, is_clean, expiry * 1000);
                    }
                }
                prop_assert!(sessions.lock_state().sessions.len() <= 4);
            }
            let of = |sessions: &StoredSessions| {
                let state = sessions.lock_state();
                let mut all: Vec<_> =
                    state.sessions.values().map(|one| format!("{:?}", one.session)).collect();
                all.sort();
                (all, state.bytes)
            };
            let before = of(&sessions);
            drop(sessions);
            prop_assert_eq!(before, of(&open_sessions(dir.path(), 4)));
        }
    }
}
