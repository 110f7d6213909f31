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
    /// Reports that were taken in.
    reports: u64,
}

/// The result of some reports.
#[derive(Debug, Default)]
pub struct EngineOutput {
    /// A quality for each reading, in order.
    pub qualities: Vec<QualityFlag>,
    /// Rows that became final, or were computed again.
    pub rows: Vec<FeatureRow>,
    /// Zones that a clock of the gateway pushed ahead, with the time, UTC ms, from which on
    /// their readings are of the future: they are to be recomputed without these.
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

    /// One zone, to be fed with recorded readings at full speed; they are taken in at
    /// `received_ms` (UTC milliseconds), and none is of a time after that.
    pub fn open_feed(&mut self, zone: &ZoneId, received_ms: i64) -> ZoneFeed<'_> {
        let number = self.find_or_add_zone(zone);
        let zone = &mut self.zones[number];
        let joins = self.joins.as_deref_mut();
        ZoneFeed::new(zone, received_ms, &mut self.catalog, &self.rules, joins)
    }

    /// Zones in memory.
    #[must_use]
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// Whether a zone is in memory.
    #[must_use]
    pub fn has_zone(&self, zone: &ZoneId) -> bool {
        self.numbers.contains_key(zone)
    }

    /// Puts zones away until `zones_max` are left, and names them: first those of which hardly
    /// any reading ever came, which may be somebody's mistakes, then those heard least recently.
    /// What was taken in of them must have been stored: [`Engine::restore_zone`] and
    /// [`Engine::restore`] bring one back as it was.
    pub fn evict_zones(&mut self, zones_max: usize) -> Vec<ZoneId> {
        /// More readings than this make a zone one that is known.
        const FEW_READINGS: u64 = 20;
        let count = self.zones.len().saturating_sub(zones_max);
        let mut order: Vec<(bool, bool, u64, usize)> = self
            .zones
            .iter()
            .enumerate()
            .map(|(at, zone)| {
                let is_known = zone.reading_count > FEW_READINGS;
                // Rows that are to be computed again wait until the zone is back.
                let has_work = is_known && zone.progress.recompute.first_ms().is_some();
                (is_known, has_work, zone.last_report_number, at)
            })
            .collect();
        order.sort_unstable();
        order.truncate(count);
        let evicted: HashSet<usize> = order.into_iter().map(|(.., at)| at).collect();
        self.remove_zones_at(&evicted)
    }

    /// Forgets zones, with all that they have.
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

    /// The zones that `wanted` wants, by name, so that rows come in one order.
    fn sorted_zone_numbers(&self, wanted: impl Fn(&ZoneState) -> bool) -> Vec<usize> {
        let mut numbers: Vec<usize> =
            (0..self.zones.len()).filter(|number| wanted(&self.zones[*number])).collect();
        numbers.sort_unstable_by(|a, b| self.zones[*a].id.cmp(&self.zones[*b].id));
        numbers
    }

    /// Lets time pass while nothing comes: `now_ms` is the clock of this machine, by which rows
    /// of live zones become final, and by which it is seen that a burst of late readings or a
    /// recording has ended. Recorded zones have their own clock.
    pub fn advance_clock(&mut self, now_ms: i64, output: &mut EngineOutput) {
        let before = output.rows.len();
        for number in self.sorted_zone_numbers(ZoneState::is_waiting) {
            self.zones[number].advance_clock(now_ms, &self.catalog, &self.rules, &mut output.rows);
        }
        self.apply_sql_joins(&mut output.rows[before..]);
    }

    /// The end of the data: completes the rows of all zones up to their newest readings.
    pub fn finish_all(&mut self, output: &mut EngineOutput) {
        while self.finish_some(output) {}
    }

    /// The same, so many rows at a time that they need not all be in memory: whether there are
    /// more.
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

    /// The end of a file that has readings of one zone: completes its rows. Where readings of
    /// now come too, time goes on by these.
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

    /// Completes one zone's rows up to a time, and all that late readings changed.
    pub fn complete_zone(&mut self, zone: &ZoneId, until_ms: i64, output: &mut EngineOutput) {
        let rows_before = output.rows.len();
        let number = self.find_or_add_zone(zone);
        let zone = &mut self.zones[number];
        zone.emit_until(until_ms, &self.catalog, &self.rules, &mut output.rows);
        zone.recompute_all(&self.catalog, &self.rules, &mut output.rows);
        self.apply_sql_joins(&mut output.rows[rows_before..]);
    }

    /// The row at its newest event time of each zone that has changed since
    /// this was last asked.
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

    /// How far behind a zone's newest reading others are still needed, ms: a
    /// window, behind a correction, with room.
    #[must_use]
    pub fn retention_ms(&self) -> i64 {
        self.rules.engine.retention_ms(self.definitions().widest_ms())
    }

    /// A zone as it was, without its readings, in place of what there is of it.
    pub fn restore_zone(&mut self, id: ZoneId, progress: ZoneProgress) {
        let progress = progress.migrate(self.rules.grid_ms(), self.rules.lateness_ms());
        let number = self.add_zone(id, progress);
        self.reports += 1;
        self.zones[number].last_report_number = self.reports;
    }

    /// Takes in a reading that was judged before; `run` is boot id and
    /// sequence number.
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

    /// The drying trend of each soil probe of a zone, by device, as of the zone's
    /// newest event time.
    #[must_use]
    pub fn drying_trends(&self, zone: &ZoneId) -> BTreeMap<SmolStr, DryingTrend> {
        let zone = self.numbers.get(zone).map(|number| &self.zones[*number]);
        zone.map(|zone| zone.drying_trends(&self.rules).into_iter().collect()).unwrap_or_default()
    }

    /// Devices of a zone whose clocks are off by a constant, and how far they are ahead of the
    /// gateway's, ms; below 0: behind.
    #[must_use]
    pub fn clock_offsets(&self, zone: &ZoneId) -> Vec<(SmolStr, i64)> {
        let zone = self.numbers.get(zone).map(|number| &self.zones[*number]);
        zone.map(ZoneState::clock_offsets).unwrap_or_default()
    }

    /// What is computed.
    #[must_use]
    pub fn definitions(&self) -> &Arc<FeatureDefinitions> {
        self.catalog.definitions()
    }

    /// The columns as they are now.
    #[must_use]
    pub fn schema(&self) -> &Arc<FeatureRowSchema> {
        self.catalog.schema()
    }

    /// Metrics that have columns, in the order of the columns.
    #[must_use]
    pub fn metrics(&self) -> &[SmolStr] {
        self.catalog.metrics()
    }

    /// Each zone with its metrics and how far it has come.
    pub fn zones(&self) -> impl Iterator<Item = (&ZoneId, Vec<SmolStr>, &ZoneProgress)> {
        self.zones.iter().map(|zone| (&zone.id, zone.metrics(), &zone.progress))
    }
}
