//! The feature store's HTTP interface over a real socket, log and file.
//!
//! # Layout
//! - `site`: a small site with a late, a wrong and a repeated reading, and a client
//! - `definitions`: what is computed; `paging`, `refusals`: lists and errors; `points`:
//!   data sets; `versions`: rows of old definitions; `offline`: SQL, explanations, statistics; `online`: rows from memory,
//!   Feast, tokens
//! - `feast_client`: the same by Feast itself, where it is installed
//! - `examples`: what `docs/api.md` shows is what is answered

mod definitions;
mod examples;
mod feast_client;
mod offline;
mod online;
mod paging;
mod points;
mod refusals;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod versions;
