//! Commands of the program beside `run`: they print and end.
//!
//! # Layout
//! - [`features`]: feature definitions and their versions
//! - [`set_back`]: corrects a zone that a wrong clock pushed ahead

/// The command `features`: list, show, check and diff definitions, and manage their versions.
pub mod features;
/// The command `set-back`, which corrects a zone that a wrong clock pushed ahead.
pub mod set_back;
