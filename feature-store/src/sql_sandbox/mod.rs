//! Runs SQL of strangers in a process of its own, so that its limits hold whatever the SQL
//! does: the operating system enforces memory and processor time, and the host ends the
//! process when its time is over.
//!
//! The process has no data. It opens an empty DuckDB in memory whose tables are functions
//! that ask the host, over its standard input and output, for the rows and columns that the
//! query needs. The host runs nothing of the stranger's text: it reads columns of named
//! tables, under conditions that it has put together itself, in batches of bounded size, and
//! only as fast as they are asked for.
//!
//! # Layout
//! - `protocol`: what the two processes say to each other
//! - `host`: starts the process, serves it, ends it
//! - `tables`: the host's tables, and scans of them
//! - `guest`: the process: its limits, its database, the query
//! - `remote_scan`: the table function of the guest's database
//! - `conditions`: which rows a query needs, from DuckDB's plan of it
//! - `program`: which program is started

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
