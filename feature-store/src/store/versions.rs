//! Versions of the definitions: which one `features.rows` is of, and how the
//! rows of another are made beside it.

use std::time::{Duration, Instant};

use duckdb::{Connection, params};
use telemetry::{MetricTable, Reading, Report, SmolStr, Source, ZoneId};

use super::{quoted, restore, write::write_rows};
use crate::{
    StoreError,
    definitions::SqlReading,
    engine::{Engine, Output, Row},
    settings,
};

/// Reports that the engine is given at once.
const REPORTS_AT_ONCE: usize = 8192;
/// Rows that a transaction holds.
const ROWS_AT_ONCE: usize = 20_000;
/// How often the log says how far it has come.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// One version of the definitions that the file has rows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// From 1 on.
    pub number: i32,
    /// Of the definitions; empty where they are not known.
    pub hash: String,
    /// The time it was made, UTC, as DuckDB writes it.
    pub created: String,
    /// Whether its rows are `features.rows`; else they are `features.rows_v<number>`.
    pub is_active: bool,
}

/// Makes the file's rows those of the definitions of the settings: where they are of
/// others, all readings go through the engine again, in the order of the log, into a
/// table beside, and one transaction switches to it. Ended before that, the rows are the
/// old ones and the next start begins anew.
pub(crate) fn bring_up_to_date(
    connection: &mut Connection,
    settings: &settings::Engine,
    metrics: &MetricTable,
) -> Result<(), StoreError> {
    let definitions = settings.definitions(metrics)?;
    let (hash, text) = (definitions.hash(), definitions.text());
    let known = versions(connection)?;
    if known.iter().any(|version| version.is_active && version.hash == hash) {
        return Ok(());
    }
    let has_rows =
        connection.query_row("SELECT EXISTS (SELECT 1 FROM features.rows)", [], |row| {
            row.get::<_, bool>(0)
        })?;
    let mut next = known.iter().map(|version| version.number).max().unwrap_or(0) + 1;
    if known.is_empty() && has_rows {
        // By a program that kept no versions.
        insert(connection, next, "", "")?;
        next += 1;
    }
    if !has_rows {
        connection.execute("UPDATE meta.definitions SET active = false", [])?;
        return insert(connection, next, &hash, &text);
    }
    let start = Instant::now();
    tracing::info!(version = next, %hash, "definitions have changed: making rows anew");
    let engine = Engine::new(settings, metrics.clone(), &restore::metrics(connection)?)?;
    let mut backfill = Backfill {
        connection,
        engine,
        table: format!("rows_v{next}"),
        rows: Vec::new(),
        written: 0,
    };
    backfill.make_table()?;
    backfill.replay()?;
    backfill.catch_up()?;
    let Backfill { engine, written, .. } = backfill;
    switch(connection, &engine, next, &hash, &text)?;
    tracing::info!(version = next, rows = written, took = ?start.elapsed(), "switched");
    Ok(())
}

/// All versions of a file, oldest first.
///
/// # Errors
/// Where the file cannot be opened, as it is while the feature store runs.
pub fn versions_of(settings: &settings::Store) -> Result<Vec<Version>, StoreError> {
    versions(&super::open(settings)?)
}

/// All versions, oldest first.
pub(crate) fn versions(connection: &Connection) -> Result<Vec<Version>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT version, hash, created::VARCHAR, active FROM meta.definitions ORDER BY version",
    )?;
    let found = statement.query_map([], |row| {
        Ok(Version {
            number: row.get(0)?,
            hash: row.get(1)?,
            created: row.get(2)?,
            is_active: row.get(3)?,
        })
    })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

/// Lets the rows of an old version go. False where it is not there, or active.
///
/// # Errors
/// Where the file cannot be opened, as it is while the feature store runs.
pub fn drop_version(settings: &settings::Store, number: i32) -> Result<bool, StoreError> {
    let mut connection = super::open(settings)?;
    let known = versions(&connection)?;
    if !known.iter().any(|version| version.number == number && !version.is_active) {
        return Ok(false);
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(&format!("DROP TABLE IF EXISTS features.rows_v{number}"))?;
    transaction.execute("DELETE FROM meta.definitions WHERE version = ?", [number])?;
    transaction.commit()?;
    Ok(true)
}

fn insert(connection: &Connection, number: i32, hash: &str, text: &str) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO meta.definitions VALUES (?, ?, ?, now()::TIMESTAMP, true)",
        params![number, hash, text],
    )?;
    Ok(())
}

/// Puts the new rows in the place of the old, with the progress that they are of.
fn switch(
    connection: &mut Connection,
    engine: &Engine,
    number: i32,
    hash: &str,
    text: &str,
) -> Result<(), StoreError> {
    let old = versions(connection)?.into_iter().find(|version| version.is_active);
    let old = old.map_or(0, |version| version.number);
    let transaction = connection.transaction()?;
    transaction.execute_batch(&format!(
        "ALTER TABLE features.rows RENAME TO rows_v{old};
         ALTER TABLE features.rows_v{number} RENAME TO rows;
         UPDATE meta.definitions SET active = false;"
    ))?;
    insert(&transaction, number, hash, text)?;
    for (zone, _, progress) in engine.zones() {
        let json = serde_json::to_string(progress).expect("progress has only numbers");
        transaction.execute(
            "UPDATE meta.zones SET progress = ? WHERE site = ? AND zone = ?",
            params![json, zone.site.as_str(), zone.zone.as_str()],
        )?;
    }
    let names = engine.schema().names.iter().map(|name| format!("'{}'", name.replace('\'', "''")));
    transaction.execute_batch(&format!(
        "INSERT OR IGNORE INTO meta.schemas VALUES ('{}', [{}])",
        engine.schema().hash,
        names.collect::<Vec<_>>().join(", ")
    ))?;
    Ok(transaction.commit()?)
}

struct Backfill<'a> {
    connection: &'a mut Connection,
    engine: Engine,
    table: String,
    /// Still to be written.
    rows: Vec<Row>,
    written: usize,
}

impl Backfill<'_> {
    /// All columns at once: the metrics are known.
    fn make_table(&self) -> Result<(), StoreError> {
        let names = &self.engine.schema().names;
        let columns: String =
            names.iter().map(|name| format!(", {} DOUBLE", quoted(name))).collect();
        let table = &self.table;
        // One of a backfill that was ended goes.
        Ok(self.connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS features.{table};
             CREATE TABLE features.{table} (
                 site VARCHAR NOT NULL, zone VARCHAR NOT NULL, time TIMESTAMP NOT NULL,
                 revision BIGINT NOT NULL, schema_hash VARCHAR NOT NULL{columns})"
        ))?)
    }

    fn replay(&mut self) -> Result<(), StoreError> {
        let reading = self.connection.try_clone()?;
        let all: u64 =
            reading.query_row("SELECT count(*) FROM silver.readings", [], |row| row.get(0))?;
        let mut statement = reading.prepare(
            "SELECT partition, \"offset\", site, zone, device, boot, seq, source,
                    epoch_ms(arrival), metric, epoch_ms(event), value
             FROM silver.readings ORDER BY partition, \"offset\", item",
        )?;
        let mut found = statement.query([])?;
        let (mut reports, mut last, mut done) = (Vec::<Report>::new(), None, 0_u64);
        let mut said = Instant::now();
        while let Some(row) = found.next()? {
            let text = |i: usize| row.get::<_, String>(i).map(SmolStr::from);
            let place: (i32, i64) = (row.get(0)?, row.get(1)?);
            let reading = Reading { metric: text(9)?, event_ms: row.get(10)?, value: row.get(11)? };
            if last != Some(place) {
                if reports.len() >= REPORTS_AT_ONCE {
                    self.take(&reports)?;
                    reports.clear();
                }
                last = Some(place);
                reports.push(Report {
                    zone: ZoneId::new(text(2)?, text(3)?),
                    device: text(4)?,
                    boot: row.get::<_, Option<String>>(5)?.map(SmolStr::from),
                    seq: row.get(6)?,
                    source: source(&text(7)?)?,
                    arrival_ms: row.get(8)?,
                    readings: Vec::new(),
                });
            }
            reports.last_mut().expect("one was pushed").readings.push(reading);
            done += 1;
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                let percent = 100 * done / all.max(1);
                tracing::info!(readings = done, all, percent, "making rows anew");
            }
        }
        self.take(&reports)
    }

    fn take(&mut self, reports: &[Report]) -> Result<(), StoreError> {
        let mut output = Output::default();
        self.engine.run_ahead(reports.iter().flat_map(SqlReading::of_report));
        reports.iter().for_each(|report| self.engine.take(report, &mut output));
        self.engine.join(&mut output.rows);
        self.rows.extend(output.rows);
        self.write(ROWS_AT_ONCE)
    }

    /// Rows that had become final by the clock, while their zone was silent.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut output = Output::default();
        for (zone, progress) in restore::zones(self.connection)? {
            if let Some(watermark_ms) = progress.watermark_ms {
                self.engine.advance(&zone, watermark_ms, &mut output);
            }
        }
        self.engine.join(&mut output.rows);
        self.rows.extend(output.rows);
        self.write(1)
    }

    fn write(&mut self, at_least: usize) -> Result<(), StoreError> {
        if self.rows.len() < at_least {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        write_rows(&transaction, &self.rows, &self.table)?;
        transaction.commit()?;
        self.written += self.rows.len();
        self.rows.clear();
        Ok(())
    }
}

fn source(text: &str) -> Result<Source, StoreError> {
    [Source::Live, Source::Replay, Source::Backfill, Source::Retained]
        .into_iter()
        .find(|source| source.as_str() == text)
        .ok_or_else(|| StoreError::Damaged {
            table: "silver.readings",
            found: text.to_owned(),
            expected: "how a reading came",
        })
}
