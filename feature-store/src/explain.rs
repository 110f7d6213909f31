//! What is behind one value.

use std::collections::BTreeSet;

use serde::Serialize;
use telemetry::{Quality, SmolStr, ZoneId};
use utoipa::ToSchema;

use crate::{
    FeatureStore, StoreError,
    definitions::Aggregate,
    engine::{Engine, Progress},
    settings::Window,
    store::{self, Behind, BehindQuery},
};

/// Where a value is from: what was stored, what the readings say, and they
/// themselves.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    #[schema(value_type = String)]
    zone: ZoneId,
    feature: String,
    at_ms: i64,
    /// The metric that was measured; none for features of other features.
    #[schema(value_type = Option<String>)]
    metric: Option<SmolStr>,
    /// What is computed of the window.
    #[schema(value_type = Option<String>)]
    aggregate: Option<Aggregate>,
    /// The window's width, as in `24h`.
    #[schema(value_type = Option<String>)]
    width: Option<Window>,
    /// Every revision that the file has.
    stored: Vec<Stored>,
    /// By the engine, of the readings that the file has and that had arrived by then.
    computed_as_known: Option<f64>,
    /// By the engine, of all readings that the file has.
    computed_as_corrected: Option<f64>,
    /// What the window holds; none for features of other features.
    behind: Option<Behind>,
}

/// One revision of a stored value.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Stored {
    /// 0 as it was known at its time; higher ones have readings that came later.
    revision: i64,
    value: Option<f64>,
}

/// What a feature's name says.
#[derive(Debug, PartialEq, Eq)]
enum Subject<'a> {
    /// `<metric>_<aggregate>_<window>`
    Window { metric: &'a str, aggregate: Aggregate, window: Window },
    /// `<metric>_last` and `<metric>_age_s`
    Newest { metric: &'a str },
    /// Anything else is of the whole row.
    Row,
}

impl<'a> Subject<'a> {
    fn of(name: &'a str) -> Self {
        if let Some((front, window)) = name.rsplit_once('_')
            && let Ok(window) = window.parse()
        {
            let split = |aggregate: Aggregate| {
                let metric = front.strip_suffix(aggregate.as_str())?.strip_suffix('_')?;
                Some((metric, aggregate))
            };
            // The longest that fits: `time_mean` is no `mean` of a metric `…_time`.
            let found = Aggregate::ALL.into_iter().filter_map(split);
            if let Some((metric, aggregate)) = found.min_by_key(|(metric, _)| metric.len()) {
                return Self::Window { metric, aggregate, window };
            }
        }
        match name.strip_suffix("_last").or_else(|| name.strip_suffix("_age_s")) {
            Some(metric) => Self::Newest { metric },
            None => Self::Row,
        }
    }
}

pub(crate) fn explain(
    store: &FeatureStore,
    zone: &ZoneId,
    feature: &str,
    at_ms: i64,
    limit: usize,
) -> Result<Explanation, StoreError> {
    let schema = store.schema();
    if !schema.names.iter().any(|name| name == feature) {
        return Err(store::unknown_feature(feature, schema.names.iter().map(SmolStr::as_str)));
    }
    let connection = store.connection_of_one_state()?;
    let source = store.source(&connection);
    // Every metric of the site has its columns in every row.
    let metrics: BTreeSet<SmolStr> =
        store.zones().into_iter().flat_map(|zone| zone.metrics).collect();
    let metrics: Vec<SmolStr> = metrics.into_iter().collect();
    let engine = || Engine::new(&store.0.settings.engine, store.metrics().clone(), &metrics);
    let kept_ms = engine()?.kept_ms();
    let (metric, aggregate, width, after_ms) = match Subject::of(feature) {
        Subject::Window { metric, aggregate, window } => {
            (Some(metric), Some(aggregate), Some(window), at_ms - window.width_ms())
        }
        Subject::Newest { metric } => (Some(metric), None, None, at_ms - kept_ms),
        Subject::Row => (None, None, None, at_ms - kept_ms),
    };
    // Readings of a derived metric are kept under the name that they were measured by.
    let definitions = store.definitions();
    let metric = metric.map(|metric| {
        let derived = definitions.derived.get(metric);
        derived.map_or_else(|| metric.into(), |derived| derived.from.clone())
    });
    let behind = metric.as_ref().map(|metric: &SmolStr| {
        let query = BehindQuery {
            zone: zone.clone(),
            metric: metric.clone(),
            after_ms,
            until_ms: at_ms,
            limit,
        };
        store::behind(source, &query)
    });
    let stored = store::stored(source, zone, feature, at_ms)?;
    let compute = |arrived_ms: Option<i64>| -> Result<Option<f64>, StoreError> {
        let mut engine = engine()?;
        // The engine's newest row is that of this time: what comes later is left out.
        engine.restore_zone(zone.clone(), Progress::with_newest(at_ms));
        let span = (at_ms - kept_ms, at_ms);
        store::replay(source, zone, span, arrived_ms, |device, reading| {
            engine.restore(zone, device, None, reading, reading.event_ms, Quality::Ok);
        })?;
        let rows = engine.latest();
        Ok(rows.first().and_then(|row| {
            let place = row.schema.names.iter().position(|name| name == feature)?;
            row.values.get(place).copied().filter(|value| value.is_finite())
        }))
    };
    Ok(Explanation {
        zone: zone.clone(),
        feature: feature.to_owned(),
        at_ms,
        metric,
        aggregate,
        width,
        stored: stored.into_iter().map(|(revision, value)| Stored { revision, value }).collect(),
        computed_as_known: compute(Some(at_ms))?,
        computed_as_corrected: compute(None)?,
        behind: behind.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_says() {
        let window = |metric, aggregate, window: &str| Subject::Window {
            metric,
            aggregate,
            window: window.parse().unwrap(),
        };
        let check = |name, expect: Subject<'_>| assert_eq!(Subject::of(name), expect, "{name}");
        check("temperature_mean_10m", window("temperature", Aggregate::Mean, "10m"));
        check("soil_moisture_gap_max_s_24h", window("soil_moisture", Aggregate::GapMax, "24h"));
        check("light_time_mean_24h", window("light", Aggregate::TimeMean, "24h"));
        check("co2_age_s", Subject::Newest { metric: "co2" });
        check("soil_moisture_last", Subject::Newest { metric: "soil_moisture" });
        check("vpd_kpa", Subject::Row);
        check("drying_slope_pct_h", Subject::Row);
    }
}
