//! The course of a metric over the next hours.

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::{ZoneId, time::parse_bound_ms};
use utoipa::IntoParams;

use crate::{
    duration_name,
    serve::{
        ForecastError, PathForecast, Trainer,
        path_forecast::{HORIZON_S_MAX, HORIZON_S_MIN},
    },
};

/// Horizon without `horizon`, seconds.
const HORIZON_S_DEFAULT: i64 = HORIZON_S_MAX;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ForecastParams {
    #[param(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    /// How far ahead, `10m` to `24h`; without it `24h`.
    #[param(example = "24h")]
    horizon: Option<String>,
    /// Forecast as it would have been made at this time, from the rows as they were known then.
    /// Without it from the newest row.
    #[param(example = "2025-06-02T01:00:00Z")]
    at: Option<String>,
}

/// Forecast of a metric's course in a zone, with quantiles, from the zone's rows of the last 14 days.
#[utoipa::path(get, path = "/v1/forecast/{metric}", tag = "predictions",
    params(("metric" = String, Path, example = "temperature"), ForecastParams),
    responses((status = 200, body = PathForecast), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
pub(super) async fn forecast(
    State(trainer): State<Trainer>,
    Path(metric): Path<String>,
    QueryParams(ForecastParams { zone, horizon, at }): QueryParams<ForecastParams>,
) -> Result<Json<PathForecast>, Problem> {
    let horizon_s = horizon.map_or(Ok(HORIZON_S_DEFAULT), |text| parse_horizon(&text))?;
    let at_ms = at.as_deref().map(parse_bound_ms).transpose().map_err(|what| {
        Problem::bad_request(format!("at: {what}")).with_hint("a time without an offset is UTC")
    })?;
    trainer.forecast_metric(&metric, &zone, horizon_s, at_ms).await.map(Json).map_err(problem)
}

fn parse_horizon(text: &str) -> Result<i64, Problem> {
    let horizon_s = duration_name::parse_seconds(text).and_then(|s| i64::try_from(s).ok());
    horizon_s.filter(|s| (HORIZON_S_MIN..=HORIZON_S_MAX).contains(s)).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Problem::bad_request(format!("horizon: `{shown}` is not 10m to 24h"))
            .with_hint("as in horizon=10m, horizon=6h or horizon=1d")
    })
}

fn problem(error: ForecastError) -> Problem {
    let text = error.to_string();
    match error {
        ForecastError::UnknownMetric { .. } => Problem::not_found(text)
            .with_code("unknown_metric")
            .with_hint("GET /v1/zones of the feature store lists the metrics of each zone"),
        ForecastError::TooFewValues { .. } => {
            Problem::conflict(text).with_code("too_few_values").with_hint(
                "a forecast needs some hours of readings; a day's course is known after three days",
            )
        }
        ForecastError::Train(error) => Problem::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn horizons_are_durations_up_to_a_day() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(parse_horizon(text).ok(), expect, "{text}");
        };
        check("10m", Some(600));
        check("6h", Some(21_600));
        check("1d", Some(86_400));
        check("24h", Some(86_400));
        check("9m", None);
        check("25h", None);
        check("600", None);
        check("", None);
        check("h", None);
        check("-1h", None);
        check("99999999999999999999h", None);
    }
}
