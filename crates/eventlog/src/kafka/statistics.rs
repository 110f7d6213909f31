use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::Statistics;

/// librdkafka's statistics of a topic's producer (its STATISTICS.md). Counts start when the
/// producer is created.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KafkaStatistics {
    /// Records in its queues.
    pub queue_records: f64,
    /// Bytes in its queues.
    pub queue_bytes: f64,
    /// Records sent to brokers.
    pub sent_records: f64,
    /// Bytes sent to brokers.
    pub sent_bytes: f64,
    /// Requests sent again.
    pub retries: f64,
    /// Requests that failed.
    pub errors: f64,
    /// 99th percentile of the round trip to the slowest broker, microseconds.
    pub rtt_p99_us: f64,
}

impl From<&Statistics> for KafkaStatistics {
    fn from(from: &Statistics) -> Self {
        let brokers = || from.brokers.values();
        let rtt_us = brokers().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.p99);
        Self {
            queue_records: from.msg_cnt as f64,
            queue_bytes: from.msg_size as f64,
            sent_records: from.txmsgs as f64,
            sent_bytes: from.txmsg_bytes as f64,
            retries: brokers().map(|broker| broker.txretries as f64).sum(),
            errors: brokers().map(|broker| broker.txerrs as f64).sum(),
            rtt_p99_us: rtt_us.max().unwrap_or(0) as f64,
        }
    }
}

/// The latest statistics, shared by a producer's callbacks and the readers.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatestStatistics(Arc<Mutex<KafkaStatistics>>);

impl LatestStatistics {
    pub(super) fn set(&self, statistics: &Statistics) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = statistics.into();
    }

    pub(super) fn get(&self) -> KafkaStatistics {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
