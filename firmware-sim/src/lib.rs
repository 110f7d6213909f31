//! Simulated devices, and recorded data played again: both publish MQTT as
//! real firmware would.
//!
//! # Layout
//! In the order a value meets them:
//! - [`settings`]: what can be set
//! - `physics`: weather, rooms, a greenhouse, soil
//! - `device`: sensors, sequence numbers, a battery
//! - `fault`: what goes wrong, and the file that says so
//! - [`replay`]: recorded data in place of all that
//! - `message`: one MQTT message and its payload
//! - `connection`: sends it, and knows when it was acknowledged
//! - `tally`: counts
//! - `simulation`: history first, then live

pub mod config;
mod connection;
mod device;
mod error;
mod fault;
mod message;
mod physics;
mod publish_counts;
pub mod replay;
mod simulation;

pub use config::{DEFAULTS, OPEN_TABLES, SimulatorConfig};
pub use error::SimError;
pub use publish_counts::PublishCounts;
pub use simulation::{Simulation, SimulationProgress};
