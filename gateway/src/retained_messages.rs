//! The retained messages of a broker that were already logged. Each is logged once, however often
//! the gateway starts or the broker sends it again.
//!
//! A retained message is the last value that somebody published, perhaps long ago. Hashes of its
//! topic and content are stored in a file, 16 bytes each, so that the next start recognises it.
//! The newest live message of a topic is remembered too, because a broker may store it. Across
//! reconnections it is remembered in memory, and across a restart only if the gateway ended in
//! order.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use tracing::warn;

/// The file, in the log's folder.
const FILE: &str = "retained-messages";
/// Largest number of remembered topics. Retained messages of further topics may be logged again.
const TOPICS_MAX: usize = 100_000;

/// The last logged content of each topic.
#[derive(Debug, Default)]
pub(crate) struct RetainedMessages {
    /// Hash of the content, by the hash of the topic.
    last_contents: HashMap<u64, u64>,
    path: Option<PathBuf>,
    file: Option<File>,
}

impl RetainedMessages {
    /// Loads the messages that earlier processes logged. Without a folder they are remembered for
    /// this process only.
    pub(crate) fn open(dir: Option<&Path>) -> Self {
        let mut messages = Self { path: dir.map(|dir| dir.join(FILE)), ..Self::default() };
        if let Some(path) = &messages.path
            && let Ok(bytes) = fs::read(path)
        {
            // A pair that a crash cut off was not logged.
            let pairs = bytes.as_chunks::<16>().0.iter().map(|pair| {
                let packed = u128::from_le_bytes(*pair);
                ((packed >> 64) as u64, packed as u64)
            });
            messages.last_contents = pairs.take(4 * TOPICS_MAX).collect();
        }
        messages
    }

    /// Whether this content was the topic's last.
    pub(crate) fn is_known(&self, topic: u64, content: u64) -> bool {
        self.last_contents.get(&topic) == Some(&content)
    }

    /// Remembers a live message of a topic.
    pub(crate) fn note_live(&mut self, topic: u64, content: u64) {
        if self.last_contents.len() < TOPICS_MAX || self.last_contents.contains_key(&topic) {
            self.last_contents.insert(topic, content);
        }
    }

    /// Remembers a retained message that is durable in the log.
    pub(crate) fn note_stored(&mut self, topic: u64, content: u64) {
        self.note_live(topic, content);
        let Some(path) = &self.path else { return };
        if self.file.is_none() {
            let _ = path.parent().map(fs::create_dir_all);
            self.file = OpenOptions::new().append(true).create(true).open(path).ok();
        }
        let written = self.file.as_mut().map(|file| file.write_all(&encode_pair(topic, content)));
        if !matches!(written, Some(Ok(()))) {
            warn!(path = %path.display(), "cannot write the file: retained messages will be logged again at the next start");
            self.path = None;
        }
    }

    /// Writes all entries at the end.
    pub(crate) fn save_all(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| !self.last_contents.is_empty()) else {
            return;
        };
        self.file = None;
        let bytes: Vec<u8> = self
            .last_contents
            .iter()
            .flat_map(|(topic, content)| encode_pair(*topic, *content))
            .collect();
        let next = path.with_extension("next");
        if let Err(error) = fs::write(&next, bytes).and_then(|()| fs::rename(&next, path)) {
            warn!(path = %path.display(), %error, "cannot write the file of retained messages");
        }
    }
}

fn encode_pair(topic: u64, content: u64) -> [u8; 16] {
    ((u128::from(topic) << 64) | u128::from(content)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_value_is_known_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = RetainedMessages::open(Some(dir.path()));
        first.note_stored(1, 10);
        first.note_stored(2, 20);
        first.note_stored(1, 11);
        first.note_live(3, 30);
        assert!(first.is_known(1, 11) && !first.is_known(1, 10) && first.is_known(3, 30));
        // After a kill the live messages are forgotten.
        let mut second = RetainedMessages::open(Some(dir.path()));
        assert!(second.is_known(1, 11) && second.is_known(2, 20) && !second.is_known(3, 30));
        second.note_live(3, 30);
        second.save_all();
        let third = RetainedMessages::open(Some(dir.path()));
        assert!(third.is_known(1, 11) && third.is_known(2, 20) && third.is_known(3, 30));
        // Half a pair at the end of the file.
        let mut file = OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap();
        file.write_all(&[1; 7]).unwrap();
        assert!(RetainedMessages::open(Some(dir.path())).is_known(2, 20));
        let mut nowhere = RetainedMessages::open(None);
        nowhere.note_stored(1, 1);
        assert!(nowhere.is_known(1, 1));
    }
}
