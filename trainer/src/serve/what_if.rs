//! Predictions for conditions that are asked about instead of the present ones.

use std::collections::BTreeMap;

use feature_api::LatestFeatures;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Champion, PredictError};
use crate::lag_columns::parse_lag_column;

/// Override that stands for minutes of watering now.
const IRRIGATION_MIN: &str = "irrigation_min";
/// Metric that watering raises, and the rise that a minute of it makes, %.
const SOIL_MOISTURE: &str = "soil_moisture";
const RESPONSE_COLUMN: &str = "drying_response_pct_min";
/// Wettest soil, %.
const MOISTURE_PCT_MAX: f64 = 100.0;
/// Endings that an override may add to a metric's name to state its unit.
const UNIT_ENDINGS: [&str; 6] = ["_pct", "_c", "_lux", "_ppm", "_hpa", "_w_m2"];
/// Statistics that equal the value, and those that are 0, while a metric does not change.
const LEVELS: [&str; 9] = ["last", "first", "mean", "min", "max", "p10", "p50", "p90", "time"];
const CHANGES: [&str; 3] = ["std", "delta", "slope"];

/// The changes that the overrides of a request made.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WhatIf {
    /// Value of the prediction under the present conditions.
    pub present_value: f64,
    /// Features that were changed, with the values that were assumed.
    pub assumed: BTreeMap<String, f64>,
    /// Inputs that lie outside what the model was trained on, with the range of training. The model
    /// was never shown such conditions.
    pub extrapolated: BTreeMap<String, [f64; 2]>,
}

/// Features after overrides, and which of them were changed.
#[derive(Debug)]
pub(super) struct AssumedFeatures {
    pub(super) latest: LatestFeatures,
    pub(super) assumed: BTreeMap<String, f64>,
}

impl AssumedFeatures {
    /// Applies overrides to a zone's newest row. A metric's name sets all its windows as if it had
    /// had this value throughout; the name of a feature sets that feature; `irrigation_min` adds
    /// the rise of so many minutes of watering to soil moisture.
    ///
    /// # Errors
    /// [`PredictError::Override`] for a value that is not finite, and for an override that changes
    /// no input of the model.
    pub(super) fn apply(
        mut latest: LatestFeatures,
        champion: &Champion,
        overrides: &BTreeMap<String, f64>,
    ) -> Result<Self, PredictError> {
        let mut columns: Vec<&str> =
            champion.source_columns().filter(|name| parse_lag_column(name).1 == 0).collect();
        columns.sort_unstable();
        columns.dedup();
        let refused = |name: &str, why: String| PredictError::Override {
            name: name.chars().take(64).collect(),
            why,
        };
        let mut assumed = BTreeMap::new();
        for (name, value) in overrides {
            if !value.is_finite() {
                return Err(refused(name, "expected a finite number".to_owned()));
            }
            let changed = if name == IRRIGATION_MIN {
                watered_features(&latest, &columns, *value).map_err(|why| refused(name, why))?
            } else {
                steady_features(&columns, name, *value)
            };
            if changed.is_empty() {
                let known: Vec<&str> = columns.iter().copied().take(12).collect();
                let why = format!("it changes no input of the model, such as {}", known.join(", "));
                return Err(refused(name, why));
            }
            assumed.extend(changed);
        }
        latest.features.extend(assumed.iter().map(|(name, value)| (name.as_str().into(), *value)));
        Ok(Self { latest, assumed })
    }
}

/// Columns of a metric that has had a value throughout, or one column of that name.
fn steady_features(columns: &[&str], name: &str, value: f64) -> BTreeMap<String, f64> {
    if columns.contains(&name) {
        return BTreeMap::from([(name.to_owned(), value)]);
    }
    let bare = UNIT_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let steady = columns.iter().filter_map(|column| {
        let statistic = statistic_of(column, bare)?;
        let steady = if LEVELS.contains(&statistic) {
            value
        } else if CHANGES.contains(&statistic) {
            0.0
        } else {
            return None;
        };
        Some(((*column).to_owned(), steady))
    });
    steady.collect()
}

/// Soil moisture after minutes of watering.
fn watered_features(
    latest: &LatestFeatures,
    columns: &[&str],
    minutes: f64,
) -> Result<BTreeMap<String, f64>, String> {
    if !(0.0..=24.0 * 60.0).contains(&minutes) {
        return Err(format!("{minutes} is not 0 to 1440 minutes"));
    }
    let response = latest.feature_value(RESPONSE_COLUMN);
    if response.is_nan() {
        return Err(
            "no watering with a valve's signal has ended yet: the rise of a minute is not \
                    known"
                .to_owned(),
        );
    }
    let risen = columns.iter().filter_map(|column| {
        let statistic = statistic_of(column, SOIL_MOISTURE)?;
        let value = latest.feature_value(column);
        (LEVELS.contains(&statistic) && value.is_finite())
            .then(|| ((*column).to_owned(), (value + response * minutes).min(MOISTURE_PCT_MAX)))
    });
    Ok(risen.collect())
}

/// The statistic of a metric's column: `mean` of `temperature_mean_1h`.
fn statistic_of<'a>(column: &'a str, metric: &str) -> Option<&'a str> {
    let rest = column.strip_prefix(metric)?.strip_prefix('_')?;
    Some(rest.split('_').next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use feature_api::RowStatus;

    use super::*;

    #[test]
    fn a_metric_is_steady_and_a_feature_is_itself() {
        let columns = [
            "temperature_last",
            "temperature_mean_1h",
            "temperature_slope_10m",
            "temperature_age_s",
            "temperature_coverage_1h",
            "outdoor_temperature_last",
        ];
        let check = |name: &str, expect: &[(&str, f64)]| {
            let found = steady_features(&columns, name, 18.0);
            let found: Vec<(&str, f64)> = found.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            assert_eq!(found, expect, "{name}");
        };
        let steady = [
            ("temperature_last", 18.0),
            ("temperature_mean_1h", 18.0),
            ("temperature_slope_10m", 0.0),
        ];
        check("temperature", &steady);
        check("temperature_c", &steady);
        check("temperature_mean_1h", &[("temperature_mean_1h", 18.0)]);
        check("outdoor_temperature", &[("outdoor_temperature_last", 18.0)]);
        check("rain", &[]);
        check("", &[]);
    }

    #[test]
    fn watering_raises_moisture_by_what_it_did_before() {
        let columns = ["soil_moisture_last", "soil_moisture_slope_1h", "temperature_last"];
        let row = |features: &[(&str, f64)]| LatestFeatures {
            at_ms: 0,
            status: RowStatus::Final,
            features: features.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
        };
        let known = row(&[("soil_moisture_last", 30.0), (RESPONSE_COLUMN, 0.5)]);
        let check = |minutes, expect| {
            let found = watered_features(&known, &columns, minutes);
            assert_eq!(found.ok(), expect, "{minutes}");
        };
        check(20.0, Some(BTreeMap::from([("soil_moisture_last".to_owned(), 40.0)])));
        check(1000.0, Some(BTreeMap::from([("soil_moisture_last".to_owned(), 100.0)])));
        check(-1.0, None);
        let unknown = row(&[("soil_moisture_last", 30.0)]);
        assert!(watered_features(&unknown, &columns, 20.0).unwrap_err().contains("not known"));
    }
}
