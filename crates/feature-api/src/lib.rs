//! What readers need of a feature store, as one trait with its HTTP client.
//!
//! Whoever trains or serves models reads features through [`FeatureReader`] and
//! does not know where they come from. A feature store in the same process
//! implements the trait itself; [`FeatureStoreClient`] implements it over the REST
//! API of another process.
//!
//! **Invariant:** nothing here knows DuckDB, and the only I/O is the client's HTTP.
//!
//! # Layout
//! - [`frame_query`]: which feature rows to read, and which revision of each
//! - [`latest_features`]: the newest feature row of a zone
//! - [`feature_reader`]: the trait
//! - [`feature_store_client`]: the trait over HTTP
//! - [`error`]: why features could not be read
//!
//! # Example
//! A reader that serves one zone from memory, as a test of a model would.
//!
//! ```
//! use std::collections::{BTreeSet, HashMap};
//!
//! use microclimate_feature_api::{
//!     FeatureReadError, FeatureReadFuture, FeatureReader, FrameQuery, LatestFeatures,
//!     RevisionMode, RowStatus,
//! };
//! use polars::prelude::DataFrame;
//! use telemetry::{SmolStr, ZoneId};
//!
//! #[derive(Debug)]
//! struct OneZone;
//!
//! impl FeatureReader for OneZone {
//!     fn list_zones(&self) -> FeatureReadFuture<'_, Vec<ZoneId>> {
//!         Box::pin(async { Ok(vec![ZoneId::new("farm", "bay-1")]) })
//!     }
//!
//!     fn feature_columns(&self) -> FeatureReadFuture<'_, BTreeSet<SmolStr>> {
//!         Box::pin(async { Ok(BTreeSet::from(["temperature_last".into()])) })
//!     }
//!
//!     fn latest_features<'a>(
//!         &'a self,
//!         _zone: &'a ZoneId,
//!     ) -> FeatureReadFuture<'a, Option<LatestFeatures>> {
//!         let features = HashMap::from([("temperature_last".into(), 21.5)]);
//!         let latest = LatestFeatures { at_ms: 0, status: RowStatus::Final, features };
//!         Box::pin(async { Ok(Some(latest)) })
//!     }
//!
//!     fn read_frame<'a>(
//!         &'a self,
//!         _query: &'a FrameQuery,
//!         _mode: RevisionMode,
//!     ) -> FeatureReadFuture<'a, DataFrame> {
//!         Box::pin(async { Ok(DataFrame::empty()) })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), FeatureReadError> {
//! let reader: &dyn FeatureReader = &OneZone;
//! for zone in reader.list_zones().await? {
//!     let latest = reader.latest_features(&zone).await?.expect("the zone has a row");
//!     assert_eq!(latest.feature_value("temperature_last"), 21.5);
//!     assert!(latest.feature_value("humidity_last").is_nan());
//! }
//! # Ok(())
//! # }
//! ```

pub mod error;
pub mod feature_reader;
pub mod feature_store_client;
pub mod frame_query;
pub mod latest_features;

pub use error::FeatureReadError;
pub use feature_reader::{FeatureReadFuture, FeatureReader};
pub use feature_store_client::FeatureStoreClient;
pub use frame_query::{FrameQuery, RevisionMode};
pub use latest_features::{LatestFeatures, RowStatus};
