use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use agronomy::drying::DryingTrend;
use telemetry::{MetricTable, QualityFlag, SensorReading, SensorReport, SmolStr, ZoneId};

use super::{
    catalog::{FeatureCatalog, FeatureRowSchema},
    feature_row::FeatureRow,
    feed::ZoneFeed,
    progress::ZoneProgress,
    sql_prefetch::{self, SqlPrefetch},
    window_summary::HoldDuration,
    zone::{EngineRules, ZoneState},
};
use crate::{
    definitions::FeatureDefinitions,
    settings::{EngineSettings, EngineSettingsError},
    sql::{JoinExpressions, SqlExpressions, SqlReading},
};

/// Turns reports, in the order of the log, into feature rows.
#[derive(Debug)]
pub struct FeatureEngine {
    rules: EngineRules,
    catalog: FeatureCatalog,
    /// Where the definitions have joins by SQL.
    joins: Option<Box<dyn JoinExpressions>>,
    numbers: HashMap<ZoneId, usize>,
    zones: Vec<ZoneState>,
    /// Number of reports ingested so far.
    reports: u64,
}

/// Output of the engine for a batch of reports.
#[derive(Debug, Default)]
pub struct EngineOutput {
    /// One quality flag for each reading, in order.
    pub qualities: Vec<QualityFlag>,
    /// Rows that became final or were recomputed.
    pub rows: Vec<FeatureRow>,
    /// Zones whose progress a wrong gateway clock pushed ahead, each with a time, UTC ms.
    /// Readings after that time lie in the future; the zone must be recomputed without them.
    pub pushed_ahead: Vec<(ZoneId, i64)>,
}

/// Reports that are ingested together: see [`FeatureEngine::ingest_batch`].
#[derive(Debug)]
pub struct IngestBatch<'a> {
    engine: &'a mut FeatureEngine,
    output: &'a mut EngineOutput,
}

impl IngestBatch<'_> {
    /// Ingests one report as [`FeatureEngine::ingest_report`] does. Returns the quality flags of
    /// its readings, in order.
    pub fn ingest_report(&mut self, report: &SensorReport, received_ms: i64) -> &[QualityFlag] {
        let before = self.output.qualities.len();
        self.engine.ingest_without_joins(report, received_ms, self.output);
        &self.output.qualities[before..]
    }
}

impl FeatureEngine {
    /// An engine without readings, with columns for the metrics named in `columns`; metrics that
    /// come later add theirs. `sql` evaluates the expressions of `definitions`.
    ///
    /// # Errors
    /// A time zone or a place that has no meaning.
    pub fn new(
        settings: &EngineSettings,
        definitions: Arc<FeatureDefinitions>,
        metrics: MetricTable,
        columns: &[SmolStr],
        sql: SqlExpressions,
    ) -> Result<Self, EngineSettingsError> {
        let interval_ms = i64::from(settings.interval_s) * 1000;
        let mut catalog =
            FeatureCatalog::new(definitions.clone(), metrics.clone(), interval_ms, columns);
        catalog.sql_prefetch = sql.readings.map(|sql| SqlPrefetch::new(sql, definitions));
        let rules = EngineRules {
            time_zone: settings.time_zone()?,
            place: settings.site_place()?,
            hold: HoldDuration(settings.hold_max_s.saturating_mul(1000)),
            engine: settings.clone(),
            metrics,
        };
        let (numbers, zones) = (HashMap::new(), Vec::new());
        Ok(Self { rules, catalog, joins: sql.joins, numbers, zones, reports: 0 })
    }

    /// Evaluates the SQL expressions of the next readings, which are ingested or restored in this
    /// order, in one batch. An optimisation only: a reading that was not announced is evaluated by
    /// itself. Without SQL over readings this does nothing.
    pub fn prefetch_readings<'a>(&mut self, readings: impl IntoIterator<Item = SqlReading<'a>>) {
        if let Some(prefetch) = &mut self.catalog.sql_prefetch {
            prefetch.evaluate_batch(readings.into_iter());
        }
    }

    /// Ingests several reports and evaluates SQL expressions once for all of them, which costs
    /// about as much as for one. `readings` are those of the reports that `ingest` passes to the
    /// batch, in the same order; joins by SQL are filled in when `ingest` returns.
    pub fn ingest_batch<'a, R>(
        &mut self,
        readings: impl IntoIterator<Item = SqlReading<'a>>,
        output: &mut EngineOutput,
        ingest: impl FnOnce(&mut IngestBatch<'_>) -> R,
    ) -> R {
        self.prefetch_readings(readings);
        let rows_before = output.rows.len();
        let result = ingest(&mut IngestBatch { engine: self, output });
        self.apply_sql_joins(&mut output.rows[rows_before..]);
        result
    }

    /// Whether the definitions have SQL, so that readings are better told of in batches.
    #[must_use]
    pub fn has_sql(&self) -> bool {
        self.catalog.sql_prefetch.is_some() || self.joins.is_some()
    }

    /// Fills in the joins by SQL of new rows. One call costs about as much as a thousand rows.
    fn apply_sql_joins(&mut self, rows: &mut [FeatureRow]) {
        if let Some(joins) = &mut self.joins {
            sql_prefetch::apply_sql_joins(joins.as_mut(), rows);
        }
    }

    /// Ingests one report that the gateway, or the program that reads a recording, received at
    /// `received_ms` (UTC milliseconds). Rows depend only on the reports so far and their order.
    /// With SQL in the definitions [`Self::ingest_batch`] is faster.
    pub fn ingest_report(
        &mut self,
        report: &SensorReport,
        received_ms: i64,
        output: &mut EngineOutput,
    ) {
        let rows_before = output.rows.len();
        self.ingest_without_joins(report, received_ms, output);
        self.apply_sql_joins(&mut output.rows[rows_before..]);
    }

    fn ingest_without_joins(
        &mut self,
        report: &SensorReport,
        received_ms: i64,
        output: &mut EngineOutput,
    ) {
        let number = self.find_or_add_zone(&report.zone);
        self.reports += 1;
        let zone = &mut self.zones[number];
        zone.last_report_number = self.reports;
        let device = zone.device_number(&report.device);
        for reading in &report.readings {
            let quality = zone.ingest_reading(
                report,
                received_ms,
                device,
                reading,
                &mut self.catalog,
                &self.rules,
                &mut output.rows,
            );
            output.qualities.push(quality);
        }
        if let Some(ahead_ms) = zone.note_gateway_clock(report, &self.rules) {
            output.pushed_ahead.push((zone.id.clone(), ahead_ms));
        }
    }

    /// Opens a feed of recorded readings into one zone, at full speed. `received_ms` (UTC
    /// milliseconds) is when they are ingested; no reading may be later.
    pub fn open_feed(&mut self, zone: &ZoneId, received_ms: i64) -> ZoneFeed<'_> {
        let number = self.find_or_add_zone(zone);
        let zone = &mut self.zones[number];
        let joins = self.joins.as_deref_mut();
        ZoneFeed::new(zone, received_ms, &mut self.catalog, &self.rules, joins)
    }

    /// Returns the number of zones in memory.
    #[must_use]
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// Returns whether a zone is in memory.
    #[must_use]
    pub fn has_zone(&self, zone: &ZoneId) -> bool {
        self.numbers.contains_key(zone)
    }

    /// Evicts zones until `zones_max` are left, and returns their names. Zones with hardly any
    /// readings go first, as they may be mistakes; then those whose last report is oldest.
    /// Their readings and progress must have been stored: [`FeatureEngine::restore_zone`] and
    /// [`FeatureEngine::restore_reading`] bring a zone back unchanged.
    pub fn evict_zones(&mut self, zones_max: usize) -> Vec<ZoneId> {
        /// Zones with more readings than this count as known.
        const FEW_READINGS: u64 = 20;
        let count = self.zones.len().saturating_sub(zones_max);
        let mut order: Vec<(bool, bool, u64, usize)> = self
            .zones
            .iter()
            .enumerate()
            .map(|(at, zone)| {
                let is_known = zone.reading_count > FEW_READINGS;
                // Rows to be recomputed would wait until the zone is back, so such zones are
                // evicted later.
                let has_work = is_known && zone.progress.recompute.first_ms().is_some();
                (is_known, has_work, zone.last_report_number, at)
            })
            .collect();
        order.sort_unstable();
        order.truncate(count);
        let evicted: HashSet<usize> = order.into_iter().map(|(.., at)| at).collect();
        self.remove_zones_at(&evicted)
    }

    /// Removes zones with all their state.
    pub fn remove_zones(&mut self, zones: &BTreeSet<ZoneId>) {
        let removed = zones.iter().filter_map(|zone| self.numbers.get(zone).copied()).collect();
        self.remove_zones_at(&removed);
    }

    fn remove_zones_at(&mut self, evicted: &HashSet<usize>) -> Vec<ZoneId> {
        let mut names = Vec::with_capacity(evicted.len());
        let mut at = 0;
        self.zones.retain(|zone| {
            let stays = !evicted.contains(&at);
            at += 1;
            if !stays {
                names.push(zone.id.clone());
            }
            stays
        });
        self.zones.shrink_to_fit();
        self.numbers =
            self.zones.iter().enumerate().map(|(at, zone)| (zone.id.clone(), at)).collect();
        names
    }

    pub(super) fn zone_state(&self, zone: &ZoneId) -> Option<&ZoneState> {
        self.numbers.get(zone).map(|number| &self.zones[*number])
    }

    pub(super) fn zone_state_mut(&mut self, zone: &ZoneId) -> Option<&mut ZoneState> {
        self.numbers.get(zone).map(|number| &mut self.zones[*number])
    }

    pub(super) const fn rules(&self) -> &EngineRules {
        &self.rules
    }

    pub(super) const fn rules_and_catalog(&mut self) -> (&EngineRules, &mut FeatureCatalog) {
        (&self.rules, &mut self.catalog)
    }

    /// Adds a zone, or replaces the one of that name.
    pub(super) fn replace_zone(&mut self, mut state: ZoneState) {
        let number = self.find_or_add_zone(&state.id);
        self.reports += 1;
        state.last_report_number = self.reports;
        self.zones[number] = state;
    }

    fn find_or_add_zone(&mut self, id: &ZoneId) -> usize {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        self.add_zone(id.clone(), ZoneProgress::default())
    }

    fn add_zone(&mut self, id: ZoneId, progress: ZoneProgress) -> usize {
        if let Some(number) = self.numbers.get(&id) {
            self.zones[*number] = ZoneState::new(id, progress);
            return *number;
        }
        self.numbers.insert(id.clone(), self.zones.len());
        self.zones.push(ZoneState::new(id, progress));
        self.zones.len() - 1
    }

    /// Numbers of the matching zones, sorted by zone name, so that rows have a fixed order.
    fn sorted_zone_numbers(&self, wanted: impl Fn(&ZoneState) -> bool) -> Vec<usize> {
        let mut numbers: Vec<usize> =
            (0..self.zones.len()).filter(|number| wanted(&self.zones[*number])).collect();
        numbers.sort_unstable_by(|a, b| self.zones[*a].id.cmp(&self.zones[*b].id));
        numbers
    }

    /// Advances time while nothing arrives. `now_ms` is the clock of this machine. By it, rows of
    /// live zones become final, and the end of a recording or of a burst of late readings is
    /// detected. The event time of recorded zones does not depend on it.
    pub fn advance_clock(&mut self, now_ms: i64, output: &mut EngineOutput) {
        let before = output.rows.len();
        for number in self.sorted_zone_numbers(ZoneState::is_waiting) {
            self.zones[number].advance_clock(now_ms, &self.catalog, &self.rules, &mut output.rows);
        }
        self.apply_sql_joins(&mut output.rows[before..]);
    }

    /// Handles the end of the data: completes the rows of all zones up to their newest readings.
    pub fn finish_all(&mut self, output: &mut EngineOutput) {
        while self.finish_some(output) {}
    }

    /// Does the same as [`FeatureEngine::finish_all`] in steps, so that the rows need not all be
    /// in memory. Returns whether there are more.
    pub fn finish_some(&mut self, output: &mut EngineOutput) -> bool {
        let before = output.rows.len();
        let mut has_more = false;
        for number in self.sorted_zone_numbers(|_| true) {
            let zone = &mut self.zones[number];
            has_more |= zone.finish_some(&self.catalog, &self.rules, &mut output.rows);
        }
        self.apply_sql_joins(&mut output.rows[before..]);
        has_more
    }

    /// Handles the end of a file with readings of one zone: completes the zone's rows. In a zone
    /// that also has live readings, only recomputes; its time advances by those.
    pub fn finish_zone(&mut self, zone: &ZoneId, output: &mut EngineOutput) {
        let rows_before = output.rows.len();
        let number = self.find_or_add_zone(zone);
        let zone = &mut self.zones[number];
        if zone.progress.live {
            zone.recompute_all(&self.catalog, &self.rules, &mut output.rows);
        } else {
            while zone.finish_some(&self.catalog, &self.rules, &mut output.rows) {}
        }
        self.apply_sql_joins(&mut output.rows[rows_before..]);
    }

    /// Completes one zone's rows up to a time, and recomputes every row that late readings
    /// changed.
    pub fn complete_zone(&mut self, zone: &ZoneId, until_ms: i64, output: &mut EngineOutput) {
        let rows_before = output.rows.len();
        let number = self.find_or_add_zone(zone);
        let zone = &mut self.zones[number];
        zone.emit_until(until_ms, &self.catalog, &self.rules, &mut output.rows);
        zone.recompute_all(&self.catalog, &self.rules, &mut output.rows);
        self.apply_sql_joins(&mut output.rows[rows_before..]);
    }

    /// Returns the row at the newest event time of each zone that has changed since the last
    /// call.
    pub fn take_changed_rows(&mut self) -> Vec<FeatureRow> {
        let mut rows = Vec::new();
        for number in self.sorted_zone_numbers(|zone| zone.is_changed) {
            let zone = &mut self.zones[number];
            zone.is_changed = false;
            rows.extend(zone.latest_row(&self.catalog, &self.rules));
        }
        self.apply_sql_joins(&mut rows);
        rows
    }

    /// How far behind a zone's newest reading others are still needed, ms: the widest window
    /// before the oldest correctable row, with a margin.
    #[must_use]
    pub fn retention_ms(&self) -> i64 {
        self.rules.engine.retention_ms(self.definitions().widest_ms())
    }

    /// Restores a zone's progress without its readings, and replaces the zone if it exists.
    pub fn restore_zone(&mut self, id: ZoneId, progress: ZoneProgress) {
        let progress = progress.migrate(self.rules.grid_ms(), self.rules.lateness_ms());
        let number = self.add_zone(id, progress);
        self.reports += 1;
        self.zones[number].last_report_number = self.reports;
    }

    /// Restores a reading whose quality is already known. `run` is its boot id and sequence
    /// number.
    pub fn restore_reading(
        &mut self,
        zone: &ZoneId,
        device: &SmolStr,
        run: Option<(&SmolStr, u64)>,
        reading: &SensorReading,
        arrival_ms: i64,
        quality: QualityFlag,
    ) {
        if let Some(number) = self.numbers.get(zone) {
            let (zone, catalog) = (&mut self.zones[*number], &mut self.catalog);
            zone.reading_count += 1;
            zone.restore_reading(device, run, reading, arrival_ms, quality, catalog, &self.rules);
        }
    }

    /// Returns the drying trend of each soil probe of a zone, by device, as of the zone's newest
    /// event time.
    #[must_use]
    pub fn drying_trends(&self, zone: &ZoneId) -> BTreeMap<SmolStr, DryingTrend> {
        let zone = self.numbers.get(zone).map(|number| &self.zones[*number]);
        zone.map(|zone| zone.drying_trends(&self.rules).into_iter().collect()).unwrap_or_default()
    }

    /// Returns the devices of a zone whose clocks are off by a constant, each with how far it is
    /// ahead of the gateway's clock, ms; negative means behind.
    #[must_use]
    pub fn clock_offsets(&self, zone: &ZoneId) -> Vec<(SmolStr, i64)> {
        let zone = self.numbers.get(zone).map(|number| &self.zones[*number]);
        zone.map(ZoneState::clock_offsets).unwrap_or_default()
    }

    /// Returns the feature definitions.
    #[must_use]
    pub fn definitions(&self) -> &Arc<FeatureDefinitions> {
        self.catalog.definitions()
    }

    /// Returns the present columns.
    #[must_use]
    pub fn schema(&self) -> &Arc<FeatureRowSchema> {
        self.catalog.schema()
    }

    /// Returns the metrics that have columns, in the order of the columns.
    #[must_use]
    pub fn metrics(&self) -> &[SmolStr] {
        self.catalog.metrics()
    }

    /// Iterates over the zones, each with its metrics and its progress.
    pub fn zones(&self) -> impl Iterator<Item = (&ZoneId, Vec<SmolStr>, &ZoneProgress)> {
        self.zones.iter().map(|zone| (&zone.id, zone.metrics(), &zone.progress))
    }
}
