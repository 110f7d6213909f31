use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use service::config::ConfigError;
use telemetry::{MetricTable, Quality, Reading, Report, SmolStr, ZoneId};

use super::{
    catalog::{Catalog, Schema},
    zone::{Progress, Row, Rules, Zone},
};
use crate::settings;

/// Turns reports, in the order of the log, into feature rows.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    catalog: Catalog,
    zones: BTreeMap<ZoneId, Zone>,
    /// Zones that have changed since [`Engine::latest`] was last asked.
    touched: BTreeSet<ZoneId>,
}

/// What came of some reports.
#[derive(Debug, Default)]
pub struct Output {
    /// A quality for each reading, in order.
    pub qualities: Vec<Quality>,
    /// Rows that became final, or were made anew.
    pub rows: Vec<Row>,
}

impl Engine {
    /// An engine without readings, with columns for these metrics.
    ///
    /// # Errors
    /// A time zone that there is not.
    pub fn new(
        settings: &settings::Engine,
        metrics: MetricTable,
        columns: &[SmolStr],
    ) -> Result<Self, ConfigError> {
        let rules = Rules { engine: settings.clone(), time_zone: settings.time_zone()?, metrics };
        let catalog = Catalog::new(settings, columns);
        Ok(Self { rules, catalog, zones: BTreeMap::new(), touched: BTreeSet::new() })
    }

    /// Takes in one report. Rows depend on nothing but the reports so far and
    /// their order.
    pub fn take(&mut self, report: &Report, output: &mut Output) {
        let zone = self
            .zones
            .entry(report.zone.clone())
            .or_insert_with(|| Zone::new(report.zone.clone(), Progress::default()));
        for reading in &report.readings {
            let quality = zone.take(report, reading, &self.rules);
            if quality.is_ok() {
                self.catalog.add(&reading.metric);
            }
            output.qualities.push(quality);
        }
        zone.final_rows(&self.catalog, &self.rules, &mut output.rows);
        if !self.touched.contains(&report.zone) {
            self.touched.insert(report.zone.clone());
        }
    }

    /// Lets time pass for live zones that are silent. Recorded ones have their
    /// own clock.
    pub fn tick(&mut self, now_ms: i64, output: &mut Output) {
        // As late as a punctual reading could be, and as much again.
        let watermark_ms = now_ms - 2 * i64::from(self.rules.engine.lateness_s) * 1000;
        for zone in self.zones.values_mut().filter(|zone| zone.progress.live) {
            zone.advance(watermark_ms);
            zone.final_rows(&self.catalog, &self.rules, &mut output.rows);
        }
    }

    /// The row at its newest event time of each zone that has changed since
    /// this was last asked.
    pub fn latest(&mut self) -> Vec<Row> {
        let touched = std::mem::take(&mut self.touched);
        let zones = self.zones.iter_mut().filter(|(id, _)| touched.contains(*id));
        zones.filter_map(|(_, zone)| zone.latest_row(&self.catalog, &self.rules)).collect()
    }

    /// A zone as it was, without its readings.
    pub fn restore_zone(&mut self, id: ZoneId, progress: Progress) {
        self.touched.insert(id.clone());
        self.zones.insert(id.clone(), Zone::new(id, progress));
    }

    /// Takes in a reading that was judged before; `run` is boot id and
    /// sequence number.
    pub fn restore(
        &mut self,
        zone: &ZoneId,
        device: &SmolStr,
        run: Option<(&SmolStr, u64)>,
        reading: &Reading,
        quality: Quality,
    ) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.restore(device, run, reading, quality, &self.rules);
        }
    }

    /// The columns as they are now.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        self.catalog.schema()
    }

    /// Metrics that have columns, in the order of the columns.
    #[must_use]
    pub fn metrics(&self) -> &[SmolStr] {
        self.catalog.metrics()
    }

    /// Each zone with its metrics and how far it has come.
    pub fn zones(&self) -> impl Iterator<Item = (&ZoneId, Vec<SmolStr>, &Progress)> {
        self.zones.iter().map(|(id, zone)| (id, zone.metrics(), &zone.progress))
    }
}
