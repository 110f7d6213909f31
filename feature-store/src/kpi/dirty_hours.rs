use std::collections::HashSet;

use duckdb::{Connection, params};
use telemetry::ZoneId;

use super::HOUR_MS;
use crate::StoreError;

/// Hours with readings that their KPIs do not know: written down in the
/// transaction of the readings.
#[derive(Debug, Default)]
pub(crate) struct DirtyHours {
    hours: HashSet<(ZoneId, i64)>,
    /// The last one noted: readings mostly follow one another.
    last: Option<(ZoneId, i64)>,
}

impl DirtyHours {
    /// Notes a reading.
    pub(crate) fn note_reading(&mut self, zone: &ZoneId, event_ms: i64) {
        let hour = event_ms.div_euclid(HOUR_MS);
        if self.last.as_ref().is_some_and(|(own, at)| *at == hour && own == zone) {
            return;
        }
        let key = (zone.clone(), hour);
        self.hours.insert(key.clone());
        self.last = Some(key);
    }

    /// Writes them down, in the transaction that is open.
    pub(crate) fn write_hours(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.hours.is_empty() {
            return Ok(());
        }
        let mut appender = connection.appender_to_db("kpi_touched", "meta")?;
        for (zone, hour) in &self.hours {
            appender.append_row(params![zone.site.as_str(), zone.zone.as_str(), hour])?;
        }
        Ok(appender.flush()?)
    }
}
