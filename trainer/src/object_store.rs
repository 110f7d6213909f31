//! Where the registry is: a local folder, or an S3-compatible store.

use models::Registry;

use crate::{error::TrainError, settings::Settings};

/// The registry that the settings name.
///
/// # Errors
/// [`TrainError::ObjectStore`] where the address of a store cannot be used.
pub fn registry(settings: &Settings) -> Result<Registry, TrainError> {
    Ok(Registry::new(&settings.registry_dir))
}
