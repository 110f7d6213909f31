use std::{
    io::{self, BufReader, BufWriter},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use duckdb::{InterruptHandle, arrow::array::RecordBatch};
use tokio_util::sync::CancellationToken;

use super::{
    program::{GUEST_ARGUMENT, find_guest_program},
    protocol::{
        GuestRequest, HostReply, SandboxJob, decode_batches, read_json, read_message, write_json,
        write_message,
    },
    table_scans::{ScanOutput, TableScans, read_tables},
};
use crate::{
    StoreError,
    lake::LakeReader,
    sql_query::{QueryStopReason, SqlQuery},
    store::{ArrowTable, ReadConnections},
};

/// Interval of checks on a running query.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Threads of the guest's DuckDB.
const GUEST_THREADS: u64 = 2;
/// Largest number of tables in one query; a table counts as often as it is named.
const SCANS_MAX: usize = 64;

/// Limits of a query.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Rows of the answer; further rows are left out.
    pub rows_max: usize,
    /// Size of the answer, bytes; a larger one is refused.
    pub bytes_max: usize,
    /// Time after which the process is killed.
    pub time_max: Duration,
    /// Memory of the process beyond the program itself, bytes.
    pub memory_bytes_max: u64,
}

/// Runs a checked query in a separate process. Returns its rows, and whether there were more.
pub(crate) fn run_sandboxed(
    readers: &ReadConnections,
    lake: &LakeReader,
    query: &SqlQuery,
    limits: SqlLimits,
    gone: &CancellationToken,
) -> Result<(ArrowTable, bool), StoreError> {
    let tables = read_tables(&readers.new_connection()?)?;
    let job = SandboxJob {
        sql: query.limited_sql(limits.rows_max.saturating_add(1)),
        tables: tables.clone(),
        memory_bytes_max: limits.memory_bytes_max,
        cpu_s_max: GUEST_THREADS * (limits.time_max.as_secs() + 1),
        threads: GUEST_THREADS as i64,
    };
    let mut child = spawn_guest()?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(StoreError::SqlProcess("it has no streams".to_owned()));
    };
    let shared_child = Mutex::new(child);
    let interrupts: Arc<Mutex<Vec<Arc<InterruptHandle>>>> = Arc::default();
    let scans = TableScans::new(readers, lake, &tables, interrupts.clone());
    let (done, is_done) = mpsc::channel::<()>();
    let (served, stopped) = std::thread::scope(|scope| {
        let child = &shared_child;
        let watch = scope.spawn(move || {
            let why = wait_for_stop(limits.time_max, gone, &is_done);
            if why.is_some() {
                // Kill the guest at once, and interrupt the scans that the host may be waiting
                // for.
                let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
                let running_scans = interrupts.lock().unwrap_or_else(PoisonError::into_inner);
                running_scans.iter().for_each(|scan| scan.interrupt());
            }
            why
        });
        let mut serving = GuestSession {
            from: BufReader::new(from),
            to: BufWriter::new(to),
            scans,
            limits,
            answer: GuestAnswer::default(),
        };
        let served = serving.serve_guest(&job);
        drop(done);
        let stopped = watch.join().unwrap_or(None);
        (served.map(|()| serving.answer), stopped)
    });
    let mut child = shared_child.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut status = child.try_wait();
    if matches!(served, Err(ServeError::GuestSilent(_))) && stopped.is_none() {
        // The guest is ending, and its exit status has the reason.
        let deadline = Instant::now() + Duration::from_secs(1);
        while matches!(status, Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
            status = child.try_wait();
        }
    }
    if matches!(status, Ok(None) | Err(_)) {
        // A guest that has sent everything is not needed any more.
        let _ = child.kill();
        status = child.wait().map(Some);
    }
    let answer = match (served, stopped) {
        (Ok(answer), None) => answer,
        (_, Some(why)) => return Err(StoreError::Stopped(why)),
        (Err(ServeError::Refused(error)), None) => return Err(error),
        (Err(ServeError::GuestSilent(error)), None) => {
            return Err(silent_guest_error(&error, status.ok().flatten().as_ref()));
        }
    };
    let Some(schema) = answer.schema else {
        return Err(StoreError::SqlProcess("it gave no answer".to_owned()));
    };
    let table = ArrowTable { schema, batches: answer.batches };
    let has_more = table.row_count() > limits.rows_max;
    Ok((table.take_rows(limits.rows_max), has_more))
}

fn spawn_guest() -> Result<Child, StoreError> {
    let program = find_guest_program()
        .ok_or_else(|| StoreError::SqlProcess("no program was found to run it".to_owned()))?;
    let started = Command::new(&program)
        .arg(GUEST_ARGUMENT)
        .env_clear()
        // A single memory arena, as each further one would take its share of the address space:
        // in the C library, and in jemalloc, which prebuilt DuckDBs contain. The latter keeps freed
        // address space and reserves more in growing steps unless it is told not to.
        .env("MALLOC_ARENA_MAX", "1")
        .env("DUCKDB_JE_MALLOC_CONF", "retain:false,narenas:1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    started.map_err(|error| StoreError::SqlProcess(format!("{}: {error}", program.display())))
}

/// Waits until the query must be stopped, and returns why; `None` once it is done.
fn wait_for_stop(
    time_max: Duration,
    gone: &CancellationToken,
    is_done: &mpsc::Receiver<()>,
) -> Option<QueryStopReason> {
    let started = Instant::now();
    loop {
        if gone.is_cancelled() {
            return Some(QueryStopReason::ClientGone);
        }
        let left = time_max.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Some(QueryStopReason::TimeLimit);
        }
        if is_done.recv_timeout(POLL_INTERVAL.min(left)) != Err(RecvTimeoutError::Timeout) {
            return None;
        }
    }
}

/// Interprets a guest that ended without a message: the system ended it at one of its limits.
fn silent_guest_error(error: &io::Error, status: Option<&std::process::ExitStatus>) -> StoreError {
    use std::os::unix::process::ExitStatusExt;
    match status.and_then(ExitStatusExt::signal) {
        Some(nix::libc::SIGXCPU) => StoreError::Stopped(QueryStopReason::TimeLimit),
        // Rust and C++ abort when memory runs out; failed checks of DuckDB's own state may
        // follow.
        Some(nix::libc::SIGABRT | nix::libc::SIGSEGV | nix::libc::SIGBUS | nix::libc::SIGILL) => {
            StoreError::Stopped(QueryStopReason::MemoryLimit)
        }
        _ => StoreError::SqlProcess(error.to_string()),
    }
}

/// Reason why serving the guest has ended.
enum ServeError {
    /// The guest's streams failed.
    GuestSilent(io::Error),
    Refused(StoreError),
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        Self::GuestSilent(error)
    }
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

#[derive(Default)]
struct GuestAnswer {
    schema: Option<duckdb::arrow::datatypes::SchemaRef>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

struct GuestSession<'a, R, W: io::Write> {
    from: R,
    to: BufWriter<W>,
    scans: TableScans<'a>,
    limits: SqlLimits,
    answer: GuestAnswer,
}

impl<R: io::Read, W: io::Write> GuestSession<'_, R, W> {
    /// Serves the guest's requests until it is done.
    fn serve_guest(&mut self, job: &SandboxJob) -> Result<(), ServeError> {
        write_json(&mut self.to, job)?;
        loop {
            match read_json(&mut self.from)? {
                GuestRequest::Scans(count) if count > SCANS_MAX => {
                    return Err(StoreError::LimitExceeded {
                        what: "tables in one query",
                        found: count as u64,
                        max: SCANS_MAX as u64,
                        hint: "name each table once",
                    }
                    .into());
                }
                GuestRequest::Scans(count) => self.scans.prepare_connections(count)?,
                GuestRequest::Open { scan, table, columns, needed } => {
                    self.scans.open_scan(scan, table, &columns, &needed)?;
                }
                GuestRequest::Next { scan } => match self.scans.next_output(scan) {
                    ScanOutput::Batch(bytes) => {
                        write_json(&mut self.to, &HostReply::Batch)?;
                        write_message(&mut self.to, &bytes)?;
                    }
                    ScanOutput::End => write_json(&mut self.to, &HostReply::End)?,
                    ScanOutput::Failed(message) => {
                        write_json(&mut self.to, &HostReply::Failed(message))?;
                    }
                },
                GuestRequest::Close { scan } => self.scans.close_scan(scan),
                GuestRequest::Failed { is_memory: true, .. } => {
                    return Err(StoreError::Stopped(QueryStopReason::MemoryLimit).into());
                }
                GuestRequest::Failed { message, .. } => return Err(StoreError::Sql(message).into()),
                GuestRequest::Answer => self.receive_answer()?,
                GuestRequest::Done => return Ok(()),
            }
        }
    }

    fn receive_answer(&mut self) -> Result<(), ServeError> {
        let too_large = |found: usize| StoreError::LimitExceeded {
            what: "bytes in the answer",
            found: found as u64,
            max: self.limits.bytes_max as u64,
            hint: "select fewer columns, or add a LIMIT",
        };
        let message = match read_message(&mut self.from, self.limits.bytes_max) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(too_large(self.limits.bytes_max + 1).into());
            }
            message => message?,
        };
        let (schema, batches) = decode_batches(&message)?;
        self.answer.schema = Some(schema);
        for batch in batches {
            self.answer.bytes += batch.get_array_memory_size();
            self.answer.batches.push(batch);
        }
        if self.answer.bytes > self.limits.bytes_max {
            return Err(too_large(self.answer.bytes).into());
        }
        Ok(())
    }
}
