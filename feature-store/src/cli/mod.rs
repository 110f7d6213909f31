//! Commands of the program beside `run`: they print, and end.
//!
//! # Layout
//! - [`features`]: what is computed: list, show, check, diff

pub mod features;
