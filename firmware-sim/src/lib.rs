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

mod connection;
mod device;
mod error;
mod fault;
mod message;
mod physics;
pub mod replay;
pub mod settings;
mod simulation;
mod tally;

pub use error::SimError;
pub use settings::{DEFAULTS, OPEN_TABLES, Settings};
pub use simulation::{Progress, Simulation};
pub use tally::Counts;
