//! MQTT in, durable log out. No acknowledged message is lost, and the ledger proves it.
//!
//! **Invariant:** a QoS 1 message is acknowledged only when all of it is durable in the log,
//! among the readings or the dead letters.
//!
//! # Layout
//! In the order in which a message meets them:
//! - [`settings`]: the configuration
//! - [`access`]: users of the listener, and the topics that each may publish and subscribe to
//! - `listener`: devices connect here (MQTT 3.1.1 and 5), or
//! - `bridge`: the gateway connects to a broker as a client
//! - `metadata`: a second client, for topics that describe the meaning of values
//! - `http_readings`: readings posted over HTTP
//! - `message`: a PUBLISH as received
//! - `ingest_queue`: the bounded queue from transports to the pipeline
//! - `pipeline`: decodes, appends and acknowledges in order
//! - `message_decoder`: message → reports, dead letter, or both
//! - [`conventions`]: topics and payloads of other systems
//! - `log_records`: reports and dead letters as records of the log
//! - `arrival_times`: distinct arrival times for messages without a time of their own
//! - `sequence`: the device's sequence numbers: gaps, restarts, duplicates
//! - `retained_messages`: retained messages of a broker that were already logged
//! - [`duplicates`]: the latest duplicates, for people
//! - `clock_offset`: the offset of a device's clock
//! - [`ledger`]: received = logged + dead-lettered + duplicates + dropped + in flight
//! - [`dead_letters`]: the latest dead letters, and their reinjection
//! - `tls`: certificates and keys
//! - `downlink`: messages to MQTT subscribers
//! - `metrics`: metrics for Prometheus
//! - `rest`: ledger, dead letters, metrics and health over HTTP
//! - `gateway`: all parts together, from start to drain
//! - `blocking`: blocking work outside of the async tasks
//! - [`program`]: the commands of the program `gateway`

pub mod access;
mod arrival_times;
mod blocking;
mod bridge;
mod clock_offset;
pub mod conventions;
pub mod dead_letters;
mod downlink;
pub mod duplicates;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod http_readings;
mod ingest_queue;
pub mod ledger;
mod listener;
mod log_records;
mod message;
mod message_decoder;
mod metadata;
mod metrics;
mod pipeline;
pub mod program;
mod rest;
mod retained_messages;
mod sequence;
pub mod settings;
mod tls;

pub use downlink::Downlink;
pub use error::GatewayError;
pub use gateway::{Gateway, GatewaySockets, run};
pub use rest::openapi;
pub use settings::GatewaySettings;
