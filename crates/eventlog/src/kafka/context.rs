use rdkafka::{
    ClientContext, config::RDKafkaLogLevel as Level, consumer::ConsumerContext, error::KafkaError,
};
use tracing::{debug, info, warn};

/// Forwards librdkafka's messages to the log. Its errors are warnings here, because it retries by
/// itself and reports to the caller what it gives up on.
#[derive(Debug)]
pub(super) struct LoggingContext;

impl ClientContext for LoggingContext {
    fn log(&self, level: Level, facility: &str, message: &str) {
        match level {
            Level::Notice | Level::Info => info!(facility, message, "librdkafka"),
            Level::Debug => debug!(facility, message, "librdkafka"),
            _ => warn!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for LoggingContext {}
