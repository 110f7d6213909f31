//! A bucket of an S3-compatible store, or a folder in one: what the model registry and the
//! lake of Parquet files have in common. Amazon's S3, MinIO, Ceph and others speak it.
//!
//! Calls wait for their answer. They may be made from any thread, one of a runtime too: each
//! request has a thread of its own.
//!
//! # Layout
//! - `settings`: where the store is, and the keys to it
//! - `bucket`: small objects by their keys: read, created once, listed, removed
//! - `files`: large ones, to and from files, several at a time
//! - `request`: signed, sent, waited for

mod bucket;
mod files;
mod request;
mod settings;

pub use bucket::{Bucket, BucketError, SCHEME};
pub use settings::Settings;
