//! Commands of the program beside `run`: they print, and end.
//!
//! # Layout
//! - [`features`]: what is computed
//! - [`set_back`]: a zone that a wrong clock pushed ahead

/// What is computed: list, show, check, diff; and its versions.
pub mod features;
/// Sets a zone back that a wrong clock pushed ahead.
pub mod set_back;
