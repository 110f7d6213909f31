use rdkafka::{
    ClientContext, config::RDKafkaLogLevel as Level, consumer::ConsumerContext, error::KafkaError,
};
use tracing::{debug, info, warn};

/// Sends what librdkafka has to say where all log lines go. Its errors are
/// warnings here: it goes on trying, and what it gives up on is reported to
/// the caller.
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
