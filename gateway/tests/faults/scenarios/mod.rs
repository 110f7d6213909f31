//! The faults.
//!
//! # Layout
//! - `kill`: the gateway ends itself at each place that a message passes
//! - `broker`: the MQTT broker ends, or another client takes the gateway's name
//! - `kafka`: Kafka ends, freezes, is far, is slow, loses a topic
//! - `network`: the line between the gateway and whoever sends to it
//! - `refusal`: Kafka refuses a record
//! - `spool`: Kafka is away, and the spool is torn, killed, full
//! - `disk`: full, failing, torn, damaged
//! - `content`: messages that are malformed, too large, repeated, off in time
//! - `life`: SIGTERM, a bad configuration, a long run

mod broker;
mod content;
mod disk;
mod kafka;
mod kill;
mod life;
mod network;
mod refusal;
mod spool;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

use crate::bench::Bench;

type Run = Box<dyn FnOnce(&'static Bench) -> LocalBoxFuture<'static, Result<()>> + Send>;

/// One fault and its test.
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Runs only when it is asked for.
    pub(crate) is_long: bool,
    pub(crate) run: Run,
}

pub(crate) fn all() -> Vec<Scenario> {
    // The slowest first, so that none of them is left for the end.
    let lists =
        [kafka::all(), spool::all(), network::all(), kill::all(), broker::all(), disk::all()];
    let lists = lists.into_iter().chain([refusal::all()]);
    lists.flatten().chain(content::all()).chain(life::all()).collect()
}

fn scenario<F>(
    name: impl Into<String>,
    run: impl FnOnce(&'static Bench) -> F + Send + 'static,
) -> Scenario
where
    F: Future<Output = Result<()>> + 'static,
{
    let run: Run = Box::new(move |bench| Box::pin(run(bench)));
    Scenario { name: name.into(), is_long: false, run }
}
