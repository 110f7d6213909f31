use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use duckdb::{
    Connection, InterruptHandle,
    arrow::{array::RecordBatch, compute::concat_batches},
};
use telemetry::ZoneId;

use super::{
    protocol::{
        AnyOfConditions, ColumnCondition, ComparisonOperator, FirstRows, NeededRows, TableColumns,
        encode_batch,
    },
    remote_scan::is_sent_as_is,
};
use crate::{
    StoreError,
    lake::{FileScope, LakeReader},
    store::{ReadConnections, quote_identifier},
};

/// Schemas that can be read.
const SCHEMAS: &str = "'bronze', 'silver', 'gold', 'features', 'alerts', 'meta'";
/// Bytes or rows up to which batches are merged before they are sent.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 64 * 1024;
/// Time columns that are never null, by which the first rows can be selected.
const ORDERED_TIME_COLUMNS: [&str; 5] = ["event", "arrival", "time", "hour", "day_start"];
/// Number of attempts to open connections that see the same state.
const SAME_STATE_TRIES: usize = 20;

/// Reads every table with its columns.
pub(super) fn read_tables(connection: &Connection) -> Result<Vec<TableColumns>, StoreError> {
    let mut statement = connection.prepare(&format!(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns()
         WHERE schema_name IN ({SCHEMAS}) AND database_name = current_database() AND NOT internal
         ORDER BY schema_name, table_name, column_index"
    ))?;
    let mut found = statement.query([])?;
    let mut tables: Vec<TableColumns> = Vec::new();
    while let Some(row) = found.next()? {
        let (schema, name): (String, String) = (row.get(0)?, row.get(1)?);
        let stored_type: String = row.get(3)?;
        let sql_type = if is_sent_as_is(&stored_type) { stored_type } else { "VARCHAR".to_owned() };
        let column = (row.get(2)?, sql_type);
        match tables.last_mut() {
            Some(last) if last.schema == schema && last.name == name => last.columns.push(column),
            _ => tables.push(TableColumns { schema, name, columns: vec![column] }),
        }
    }
    Ok(tables)
}

/// Output of a scan.
pub(super) enum ScanOutput {
    /// A batch, as an Arrow stream.
    Batch(Vec<u8>),
    End,
    Failed(String),
}

/// Scans of the host's tables for one query.
pub(super) struct TableScans<'a> {
    readers: &'a ReadConnections,
    lake: &'a LakeReader,
    tables: &'a [TableColumns],
    /// Connections for further scans, each in a transaction; all see one state.
    ready: Vec<Connection>,
    open: HashMap<u64, Receiver<ScanOutput>>,
    interrupts: Arc<Mutex<Vec<Arc<InterruptHandle>>>>,
}

impl<'a> TableScans<'a> {
    pub(super) fn new(
        readers: &'a ReadConnections,
        lake: &'a LakeReader,
        tables: &'a [TableColumns],
        interrupts: Arc<Mutex<Vec<Arc<InterruptHandle>>>>,
    ) -> Self {
        Self { readers, lake, tables, ready: Vec::new(), open: HashMap::new(), interrupts }
    }

    /// Prepares connections for `count` scans that all see one state.
    pub(super) fn prepare_connections(&mut self, count: usize) -> Result<(), StoreError> {
        for _ in 0..SAME_STATE_TRIES {
            self.ready.clear();
            let mut states = Vec::new();
            for _ in 0..count {
                let connection = self.readers.new_connection()?;
                connection.execute_batch("BEGIN TRANSACTION READ ONLY")?;
                // A transaction sees the state at its first access to the database.
                states.push(connection.query_row(
                    "SELECT coalesce(sum(count), 0)::UBIGINT FROM meta.counters",
                    [],
                    |row| row.get::<_, u64>(0),
                )?);
                self.ready.push(connection);
            }
            if states.windows(2).all(|two| two[0] == two[1]) {
                break;
            }
        }
        Ok(())
    }

    /// Starts a scan.
    pub(super) fn open_scan(
        &mut self,
        scan: u64,
        table: usize,
        columns: &[usize],
        needed: &NeededRows,
    ) -> Result<(), StoreError> {
        let Some(table) = self.tables.get(table) else { return Ok(()) };
        let connection = match self.ready.pop() {
            Some(connection) => connection,
            None => {
                let connection = self.readers.new_connection()?;
                connection.execute_batch("BEGIN TRANSACTION READ ONLY")?;
                connection
            }
        };
        let sql = self.build_scan_sql(&connection, table, columns, needed)?;
        let interrupts = &self.interrupts;
        interrupts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection.interrupt_handle());
        let (to, from) = sync_channel(1);
        let started = thread::Builder::new().name("sql-scan".to_owned()).spawn(move || {
            // DuckDB's errors while rows are fetched arrive as panics.
            let scanned = catch_unwind(AssertUnwindSafe(|| send_rows(&connection, &sql, &to)));
            let end = match scanned {
                Ok(Ok(())) => ScanOutput::End,
                Ok(Err(error)) => ScanOutput::Failed(error.to_string()),
                Err(_) => ScanOutput::Failed("a table could not be read to its end".to_owned()),
            };
            let _ = to.send(end);
        });
        started.map_err(|error| StoreError::Thread(error.to_string()))?;
        self.open.insert(scan, from);
        Ok(())
    }

    /// Waits for the next output of a scan.
    pub(super) fn next_output(&mut self, scan: u64) -> ScanOutput {
        let next = self.open.get(&scan).and_then(|from| from.recv().ok());
        next.unwrap_or(ScanOutput::End)
    }

    /// Ends a scan; its thread notices at the next batch.
    pub(super) fn close_scan(&mut self, scan: u64) {
        self.open.remove(&scan);
    }

    fn build_scan_sql(
        &self,
        connection: &Connection,
        table: &TableColumns,
        columns: &[usize],
        NeededRows { any_of, first }: &NeededRows,
    ) -> Result<String, StoreError> {
        let known = |name: &str| table.columns.iter().find(|(column, _)| column == name);
        let selected: Vec<String> = columns
            .iter()
            .map(|number| match table.columns.get(*number) {
                // Only the number of rows is needed.
                None => "true".to_owned(),
                Some((name, sql_type)) if sql_type == "VARCHAR" => {
                    format!("CAST({0} AS VARCHAR) AS {0}", quote_identifier(name))
                }
                Some((name, _)) => quote_identifier(name),
            })
            .collect();
        let select_list = if selected.is_empty() { "true".to_owned() } else { selected.join(", ") };
        let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let condition_sql = |condition: &ColumnCondition| -> Option<String> {
            let (name, sql_type) = known(&condition.column)?;
            let value = |value: &String| format!("CAST({} AS {sql_type})", text(value));
            let operator = match condition.comparison {
                ComparisonOperator::Equal => "=",
                ComparisonOperator::Less => "<",
                ComparisonOperator::LessOrEqual => "<=",
                ComparisonOperator::Greater => ">",
                ComparisonOperator::GreaterOrEqual => ">=",
                ComparisonOperator::In => {
                    let values: Vec<String> = condition.values.iter().map(value).collect();
                    return Some(format!("{} IN ({})", quote_identifier(name), values.join(", ")));
                }
            };
            Some(format!(
                "{} {operator} {}",
                quote_identifier(name),
                value(condition.values.first()?)
            ))
        };
        let alternatives: Vec<String> = any_of
            .iter()
            .map(|conditions| {
                let all: Vec<String> = conditions.iter().filter_map(condition_sql).collect();
                if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
            })
            .collect();
        let condition = if alternatives.is_empty() {
            "true".to_owned()
        } else {
            format!("(({}))", alternatives.join(") OR ("))
        };
        let from = self.table_source_sql(connection, table, any_of)?;
        let is_ordered = |first: &&FirstRows| {
            let is_time = known(&first.column).is_some_and(|(_, sql_type)| sql_type == "TIMESTAMP");
            is_time && ORDERED_TIME_COLUMNS.contains(&first.column.as_str())
        };
        let limit = first.as_ref().filter(is_ordered).map_or_else(String::new, |first| {
            let column = quote_identifier(&first.column);
            let (least, comparison, order) = match first.is_descending {
                true => ("min", ">=", "DESC"),
                false => ("max", "<=", "ASC"),
            };
            format!(
                " AND {column} {comparison} (
                     SELECT {least}({column}) FROM (
                         SELECT {column} FROM {from} WHERE {condition}
                         ORDER BY {column} {order} LIMIT {}
                     )
                 )",
                first.rows
            )
        });
        Ok(format!("SELECT {select_list} FROM {from} WHERE {condition}{limit}"))
    }

    /// SQL for a table, together with its rows in a lake that is a folder.
    fn table_source_sql(
        &self,
        connection: &Connection,
        TableColumns { schema, name, .. }: &TableColumns,
        any_of: &AnyOfConditions,
    ) -> Result<String, StoreError> {
        let in_file = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
        let (moved, version) = match (schema.as_str(), name.as_str()) {
            ("silver", "readings") => ("readings", None),
            ("bronze", "records") => ("records", None),
            ("bronze", "recorded") => ("recorded", None),
            ("features", "rows") => {
                let sql = "SELECT max(version) FROM meta.definitions WHERE active";
                ("features", connection.query_row(sql, [], |row| row.get(0))?)
            }
            _ => return Ok(in_file),
        };
        if !self.lake.is_local() {
            return Ok(in_file);
        }
        let (zones, only_metric) = zone_and_metric_of(any_of);
        let metric = only_metric.filter(|_| moved == "readings");
        let scope = FileScope {
            zones: zones.as_ref().map(<[ZoneId; 1]>::as_slice),
            metric: metric.as_deref(),
            version,
            ..FileScope::default()
        };
        self.lake.union_archived_sql(connection, &in_file, moved, &scope)
    }
}

/// Returns the only zone and the only metric of the needed rows, if the conditions fix them.
fn zone_and_metric_of(any_of: &AnyOfConditions) -> (Option<[ZoneId; 1]>, Option<String>) {
    let [all] = &any_of[..] else { return (None, None) };
    let value = |column: &str| {
        let is_it = |condition: &&ColumnCondition| {
            condition.column == column
                && condition.comparison == ComparisonOperator::Equal
                && condition.values.len() == 1
        };
        all.iter().find(is_it).map(|condition| condition.values[0].clone())
    };
    let zone = value("site").zip(value("zone")).map(|(site, zone)| [ZoneId::new(site, zone)]);
    (zone, value("metric"))
}

fn send_rows(
    connection: &Connection,
    sql: &str,
    to: &SyncSender<ScanOutput>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(sql)?;
    let (mut batches, mut bytes, mut rows): (Vec<RecordBatch>, usize, usize) = (Vec::new(), 0, 0);
    let send = |batches: &mut Vec<RecordBatch>| -> Result<bool, StoreError> {
        let Some(first) = batches.first() else { return Ok(true) };
        let batch = concat_batches(&first.schema(), batches.iter())?;
        batches.clear();
        let encoded_batch = encode_batch(&batch.schema(), Some(&batch));
        let encoded = encoded_batch.map_err(|error| StoreError::Thread(error.to_string()))?;
        // Fails if the query is over and nobody receives.
        Ok(to.send(ScanOutput::Batch(encoded)).is_ok())
    };
    for batch in statement.stream_arrow([])? {
        bytes += batch.get_array_memory_size();
        rows += batch.num_rows();
        batches.push(batch);
        if bytes >= BATCH_BYTES || rows >= BATCH_ROWS {
            (bytes, rows) = (0, 0);
            if !send(&mut batches)? {
                return Ok(());
            }
        }
    }
    send(&mut batches).map(drop)
}
