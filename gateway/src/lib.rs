//! MQTT in, durable log out. Nothing that was acknowledged is lost, and the
//! ledger proves it.
//!
//! **Invariant:** a QoS 1 message is acknowledged only when everything of it is
//! durable in the log, among the readings or the dead letters.
//!
//! # Layout
//! In the order in which a message meets them:
//! - [`settings`]: what can be configured
//! - `listener`: devices connect here (MQTT 3.1.1 and 5), or
//! - `bridge`: … to a broker, of which this is a client
//! - `metadata`: … with another for what tells the meaning of values
//! - `message`: a PUBLISH as received
//! - `pipeline`: decodes and appends in order, acknowledges in order
//! - `intake`: message → reports, dead letter, or both
//! - [`conventions`]: topics and payloads of other systems
//! - `sequence`: the device's own numbers: gaps, restarts, duplicates
//! - [`ledger`]: received = logged + dead-lettered + duplicates + in flight
//! - [`dead_letters`]: the latest of what could not be decoded
//! - `downlink`: messages back to MQTT subscribers
//! - `rest`: ledger, dead letters, metrics and health over HTTP
//! - `gateway`: all of it put together
//! - `blocking`: what takes its time, off the tasks

mod blocking;
mod bridge;
pub mod conventions;
pub mod dead_letters;
mod downlink;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod intake;
pub mod ledger;
mod listener;
mod message;
mod metadata;
mod pipeline;
mod rest;
mod sequence;
pub mod settings;

pub use downlink::Downlink;
pub use error::GatewayError;
pub use gateway::{Gateway, Sockets, run};
pub use settings::Settings;
