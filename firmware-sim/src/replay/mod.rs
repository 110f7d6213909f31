//! Recorded data, played again in the order of its own time.

mod jsonl;
mod keti;
mod merge;
mod wide_csv;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::ValueEnum;
use serde::Serialize;
use telemetry::Source;
use tokio_util::sync::CancellationToken;

use crate::{
    Counts, Progress, Settings, SimError, connection::Connection, simulation::Pace, tally::Tally,
};

/// How recorded files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// `<room>/<sensor>.csv` or `KETI/<room>/<sensor>.csv`, lines `epoch seconds, value`.
    Keti,
    /// One or more CSV files with a time column; `replay.columns` maps the others to topics.
    WideCsv,
    /// Lines `{"zone","device","metric","ts","value"}`.
    Jsonl,
}

/// What to play.
#[derive(Clone, Debug)]
pub struct Request {
    /// A folder, or a file.
    pub path: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// Only these rooms (`keti`); all where there are none.
    pub rooms: Vec<String>,
    /// This time and later, UTC ms.
    pub from_ms: Option<i64>,
    /// Before this time, UTC ms.
    pub to_ms: Option<i64>,
    /// At most this many messages.
    pub max: Option<u64>,
}

/// What was played.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// What was published and acknowledged.
    pub counts: Counts,
    /// Rows that could not be read.
    pub rejects: u64,
    /// The first of them: place and reason.
    pub rejects_shown: Vec<String>,
    /// Event time of the first message, UTC ms.
    pub first_ms: Option<i64>,
    /// Event time of the last message, UTC ms.
    pub last_ms: Option<i64>,
}

/// One recorded value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) event_ms: i64,
    /// With the metric as its last level.
    pub(crate) topic: Arc<str>,
    pub(crate) value: f64,
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reject {
    /// File and line.
    pub(crate) place: String,
    pub(crate) what: String,
}

/// The rows of one file.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<Row, Reject>> + Send>;

/// Publishes recorded data over one connection, in the order of time; waits
/// for the last PUBACK.
///
/// # Errors
/// [`SimError`]: a setting, nothing to play, a file that cannot be opened. A
/// row that cannot be read is counted and named instead.
pub async fn replay(
    settings: &Settings,
    request: &Request,
    observe: impl Fn(Progress),
    shutdown: &CancellationToken,
) -> Result<Summary, SimError> {
    settings.check()?;
    let files = match request.layout {
        Layout::Keti => keti::open(&request.path, &settings.replay.site, &request.rooms)?,
        Layout::WideCsv => wide_csv::open(&request.path, &settings.replay)?,
        Layout::Jsonl => jsonl::open(&request.path)?,
    };
    let tally = Arc::new(Tally::default());
    let unacknowledged_max = u32::from(settings.broker.inflight_max);
    let client_id = format!("{}-replay", settings.broker.client_prefix);
    let connection = Connection::open(
        &settings.broker,
        &client_id,
        &format!("status/{client_id}"),
        unacknowledged_max,
        tally.clone(),
    )?;
    let mut summary = Summary::default();
    let mut pace = None;
    let shown_max = settings.replay.rejects_shown;
    let end_ms = request.to_ms.unwrap_or(i64::MAX);
    for row in merge::in_order(files) {
        if shutdown.is_cancelled()
            || request.max.is_some_and(|max| tally.counts().messages_published >= max)
        {
            break;
        }
        let row = match row {
            Ok(row) => row,
            Err(reject) => {
                summary.rejects += 1;
                if summary.rejects_shown.len() < shown_max {
                    tracing::warn!(place = reject.place, what = reject.what, "row left out");
                    summary.rejects_shown.push(format!("{}: {}", reject.place, reject.what));
                }
                continue;
            }
        };
        if row.event_ms < request.from_ms.unwrap_or(i64::MIN) {
            continue;
        }
        if row.event_ms >= end_ms {
            break;
        }
        let Row { event_ms, topic, value } = row;
        let first_ms = *summary.first_ms.get_or_insert(event_ms);
        summary.last_ms = Some(event_ms);
        let pace = pace.get_or_insert_with(|| {
            Pace::start(settings.replay.rate_max, settings.replay.speed_max, first_ms)
        });
        connection.send(topic.to_string(), payload(event_ms, value), 1).await;
        let counts = tally.counts();
        if counts.messages_published.is_multiple_of(1000) {
            observe(Progress {
                counts,
                at_ms: event_ms,
                share: share(request, first_ms, event_ms),
            });
        }
        pace.wait(counts.messages_published, event_ms).await;
    }
    tokio::select! {
        () = connection.settle() => {}
        () = shutdown.cancelled() => {}
    }
    connection.close().await;
    summary.counts = tally.counts();
    Ok(summary)
}

/// A recorded value as a message. Neither boot nor sequence number: recorded
/// data has none, and made-up ones would tell two parts of it apart wrongly.
fn payload(event_ms: i64, value: f64) -> Vec<u8> {
    let body = serde_json::json!({
        "value": value, "ts": event_ms, "source": Source::Replay.as_str(), "arrival": event_ms,
    });
    body.to_string().into_bytes()
}

fn share(request: &Request, first_ms: i64, at_ms: i64) -> f64 {
    let of_time =
        request.to_ms.map(|to_ms| (at_ms - first_ms) as f64 / (to_ms - first_ms).max(1) as f64);
    of_time.unwrap_or(0.0).clamp(0.0, 1.0)
}

/// The files of a folder with this extension, or the file itself, by name.
pub(crate) fn files(path: &Path, extension: &str) -> Result<Vec<PathBuf>, SimError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let io = |source| SimError::Io { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|own| own == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Lines of a text file with their places; a line that is not UTF-8 is a
/// reject like any other.
pub(crate) fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = (String, Result<String, String>)> + Send + use<>, SimError> {
    use std::io::{BufRead, BufReader};
    let file = std::fs::File::open(path)
        .map_err(|source| SimError::Io { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut number = 0_u64;
    Ok(std::iter::from_fn(move || {
        let mut bytes = Vec::new();
        number += 1;
        let place = format!("{name}:{number}");
        match reader.read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => Some((place, String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned()))),
            // A disk that fails would fail for ever: the file ends here.
            Err(error) => {
                tracing::error!(place, %error, "the rest of the file cannot be read");
                None
            }
        }
    }))
}

/// Counts by kind, for tests.
#[cfg(test)]
pub(crate) fn split(rows: Rows) -> (Vec<Row>, Vec<Reject>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Ok(row) => good.push(row),
            Err(reject) => bad.push(reject),
        }
    }
    (good, bad)
}
