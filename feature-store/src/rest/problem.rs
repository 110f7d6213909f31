use service::rest::Problem;

use crate::{Refused, StoreError, error::versions_hint};

/// Runs what asks DuckDB where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(problem),
        Err(error) => Err(Problem::internal(error)),
    }
}

pub(super) fn problem(error: StoreError) -> Problem {
    match error {
        StoreError::UnknownFeature { name, hint } => {
            let hint = hint.map_or_else(
                || "GET /v1/features lists the features that there are".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Problem::bad_request(format!("there is no feature `{name}`"))
                .coded("unknown_feature")
                .hint(hint)
        }
        StoreError::UnknownVersion { version, known } => {
            Problem::bad_request(format!("there are no rows of version {version}"))
                .coded("unknown_version")
                .hint(versions_hint(&known))
        }
        StoreError::TooMuch { what, found, max, hint } => {
            Problem::too_large(format!("{found} {what}, above {max}")).hint(hint)
        }
        StoreError::Sql(said) => Problem::bad_request(said).coded("sql_error"),
        StoreError::Stopped(why) => Problem::bad_request(format!("the query was stopped: {why}"))
            .coded("sql_limit")
            .hint("ask for less: a shorter span, fewer columns, no join without a condition"),
        error => Problem::internal(error),
    }
}

pub(super) fn refused(Refused { what, hint }: Refused) -> Problem {
    Problem::bad_request(what).coded("sql_refused").hint(hint)
}

pub(super) fn unknown_zone(zone: &telemetry::ZoneId) -> Problem {
    Problem::not_found(format!("there are no features of zone `{zone}`"))
        .coded("unknown_zone")
        .hint("GET /v1/zones lists the zones that there are")
}
