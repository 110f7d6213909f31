//! Simulated devices, and the replay of recorded data. Both publish MQTT as real firmware would.
//!
//! # Layout
//! In the order in which a value meets them:
//! - [`config`]: the settings
//! - `physics`: weather, rooms, a greenhouse, soil
//! - `device`: sensors, sequence numbers, a battery
//! - `fault`: injected faults, and the file that labels them
//! - [`replay`]: recorded data in place of all that
//! - `message`: one MQTT message and its payload
//! - `connection`: sends messages and waits for their acknowledgements
//! - `publish_counts`: counts of messages and readings
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
