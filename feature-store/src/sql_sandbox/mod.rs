//! Runs users' SQL in a separate process, so that its limits hold whatever the SQL does. The
//! operating system enforces memory and processor time, and the host kills the process when its
//! time is over.
//!
//! The process has no data. It opens an empty DuckDB in memory whose tables are functions. These
//! request, over standard input and output, the rows and columns that the query needs from the
//! host. The host runs nothing of the user's text. It reads columns of named tables, under
//! conditions that it has built itself, in batches of bounded size, and only as fast as they are
//! requested.
//!
//! # Layout
//! - `protocol`: messages between the two processes
//! - `host`: starts the process, serves it, ends it
//! - `table_scans`: the host's tables, and scans of them
//! - `guest`: the process: its limits, its database, the query
//! - `remote_scan`: the table function of the guest's database
//! - `query_plan`: the rows that a query needs, from DuckDB's plan
//! - `program`: the program to start

mod guest;
mod host;
mod program;
mod protocol;
mod query_plan;
mod remote_scan;
mod table_scans;

pub use guest::serve_if_requested;
pub use host::SqlLimits;
pub(crate) use host::run_sandboxed;
