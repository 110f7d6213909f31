use telemetry::{Quality, SmolStr};

use super::{
    catalog::Catalog,
    row::Row,
    sql,
    zone::{Rules, Zone},
};
use crate::definitions::{JoinSql, SqlReading};

/// One zone's way into the engine without a report for each reading: for history
/// that is read column by column. What it makes is what reports would.
///
/// ```
/// # use feature_store::{Settings, engine::Engine};
/// # use telemetry::MetricTable;
/// let mut engine = Engine::new(&Settings::default().engine, MetricTable::default(), &[]).unwrap();
/// let mut feed = engine.feed(&"farm/bay-1".parse().unwrap());
/// let (device, metric) = (feed.device(&"probe".into()), feed.metric(&"temperature".into()));
/// for minute in 0..10 {
///     feed.take(device, metric, minute * 60_000, 20.0 + 0.1 * minute as f64);
/// }
/// assert_eq!(feed.rows().len(), 8); // 0 to 7 min: two more minutes may still be late
/// ```
#[derive(Debug)]
pub struct Feed<'a> {
    zone: &'a mut Zone,
    catalog: &'a mut Catalog,
    rules: &'a Rules,
    joins: Option<&'a mut JoinSql>,
    rows: Vec<Row>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        zone: &'a mut Zone,
        catalog: &'a mut Catalog,
        rules: &'a Rules,
        joins: Option<&'a mut JoinSql>,
    ) -> Self {
        Self { zone, catalog, rules, joins, rows: Vec::new() }
    }

    /// As [`Engine::run_ahead`](super::Engine::run_ahead).
    pub fn run_ahead<'r>(&mut self, readings: impl IntoIterator<Item = SqlReading<'r>>) {
        if let Some(ahead) = &mut self.catalog.ahead {
            ahead.run(readings.into_iter());
        }
    }

    /// A device's number, for [`Feed::take`].
    pub fn device(&mut self, name: &SmolStr) -> u16 {
        self.zone.device(name)
    }

    /// A metric's number, for [`Feed::take`].
    pub fn metric(&mut self, name: &SmolStr) -> usize {
        self.zone.slot(name, self.rules)
    }

    /// Takes one reading that arrived at its event time.
    ///
    /// # Panics
    /// For numbers that this feed has not given.
    pub fn take(&mut self, device: u16, metric: usize, event_ms: i64, value: f64) -> Quality {
        let quality =
            self.zone.take_new(metric, device, event_ms, value, event_ms, self.catalog, self.rules);
        self.zone.final_rows(self.catalog, self.rules, &mut self.rows);
        quality
    }

    /// The rows that have become final since this was last asked.
    pub fn rows(&mut self) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.rows);
        if let Some(joins) = self.joins.as_deref_mut() {
            sql::join(joins, &mut rows);
        }
        rows
    }
}
