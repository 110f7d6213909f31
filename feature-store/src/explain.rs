//! Explanation of one value.

use crate::sql_expressions::open_engine;
use std::collections::BTreeSet;

use serde::Serialize;
use telemetry::{QualityFlag, SmolStr, ZoneId};
use utoipa::ToSchema;

use crate::{
    FeatureStore, StoreError,
    definitions::Aggregate,
    engine::ZoneProgress,
    settings::WindowDuration,
    store::{self, Behind, ProvenanceQuery},
};

/// Explanation of a value: the stored revisions, the readings behind it, and the value recomputed
/// from them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    #[schema(value_type = String)]
    zone: ZoneId,
    feature: String,
    at_ms: i64,
    /// Measured metric; null for features of other features.
    #[schema(value_type = Option<String>)]
    metric: Option<SmolStr>,
    /// Aggregate over the window.
    #[schema(value_type = Option<String>)]
    aggregate: Option<Aggregate>,
    /// Width of the window, as in `24h`.
    #[schema(value_type = Option<String>)]
    width: Option<WindowDuration>,
    /// All stored revisions.
    stored: Vec<StoredRevision>,
    /// Value recomputed from the stored readings that had arrived by then.
    computed_as_known: Option<f64>,
    /// Value recomputed from all stored readings.
    computed_as_corrected: Option<f64>,
    /// Readings of the window; null for features of other features.
    behind: Option<Behind>,
}

/// One revision of a stored value.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct StoredRevision {
    /// How often the row was recomputed; 0 is the row as known at its time.
    revision: i64,
    value: Option<f64>,
}

/// Parts of a feature's name.
#[derive(Debug, PartialEq, Eq)]
enum ParsedFeatureName<'a> {
    /// A window feature, `<metric>_<aggregate>_<window>`.
    Window { metric: &'a str, aggregate: Aggregate, window: WindowDuration },
    /// The newest value or its age, `<metric>_last` or `<metric>_age_s`.
    NewestValue { metric: &'a str },
    /// Any other feature, which depends on the whole row.
    WholeRow,
}

impl<'a> ParsedFeatureName<'a> {
    fn from_name(name: &'a str) -> Self {
        if let Some((front, window)) = name.rsplit_once('_')
            && let Ok(window) = window.parse()
        {
            let split = |aggregate: Aggregate| {
                let metric = front.strip_suffix(aggregate.as_str())?.strip_suffix('_')?;
                Some((metric, aggregate))
            };
            // The longest aggregate that fits: `time_mean` is not the `mean` of a metric
            // `…_time`.
            let found = Aggregate::ALL.into_iter().filter_map(split);
            if let Some((metric, aggregate)) = found.min_by_key(|(metric, _)| metric.len()) {
                return Self::Window { metric, aggregate, window };
            }
        }
        match name.strip_suffix("_last").or_else(|| name.strip_suffix("_age_s")) {
            Some(metric) => Self::NewestValue { metric },
            None => Self::WholeRow,
        }
    }
}

pub(crate) fn explain_value(
    store: &FeatureStore,
    zone: &ZoneId,
    feature: &str,
    at_ms: i64,
    limit: usize,
) -> Result<Explanation, StoreError> {
    let schema = store.schema();
    if !schema.names.iter().any(|name| name == feature) {
        return Err(store::unknown_feature_error(
            feature,
            schema.names.iter().map(SmolStr::as_str),
        ));
    }
    let connection = store.open_snapshot_connection()?;
    let source = store.read_source(&connection);
    // Every row has columns for every metric of the site.
    let metric_set: BTreeSet<SmolStr> =
        store.zone_summaries().into_iter().flat_map(|zone| zone.metrics).collect();
    let metrics: Vec<SmolStr> = metric_set.into_iter().collect();
    let engine = || open_engine(&store.0.settings.engine, store.metrics().clone(), &metrics);
    let kept_ms = engine()?.retention_ms();
    let (metric, aggregate, width, after_ms) = match ParsedFeatureName::from_name(feature) {
        ParsedFeatureName::Window { metric, aggregate, window } => {
            (Some(metric), Some(aggregate), Some(window), at_ms - window.width_ms())
        }
        ParsedFeatureName::NewestValue { metric } => (Some(metric), None, None, at_ms - kept_ms),
        ParsedFeatureName::WholeRow => (None, None, None, at_ms - kept_ms),
    };
    // Readings of a derived metric are stored under the measured metric's name.
    let definitions = store.definitions();
    let measured = metric.map(|metric| {
        let derived = definitions.derived.get(metric);
        derived.map_or_else(|| metric.into(), |derived| derived.from.clone())
    });
    let behind = measured.as_ref().map(|metric: &SmolStr| {
        let query = ProvenanceQuery {
            zone: zone.clone(),
            metric: metric.clone(),
            after_ms,
            until_ms: at_ms,
            limit,
        };
        store::read_provenance(source, &query)
    });
    let stored = store::read_stored_revisions(source, zone, feature, at_ms)?;
    let compute = |arrived_ms: Option<i64>| -> Result<Option<f64>, StoreError> {
        let mut replayed = engine()?;
        // The row at this time becomes the engine's newest row, so later readings are excluded.
        replayed.restore_zone(zone.clone(), ZoneProgress::with_newest(at_ms));
        let span = (at_ms - kept_ms, at_ms);
        store::replay_readings(source, zone, span, arrived_ms, |device, reading| {
            replayed.restore_reading(
                zone,
                device,
                None,
                reading,
                reading.event_ms,
                QualityFlag::Ok,
            );
        })?;
        let rows = replayed.take_changed_rows();
        Ok(rows.first().and_then(|row| {
            let place = row.schema.names.iter().position(|name| name == feature)?;
            row.values.get(place).copied().filter(|value| value.is_finite())
        }))
    };
    Ok(Explanation {
        zone: zone.clone(),
        feature: feature.to_owned(),
        at_ms,
        metric: measured,
        aggregate,
        width,
        stored: stored
            .into_iter()
            .map(|(revision, value)| StoredRevision { revision, value })
            .collect(),
        computed_as_known: compute(Some(at_ms))?,
        computed_as_corrected: compute(None)?,
        behind: behind.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_names_are_parsed() {
        let window = |metric, aggregate, window: &str| ParsedFeatureName::Window {
            metric,
            aggregate,
            window: window.parse().unwrap(),
        };
        let check = |name, expect: ParsedFeatureName<'_>| {
            assert_eq!(ParsedFeatureName::from_name(name), expect, "{name}");
        };
        check("temperature_mean_10m", window("temperature", Aggregate::Mean, "10m"));
        check("soil_moisture_gap_max_s_24h", window("soil_moisture", Aggregate::GapMax, "24h"));
        check("light_time_mean_24h", window("light", Aggregate::TimeMean, "24h"));
        check("co2_age_s", ParsedFeatureName::NewestValue { metric: "co2" });
        check("soil_moisture_last", ParsedFeatureName::NewestValue { metric: "soil_moisture" });
        check("vpd_kpa", ParsedFeatureName::WholeRow);
        check("drying_slope_pct_h", ParsedFeatureName::WholeRow);
    }
}
