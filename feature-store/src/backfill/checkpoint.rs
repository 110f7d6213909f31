use std::collections::HashMap;

use duckdb::Connection;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use telemetry::{TimeFormat, ZoneId};

use super::{BackfillRequest, history::ZoneHistory, plan::encode_hex};
use crate::StoreError;

/// Completed histories, as the store lists them.
#[derive(Debug)]
pub(super) struct BackfillCheckpoint {
    zones: HashMap<ZoneId, Vec<CompletedHistory>>,
    /// Zones with readings from the log.
    live: std::collections::HashSet<ZoneId>,
    /// First free ids.
    pub(super) next_id: u32,
    pub(super) next_file: u32,
    pub(super) next_series: u32,
}

#[derive(Debug)]
struct CompletedHistory {
    id: u32,
    content: String,
}

impl BackfillCheckpoint {
    pub(super) fn read_from_store(connection: &Connection) -> Result<Self, StoreError> {
        let mut zones: HashMap<ZoneId, Vec<CompletedHistory>> = HashMap::new();
        let mut next_id = 1;
        let mut statement =
            connection.prepare("SELECT id, site, zone, content FROM meta.backfills")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let zone = ZoneId::new(row.get::<_, String>(1)?, row.get::<_, String>(2)?);
            let before = CompletedHistory { id: row.get(0)?, content: row.get(3)? };
            next_id = next_id.max(before.id + 1);
            zones.entry(zone).or_default().push(before);
        }
        let mut statement = connection.prepare("SELECT site, zone FROM meta.zones")?;
        let live = statement
            .query_map([], |row| {
                Ok(ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?
            .collect::<duckdb::Result<_>>()?;
        let next = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0));
        Ok(Self {
            zones,
            live,
            next_id,
            next_file: next("SELECT coalesce(max(file), 0) + 1 FROM bronze.files")?,
            next_series: next("SELECT coalesce(max(id), 0) + 1 FROM silver.series")?,
        })
    }

    /// Returns the id under which this history was completed. Fails if the zone has other
    /// readings.
    pub(super) fn find_completed(
        &self,
        history: &ZoneHistory,
        content: &str,
    ) -> Result<Option<u32>, StoreError> {
        let before = self.zones.get(&history.zone).map(Vec::as_slice).unwrap_or_default();
        if let Some(same) = before.iter().find(|before| before.content == content) {
            return Ok(Some(same.id));
        }
        if before.is_empty() && !self.live.contains(&history.zone) {
            return Ok(None);
        }
        Err(StoreError::ZoneHasReadings { zone: history.zone.clone() })
    }
}

/// Hash that identifies a history: its files, and the requested times and options.
pub(super) fn hash_content(history: &ZoneHistory, request: &BackfillRequest) -> String {
    let mut hasher = Sha256::new();
    for file in &history.files {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        hasher.update(format!("{name} {} {}\n", file.bytes, file.sha256));
    }
    let BackfillRequest {
        from_ms, to_ms, as_published, features_only, time_zone, time_format, ..
    } = request;
    hasher.update(format!("{from_ms:?} {to_ms:?} {as_published} {features_only}"));
    // Defaults add nothing, as earlier versions hashed neither.
    if *time_zone != TimeZone::UTC || *time_format != TimeFormat::Iso {
        let name = time_zone.iana_name().unwrap_or_default();
        hasher.update(format!(" {name} {}", time_format.as_str()));
    }
    encode_hex(hasher.finalize())
}
