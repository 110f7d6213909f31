use std::sync::Arc;

use telemetry::{SmolStr, ZoneId};

use super::{
    DAY_MS, HOUR_MS,
    catalog::{Block, BlockWindow, Catalog, Schema},
    driest::Soil,
    series::Series,
    summary::{Hold, Summary},
    zone::{Behind, CORRECTION_DELAY_MS, IRRIGATION, MOISTURE, Progress, Rules, Zone, grid_up},
};
use crate::definitions::Aggregate;

/// The features of a zone at a time.
#[derive(Clone, Debug)]
pub struct Row {
    /// The zone.
    pub zone: ZoneId,
    /// UTC milliseconds.
    pub at_ms: i64,
    /// 0: of the readings that had arrived at that time. Above 0: of those too
    /// that arrived later; the highest is the newest.
    pub revision: i64,
    /// The names of the values.
    pub schema: Arc<Schema>,
    /// In the order of the schema's names; NaN where there is none.
    pub values: Arc<[f64]>,
}

impl Rules {
    pub(super) fn grid_ms(&self) -> i64 {
        i64::from(self.engine.grid_s) * 1000
    }
}

impl Zone {
    /// The rows that late readings changed, and those that have become final.
    pub(super) fn final_rows(&mut self, catalog: &Catalog, rules: &Rules, rows: &mut Vec<Row>) {
        let Some(watermark_ms) = self.progress.watermark_ms else { return };
        let grid_ms = rules.grid_ms();
        if self.progress.final_ms.is_some_and(|before| watermark_ms < before + grid_ms) {
            return;
        }
        let final_ms = watermark_ms.div_euclid(grid_ms) * grid_ms;
        self.corrected_rows(watermark_ms, catalog, rules, rows);
        let first_ms = match self.progress.final_ms {
            Some(before) => Some(before + grid_ms),
            None => self.next_ms(i64::MIN >> 1).map(|oldest_ms| grid_up(oldest_ms, grid_ms)),
        };
        let mut at_ms = first_ms.unwrap_or(i64::MAX);
        while at_ms <= final_ms {
            if self.speaks(at_ms, rules) {
                self.final_row(at_ms, catalog, rules, rows);
                at_ms += grid_ms;
            } else {
                // On to the first reading after the silence, if there is one.
                at_ms = self.next_ms(at_ms).map_or(i64::MAX, |next_ms| grid_up(next_ms, grid_ms));
            }
        }
        self.progress.final_ms = Some(final_ms);
        self.progress.behind.retain(|reading| reading.arrival_ms > final_ms + grid_ms);
    }

    /// The row as it was known at its time, and, where readings of that time
    /// arrived later, the row with them.
    fn final_row(&mut self, at_ms: i64, catalog: &Catalog, rules: &Rules, rows: &mut Vec<Row>) {
        let behind: Vec<Behind> =
            self.progress.behind.iter().filter(|reading| reading.is_of(at_ms)).cloned().collect();
        if behind.is_empty() {
            rows.push(self.row(at_ms, 0, catalog, rules));
            return;
        }
        // The soil goes on from before the row, so that it need not start anew.
        let soil = self.soil.clone();
        self.set_behind(&behind, false, rules);
        if self.speaks(at_ms, rules) {
            rows.push(self.row(at_ms, 0, catalog, rules));
        }
        self.soil = soil;
        self.set_behind(&behind, true, rules);
        rows.push(self.row(at_ms, self.progress.corrections + 1, catalog, rules));
    }

    fn corrected_rows(
        &mut self,
        watermark_ms: i64,
        catalog: &Catalog,
        rules: &Rules,
        rows: &mut Vec<Row>,
    ) {
        let Progress { dirty_ms: Some(dirty_ms), dirty_since_ms, final_ms: Some(final_ms), .. } =
            self.progress
        else {
            return;
        };
        if dirty_since_ms.is_some_and(|since| watermark_ms < since + CORRECTION_DELAY_MS) {
            return;
        }
        self.progress.corrections += 1;
        let mut at_ms = grid_up(dirty_ms, rules.grid_ms());
        while at_ms <= final_ms {
            if self.speaks(at_ms, rules) {
                rows.push(self.row(at_ms, self.progress.corrections + 1, catalog, rules));
            }
            at_ms += rules.grid_ms();
        }
        (self.progress.dirty_ms, self.progress.dirty_since_ms) = (None, None);
    }

    /// The row at the newest event time, as far as is known now.
    pub(super) fn latest_row(&mut self, catalog: &Catalog, rules: &Rules) -> Option<Row> {
        let at_ms = self.progress.newest_ms?;
        // The soil as of the newest final row is what the next one goes on from.
        let soil = self.soil.clone();
        let row = self.row(at_ms, 0, catalog, rules);
        self.soil = soil;
        Some(row)
    }

    fn row(&mut self, at_ms: i64, revision: i64, catalog: &Catalog, rules: &Rules) -> Row {
        let schema = catalog.schema().clone();
        let mut row: Arc<[f64]> = std::iter::repeat_n(f64::NAN, schema.names.len()).collect();
        let values = Arc::get_mut(&mut row).expect("nobody else has it yet");
        for kept in self.slots.iter().filter_map(|slot| slot.kept.as_ref()) {
            let windows = catalog.block(kept.block).windows.iter();
            kept.series.fetch(windows.map(|window| at_ms - window.width_ms));
        }
        for kept in self.slots.iter_mut().filter_map(|slot| slot.kept.as_mut()) {
            fill(catalog.block(kept.block), &mut kept.series, at_ms, values);
            for (_, block, series) in &mut kept.derived {
                fill(catalog.block(*block), series, at_ms, values);
            }
        }
        self.fill_driest(at_ms, catalog, rules, values);
        let moment = catalog.clock.fill(at_ms, &rules.time_zone, rules.place, values);
        catalog.joins.fill(moment, values);
        Row { zone: self.id.clone(), at_ms, revision, schema, values: row }
    }

    fn fill_driest(&mut self, at_ms: i64, catalog: &Catalog, rules: &Rules, row: &mut [f64]) {
        if !catalog.driest.is_wanted() {
            return;
        }
        let mut soil = std::mem::take(&mut self.soil);
        if let Some(moisture) = self.readings(MOISTURE) {
            let settings = rules.engine.drying_of(&self.id);
            soil.advance(at_ms, moisture, self.readings(IRRIGATION), settings);
            if let Some(trend) = soil.driest(at_ms, settings, &self.devices) {
                catalog.driest.fill(&trend, row);
            }
        }
        self.soil = soil;
    }

    /// The drying trend of each soil probe as of the newest event time.
    pub(super) fn drying(&self, rules: &Rules) -> Vec<(SmolStr, agronomy::drying::Trend)> {
        let (Some(at_ms), Some(moisture)) = (self.progress.newest_ms, self.readings(MOISTURE))
        else {
            return Vec::new();
        };
        let settings = rules.engine.drying_of(&self.id);
        let mut soil: Soil = self.soil.clone();
        soil.advance(at_ms, moisture, self.readings(IRRIGATION), settings);
        soil.trends(at_ms, settings)
            .filter_map(|(device, trend)| {
                Some((self.devices.get(usize::from(device))?.clone(), trend))
            })
            .collect()
    }

    /// Whether any metric had a reading shortly before.
    fn speaks(&self, at_ms: i64, rules: &Rules) -> bool {
        let silence_max_ms = i64::from(rules.engine.silence_max_s) * 1000;
        let kept = self.slots.iter().filter_map(|slot| slot.kept.as_ref());
        kept.into_iter()
            .any(|kept| kept.series.readings().last(at_ms - silence_max_ms, at_ms).is_some())
    }
}

/// Writes one metric's features into a row. Of a metric that the zone has not had
/// within its widest window there are none, coverage neither: what a row says is of
/// the zone's own readings, whatever metrics other zones have.
fn fill(block: &Block, series: &mut Series, at_ms: i64, row: &mut [f64]) {
    let known_ms = block.widest_ms().max(DAY_MS);
    let Some(last) = series.readings().last(at_ms - known_ms, at_ms) else { return };
    let mut columns = row[block.columns.clone()].iter_mut();
    if block.has_last {
        for value in [last.value, (at_ms - last.event_ms()) as f64 / 1000.0] {
            *columns.next().expect("a column a value") = value;
        }
    }
    for (number, window) in block.windows.iter().enumerate() {
        let after_ms = at_ms - window.width_ms;
        let summary = series.window(number, after_ms, at_ms);
        for (aggregate, column) in window.aggregates.iter().zip(columns.by_ref()) {
            *column = match aggregate.quantile() {
                Some(q) => series.counts(number, after_ms, at_ms).and_then(|all| all.quantile(q)),
                None => value(*aggregate, &summary, window, at_ms, series.hold()),
            }
            .unwrap_or(f64::NAN);
        }
    }
}

/// What of a window's summary is asked for.
fn value(
    aggregate: Aggregate,
    summary: &Summary,
    window: &BlockWindow,
    at_ms: i64,
    hold: Hold,
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
        // One reading at the very end holds for no time, and is the mean.
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
