//! Where the registry is: a local folder, or an S3-compatible store.

use std::{io, sync::Arc};

use ::object_store::{Bucket, SCHEME};
use models::{Registry, artifact::BYTES_MAX, registry::store::Store};

use crate::{error::TrainError, settings::Settings};

/// The registry that the settings name.
///
/// # Errors
/// [`TrainError::ObjectStore`] where the address of a store cannot be used.
pub fn registry(settings: &Settings) -> Result<Registry, TrainError> {
    let dir = settings.registry_dir.to_string_lossy();
    if !dir.starts_with(SCHEME) {
        return Ok(Registry::new(&settings.registry_dir));
    }
    Ok(Registry::in_store(Arc::new(Elsewhere(Bucket::open(&dir, &settings.s3)?))))
}

/// A registry in a bucket.
#[derive(Debug)]
struct Elsewhere(Bucket);

impl Store for Elsewhere {
    fn place(&self) -> String {
        self.0.place()
    }

    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.get(key, BYTES_MAX)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        self.0.create(key, bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        self.0.remove(key)
    }

    /// Objects are there whole or not at all: nothing is left unfinished.
    fn tidy(&self, _: &str) -> io::Result<usize> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |dir: &str, keys: bool, expect: Result<(), &str>| {
            let mut settings = Settings { registry_dir: dir.into(), ..Settings::default() };
            if keys {
                settings.s3.access_key = "key".to_owned();
                settings.s3.secret_key = serde_json::from_str("\"secret\"").unwrap();
            }
            match (registry(&settings), expect) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{dir}: {error}");
                }
                (got, expect) => panic!("{dir}: {got:?}, expected {expect:?}"),
            }
        };
        check("var/models", false, Ok(()));
        check("s3://bucket/models", true, Ok(()));
        check("s3://bucket", true, Ok(()));
        check("s3://bucket/models", false, Err("s3.secret_key"));
    }
}
