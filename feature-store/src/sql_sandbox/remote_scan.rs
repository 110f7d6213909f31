use std::{
    error::Error,
    io::{self, BufReader, BufWriter, Stdin, Stdout},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use duckdb::{
    arrow::array::RecordBatch,
    core::{DataChunkHandle, LogicalTypeHandle, LogicalTypeId},
    vtab::{BindInfo, InitInfo, TableFunctionInfo, VTab, record_batch_to_duckdb_data_chunk},
};

use super::protocol::{
    GuestRequest, HostReply, NeededRows, TableColumns, decode_batches, read_json, read_message,
    write_json,
};

/// Rows of a DuckDB vector.
const VECTOR_ROWS: usize = 2048;

/// The only connection to the host and its tables, global because table functions have no other
/// state.
static HOST: OnceLock<HostConnection> = OnceLock::new();
static NEXT_SCAN: AtomicU64 = AtomicU64::new(0);

/// The host, as the guest sees it.
pub(super) struct HostConnection {
    link: Mutex<HostStreams>,
    tables: Vec<TableColumns>,
    /// Needed rows of each table.
    needed: OnceLock<Vec<NeededRows>>,
}

/// Standard input and output.
pub(super) struct HostStreams {
    pub(super) from: BufReader<Stdin>,
    pub(super) to: BufWriter<Stdout>,
}

impl HostConnection {
    /// Makes the host available to table functions.
    pub(super) fn init_global(link: HostStreams, tables: Vec<TableColumns>) -> &'static Self {
        let host = Self { link: Mutex::new(link), tables, needed: OnceLock::new() };
        HOST.get_or_init(|| host)
    }

    pub(super) fn lock_streams(&self) -> MutexGuard<'_, HostStreams> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the needed rows of each table, in the order of tables.
    pub(super) fn set_needed_rows(&self, needed: Vec<NeededRows>) {
        self.needed.get_or_init(|| needed);
    }
}

/// `remote_scan(number)`: the rows of one of the host's tables.
pub(super) struct RemoteScan;

/// Number of the scanned table.
pub(super) struct ScanTable(usize);

/// A running scan.
pub(super) struct RemoteTableScan {
    number: u64,
    columns: Vec<usize>,
    state: Mutex<ScanState>,
}

#[derive(Default)]
struct ScanState {
    is_open: bool,
    is_done: bool,
    batch: Option<RecordBatch>,
    at: usize,
}

impl VTab for RemoteScan {
    type BindData = ScanTable;
    type InitData = RemoteTableScan;

    fn bind(bind: &BindInfo) -> Result<ScanTable, Box<dyn Error>> {
        let host = HOST.get().ok_or("the host is not connected")?;
        let parameter = bind.get_parameter(0).to_int64();
        let known_number =
            usize::try_from(parameter).ok().filter(|number| *number < host.tables.len());
        let number = known_number.ok_or("the table does not exist")?;
        for (name, sql_type) in &host.tables[number].columns {
            bind.add_result_column(name, logical_type(sql_type));
        }
        Ok(ScanTable(number))
    }

    fn init(init: &InitInfo) -> Result<RemoteTableScan, Box<dyn Error>> {
        let columns = init.get_column_indices();
        Ok(RemoteTableScan {
            number: NEXT_SCAN.fetch_add(1, Ordering::Relaxed),
            columns: columns.into_iter().map(|column| column as usize).collect(),
            state: Mutex::new(ScanState::default()),
        })
    }

    fn func(
        info: &TableFunctionInfo<Self>,
        output: &mut DataChunkHandle,
    ) -> Result<(), Box<dyn Error>> {
        let host = HOST.get().ok_or("the host is not connected")?;
        let (table, scan) = (info.get_bind_data().0, info.get_init_data());
        let mut state = scan.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(batch) = &state.batch
                && state.at < batch.num_rows()
            {
                let rows = (batch.num_rows() - state.at).min(VECTOR_ROWS);
                let slice = batch.slice(state.at, rows);
                if scan.columns.is_empty() || output.num_columns() == 0 {
                    output.set_len(rows);
                } else {
                    record_batch_to_duckdb_data_chunk(&slice, output)?;
                }
                state.at += rows;
                return Ok(());
            }
            if state.is_done {
                output.set_len(0);
                return Ok(());
            }
            let (is_open, next) = (state.is_open, host.next_batch(scan, table, state.is_open)?);
            state.is_open |= !is_open;
            state.is_done = next.is_none();
            (state.batch, state.at) = (next, 0);
        }
    }

    fn supports_pushdown() -> bool {
        true
    }

    fn parameters() -> Option<Vec<LogicalTypeHandle>> {
        Some(vec![LogicalTypeId::Bigint.into()])
    }
}

impl HostConnection {
    fn next_batch(
        &self,
        scan: &RemoteTableScan,
        table: usize,
        is_open: bool,
    ) -> io::Result<Option<RecordBatch>> {
        let mut link = self.lock_streams();
        if !is_open {
            let needed_rows = self.needed.get().and_then(|needed| needed.get(table));
            let needed = needed_rows.cloned().unwrap_or_default();
            let columns = scan.columns.clone();
            let open = GuestRequest::Open { scan: scan.number, table, columns, needed };
            write_json(&mut link.to, &open)?;
        }
        write_json(&mut link.to, &GuestRequest::Next { scan: scan.number })?;
        match read_json(&mut link.from)? {
            HostReply::Batch => {
                let (_, batches) = decode_batches(&read_message(&mut link.from, usize::MAX)?)?;
                Ok(batches.into_iter().next())
            }
            HostReply::End => Ok(None),
            HostReply::Failed(message) => Err(io::Error::other(message)),
        }
    }
}

impl Drop for RemoteTableScan {
    fn drop(&mut self) {
        let is_open = {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.is_open && !state.is_done
        };
        if let (true, Some(host)) = (is_open, HOST.get()) {
            // If the host has ended, nothing needs to be closed.
            let _ =
                write_json(&mut host.lock_streams().to, &GuestRequest::Close { scan: self.number });
        }
    }
}

/// Returns the type of a column by its name; the host sends all other types as text.
fn logical_type(name: &str) -> LogicalTypeHandle {
    if let Some(item_type) = name.strip_suffix("[]") {
        return LogicalTypeHandle::list(&logical_type(item_type));
    }
    let id = match name {
        "BOOLEAN" => LogicalTypeId::Boolean,
        "TINYINT" => LogicalTypeId::Tinyint,
        "SMALLINT" => LogicalTypeId::Smallint,
        "INTEGER" => LogicalTypeId::Integer,
        "BIGINT" => LogicalTypeId::Bigint,
        "UTINYINT" => LogicalTypeId::UTinyint,
        "USMALLINT" => LogicalTypeId::USmallint,
        "UINTEGER" => LogicalTypeId::UInteger,
        "UBIGINT" => LogicalTypeId::UBigint,
        "FLOAT" => LogicalTypeId::Float,
        "DOUBLE" => LogicalTypeId::Double,
        "TIMESTAMP" => LogicalTypeId::Timestamp,
        "BLOB" => LogicalTypeId::Blob,
        _ => LogicalTypeId::Varchar,
    };
    id.into()
}

/// Returns whether a column of this type is sent unchanged.
pub(super) fn is_sent_as_is(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "FLOAT",
        "DOUBLE",
        "TIMESTAMP",
        "BLOB",
        "VARCHAR",
        "VARCHAR[]",
    ];
    NAMES.contains(&name)
}
