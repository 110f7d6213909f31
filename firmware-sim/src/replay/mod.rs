//! The replay of recorded data in the order of its own time.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

pub use recordings::RecordingLayout;
use recordings::{RecordedRow, RecordingOptions, SensorKey, merge};
use serde::Serialize;
use telemetry::ReportSource;
use tokio_util::sync::CancellationToken;

use crate::{
    PublishCounts, SimError, SimulationProgress, SimulatorConfig, connection::DeviceConnection,
    message::device_topic, publish_counts::PublishTally, simulation::RatePacer,
};

/// The recording to replay.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// A folder or a file.
    pub path: PathBuf,
    /// The layout of the recorded files.
    pub layout: RecordingLayout,
    /// Only these zones; all if empty.
    pub rooms: Vec<String>,
    /// Start time, UTC ms.
    pub from_ms: Option<i64>,
    /// End time, UTC ms, which is excluded.
    pub to_ms: Option<i64>,
    /// Largest number of messages.
    pub max: Option<u64>,
}

/// The result of a replay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplaySummary {
    /// Number of published and acknowledged messages.
    pub counts: PublishCounts,
    /// Number of rows that could not be read.
    pub rejects: u64,
    /// The first rejected rows: place and reason.
    pub rejects_shown: Vec<String>,
    /// Event time of the first message, UTC ms.
    pub first_ms: Option<i64>,
    /// Event time of the last message, UTC ms.
    pub last_ms: Option<i64>,
}

/// Publishes recorded data over one connection, in the order of time. Waits for the last PUBACK.
///
/// # Errors
/// [`SimError`]: a setting, an empty recording, a file that cannot be opened. A row that cannot
/// be read is counted and logged instead.
pub async fn replay_recording(
    settings: &SimulatorConfig,
    request: &ReplayRequest,
    observe: impl Fn(SimulationProgress),
    shutdown: &CancellationToken,
) -> Result<ReplaySummary, SimError> {
    settings.check_values()?;
    let options = RecordingOptions {
        site: settings.replay.site.clone(),
        zones: request.rooms.clone(),
        columns: settings.replay.columns.clone(),
        time_column: settings.replay.wide_csv.time_column.clone(),
        delimiter: settings.replay.wide_csv.delimiter.as_bytes().first().copied().unwrap_or(b','),
        // The receiving gateway checks names by the metrics of its site.
        takes_unknown_metrics: true,
        ..RecordingOptions::default()
    };
    let sources = recordings::open_recording(&request.path, request.layout, &options)?;
    let rows =
        sources.iter().map(recordings::RecordingSource::read_rows).collect::<Result<_, _>>()?;
    let tally = Arc::new(PublishTally::default());
    let unacknowledged_max = u32::from(settings.broker.inflight_max);
    let client_id = format!("{}-replay", settings.broker.client_prefix);
    let connection = DeviceConnection::open(
        &settings.broker,
        &client_id,
        &format!("status/{client_id}"),
        unacknowledged_max,
        tally.clone(),
    )?;
    let mut summary = ReplaySummary::default();
    let mut pace = None;
    let shown_max = settings.replay.rejects_shown;
    let end_ms = request.to_ms.unwrap_or(i64::MAX);
    let mut topics: HashMap<Arc<SensorKey>, String> = HashMap::new();
    for row in merge::merge_in_order(rows) {
        if shutdown.is_cancelled()
            || request.max.is_some_and(|max| tally.load_counts().messages_published >= max)
        {
            break;
        }
        let row = match row {
            Ok(row) => row,
            Err(reject) => {
                summary.rejects += 1;
                if summary.rejects_shown.len() < shown_max {
                    tracing::warn!(%reject, "row rejected");
                    summary.rejects_shown.push(reject.to_string());
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
        let RecordedRow { sensor, event_ms, arrival_ms, value, .. } = row;
        let first_ms = *summary.first_ms.get_or_insert(event_ms);
        summary.last_ms = Some(event_ms);
        let pace = pace.get_or_insert_with(|| {
            RatePacer::start_at(settings.replay.rate_max, settings.replay.speed_max, first_ms)
        });
        let topic = topics
            .entry(sensor)
            .or_insert_with_key(|key| device_topic(&key.zone, &key.device, Some(&key.metric)));
        connection
            .send_recorded(topic.clone(), encode_recorded(event_ms, arrival_ms, value), 1)
            .await;
        let counts = tally.load_counts();
        if counts.messages_published.is_multiple_of(1000) {
            observe(SimulationProgress {
                counts,
                at_ms: event_ms,
                share: replayed_share(request, first_ms, event_ms),
            });
        }
        pace.wait_until_due(counts.messages_published, event_ms).await;
    }
    tokio::select! {
        () = connection.wait_until_settled() => {}
        () = shutdown.cancelled() => {}
    }
    connection.close().await;
    summary.counts = tally.load_counts();
    Ok(summary)
}

/// Encodes a recorded value as a message. It has neither boot nor sequence number: recorded data
/// has none, and invented ones would wrongly separate two parts of a recording.
fn encode_recorded(event_ms: i64, arrival_ms: i64, value: f64) -> Vec<u8> {
    let body = serde_json::json!({
        "value": value, "ts": event_ms, "source": ReportSource::Replay.as_str(), "arrival": arrival_ms,
    });
    body.to_string().into_bytes()
}

fn replayed_share(request: &ReplayRequest, first_ms: i64, at_ms: i64) -> f64 {
    let of_time =
        request.to_ms.map(|to_ms| (at_ms - first_ms) as f64 / (to_ms - first_ms).max(1) as f64);
    of_time.unwrap_or(0.0).clamp(0.0, 1.0)
}
