//! The resources that scenarios share: two Kafkas, a folder, the table of results.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use eventlog::EventLogConfig;
use tempfile::TempDir;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OnceCell};

use super::{
    fault_proxy::FaultProxy, kafka::KafkaProcess, result_table::ResultRow, skip::MissingTool,
};

/// One run of the bench.
pub(crate) struct FaultBench {
    dir: TempDir,
    steady: OnceCell<Result<KafkaProcess, KafkaUnavailable>>,
    frail: OnceCell<Result<AsyncMutex<DisturbedKafka>, KafkaUnavailable>>,
    rows: Mutex<Vec<ResultRow>>,
}

/// A Kafka behind a proxy that scenarios disturb, one at a time. Each restores it.
pub(crate) struct DisturbedKafka {
    pub(crate) kafka: KafkaProcess,
    pub(crate) line: FaultProxy,
}

impl FaultBench {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::Builder::new().prefix("faults-").tempdir()?,
            steady: OnceCell::new(),
            frail: OnceCell::new(),
            rows: Mutex::default(),
        })
    }

    /// Returns the Kafka that stays up. It is started at first use.
    pub(crate) async fn start_steady(&self) -> Result<EventLogConfig> {
        let dir = self.dir.path().join("steady");
        let start = async || {
            run_blocking(move || KafkaProcess::start_kafka(&dir, None))
                .await
                .map_err(KafkaUnavailable::new)
        };
        match self.steady.get_or_init(start).await {
            Ok(kafka) => Ok(EventLogConfig::for_kafka(&kafka.broker_address())),
            Err(failed) => failed.to_error(),
        }
    }

    /// Returns the Kafka that may be disturbed, for one scenario alone.
    pub(crate) async fn lock_disturbed(&self) -> Result<MutexGuard<'_, DisturbedKafka>> {
        let dir = self.dir.path().join("frail");
        let start = async || {
            let line = FaultProxy::start_proxy(0, None).await;
            let advertised = line.port;
            let kafka =
                run_blocking(move || KafkaProcess::start_kafka(&dir, Some(advertised))).await;
            let kafka = kafka.map_err(KafkaUnavailable::new)?;
            line.set_upstream(kafka.port);
            Ok(AsyncMutex::new(DisturbedKafka { kafka, line }))
        };
        match self.frail.get_or_init(start).await {
            Ok(frail) => {
                let frail = frail.lock().await;
                frail.restore()?;
                Ok(frail)
            }
            Err(failed) => failed.to_error(),
        }
    }

    pub(crate) fn add_row(&self, row: ResultRow) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    pub(crate) fn rows(&self) -> Vec<ResultRow> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the running programs and removes their files, because a static is never dropped.
    pub(crate) fn kill_all(&self) {
        if let Some(Ok(kafka)) = self.steady.get() {
            kafka.kill();
        }
        if let Some(Ok(frail)) = self.frail.get() {
            frail.blocking_lock().kafka.kill();
        }
        // The rest is in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(self.dir.path());
    }
}

impl DisturbedKafka {
    /// Undoes the fault of a scenario that failed halfway.
    fn restore(&self) -> Result<()> {
        self.line.restore_line();
        self.kafka.thaw();
        if self.kafka.is_running() { Ok(()) } else { self.kafka.restart() }
    }

    pub(crate) fn log_settings(&self) -> EventLogConfig {
        EventLogConfig::for_kafka(&self.kafka.broker_address())
    }
}

/// Why there is no Kafka, for every scenario that needs one.
struct KafkaUnavailable {
    what: String,
    /// Whether a tool is missing. Otherwise Kafka is broken.
    is_missing: bool,
}

impl KafkaUnavailable {
    fn new(error: anyhow::Error) -> Self {
        Self { what: format!("{error:#}"), is_missing: error.is::<MissingTool>() }
    }

    fn to_error<T>(&self) -> Result<T> {
        if self.is_missing {
            Err(MissingTool(self.what.clone()).into())
        } else {
            bail!("{}", self.what)
        }
    }
}

/// Runs blocking work outside of the async tasks.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
