use service::rest::Problem;

use crate::StoreError;

/// Runs what asks DuckDB where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(problem),
        Err(error) => Err(Problem::internal(error)),
    }
}

fn problem(error: StoreError) -> Problem {
    match error {
        StoreError::UnknownFeature { name, hint } => {
            let hint = hint.map_or_else(
                || "GET /v1/features lists the features that there are".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Problem::bad_request(format!("there is no feature `{name}`")).hint(hint)
        }
        error => Problem::internal(error),
    }
}
