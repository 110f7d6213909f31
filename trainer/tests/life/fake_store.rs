//! REST API of a feature store with made-up rows: two zones whose temperature swings within hours,
//! known up to a minute that tests move.

use std::{
    f64::consts::TAU,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use polars::prelude::{Column, DataFrame, ParquetWriter};
use serde_json::{Value, json};

pub(crate) const ZONES: [&str; 2] = ["s/a", "s/b"];
pub(crate) const MINUTES: usize = 3 * 1440;
const MINUTE_MS: i64 = 60_000;

/// Values that tests change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreKnobs {
    /// Last minute whose row is known.
    pub(crate) known: usize,
    /// Minutes by which all rows are older than now.
    pub(crate) behind: i64,
    /// Features of the latest row; the others are missing.
    pub(crate) only: Option<&'static str>,
    /// Offset that is added to every feature of the latest row.
    pub(crate) shift: f64,
    /// Whether the watermark has passed the newest row.
    pub(crate) is_final: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct FakeStore {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<StoreKnobs>>,
    end_ms: i64,
}

pub(crate) fn temperature_at(zone: usize, minute: i64) -> f64 {
    let t = minute as f64;
    // A swing of three hours, one of a day, and a noise-like term.
    let noise = ((minute * 7919 + zone as i64 * 31).rem_euclid(101)) as f64 / 101.0 - 0.5;
    20.0 + zone as f64
        + 2.0 * (TAU * t / 180.0).sin()
        + 3.0 * (TAU * t / 1440.0).sin()
        + 0.1 * noise
}

/// Features of a corrected row: readings that were too late for their rows have set the slope to
/// the change of the next ten minutes. A model that learns from it has learnt the future.
fn corrected_features(zone: usize, minute: usize) -> Vec<(&'static str, f64)> {
    let now = minute as i64;
    let coming = 6.0 * (temperature_at(zone, now + 10) - temperature_at(zone, now));
    let slope = |(name, value): (&'static str, f64)| {
        (name, if name == "temperature_slope_10m" { coming } else { value })
    };
    known_features(zone, minute).into_iter().map(slope).collect()
}

/// Features of a row as it was known at its time, by name.
fn known_features(zone: usize, minute: usize) -> Vec<(&'static str, f64)> {
    let at = minute as i64;
    let window = |width: i64| (at - width + 1..=at).map(move |m| temperature_at(zone, m));
    let mean = |width: i64| window(width).sum::<f64>() / width as f64;
    let slope = |width: i64| {
        60.0 * (temperature_at(zone, at) - temperature_at(zone, at - width)) / width as f64
    };
    let angle = TAU * (at as f64) / 1440.0;
    vec![
        ("temperature_last", temperature_at(zone, at)),
        ("temperature_age_s", 5.0),
        ("temperature_mean_10m", mean(10)),
        ("temperature_min_10m", window(10).fold(f64::INFINITY, f64::min)),
        ("temperature_max_10m", window(10).fold(f64::NEG_INFINITY, f64::max)),
        ("temperature_slope_10m", slope(10)),
        ("temperature_mean_1h", mean(60)),
        ("temperature_slope_1h", slope(60)),
        ("hour_sin", angle.sin()),
        ("hour_cos", angle.cos()),
    ]
}

impl FakeStore {
    /// Store that knows all rows except the last two hours; its latest row is of this minute.
    pub(crate) async fn start() -> Self {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let known = MINUTES - 120;
        let store = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(StoreKnobs { known, ..StoreKnobs::default() })),
            end_ms: now_ms - now_ms % MINUTE_MS,
        };
        let names: Vec<&str> = known_features(0, 100).into_iter().map(|(name, _)| name).collect();
        let routes = Router::new()
            .route(
                "/v1/zones",
                get(async || Json(json!({ "zones": ZONES.map(|zone| json!({ "zone": zone })) }))),
            )
            .route("/v1/features", get(async move || Json(json!({ "features": names }))))
            .route("/v1/features/latest", get(latest_rows))
            .route("/v1/dataset.parquet", get(dataset_parquet))
            .with_state(store.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        store
    }

    pub(crate) fn change_knobs(&self, change: impl FnOnce(&mut StoreKnobs)) {
        change(&mut self.state.lock().unwrap());
    }

    fn current_knobs(&self) -> StoreKnobs {
        *self.state.lock().unwrap()
    }

    /// Event time of a minute, UTC ms; the first known minute is now.
    pub(crate) fn at_ms(&self, minute: usize) -> i64 {
        let from_end = (MINUTES - 120) as i64 - minute as i64;
        self.end_ms - (from_end + self.current_knobs().behind) * MINUTE_MS
    }

    pub(crate) fn newest_features(&self, zone: usize) -> Vec<(&'static str, f64)> {
        let StoreKnobs { known, only, shift, .. } = self.current_knobs();
        let all = known_features(zone, known).into_iter();
        all.filter(|(name, _)| only.is_none_or(|only| *name == only))
            .map(|(name, value)| (name, value + shift))
            .collect()
    }
}

#[derive(serde::Deserialize)]
struct StoreQuery {
    zones: Option<String>,
    from: Option<i64>,
    to: Option<i64>,
    columns: Option<String>,
    mode: Option<String>,
}

async fn latest_rows(State(store): State<FakeStore>, Query(query): Query<StoreQuery>) -> Response {
    let zone = query.zones.unwrap_or_default();
    let Some(number) = ZONES.iter().position(|known| *known == zone) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let features: serde_json::Map<String, Value> = store
        .newest_features(number)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let at_ms = store.at_ms(store.current_knobs().known);
    let status = if store.current_knobs().is_final { "final" } else { "provisional" };
    let row = json!({ "zone": zone, "at_ms": at_ms, "status": status, "features": features });
    Json(json!({ "rows": [row] })).into_response()
}

async fn dataset_parquet(
    State(store): State<FakeStore>,
    Query(query): Query<StoreQuery>,
) -> Vec<u8> {
    let (from, to) = (query.from.unwrap_or(i64::MIN), query.to.unwrap_or(i64::MAX));
    let wanted =
        |zone: &str| query.zones.as_ref().is_none_or(|all| all.split(',').any(|z| z == zone));
    let row = match query.mode.as_deref() {
        Some("as_known") => known_features,
        _ => corrected_features,
    };
    let mut rows = Vec::new();
    for (number, zone) in ZONES.iter().enumerate().filter(|(_, zone)| wanted(zone)) {
        for minute in 60..=store.current_knobs().known {
            let at_ms = store.at_ms(minute);
            if (from..=to).contains(&at_ms) {
                rows.push((zone.split_once('/').unwrap(), at_ms, row(number, minute)));
            }
        }
    }
    let column =
        |name: &str| query.columns.as_ref().is_none_or(|all| all.split(',').any(|n| n == name));
    let names =
        known_features(0, 100).into_iter().map(|(name, _)| name).filter(|name| column(name));
    let mut columns = vec![
        Column::new("site".into(), rows.iter().map(|row| row.0.0).collect::<Vec<_>>()),
        Column::new("zone".into(), rows.iter().map(|row| row.0.1).collect::<Vec<_>>()),
        Column::new("at_ms".into(), rows.iter().map(|row| row.1).collect::<Vec<_>>()),
    ];
    for name in names {
        let value =
            |row: &Vec<(&str, f64)>| row.iter().find(|(feature, _)| *feature == name).unwrap().1;
        let values: Vec<f64> = rows.iter().map(|row| value(&row.2)).collect();
        columns.push(Column::new(name.into(), values));
    }
    let mut table = DataFrame::new(rows.len(), columns).unwrap();
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut table).unwrap();
    bytes
}
