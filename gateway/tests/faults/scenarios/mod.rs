//! The faults.
//!
//! # Layout
//! - `kill`: the gateway ends itself at each point that a message passes
//! - `broker`: the MQTT broker ends, or another client takes the gateway's client id
//! - `kafka`: Kafka ends, freezes, is far away, is slow, loses a topic
//! - `network`: faults of the connection between the gateway and its senders
//! - `refusal`: Kafka refuses a record
//! - `spool`: Kafka is away, and the spool is torn, killed, full
//! - `disk`: full, failing, torn, damaged
//! - `content`: messages that are malformed, too large, repeated, wrong in time
//! - `lifecycle`: SIGTERM, an invalid configuration, a long run

mod broker;
mod content;
mod disk;
mod kafka;
mod kill;
mod lifecycle;
mod network;
mod refusal;
mod spool;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

use crate::fault_bench::FaultBench;

type ScenarioRun =
    Box<dyn FnOnce(&'static FaultBench) -> LocalBoxFuture<'static, Result<()>> + Send>;

/// One fault and its test.
pub(crate) struct FaultScenario {
    pub(crate) name: String,
    /// Whether it runs only on request.
    pub(crate) is_long: bool,
    pub(crate) run: ScenarioRun,
}

pub(crate) fn all_scenarios() -> Vec<FaultScenario> {
    // The slowest scenarios are first, so that none of them remains for the end.
    let lists = [
        kafka::kafka_scenarios(),
        spool::spool_scenarios(),
        network::network_scenarios(),
        kill::kill_scenarios(),
        broker::broker_scenarios(),
        disk::disk_scenarios(),
    ];
    let lists = lists.into_iter().chain([refusal::refusal_scenarios()]);
    lists
        .flatten()
        .chain(content::content_scenarios())
        .chain(lifecycle::lifecycle_scenarios())
        .collect()
}

fn build_scenario<F>(
    name: impl Into<String>,
    run: impl FnOnce(&'static FaultBench) -> F + Send + 'static,
) -> FaultScenario
where
    F: Future<Output = Result<()>> + 'static,
{
    let run: ScenarioRun = Box::new(move |bench| Box::pin(run(bench)));
    FaultScenario { name: name.into(), is_long: false, run }
}
