//! Opens the registry: a local folder, or an S3-compatible store.

use std::{io, sync::Arc};

use ::object_store::{Bucket, SCHEME};
use models::{ModelRegistry, artifact::BYTES_MAX, registry::store::RegistryStore};

use crate::{error::TrainError, settings::TrainerSettings};

/// Opens the registry that the settings name.
///
/// # Errors
/// [`TrainError::ObjectStore`] where the address of a store is not valid.
pub fn open_registry(settings: &TrainerSettings) -> Result<ModelRegistry, TrainError> {
    let dir = settings.registry_dir.to_string_lossy();
    if !dir.starts_with(SCHEME) {
        return Ok(ModelRegistry::new(&settings.registry_dir));
    }
    Ok(ModelRegistry::in_store(Arc::new(RegistryBucket(Bucket::open(&dir, &settings.s3)?))))
}

/// Registry in a bucket.
#[derive(Debug)]
struct RegistryBucket(Bucket);

impl RegistryStore for RegistryBucket {
    fn location(&self) -> String {
        self.0.place()
    }

    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.get(key, BYTES_MAX)
    }

    fn create_new(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        self.0.create(key, bytes)
    }

    fn list_names(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn remove_key(&self, key: &str) -> io::Result<()> {
        self.0.remove(key)
    }

    /// Objects are written whole or not at all, so nothing is left unfinished.
    fn remove_unfinished(&self, _: &str) -> io::Result<usize> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |dir: &str, keys: bool, expect: Result<(), &str>| {
            let mut settings =
                TrainerSettings { registry_dir: dir.into(), ..TrainerSettings::default() };
            if keys {
                settings.s3.access_key = "key".to_owned();
                settings.s3.secret_key = serde_json::from_str("\"secret\"").unwrap();
            }
            match (open_registry(&settings), expect) {
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
