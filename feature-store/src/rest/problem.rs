use service::rest::Problem;

use crate::{SqlRefusal, StoreError, error::versions_hint};

/// Runs work that may block, such as DuckDB queries, on a thread for it.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(problem_of_error),
        Err(error) => Err(Problem::internal(error)),
    }
}

pub(super) fn problem_of_error(error: StoreError) -> Problem {
    match error {
        StoreError::UnknownFeature { name, hint } => {
            let hint = hint.map_or_else(
                || "GET /v1/features lists the features".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Problem::bad_request(format!("there is no feature `{name}`"))
                .with_code("unknown_feature")
                .with_hint(hint)
        }
        StoreError::UnknownVersion { version, known } => {
            Problem::bad_request(format!("there are no rows of version {version}"))
                .with_code("unknown_version")
                .with_hint(versions_hint(&known))
        }
        StoreError::LimitExceeded { what, found, max, hint } => {
            Problem::too_large(format!("{found} {what}, above {max}")).with_hint(hint)
        }
        StoreError::Sql(message) => Problem::bad_request(message).with_code("sql_error"),
        StoreError::Stopped(why) => Problem::bad_request(format!("the query was stopped: {why}"))
            .with_code("sql_limit")
            .with_hint("request less: a shorter span, fewer columns, no join without a condition"),
        error => Problem::internal(error),
    }
}

pub(super) fn problem_of_refusal(SqlRefusal { what, hint }: SqlRefusal) -> Problem {
    Problem::bad_request(what).with_code("sql_refused").with_hint(hint)
}

pub(super) fn unknown_zone_problem(zone: &telemetry::ZoneId) -> Problem {
    Problem::not_found(format!("there are no features of zone `{zone}`"))
        .with_code("unknown_zone")
        .with_hint("GET /v1/zones lists the zones")
}
