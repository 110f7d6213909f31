//! MQTT in, durable log out. Nothing that was acknowledged is lost, and the
//! ledger proves it.
//!
//! **Invariant:** a QoS 1 message is acknowledged only when everything of it is
//! durable in the log, among the readings or the dead letters.
//!
//! # Layout
//! In the order in which a message meets them:
//! - [`settings`]: what can be configured
//! - [`access`]: who may connect to the listener, and what each may say and read
//! - `listener`: devices connect here (MQTT 3.1.1 and 5), or
//! - `bridge`: … to a broker, of which this is a client
//! - `metadata`: … with another for what tells the meaning of values
//! - `http_readings`: … or posts readings over HTTP
//! - `message`: a PUBLISH as received
//! - `inlet`: where transports hand it in, and what they are told
//! - `pipeline`: decodes and appends in order, acknowledges in order
//! - `intake`: message → reports, dead letter, or both
//! - [`conventions`]: topics and payloads of other systems
//! - `record`: reports and dead letters as records of the log
//! - `arrival`: the time of messages that have none of their own
//! - `sequence`: the device's own numbers: gaps, restarts, duplicates
//! - `retained`: stored values of a broker that were taken before
//! - [`duplicates`]: what came again, for people to look at
//! - `clock`: how far the device's clock is off
//! - [`ledger`]: received = logged + dead-lettered + duplicates + in flight
//! - [`dead_letters`]: what could not be decoded, and the way back in
//! - `tls`: certificates and keys
//! - `downlink`: messages back to MQTT subscribers
//! - `metrics`: counts for Prometheus
//! - `rest`: ledger, dead letters, metrics and health over HTTP
//! - `gateway`: all of it put together
//! - `blocking`: what takes its time, off the tasks

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
mod rest;
mod retained_messages;
mod sequence;
pub mod settings;
mod tls;

pub use downlink::Downlink;
pub use error::GatewayError;
pub use gateway::{Gateway, GatewaySockets, run};
pub use settings::GatewaySettings;
