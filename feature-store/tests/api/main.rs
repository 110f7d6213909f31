//! The feature store's REST API over a real socket, log and file.
//!
//! # Layout
//! - `site`: a small site with a late, a wrong and a repeated reading, and a client
//! - `definitions`: definitions and lineage; `paging`, `refusals`: lists and errors; `points`:
//!   data sets; `versions`: rows of old definitions; `offline`: SQL, explanations, statistics;
//!   `online`: rows from memory, Feast, tokens
//! - `feast_client`: Feast's own client, where it is installed
//! - `examples`: the examples of `docs/api.md` match the answers

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
