use std::collections::HashSet;

use duckdb::{Connection, params};
use telemetry::ZoneId;

use super::HOUR_MS;
use crate::StoreError;

/// Hours with readings that their KPIs do not include yet. They are stored in the transaction of
/// the readings.
#[derive(Debug, Default)]
pub(crate) struct DirtyHours {
    hours: HashSet<(ZoneId, i64)>,
    /// The last noted hour, as consecutive readings mostly share it.
    last: Option<(ZoneId, i64)>,
}

impl DirtyHours {
    /// Notes the hour of a reading.
    pub(crate) fn note_reading(&mut self, zone: &ZoneId, event_ms: i64) {
        let hour = event_ms.div_euclid(HOUR_MS);
        if self
            .last
            .as_ref()
            .is_some_and(|(last_zone, last_hour)| *last_hour == hour && last_zone == zone)
        {
            return;
        }
        let key = (zone.clone(), hour);
        self.hours.insert(key.clone());
        self.last = Some(key);
    }

    /// Stores the hours in the open transaction.
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
