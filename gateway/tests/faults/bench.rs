//! What scenarios share: two Kafkas, a folder, the table of results.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use eventlog::Settings;
use tempfile::TempDir;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OnceCell};

use super::{kafka::Kafka, proxy::Proxy, skip::Skip, table::Row};

/// One run of the bench.
pub(crate) struct Bench {
    dir: TempDir,
    steady: OnceCell<Result<Kafka, Failed>>,
    frail: OnceCell<Result<AsyncMutex<Frail>, Failed>>,
    rows: Mutex<Vec<Row>>,
}

/// A Kafka that scenarios disturb, one at a time, behind a proxy; each leaves
/// it as it was.
pub(crate) struct Frail {
    pub(crate) kafka: Kafka,
    pub(crate) line: Proxy,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::Builder::new().prefix("faults-").tempdir()?,
            steady: OnceCell::new(),
            frail: OnceCell::new(),
            rows: Mutex::default(),
        })
    }

    /// The Kafka that stays up; started when it is first asked for.
    pub(crate) async fn steady(&self) -> Result<Settings> {
        let dir = self.dir.path().join("steady");
        let start = async || blocking(move || Kafka::start(&dir, None)).await.map_err(Failed::new);
        match self.steady.get_or_init(start).await {
            Ok(kafka) => Ok(Settings::kafka(&kafka.brokers())),
            Err(failed) => failed.again(),
        }
    }

    /// The Kafka that may be disturbed, for one scenario alone.
    pub(crate) async fn frail(&self) -> Result<MutexGuard<'_, Frail>> {
        let dir = self.dir.path().join("frail");
        let start = async || {
            let line = Proxy::start(0, None).await;
            let advertised = line.port;
            let kafka = blocking(move || Kafka::start(&dir, Some(advertised))).await;
            let kafka = kafka.map_err(Failed::new)?;
            line.lead_to(kafka.port);
            Ok(AsyncMutex::new(Frail { kafka, line }))
        };
        match self.frail.get_or_init(start).await {
            Ok(frail) => {
                let frail = frail.lock().await;
                frail.mend()?;
                Ok(frail)
            }
            Err(failed) => failed.again(),
        }
    }

    pub(crate) fn note(&self, row: Row) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what runs, and removes what it wrote: a static is never dropped.
    pub(crate) fn close(&self) {
        if let Some(Ok(kafka)) = self.steady.get() {
            kafka.kill();
        }
        if let Some(Ok(frail)) = self.frail.get() {
            frail.blocking_lock().kafka.kill();
        }
        // What is left there is in the system's folder for what is temporary.
        let _ = std::fs::remove_dir_all(self.dir.path());
    }
}

impl Frail {
    /// Undoes what a scenario that failed half-way left.
    fn mend(&self) -> Result<()> {
        self.line.heal();
        self.kafka.thaw();
        if self.kafka.is_running() { Ok(()) } else { self.kafka.restart() }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::kafka(&self.kafka.brokers())
    }
}

/// Why there is no Kafka, for every scenario that needs one.
struct Failed {
    what: String,
    /// A tool is missing; else it is broken.
    is_missing: bool,
}

impl Failed {
    fn new(error: anyhow::Error) -> Self {
        Self { what: format!("{error:#}"), is_missing: error.is::<Skip>() }
    }

    fn again<T>(&self) -> Result<T> {
        if self.is_missing { Err(Skip(self.what.clone()).into()) } else { bail!("{}", self.what) }
    }
}

/// Runs what blocks beside the tasks that must not.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
