use std::collections::HashSet;

use duckdb::{Connection, params};
use telemetry::ZoneId;

use super::HOUR_MS;
use crate::StoreError;

/// Hours with readings that their KPIs do not know: written down in the
/// transaction of the readings, once until the next refresh.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    known: HashSet<(ZoneId, i64)>,
    new: Vec<(ZoneId, i64)>,
    /// The last one noted: readings mostly follow one another.
    last: Option<(ZoneId, i64)>,
}

impl Touched {
    /// Notes a reading.
    pub(crate) fn note(&mut self, zone: &ZoneId, event_ms: i64) {
        let hour = event_ms.div_euclid(HOUR_MS);
        if self.last.as_ref().is_some_and(|(own, at)| *at == hour && own == zone) {
            return;
        }
        let key = (zone.clone(), hour);
        if self.known.insert(key.clone()) {
            self.new.push(key.clone());
        }
        self.last = Some(key);
    }

    /// Writes down what is new, in the transaction that is open.
    pub(crate) fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let mut appender = connection.appender_to_db("kpi_touched", "meta")?;
        for (zone, hour) in &self.new {
            appender.append_row(params![zone.site.as_str(), zone.zone.as_str(), hour])?;
        }
        Ok(appender.flush()?)
    }

    /// What was written is committed.
    pub(crate) fn committed(&mut self) {
        self.new.clear();
    }

    /// What was written down is counted.
    pub(crate) fn refreshed(&mut self) {
        *self = Self::default();
    }
}
