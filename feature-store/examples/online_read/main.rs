//! Measures how fast features are read over HTTP, compared with HTTP itself.
//!
//! A feature store is filled with a day of 100 zones and keeps ingesting readings. Keep-alive
//! connections from the same machine read its rows without pipelining, with one request in flight
//! each. The same client measures, in the same run, an axum handler with an empty answer and one
//! whose answer has as many bytes as a row. Figures are medians of the rounds.
//!
//! ```sh
//! cargo build --workspace --example online_read
//! "$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)"/debug/examples/online_read
//! ```

mod load_client;
mod simulated_readings;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use eventlog::EventLog;
use microclimate_feature_store::{FeatureStore, FeatureStoreSettings};
use service::Secret;
use telemetry::MetricTable;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use load_client::{ReadLatencies, run_load};

const ZONES: usize = 100;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let dir = tempfile::tempdir().expect("a folder for the files");
    let mut settings = FeatureStoreSettings::default();
    settings.store.path = dir.path().join("bench.duckdb");
    settings.log = eventlog::EventLogConfig::for_embedded(&dir.path().join("log"));

    let server = Runtime::new().expect("a runtime");
    let store = FeatureStore::open(&settings, MetricTable::default()).expect("a feature store");
    let log = EventLog::open(&settings.log).expect("a log");
    let shutdown = CancellationToken::new();
    let running = {
        let (store, log, shutdown) = (store.clone(), log.clone(), shutdown.clone());
        server.spawn(async move { store.run(&log, shutdown).await })
    };
    let written = server.block_on(simulated_readings::append_history(&log, ZONES));
    server.block_on(simulated_readings::wait_until_ingested(&store, written));
    let rows = serve_routes(&server, microclimate_feature_store::routes(store.clone()), &shutdown);
    let zones: Vec<String> = (0..ZONES).map(simulated_readings::zone_name).collect();

    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let one = client
        .block_on(load_client::get_body(rows, &latest_rows_path(&zones[..1])))
        .expect("a row")
        .len();
    let features = store.schema().names.len();
    let bytes = Bytes::from(vec![b'x'; one]);
    let nothing = Router::new()
        .route("/nothing", get(async || ()))
        .route("/bytes", get(async move || bytes.clone()));
    let nothing_address = serve_routes(&server, nothing, &shutdown);
    println!(
        "{ZONES} zones, {features} features, {one} bytes a row; medians of {ROUNDS} rounds of {ROUND:?}\n"
    );

    let live = server.spawn(simulated_readings::append_live(log.clone(), ZONES, shutdown.clone()));
    let single = |i: usize| vec![latest_rows_path(&zones[i % ZONES..=i % ZONES])];
    let every: Vec<String> = (0..ZONES).flat_map(single).collect();
    let cases = [
        ("nothing", nothing_address, vec!["/nothing".to_owned()]),
        ("as many bytes", nothing_address, vec!["/bytes".to_owned()]),
        ("a zone's row", rows, every),
        ("five of its features", rows, vec![some_features_path(&zones[0])]),
        ("rows of 100 zones", rows, vec![latest_rows_path(&zones)]),
    ];
    println!(
        "| request | connections | p50 ms | p99 ms | p99.9 ms | requests/s |\n|---|---|---|---|---|---|"
    );
    for connections in [1, 2, 16] {
        for (name, address, paths) in &cases {
            let rounds =
                (0..ROUNDS).map(|_| client.block_on(run_load(*address, paths, connections, ROUND)));
            let ReadLatencies { p50_ms, p99_ms, p999_ms, per_s } =
                median_of_rounds(rounds.collect());
            println!(
                "| {name} | {connections} | {p50_ms:.3} | {p99_ms:.3} | {p999_ms:.3} | {per_s:.0} |"
            );
        }
    }
    live.abort();
    let [p50_ms, p99_ms] = server.block_on(simulated_readings::measure_freshness(&log, &store));
    println!(
        "\nfrom the log to the online row, with no other load: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms"
    );
    shutdown.cancel();
    server.block_on(running).expect("it ends").expect("and well");
}

fn latest_rows_path(zones: &[String]) -> String {
    format!("/v1/features/latest?zones={}", zones.join(","))
}

fn some_features_path(zone: &str) -> String {
    let names =
        "temperature_last,temperature_mean_1h,temperature_slope_1h,humidity_last,co2_max_24h";
    format!("/v1/features/latest?zones={zone}&names={names}")
}

/// Serves routes with the middleware of every service: token, limits, panics.
fn serve_routes(server: &Runtime, routes: Router, shutdown: &CancellationToken) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket that does not block");
    let address = listener.local_addr().expect("an address");
    server.spawn(service::rest::serve_routes(
        listener,
        routes,
        Secret::default(),
        shutdown.clone(),
    ));
    address
}

/// Median of each figure.
fn median_of_rounds(rounds: Vec<ReadLatencies>) -> ReadLatencies {
    let median = |figure: fn(&ReadLatencies) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    ReadLatencies {
        p50_ms: median(|f| f.p50_ms),
        p99_ms: median(|f| f.p99_ms),
        p999_ms: median(|f| f.p999_ms),
        per_s: median(|f| f.per_s),
    }
}
