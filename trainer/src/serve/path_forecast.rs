//! Forecast of a metric's course over the next hours, from the zone's own rows.

use std::sync::Arc;

use feature_api::{FrameQuery, RevisionMode};
use models::forecast::{SampledSeries, forecast_path};
use serde::Serialize;
use telemetry::{MetricTable, ZoneId};
use utoipa::ToSchema;

use super::{Prediction, Trainer};
use crate::{error::TrainError, feature_frame::ZoneFrame, now_ms};

/// Quantiles of every point.
pub const QUANTILE_LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
/// Shortest horizon, seconds: one step.
pub const HORIZON_S_MIN: i64 = STEPS[0].1;
/// Longest horizon, seconds: a day.
pub const HORIZON_S_MAX: i64 = 86_400;
/// How far back rows are read, ms.
const HISTORY_MS: i64 = 14 * 86_400_000;
/// Window whose mean is forecast, and distance of the points, seconds; the first that a metric is
/// reported often enough for.
const STEPS: [(&str, i64); 2] = [("mean_10m", 600), ("mean_1h", 3600)];
/// Share of the last day's rows that must have a value.
const KNOWN_SHARE_MIN: f64 = 0.5;

/// Forecast of a metric's course in a zone.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PathForecast {
    /// The zone.
    #[schema(value_type = String, example = "farm/bay-1")]
    pub zone: ZoneId,
    /// The metric.
    #[schema(example = "temperature")]
    pub metric: String,
    /// Unit of all values, if the metric is a built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "°C")]
    pub unit: Option<String>,
    /// Feature whose values are forecast: the mean of a window that ends at each time.
    #[schema(example = "temperature_mean_10m")]
    pub feature: String,
    /// Time of the newest row that the forecast rests on, UTC ms.
    pub issued_at_ms: i64,
    /// Value of that row.
    pub issued_value: f64,
    /// Whether the zone's newest row is older than `serving.stale_s`, so that the path does not begin
    /// now.
    pub is_stale: bool,
    /// Days of rows that the forecast rests on.
    pub history_days: f64,
    /// Levels of the quantiles of each point.
    #[schema(value_type = Vec<f64>)]
    pub levels: [f64; 5],
    /// The path, in the order of time; shorter than requested where there is little history.
    pub points: Vec<ForecastPoint>,
    /// Present predictions of the champions about this metric; only without `at`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predictions: Vec<Prediction>,
}

/// One time of a path.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ForecastPoint {
    /// End of the window, UTC ms.
    pub at_ms: i64,
    /// Point forecast.
    pub value: f64,
    /// Quantiles at `levels`.
    pub quantiles: Vec<f64>,
    /// `persistence`, `yesterday` (the value of 24 hours before), or a `regression` or
    /// `yesterday_regression` of what these miss: the simplest that is as good as the best.
    #[schema(value_type = String, example = "regression")]
    pub method: &'static str,
}

/// Why there is no forecast.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// The zone has no such feature.
    #[error("zone `{zone}` has no rows of `{metric}`")]
    UnknownMetric {
        /// Zone.
        zone: ZoneId,
        /// Metric.
        metric: String,
    },
    /// There are rows, but too few.
    #[error("`{metric}` of zone `{zone}` has too few values for a forecast: {why}")]
    TooFewValues {
        /// Zone.
        zone: ZoneId,
        /// Metric.
        metric: String,
        /// The missing values.
        why: String,
    },
    /// The feature store failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl Trainer {
    /// Forecasts the course of a metric for `horizon_s` ([`HORIZON_S_MIN`] to [`HORIZON_S_MAX`]) after `at_ms`,
    /// from the rows as they were known then; without `at_ms` from the newest row.
    ///
    /// # Errors
    /// Fails with a [`ForecastError`].
    pub async fn forecast_metric(
        &self,
        metric: &str,
        zone: &ZoneId,
        horizon_s: i64,
        at_ms: Option<i64>,
    ) -> Result<PathForecast, ForecastError> {
        let history = self.read_metric_history(metric, zone, at_ms.unwrap_or_else(now_ms)).await?;
        let path = {
            let (metric, zone) = (metric.to_owned(), zone.clone());
            tokio::task::spawn_blocking(move || history.forecast(metric, zone, horizon_s))
        };
        let mut path = path.await.map_err(TrainError::Stopped)??;
        if at_ms.is_none() {
            path.is_stale = self.is_zone_stale(zone).await?;
            path.predictions = self.predict_metric(metric, zone).await;
        }
        Ok(path)
    }

    /// Whether the newest row of a zone is too old for a forecast to begin now. Final rows may be
    /// older than that, by the allowed lateness and a step.
    async fn is_zone_stale(&self, zone: &ZoneId) -> Result<bool, TrainError> {
        let newest = self.source().latest_features(zone).await?;
        let age_s = newest.map_or(f64::INFINITY, |row| (now_ms() - row.at_ms) as f64 / 1000.0);
        Ok(age_s > self.settings().serving.stale_after_s())
    }

    /// Predictions of the champions whose value is the metric's own at a later time.
    async fn predict_metric(&self, metric: &str, zone: &ZoneId) -> Vec<Prediction> {
        let mut predictions = Vec::new();
        for task in crate::tasks::all_tasks() {
            let spec = task.spec();
            if spec.forecast_metric == Some(metric)
                && let Ok(prediction) = self.predict_zone(spec.name, zone).await
            {
                predictions.push(prediction);
            }
        }
        predictions
    }

    async fn read_metric_history(
        &self,
        metric: &str,
        zone: &ZoneId,
        until_ms: i64,
    ) -> Result<MetricHistory, ForecastError> {
        let unknown =
            || ForecastError::UnknownMetric { zone: zone.clone(), metric: metric.to_owned() };
        let known = self.source().feature_columns().await.map_err(TrainError::from)?;
        let columns: Vec<String> = STEPS
            .iter()
            .map(|(window, _)| format!("{metric}_{window}"))
            .filter(|column| known.contains(column.as_str()))
            .collect();
        if columns.is_empty() {
            return Err(unknown());
        }
        let query = FrameQuery {
            zones: Some(vec![zone.clone()]),
            from_ms: Some(until_ms.saturating_sub(HISTORY_MS)),
            to_ms: Some(until_ms),
            columns: Some(columns),
            step_s: Some(STEPS[0].1),
            ..FrameQuery::default()
        };
        let table = self
            .source()
            .read_frame(&query, RevisionMode::AsKnown)
            .await
            .map_err(TrainError::from)?;
        let frames = ZoneFrame::by_zone(&table)?;
        frames
            .into_iter()
            .next()
            .map(|frame| MetricHistory { frame: Arc::new(frame) })
            .ok_or_else(unknown)
    }
}

/// A metric's rows of the last days.
struct MetricHistory {
    frame: Arc<ZoneFrame>,
}

impl MetricHistory {
    fn forecast(
        &self,
        metric: String,
        zone: ZoneId,
        horizon_s: i64,
    ) -> Result<PathForecast, ForecastError> {
        let found = STEPS.iter().find_map(|(window, step_s)| {
            let feature = format!("{metric}_{window}");
            let (last_ms, values) = self.sample(&feature, step_s * 1000)?;
            let day_steps = (86_400 / step_s) as usize;
            let recent = &values[values.len().saturating_sub(day_steps)..];
            let known = recent.iter().filter(|value| value.is_finite()).count();
            (known as f64 >= KNOWN_SHARE_MIN * recent.len() as f64)
                .then_some((feature, *step_s, last_ms, values))
        });
        let too_few = |why: String| ForecastError::TooFewValues {
            zone: zone.clone(),
            metric: metric.clone(),
            why,
        };
        let Some((feature, step_s, last_ms, values)) = found else {
            return Err(too_few(
                "fewer than half of the hours of the last day are known".to_owned(),
            ));
        };
        let series = SampledSeries {
            values: &values,
            day_steps: (86_400 / step_s) as usize,
            hour_steps: (3600 / step_s) as usize,
        };
        let horizon = (horizon_s.clamp(step_s, HORIZON_S_MAX) / step_s) as usize;
        let path = forecast_path(series, horizon, &QUANTILE_LEVELS);
        if path.is_empty() {
            return Err(too_few(format!("{} rows are known", values.len())));
        }
        let table = MetricTable::default();
        let spec = table.get(&metric);
        let plausible = |value: f64| spec.map_or(value, |spec| value.clamp(spec.min, spec.max));
        let points = path
            .into_iter()
            .map(|point| ForecastPoint {
                at_ms: last_ms + point.lead as i64 * step_s * 1000,
                value: plausible(point.value),
                quantiles: point.quantiles.into_iter().map(plausible).collect(),
                method: point.method.as_str(),
            })
            .collect();
        Ok(PathForecast {
            unit: spec.map(|spec| spec.unit.to_string()),
            feature,
            issued_at_ms: last_ms,
            issued_value: values[values.len() - 1],
            is_stale: false,
            history_days: values.len() as f64 * step_s as f64 / 86_400.0,
            levels: QUANTILE_LEVELS,
            points,
            predictions: Vec::new(),
            metric,
            zone,
        })
    }

    /// Samples a feature at whole steps, from its first to its last known value. Returns the time of
    /// the last.
    fn sample(&self, feature: &str, step_ms: i64) -> Option<(i64, Vec<f64>)> {
        let values = self.frame.column(feature)?;
        let rows = || {
            let rows = self.frame.at_ms.iter().zip(values);
            rows.filter(|(at_ms, value)| **at_ms % step_ms == 0 && value.is_finite())
        };
        let (first_ms, last_ms) = (*rows().next()?.0, *rows().next_back()?.0);
        let mut sampled = vec![f64::NAN; ((last_ms - first_ms) / step_ms) as usize + 1];
        for (at_ms, value) in rows() {
            sampled[((at_ms - first_ms) / step_ms) as usize] = *value;
        }
        Some((last_ms, sampled))
    }
}
