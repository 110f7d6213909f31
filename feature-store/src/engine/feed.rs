use telemetry::{Quality, SmolStr};

use super::{
    catalog::Catalog,
    row::Row,
    sql,
    zone::{NumberedReading, Rules, Zone},
};
use crate::definitions::{JoinSql, SqlReading};

/// One zone's way into the engine without a report for each reading: for history
/// that is read column by column. What it makes is what reports would.
///
/// ```
/// # use feature_store::{Settings, engine::Engine};
/// # use telemetry::MetricTable;
/// let mut engine = Engine::new(&Settings::default().engine, MetricTable::default(), &[]).unwrap();
/// let mut feed = engine.feed(&"farm/bay-1".parse().unwrap(), 1_764_500_000_000);
/// let (device, metric) = (feed.device(&"probe".into()), feed.metric(&"temperature".into()));
/// for minute in 0..10 {
///     feed.ingest_reading(device, metric, minute * 60_000, 20.0 + 0.1 * minute as f64);
/// }
/// assert_eq!(feed.rows().len(), 8); // 0 to 7 min: two more minutes may still be late
/// assert!(!feed.finish_some());
/// assert_eq!(feed.rows().len(), 2);
/// ```
#[derive(Debug)]
pub struct Feed<'a> {
    zone: &'a mut Zone,
    received_ms: i64,
    catalog: &'a mut Catalog,
    rules: &'a Rules,
    joins: Option<&'a mut JoinSql>,
    rows: Vec<Row>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        zone: &'a mut Zone,
        received_ms: i64,
        catalog: &'a mut Catalog,
        rules: &'a Rules,
        joins: Option<&'a mut JoinSql>,
    ) -> Self {
        Self { zone, received_ms, catalog, rules, joins, rows: Vec::new() }
    }

    /// As [`Engine::run_ahead`](super::Engine::run_ahead).
    pub fn run_ahead<'r>(&mut self, readings: impl IntoIterator<Item = SqlReading<'r>>) {
        if let Some(ahead) = &mut self.catalog.ahead {
            ahead.run(readings.into_iter());
        }
    }

    /// A device's number, for [`Feed::ingest_reading`].
    pub fn device(&mut self, name: &SmolStr) -> u16 {
        self.zone.device(name)
    }

    /// A metric's number, for [`Feed::ingest_reading`].
    pub fn metric(&mut self, name: &SmolStr) -> usize {
        self.zone.slot(name, self.rules)
    }

    /// Takes one reading that arrived at its event time.
    ///
    /// # Panics
    /// For numbers that this feed has not given.
    pub fn ingest_reading(
        &mut self,
        device: u16,
        metric: usize,
        event_ms: i64,
        value: f64,
    ) -> Quality {
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

    /// The end of the data: completes the rows up to the newest reading, so many at a time;
    /// whether there are more.
    pub fn finish_some(&mut self) -> bool {
        self.zone.finish_some(self.catalog, self.rules, &mut self.rows)
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
