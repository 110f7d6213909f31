use std::sync::Arc;

use telemetry::{SmolStr, ZoneId};

use super::{
    DAY_MS, HOUR_MS,
    catalog::{FeatureCatalog, FeatureRowSchema, MetricColumns, WindowColumns},
    series::MetricSeries,
    window_summary::{HoldDuration, WindowSummary},
    zone::{EngineRules, IRRIGATION, MOISTURE, ZoneState},
};
use crate::definitions::Aggregate;

/// All features of a zone at one time.
#[derive(Clone, Debug)]
pub struct FeatureRow {
    /// The zone.
    pub zone: ZoneId,
    /// Time of the row, UTC milliseconds.
    pub at_ms: i64,
    /// How often the row was recomputed. Revision 0 has the readings that had arrived by the
    /// row's time; a higher revision also has later arrivals, and the highest is the newest.
    pub revision: i64,
    /// Names of the values.
    pub schema: Arc<FeatureRowSchema>,
    /// Values in the order of the schema's names; NaN where a feature has no value.
    pub values: Arc<[f64]>,
}

impl ZoneState {
    /// Computes the row at a time from the readings that are not pending.
    pub(super) fn compute_row(
        &mut self,
        at_ms: i64,
        revision: i64,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
    ) -> FeatureRow {
        let schema = catalog.schema().clone();
        let mut row: Arc<[f64]> = std::iter::repeat_n(f64::NAN, schema.names.len()).collect();
        let values = Arc::get_mut(&mut row).expect("nobody else has it yet");
        for state in self.slots.iter().filter_map(|slot| slot.state.as_ref()) {
            let windows = catalog.metric_columns(state.block).windows.iter();
            state.series.prefetch_windows(windows.map(|window| at_ms - window.width_ms));
        }
        for state in self.slots.iter_mut().filter_map(|slot| slot.state.as_mut()) {
            fill_metric_columns(
                catalog.metric_columns(state.block),
                &mut state.series,
                at_ms,
                values,
            );
            for (_, block, series) in &mut state.derived {
                fill_metric_columns(catalog.metric_columns(*block), series, at_ms, values);
            }
        }
        self.fill_drying(at_ms, catalog, rules, values);
        let moment = catalog.clock.fill_row(at_ms, &rules.time_zone, rules.place, values);
        catalog.joins.fill_row(moment, values);
        FeatureRow { zone: self.id.clone(), at_ms, revision, schema, values: row }
    }

    fn fill_drying(
        &mut self,
        at_ms: i64,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        row: &mut [f64],
    ) {
        if !catalog.drying.is_wanted() {
            return;
        }
        let mut soil = std::mem::take(&mut self.soil);
        if let Some(moisture) = self.metric_readings(MOISTURE) {
            let settings = rules.engine.drying_settings(&self.id);
            soil.advance_to(at_ms, moisture, self.metric_readings(IRRIGATION), settings);
            if let Some(trend) = soil.find_driest(at_ms, settings, &self.devices) {
                catalog.drying.fill_row(&trend, row);
            }
        }
        self.soil = soil;
    }

    /// Returns the drying trend of each soil probe as of the newest event time.
    pub(super) fn drying_trends(
        &self,
        rules: &EngineRules,
    ) -> Vec<(SmolStr, agronomy::drying::DryingTrend)> {
        let (Some(at_ms), Some(moisture)) =
            (self.progress.newest_ms, self.metric_readings(MOISTURE))
        else {
            return Vec::new();
        };
        let settings = rules.engine.drying_settings(&self.id);
        let mut soil = self.soil.fork_before(at_ms + 1);
        soil.advance_to(at_ms, moisture, self.metric_readings(IRRIGATION), settings);
        soil.probe_trends(at_ms, settings)
            .filter_map(|(device, trend)| {
                Some((self.devices.get(usize::from(device))?.clone(), trend))
            })
            .collect()
    }
}

/// Writes one metric's features into a row. All of them, coverage included, stay empty if the
/// zone had no reading of the metric within its widest window. So a row depends on the zone's own
/// readings only, not on the metrics of other zones.
fn fill_metric_columns(
    block: &MetricColumns,
    series: &mut MetricSeries,
    at_ms: i64,
    row: &mut [f64],
) {
    let known_ms = block.widest_ms().max(DAY_MS);
    let Some(last) = series.readings().last_in_span(at_ms - known_ms, at_ms) else { return };
    let mut columns = row[block.columns.clone()].iter_mut();
    if block.has_last {
        for value in [last.value, (at_ms - last.event_ms()) as f64 / 1000.0] {
            *columns.next().expect("a column a value") = value;
        }
    }
    for (number, window) in block.windows.iter().enumerate() {
        let after_ms = at_ms - window.width_ms;
        let summary = series.summarize_window(number, after_ms, at_ms);
        for (aggregate, column) in window.aggregates.iter().zip(columns.by_ref()) {
            *column = match aggregate.quantile() {
                Some(q) => series
                    .count_window_values(number, after_ms, at_ms)
                    .and_then(|all| all.quantile(q)),
                None => aggregate_value(*aggregate, &summary, window, at_ms, series.hold()),
            }
            .unwrap_or(f64::NAN);
        }
    }
}

/// Returns one aggregate of a window's summary.
fn aggregate_value(
    aggregate: Aggregate,
    summary: &WindowSummary,
    window: &WindowColumns,
    at_ms: i64,
    hold: HoldDuration,
) -> Option<f64> {
    let held = || summary.held_until(at_ms, hold);
    match aggregate {
        Aggregate::Count => Some(f64::from(summary.count())),
        Aggregate::Mean => summary.mean(),
        Aggregate::Std => summary.std(),
        Aggregate::Min => summary.min(),
        Aggregate::Max => summary.max(),
        Aggregate::First => summary.first(),
        Aggregate::Last => summary.last().map(|(value, _)| value),
        Aggregate::Delta => summary.delta(),
        Aggregate::Slope => summary.slope_per_hour(),
        // A single reading at the very end holds for no time; then the mean is its value.
        Aggregate::TimeMean => {
            held().map(
                |(integral, ms)| {
                    if ms > 0.0 { integral / ms } else { summary.mean().unwrap_or(f64::NAN) }
                },
            )
        }
        Aggregate::Integral => held().map(|(integral, _)| integral / HOUR_MS as f64),
        Aggregate::Coverage => {
            Some((100.0 * f64::from(summary.minutes()) / window.minutes_expected).min(100.0))
        }
        Aggregate::GapMax => summary
            .gap_ms_max(at_ms - window.width_ms, at_ms)
            .map(|gap_ms| f64::from(gap_ms) / 1000.0),
        Aggregate::P10 | Aggregate::P50 | Aggregate::P90 => None,
    }
}
