//! Commands of the program beside `run`: they print, and end.
//!
//! # Layout
//! - [`features`]: what is computed

/// What is computed: list, show, check, diff; and its versions.
pub mod features;
