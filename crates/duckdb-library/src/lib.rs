//! DuckDB's library, for builds: see `build/main.rs` for where it comes from.
//!
//! A package that uses `duckdb` and has programs, tests or examples depends on this one and
//! has a `build.rs` that passes the library's folder to the linker (copy
//! `feature-store/build.rs`); `cargo build --features bundled` makes one file of program and
//! DuckDB instead.

/// Version of DuckDB that every build has, prebuilt or compiled.
pub const DUCKDB_VERSION: &str = "1.5.6";

/// Where this build's DuckDB comes from: `prebuilt`, `compiled` (both a shared library),
/// `bundled` (in the program), or the environment variable that named the user's own.
pub const DUCKDB_ORIGIN: &str = env!("MICROCLIMATE_DUCKDB_ORIGIN");
