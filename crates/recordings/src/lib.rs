//! Recorded readings as files lay them out. Programs that replay them (`firmware-sim replay`) and
//! programs that load them (`feature-store backfill`, a watched folder) read them here.
//!
//! # Layout
//! In the order in which a file meets them:
//! - [`layout`]: the layouts, and the files that a path has of one
//! - `keti`, `wazihub`, `agc2`: published data sets
//! - `long_csv`, `wide_csv`, `jsonl`: files of your own
//! - `delimited`: delimiters and lines
//! - [`table_header`]: the meaning of each column
//! - [`assembler`]: makes rows of fields, the same way for all files of your own
//! - [`interpolation`]: recovers the measured readings of an interpolated series
//! - [`number`]: number formats
//! - [`row`]: one recorded value, or the reason why a line has none
//! - [`merge`]: merges many files, each in the order of time, into one sequence
//! - `error`: [`RecordingError`]

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
