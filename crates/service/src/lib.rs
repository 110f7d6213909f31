//! What every service shares, so that each says only what is its own.
//!
//! # Layout
//! - [`config`]: defaults < file < environment < flags, unknown keys refused
//! - [`disk`]: the room on a disk
//! - [`secret`]: a text that no log shows
//! - [`log`]: where log lines go and in which form
//! - [`shutdown`]: SIGINT and SIGTERM become a token; draining under a limit
//! - [`descriptors`]: how many files and sockets the process may have
//! - [`listen`]: sockets that are free, and on loopback unless there is a token
//! - [`tls`]: certificates and keys of servers, read again at SIGHUP
//! - [`attempts`]: slows down who guesses passwords or tokens
//! - [`rest`]: the HTTP server: connections, tokens, limits, errors with a stable code
//! - [`openapi`]: the description of an interface, for programs and people
//! - [`prometheus`]: a page of metrics

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
