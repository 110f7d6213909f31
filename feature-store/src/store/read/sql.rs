use std::{
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use duckdb::Connection;
use tokio_util::sync::CancellationToken;

use super::table::Table;
use crate::{
    StoreError,
    query::{Query, Stop},
};

/// How often a running query is looked at.
const WATCH: Duration = Duration::from_millis(20);

/// How much a query may take.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Rows of the answer; what is beyond them is left out.
    pub rows_max: usize,
    /// Bytes of the answer; above them it is refused.
    pub bytes_max: usize,
    /// Time, after which it is interrupted.
    pub time_max: Duration,
    /// DuckDB's memory beside its cached tables, above which it is interrupted, so
    /// that the writer always has some left.
    pub memory_bytes_max: u64,
}

/// Runs a checked query in a read-only transaction, which is then rolled back: its
/// rows, and whether there were more.
pub(crate) fn sql(
    connection: &Connection,
    watcher: Connection,
    query: &Query,
    limits: SqlLimits,
    gone: &CancellationToken,
) -> Result<(Table, bool), StoreError> {
    let interrupt = connection.interrupt_handle();
    let (done, is_done) = mpsc::channel::<()>();
    let (answer, stopped) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let why = watch(&watcher, limits, gone, &is_done);
            if why.is_some() {
                interrupt.interrupt();
            }
            // An interrupt between two steps of the query is forgotten: again.
            while why.is_some() && is_done.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
            why
        });
        let answer = run(connection, query, limits.rows_max);
        drop(done);
        (answer, watch.join().unwrap_or(None))
    });
    let table = match (answer, stopped) {
        (Err(_), Some(why)) => return Err(StoreError::Stopped(why)),
        (Err(duckdb::Error::DuckDBFailure(_, Some(said))), None) => {
            return Err(StoreError::Sql(said));
        }
        (Err(error), None) => return Err(error.into()),
        (Ok(table), _) => table,
    };
    let bytes = table.bytes();
    if bytes > limits.bytes_max {
        return Err(StoreError::TooMuch {
            what: "bytes in the answer",
            found: bytes as u64,
            max: limits.bytes_max as u64,
            hint: "select fewer columns, or add a LIMIT",
        });
    }
    let has_more = table.rows() > limits.rows_max;
    Ok((table.first(limits.rows_max), has_more))
}

fn run(connection: &Connection, query: &Query, rows_max: usize) -> duckdb::Result<Table> {
    connection.execute_batch("BEGIN TRANSACTION READ ONLY")?;
    let answer = connection
        .prepare(&query.limited(rows_max + 1))
        .and_then(|mut statement| Ok(Table::of(statement.query_arrow([])?)));
    let ended = connection.execute_batch("ROLLBACK");
    let table = answer?;
    ended.map(|()| table)
}

/// Why the query must be stopped; `None` once it is done.
fn watch(
    watcher: &Connection,
    limits: SqlLimits,
    gone: &CancellationToken,
    is_done: &mpsc::Receiver<()>,
) -> Option<Stop> {
    let started = Instant::now();
    let mut memory = watcher
        .prepare(
            "SELECT coalesce(sum(memory_usage_bytes), 0)::UBIGINT FROM duckdb_memory()
             WHERE tag NOT IN ('BASE_TABLE', 'METADATA')",
        )
        .ok()?;
    while is_done.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
        if started.elapsed() > limits.time_max {
            return Some(Stop::Time);
        }
        if gone.is_cancelled() {
            return Some(Stop::Nobody);
        }
        let used = memory.query_row([], |row| row.get::<_, u64>(0));
        if used.is_ok_and(|used| used > limits.memory_bytes_max) {
            return Some(Stop::Memory);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Settings, query::tests::HOSTILE, store};

    const LIMITS: SqlLimits = SqlLimits {
        rows_max: 3,
        bytes_max: 1_000_000,
        time_max: Duration::from_millis(300),
        memory_bytes_max: 200_000_000,
    };

    fn file() -> (tempfile::TempDir, Connection) {
        let dir = tempfile::TempDir::new().unwrap();
        let Settings { store: mut settings, lake, .. } = Settings::default();
        settings.path = dir.path().join("x.duckdb");
        let connection = store::open(&settings, &lake).unwrap();
        connection.execute_batch("INSERT INTO meta.metrics VALUES (0, 'temperature')").unwrap();
        (dir, connection)
    }

    fn ask(connection: &Connection, query: &Query) -> Result<(Table, bool), StoreError> {
        let [own, watcher] = [(); 2].map(|()| connection.try_clone().unwrap());
        sql(&own, watcher, query, LIMITS, &CancellationToken::new())
    }

    /// The walls behind the first: were a statement ever to pass the check, it would
    /// change nothing and read no file.
    #[test]
    fn what_is_hostile_does_no_harm_even_unchecked() {
        let (dir, connection) = file();
        let secret = dir.path().join("secret.csv");
        std::fs::write(&secret, "column0\nhunter2\n").unwrap();
        let of_file =
            ["SELECT * FROM '{}'", "SELECT * FROM read_csv('{}')", "SELECT * FROM read_text('{}')"];
        for text in of_file.map(|text| text.replace("{}", secret.to_str().unwrap())) {
            let answer = ask(&connection, &Query::unchecked(&text));
            assert!(answer.is_err(), "{text}: {answer:?}");
        }
        let state = |connection: &Connection| -> (String, u64, u64) {
            connection
                .query_row(
                    "SELECT (SELECT string_agg(position || metric) FROM meta.metrics),
                            (SELECT count(*) FROM duckdb_tables()),
                            (SELECT count(*) FROM duckdb_databases())",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .unwrap()
        };
        let before = state(&connection);
        // Semicolons are the scanner's to refuse, and so are functions that make large
        // values of small ones: DuckDB cannot be interrupted within one call.
        let is_here = |text: &&&str| {
            !text.contains(['\0', ';'])
                && !text.contains("1000000000")
                && !text.contains("RECURSIVE")
        };
        for text in HOSTILE.iter().filter(is_here) {
            let _ = ask(&connection, &Query::unchecked(text));
        }
        assert_eq!(state(&connection), before);
        for text in ["INSERT INTO meta.metrics VALUES (1, 'x')", "DROP TABLE meta.metrics"] {
            let own = connection.try_clone().unwrap();
            own.execute_batch("BEGIN TRANSACTION READ ONLY").unwrap();
            assert!(own.execute_batch(text).is_err(), "{text}");
            own.execute_batch("ROLLBACK").unwrap();
        }
    }

    #[test]
    fn rows_are_limited_in_their_order_and_time_and_bytes_too() {
        let (_dir, connection) = file();
        let asked = |text: &str| ask(&connection, &Query::checked(text).unwrap());
        let (table, has_more) =
            asked("SELECT range AS n FROM range(1000) ORDER BY n DESC").unwrap();
        let numbers = table.batches[0].column(0).clone();
        assert_eq!((table.rows(), has_more), (3, true));
        assert_eq!(format!("{numbers:?}").matches("99").count(), 3, "{numbers:?}");
        assert!(!asked("SELECT 1").unwrap().1);
        // Rows stream through it, so that time runs out and not memory.
        let slow = "SELECT count(*) FROM range(100000000000) \
                    WHERE (range % 1000003) * (range % 1000033) % 7 = 1";
        assert!(matches!(asked(slow), Err(StoreError::Stopped(Stop::Time))));
        // The connection's database is as it was.
        assert_eq!(asked("SELECT metric FROM meta.metrics").unwrap().0.rows(), 1);
        let error = asked("SELECT nothing FROM meta.metrics").unwrap_err().to_string();
        assert!(error.contains("nothing"), "{error}");
    }

    #[test]
    fn much_memory_stops_a_query_and_leaves_the_writer_some() {
        let (_dir, connection) = file();
        let hungry = "SELECT count(*) FROM (SELECT DISTINCT range, range * 7 AS b, hash(range) AS c FROM range(1000000000))";
        let answer = ask(&connection, &Query::unchecked(hungry));
        assert!(matches!(answer, Err(StoreError::Stopped(_))), "{answer:?}");
        connection.execute_batch("INSERT INTO meta.metrics VALUES (1, 'humidity')").unwrap();
    }

    #[test]
    fn nobody_waiting_stops_a_query() {
        let (_dir, connection) = file();
        let [own, watcher] = [(); 2].map(|()| connection.try_clone().unwrap());
        let gone = CancellationToken::new();
        gone.cancel();
        let slow = Query::checked("SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * b.range) % 7 = 1").unwrap();
        let answer = sql(&own, watcher, &slow, LIMITS, &gone);
        assert!(matches!(answer, Err(StoreError::Stopped(Stop::Nobody))));
    }
}
