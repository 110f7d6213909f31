use duckdb::{Connection, params};
use eventlog::Positions;
use telemetry::{MetricTable, Quality, Reading, SmolStr, ZoneId};

use crate::{
    StoreError,
    engine::{Engine, Progress},
    settings,
};

/// What a file that was written before says.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The engine as it was at the last commit.
    pub(crate) engine: Engine,
    /// Where to read on.
    pub(crate) positions: Positions,
    /// Readings by quality, in the order of [`Quality::ALL`].
    pub(crate) by_quality: [u64; Quality::ALL.len()],
    /// Records without readings.
    pub(crate) rejects: u64,
    /// Feature rows.
    pub(crate) rows: u64,
}

/// Brings the engine to the state of the last commit, by taking in what it
/// had taken in, in the same order: the same code gives the same bits, and no
/// second form of the state can go out of step.
pub(crate) fn restore(
    connection: &Connection,
    settings: &settings::Engine,
    metrics_known: MetricTable,
) -> Result<Restored, StoreError> {
    let mut engine = Engine::new(settings, metrics_known, &metrics(connection)?)?;
    for (zone, progress) in zones(connection)? {
        engine.restore_zone(zone, progress);
    }
    let kept_ms = engine.kept_ms();
    restore_readings(connection, &mut engine, kept_ms)?;
    let mut positions = Positions::new();
    let mut statement = connection.prepare("SELECT partition, next_offset FROM meta.positions")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        positions.insert(row.get(0)?, row.get(1)?);
    }
    let mut by_quality = [0; Quality::ALL.len()];
    let mut statement =
        connection.prepare("SELECT quality, count(*) FROM silver.readings GROUP BY quality")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        by_quality[quality(&row.get::<_, String>(0)?)? as usize] = row.get(1)?;
    }
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    Ok(Restored {
        engine,
        positions,
        by_quality,
        rejects: count("SELECT count(*) FROM bronze.records WHERE reject IS NOT NULL")?,
        rows: count("SELECT count(*) FROM features.rows")?,
    })
}

fn restore_readings(
    connection: &Connection,
    engine: &mut Engine,
    kept_ms: i64,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(
        "SELECT r.site, r.zone, device, boot, seq, metric, epoch_ms(event), value, quality
         FROM silver.readings r JOIN meta.zones z ON r.site = z.site AND r.zone = z.zone
         WHERE epoch_ms(event) > epoch_ms(z.newest) - ?
         ORDER BY partition, \"offset\", item",
    )?;
    let mut found = statement.query(params![kept_ms])?;
    while let Some(row) = found.next()? {
        let text = |i: usize| row.get::<_, String>(i).map(SmolStr::from);
        let (zone, device) = (ZoneId::new(text(0)?, text(1)?), text(2)?);
        let boot = row.get::<_, Option<String>>(3)?.map(SmolStr::from);
        let run = boot.as_ref().zip(row.get::<_, Option<u64>>(4)?);
        let reading = Reading { metric: text(5)?, event_ms: row.get(6)?, value: row.get(7)? };
        engine.restore(&zone, &device, run, &reading, quality(&text(8)?)?);
    }
    Ok(())
}

fn zones(connection: &Connection) -> Result<Vec<(ZoneId, Progress)>, StoreError> {
    let mut statement = connection.prepare("SELECT site, zone, progress FROM meta.zones")?;
    let mut found = statement.query([])?;
    let mut zones = Vec::new();
    while let Some(row) = found.next()? {
        let zone = ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        let json: String = row.get(2)?;
        let progress: Progress = serde_json::from_str(&json).map_err(|_| StoreError::Damaged {
            table: "meta.zones",
            found: json.clone(),
            expected: "a zone's progress as JSON",
        })?;
        zones.push((zone, progress));
    }
    Ok(zones)
}

/// Metrics in the order of their columns.
pub(super) fn metrics(connection: &Connection) -> Result<Vec<SmolStr>, StoreError> {
    texts(connection, "SELECT metric FROM meta.metrics ORDER BY position")
}

/// The feature columns that `features.rows` has, in their order.
pub(super) fn feature_columns(connection: &Connection) -> Result<Vec<SmolStr>, StoreError> {
    texts(
        connection,
        "SELECT column_name FROM duckdb_columns()
         WHERE schema_name = 'features' AND table_name = 'rows' AND data_type = 'DOUBLE'
         ORDER BY column_index",
    )
}

fn texts(connection: &Connection, sql: &str) -> Result<Vec<SmolStr>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0).map(SmolStr::from))?;
    Ok(texts.collect::<duckdb::Result<_>>()?)
}

fn quality(name: &str) -> Result<Quality, StoreError> {
    Quality::ALL.into_iter().find(|quality| quality.as_str() == name).ok_or_else(|| {
        StoreError::Damaged {
            table: "silver.readings",
            found: name.to_owned(),
            expected: "the name of a quality",
        }
    })
}
