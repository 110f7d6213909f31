//! The parts that all services share.
//!
//! # Layout
//! - [`config`]: layered configuration: defaults < file < environment < flags; unknown keys are
//!   refused
//! - [`disk`]: free space on a disk
//! - [`secret`]: a text that is never logged
//! - [`log`]: where log lines go, and their format
//! - [`shutdown`]: SIGINT and SIGTERM cancel a token; draining has a time limit
//! - [`descriptors`]: the limit of open files and sockets
//! - [`listen`]: sockets, on loopback unless a token is set
//! - [`tls`]: certificates and keys of servers, read again at SIGHUP
//! - [`attempts`]: slows down clients that guess passwords or tokens
//! - [`rest`]: the HTTP server: connections, tokens, limits, errors with a stable code
//! - [`openapi`]: the description of a REST interface, for programs and people
//! - [`prometheus`]: metrics in Prometheus' text format

pub mod attempts;
pub mod config;
pub mod descriptors;
pub mod disk;
pub mod listen;
pub mod log;
pub mod openapi;
pub mod prometheus;
pub mod rest;
pub mod secret;
pub mod shutdown;
pub mod tls;

pub use secret::Secret;
