use std::{
    io::{self, BufReader, BufWriter, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use duckdb::{Config, Connection, arrow::array::RecordBatch};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    program::{GUEST_ARGUMENT, mark_guest_capable},
    protocol::{
        GuestRequest, SandboxJob, TableColumns, encode_batch, read_json, write_json, write_message,
    },
    query_plan::parse_planned_scans,
    remote_scan::{HostConnection, HostStreams, RemoteScan},
};
use crate::store::quote_identifier;

/// Largest number of open files of the process: its three streams, and files about the machine.
const FILES_MAX: u64 = 32;
/// Share of the process's memory that DuckDB may use. DuckDB reports its own limit; at the
/// system's limit, the process ends.
const DUCKDB_SHARE: f64 = 0.75;

/// Becomes the process that runs users' SQL, if this program was started as that process; then
/// returns its exit code. Call it first in `main`: a program that does not call it cannot start
/// itself as that process.
#[must_use]
pub fn serve_if_requested() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_none_or(|argument| argument != GUEST_ARGUMENT) {
        mark_guest_capable();
        return None;
    }
    // Failures are reported to the host, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    Some(if run_as_guest().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_as_guest() -> io::Result<()> {
    let mut link =
        HostStreams { from: BufReader::new(io::stdin()), to: BufWriter::new(io::stdout()) };
    let job: SandboxJob = read_json(&mut link.from)?;
    limit_process(&job)?;
    let SandboxJob { sql, tables, memory_bytes_max, threads, .. } = job;
    let host = HostConnection::init_global(link, tables.clone());
    let run = || run_query(host, &tables, &sql, memory_bytes_max, threads);
    let message = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {
            return write_json(&mut host.lock_streams().to, &GuestRequest::Done);
        }
        Ok(Err(GuestFailure::HostStream(error))) => return Err(error),
        Ok(Err(GuestFailure::DuckDb(error))) => match error {
            duckdb::Error::DuckDBFailure(_, Some(message)) => message,
            other => other.to_string(),
        },
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => {
                let fetch = "Failed to fetch Arrow record batch: ";
                message.strip_prefix(fetch).unwrap_or(&message).to_owned()
            }
            Err(_) => "the query could not be run".to_owned(),
        },
    };
    let is_memory = ["Out of Memory", "could not allocate", "bad_alloc", "failed to allocate"]
        .iter()
        .any(|words| message.to_lowercase().contains(&words.to_lowercase()));
    write_json(&mut host.lock_streams().to, &GuestRequest::Failed { message, is_memory })
}

/// Lowers the limits of the process before it looks at the query. They cannot be raised again.
fn limit_process(job: &SandboxJob) -> io::Result<()> {
    let lower = |resource: Resource, wanted: u64| -> io::Result<()> {
        let (_, hard) = getrlimit(resource)?;
        let limit = wanted.min(hard);
        Ok(setrlimit(resource, limit, limit)?)
    };
    lower(Resource::RLIMIT_CORE, 0)?;
    lower(Resource::RLIMIT_FSIZE, 0)?;
    lower(Resource::RLIMIT_NOFILE, FILES_MAX)?;
    lower(Resource::RLIMIT_CPU, job.cpu_s_max)?;
    lower(Resource::RLIMIT_AS, address_space_bytes().saturating_add(job.memory_bytes_max))
}

/// Address space that the program itself takes, bytes: its code and its stacks.
fn address_space_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    pages.map_or(1 << 30, |pages| pages * 4096)
}

enum GuestFailure {
    DuckDb(duckdb::Error),
    HostStream(io::Error),
}

impl From<duckdb::Error> for GuestFailure {
    fn from(error: duckdb::Error) -> Self {
        Self::DuckDb(error)
    }
}

impl From<io::Error> for GuestFailure {
    fn from(error: io::Error) -> Self {
        Self::HostStream(error)
    }
}

fn run_query(
    host: &'static HostConnection,
    tables: &[TableColumns],
    sql: &str,
    memory_bytes_max: u64,
    threads: i64,
) -> Result<(), GuestFailure> {
    let open = || -> Result<Connection, duckdb::Error> {
        let megabytes = (memory_bytes_max as f64 * DUCKDB_SHARE / 1e6) as u64;
        let config = Config::default()
            .max_memory(&format!("{}MB", megabytes.max(16)))?
            .threads(threads)?
            .with("temp_directory", "")?
            .enable_external_access(false)?;
        let connection = Connection::open_in_memory_with_flags(config)?;
        let schemas: std::collections::BTreeSet<&str> =
            tables.iter().map(|table| table.schema.as_str()).collect();
        for schema in schemas {
            connection.execute_batch(&format!("CREATE SCHEMA {}", quote_identifier(schema)))?;
        }
        Ok(connection)
    };
    // Empty tables with the same names and columns, to get DuckDB's query plan.
    let plan = open()?;
    for TableColumns { schema, name, columns } in tables {
        let column_list: Vec<String> = columns
            .iter()
            .map(|(name, sql_type)| format!("{} {sql_type}", quote_identifier(name)))
            .collect();
        plan.execute_batch(&format!(
            "CREATE TABLE {}.{} ({})",
            quote_identifier(schema),
            quote_identifier(name),
            column_list.join(", ")
        ))?;
    }
    plan.execute_batch(
        "SET disabled_optimizers = 'statistics_propagation,late_materialization'; SET lock_configuration = true;",
    )?;
    let planned: String =
        plan.query_row(&format!("EXPLAIN (FORMAT JSON) {sql}"), [], |row| row.get(1))?;
    drop(plan);
    let scans = parse_planned_scans(&planned);
    let needed = tables.iter().map(|TableColumns { schema, name, .. }| {
        scans.by_table.get(&format!("{schema}.{name}")).cloned().unwrap_or_default()
    });
    host.set_needed_rows(needed.collect());
    write_json(&mut host.lock_streams().to, &GuestRequest::Scans(scans.count))?;

    let connection = open()?;
    connection.register_table_function::<RemoteScan>("remote_scan")?;
    for (number, TableColumns { schema, name, .. }) in tables.iter().enumerate() {
        connection.execute_batch(&format!(
            "CREATE VIEW {}.{} AS SELECT * FROM remote_scan({number})",
            quote_identifier(schema),
            quote_identifier(name)
        ))?;
    }
    connection.execute_batch("SET lock_configuration = true")?;
    let mut statement = connection.prepare(sql)?;
    let answer = statement.stream_arrow([])?;
    let schema = answer.get_schema();
    let send = |batch: Option<&RecordBatch>| -> io::Result<()> {
        let bytes = encode_batch(&schema, batch)?;
        let mut link = host.lock_streams();
        write_json(&mut link.to, &GuestRequest::Answer)?;
        write_message(&mut link.to, &bytes)?;
        link.to.flush()
    };
    send(None)?;
    for batch in answer {
        send(Some(&batch))?;
    }
    Ok(())
}
