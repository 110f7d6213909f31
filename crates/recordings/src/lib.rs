//! Recorded readings, as files lay them out. Both who plays them again
//! (`firmware-sim replay`) and who takes them in (`feature-store backfill`, a
//! watched folder) read them here.
//!
//! # Layout
//! In the order in which a file meets them:
//! - [`layout`]: what layouts there are, and the files that a path has of one
//! - `keti`, `wazihub`, `agc2`: published data sets
//! - `long_csv`, `wide_csv`, `jsonl`: one's own files
//! - `delimited`: what is between fields
//! - [`table_header`]: which column is what
//! - [`assembler`]: fields → rows, the one way for all of one's own files
//! - [`knots`]: the readings behind an interpolated series
//! - [`number`]: how numbers are written
//! - [`row`]: one recorded value, or why a line is none
//! - [`merge`]: many files, each in the order of time, as one

mod agc2;
pub mod assembler;
mod delimited;
mod error;
pub mod interpolation;
mod jsonl;
pub mod keti;
pub mod layout;
mod long_csv;
pub mod merge;
pub mod number;
pub mod row;
pub mod table_header;
mod wazihub;
mod wide_csv;

pub use error::RecordingError;
pub use layout::{RecordingLayout, RecordingOptions, RecordingSource, open_recording};
pub use row::{FilePosition, RecordedRow, RecordedRows, RejectedLine, SensorKey};
