//! Measures the latency of a prediction over HTTP, compared with a handler that does nothing.
//!
//! It runs against any server of predictions, `trainer serve` or the one-process program:
//!
//! ```sh
//! cargo run -- demo &
//! cargo run -p microclimate-trainer --example serving_latency -- http://127.0.0.1:8080
//! ```
//!
//! One connection sends one request after the other, so that the times contain no queueing. `TOKEN`
//! is sent if it is set. Zones are named after the address where `/v1/zones` is served elsewhere.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::Value;

/// Number of requests of each kind, after a tenth as many to warm up.
const REQUESTS: usize = 5000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let predictions =
        PredictionClient { url, client: Client::new(), token: std::env::var("TOKEN").ok() };
    let mut zones: Vec<String> = args.collect();
    if zones.is_empty() {
        let answer = predictions.get_json("/v1/zones").await?;
        let known = answer["zones"].as_array().into_iter().flatten();
        zones.extend(known.filter_map(|zone| zone["zone"].as_str()).map(str::to_owned));
    }
    ensure!(!zones.is_empty(), "no zones\nhint: name some after the address, as in farm/bay-1");

    println!("{:36} {:>8} {:>8} {:>8} {:>8}", "µs per request", "median", "p99", "p99.9", "max");
    predictions.measure_latency("nothing (/healthz)", "/healthz").await?;
    let tasks = predictions.get_json("/v1/tasks").await?;
    for task in tasks["tasks"].as_array().into_iter().flatten() {
        let (Some(name), Some(model)) = (task["task"].as_str(), task["champion"]["model"].as_str())
        else {
            continue;
        };
        for zone in &zones {
            let path = format!("/v1/predict/{name}?zone={zone}");
            // A task may not apply to a zone.
            if predictions.get_json(&path).await.is_ok() {
                predictions.measure_latency(&format!("{name}, {model}"), &path).await?;
                break;
            }
        }
    }
    Ok(())
}

struct PredictionClient {
    url: String,
    client: Client,
    token: Option<String>,
}

impl PredictionClient {
    async fn get_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.context("is the server running?")?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
    }

    async fn get_json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.get_bytes(path).await?)?)
    }

    async fn measure_latency(&self, what: &str, path: &str) -> Result<()> {
        let mut took = Vec::with_capacity(REQUESTS);
        for number in 0..REQUESTS + REQUESTS / 10 {
            let start = Instant::now();
            self.get_bytes(path).await?;
            if number >= REQUESTS / 10 {
                took.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        took.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| took[((REQUESTS - 1) as f64 * share) as usize];
        println!("{what:36} {:8.0} {:8.0} {:8.0} {:8.0}", at(0.5), at(0.99), at(0.999), at(1.0));
        Ok(())
    }
}
