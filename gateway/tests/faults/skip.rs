//! The error of a scenario that cannot run here.

/// The missing program. With `MICROCLIMATE_BROKERS=required` that is a failure.
#[derive(Debug, thiserror::Error)]
#[error("needs {0}")]
pub(crate) struct MissingTool(pub(crate) String);

impl MissingTool {
    pub(crate) fn is_failure() -> bool {
        std::env::var("MICROCLIMATE_BROKERS").is_ok_and(|text| text == "required")
    }
}
