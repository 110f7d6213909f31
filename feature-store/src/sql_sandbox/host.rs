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
    program::{GUEST_ARGUMENT, guest_program},
    protocol::{Job, Reply, Request, decode, read_json, read_message, write_json, write_message},
    tables::{Scanned, Scans, read_tables},
};
use crate::{
    StoreError,
    lake::LakeReader,
    query::{Query, Stop},
    store::{Readers, Table},
};

/// How often a running query is looked at.
const WATCH: Duration = Duration::from_millis(20);
/// Threads of the guest's DuckDB.
const THREADS: u64 = 2;
/// Tables that one query may read, each as often as it is named.
const SCANS_MAX: usize = 64;

/// How much a query may take.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Rows of the answer; what is beyond them is left out.
    pub rows_max: usize,
    /// Bytes of the answer; above them it is refused.
    pub bytes_max: usize,
    /// Time, after which its process is ended.
    pub time_max: Duration,
    /// All that its process may take of memory, beyond the program itself.
    pub memory_bytes_max: u64,
}

/// Runs a checked query in a process of its own: its rows, and whether there were more.
pub(crate) fn run(
    readers: &Readers,
    lake: &LakeReader,
    query: &Query,
    limits: SqlLimits,
    gone: &CancellationToken,
) -> Result<(Table, bool), StoreError> {
    let tables = read_tables(&readers.connection()?)?;
    let job = Job {
        sql: query.limited(limits.rows_max.saturating_add(1)),
        tables: tables.clone(),
        memory_bytes_max: limits.memory_bytes_max,
        cpu_s_max: THREADS * (limits.time_max.as_secs() + 1),
        threads: THREADS as i64,
    };
    let mut child = start()?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(StoreError::SqlProcess("it has no streams".to_owned()));
    };
    let child = Mutex::new(child);
    let interrupts: Arc<Mutex<Vec<Arc<InterruptHandle>>>> = Arc::default();
    let scans = Scans::new(readers, lake, &tables, interrupts.clone());
    let (done, is_done) = mpsc::channel::<()>();
    let (served, stopped) = std::thread::scope(|scope| {
        let child = &child;
        let watch = scope.spawn(move || {
            let why = watch(limits.time_max, gone, &is_done);
            if why.is_some() {
                // Ended at once, and with it whatever the host waits for.
                let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
                let interrupts = interrupts.lock().unwrap_or_else(PoisonError::into_inner);
                interrupts.iter().for_each(|scan| scan.interrupt());
            }
            why
        });
        let mut serving = Serving {
            from: BufReader::new(from),
            to: BufWriter::new(to),
            scans,
            limits,
            answer: Answer::default(),
        };
        let served = serving.serve(&job);
        drop(done);
        let stopped = watch.join().unwrap_or(None);
        (served.map(|()| serving.answer), stopped)
    });
    let mut child = child.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut status = child.try_wait();
    if matches!(served, Err(Ended::Silent(_))) && stopped.is_none() {
        // It is ending: how tells why.
        let deadline = Instant::now() + Duration::from_secs(1);
        while matches!(status, Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(WATCH);
            status = child.try_wait();
        }
    }
    if matches!(status, Ok(None) | Err(_)) {
        // A guest that has said what it has to say needs no longer be there.
        let _ = child.kill();
        status = child.wait().map(Some);
    }
    let answer = match (served, stopped) {
        (Ok(answer), None) => answer,
        (_, Some(why)) => return Err(StoreError::Stopped(why)),
        (Err(Ended::Refused(error)), None) => return Err(error),
        (Err(Ended::Silent(error)), None) => {
            return Err(why_silent(&error, status.ok().flatten().as_ref()));
        }
    };
    let Some(schema) = answer.schema else {
        return Err(StoreError::SqlProcess("it gave no answer".to_owned()));
    };
    let table = Table { schema, batches: answer.batches };
    let has_more = table.rows() > limits.rows_max;
    Ok((table.first(limits.rows_max), has_more))
}

fn start() -> Result<Child, StoreError> {
    let program = guest_program().ok_or_else(|| {
        StoreError::SqlProcess("no program was found that it could run in".to_owned())
    })?;
    let started = Command::new(&program)
        .arg(GUEST_ARGUMENT)
        .env_clear()
        // One pool of memory: each further one would take its share of the address space.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    started.map_err(|error| StoreError::SqlProcess(format!("{}: {error}", program.display())))
}

/// Why the query must be stopped; `None` once it is done.
fn watch(
    time_max: Duration,
    gone: &CancellationToken,
    is_done: &mpsc::Receiver<()>,
) -> Option<Stop> {
    let started = Instant::now();
    loop {
        if gone.is_cancelled() {
            return Some(Stop::Nobody);
        }
        let left = time_max.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Some(Stop::Time);
        }
        if is_done.recv_timeout(WATCH.min(left)) != Err(RecvTimeoutError::Timeout) {
            return None;
        }
    }
}

/// A guest that ended without a word: the system ended it at one of its limits.
fn why_silent(error: &io::Error, status: Option<&std::process::ExitStatus>) -> StoreError {
    use std::os::unix::process::ExitStatusExt;
    match status.and_then(ExitStatusExt::signal) {
        Some(nix::libc::SIGXCPU) => StoreError::Stopped(Stop::Time),
        // Rust and C++ end where there is no memory; DuckDB's checks of its own state follow.
        Some(nix::libc::SIGABRT | nix::libc::SIGSEGV | nix::libc::SIGBUS | nix::libc::SIGILL) => {
            StoreError::Stopped(Stop::Memory)
        }
        _ => StoreError::SqlProcess(error.to_string()),
    }
}

/// Why serving has ended.
enum Ended {
    /// The guest is silent.
    Silent(io::Error),
    Refused(StoreError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Silent(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

#[derive(Default)]
struct Answer {
    schema: Option<duckdb::arrow::datatypes::SchemaRef>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

struct Serving<'a, R, W: io::Write> {
    from: R,
    to: BufWriter<W>,
    scans: Scans<'a>,
    limits: SqlLimits,
    answer: Answer,
}

impl<R: io::Read, W: io::Write> Serving<'_, R, W> {
    /// Does what the guest asks, until it is done.
    fn serve(&mut self, job: &Job) -> Result<(), Ended> {
        write_json(&mut self.to, job)?;
        loop {
            match read_json(&mut self.from)? {
                Request::Scans(count) if count > SCANS_MAX => {
                    return Err(StoreError::TooMuch {
                        what: "tables in one query",
                        found: count as u64,
                        max: SCANS_MAX as u64,
                        hint: "name each table once",
                    }
                    .into());
                }
                Request::Scans(count) => self.scans.prepare(count)?,
                Request::Open { scan, table, columns, needed } => {
                    self.scans.open(scan, table, &columns, &needed)?;
                }
                Request::Next { scan } => match self.scans.next(scan) {
                    Scanned::Batch(bytes) => {
                        write_json(&mut self.to, &Reply::Batch)?;
                        write_message(&mut self.to, &bytes)?;
                    }
                    Scanned::End => write_json(&mut self.to, &Reply::End)?,
                    Scanned::Failed(message) => {
                        write_json(&mut self.to, &Reply::Failed(message))?;
                    }
                },
                Request::Close { scan } => self.scans.close(scan),
                Request::Failed { is_memory: true, .. } => {
                    return Err(StoreError::Stopped(Stop::Memory).into());
                }
                Request::Failed { message, .. } => return Err(StoreError::Sql(message).into()),
                Request::Answer => self.take_answer()?,
                Request::Done => return Ok(()),
            }
        }
    }

    fn take_answer(&mut self) -> Result<(), Ended> {
        let too_large = |found: usize| StoreError::TooMuch {
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
        let (schema, batches) = decode(&message)?;
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
