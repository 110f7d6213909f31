use telemetry::{QualityFlag, SmolStr};

use super::{
    catalog::FeatureCatalog,
    feature_row::FeatureRow,
    sql_prefetch,
    zone::{EngineRules, NumberedReading, ZoneState},
};
use crate::sql::{JoinExpressions, SqlReading};

/// Feeds recorded readings into one zone without a report for each, for history that is read
/// column by column. The rows equal those that reports would produce.
///
/// ```
/// # use microclimate_feature_engine::{EngineSettings, FeatureDefinitions, FeatureEngine, SqlExpressions};
/// # use telemetry::MetricTable;
/// # let (settings, definitions) = (EngineSettings::default(), FeatureDefinitions::built_in());
/// # let sql = SqlExpressions::default();
/// let mut engine =
///     FeatureEngine::new(&settings, definitions, MetricTable::default(), &[], sql).unwrap();
/// let mut feed = engine.open_feed(&"farm/bay-1".parse().unwrap(), 1_764_500_000_000);
/// let device = feed.device_number(&"probe".into());
/// let metric = feed.metric_number(&"temperature".into());
/// for minute in 0..10 {
///     feed.ingest_reading(device, metric, minute * 60_000, 20.0 + 0.1 * minute as f64);
/// }
/// assert_eq!(feed.take_rows().len(), 8); // 0 to 7 min: two more minutes may still be late
/// assert!(!feed.finish_some());
/// assert_eq!(feed.take_rows().len(), 2);
/// ```
#[derive(Debug)]
pub struct ZoneFeed<'a> {
    zone: &'a mut ZoneState,
    received_ms: i64,
    catalog: &'a mut FeatureCatalog,
    rules: &'a EngineRules,
    joins: Option<&'a mut (dyn JoinExpressions + 'static)>,
    rows: Vec<FeatureRow>,
}

impl<'a> ZoneFeed<'a> {
    pub(super) fn new(
        zone: &'a mut ZoneState,
        received_ms: i64,
        catalog: &'a mut FeatureCatalog,
        rules: &'a EngineRules,
        joins: Option<&'a mut (dyn JoinExpressions + 'static)>,
    ) -> Self {
        Self { zone, received_ms, catalog, rules, joins, rows: Vec::new() }
    }

    /// Evaluates the SQL expressions of the next readings in one batch. An optimisation only: see
    /// [`FeatureEngine::prefetch_readings`](super::FeatureEngine::prefetch_readings).
    pub fn prefetch_readings<'r>(&mut self, readings: impl IntoIterator<Item = SqlReading<'r>>) {
        if let Some(ahead) = &mut self.catalog.sql_prefetch {
            ahead.evaluate_batch(readings.into_iter());
        }
    }

    /// Returns a device's number, for [`ZoneFeed::ingest_reading`].
    pub fn device_number(&mut self, name: &SmolStr) -> u16 {
        self.zone.device_number(name)
    }

    /// Returns a metric's number, for [`ZoneFeed::ingest_reading`].
    pub fn metric_number(&mut self, name: &SmolStr) -> usize {
        self.zone.find_or_add_slot(name, self.rules)
    }

    /// Ingests one reading that arrived at its event time.
    ///
    /// # Panics
    /// Panics on numbers that this feed has not returned.
    pub fn ingest_reading(
        &mut self,
        device: u16,
        metric: usize,
        event_ms: i64,
        value: f64,
    ) -> QualityFlag {
        let reading = NumberedReading {
            slot: metric,
            device,
            event_ms,
            value,
            arrival_ms: event_ms,
            received_ms: self.received_ms,
        };
        self.zone.ingest_new_reading(&reading, self.catalog, self.rules, &mut self.rows)
    }

    /// Handles the end of the data: completes the rows up to the newest reading, in steps.
    /// Returns whether there are more.
    pub fn finish_some(&mut self) -> bool {
        self.zone.finish_some(self.catalog, self.rules, &mut self.rows)
    }

    /// Returns the rows that have become final since the last call.
    pub fn take_rows(&mut self) -> Vec<FeatureRow> {
        let mut rows = std::mem::take(&mut self.rows);
        if let Some(joins) = self.joins.as_deref_mut() {
            sql_prefetch::apply_sql_joins(joins, &mut rows);
        }
        rows
    }
}
