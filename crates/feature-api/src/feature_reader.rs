//! The trait that readers of features use.

use std::{collections::BTreeSet, fmt::Debug, pin::Pin};

use polars::prelude::DataFrame;
use telemetry::{SmolStr, ZoneId};

use crate::{FeatureReadError, FrameQuery, LatestFeatures, RevisionMode};

/// An answer of a [`FeatureReader`] that is to be awaited. It is boxed, so that the trait
/// can be used as `dyn FeatureReader`.
pub type FeatureReadFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, FeatureReadError>> + Send + 'a>>;

/// Reads the features of zones, wherever the feature store is.
///
/// Two readers of the same feature store give the same answers, whether they ask
/// it in their own process or over HTTP.
pub trait FeatureReader: Debug + Send + Sync {
    /// The zones that have sent anything.
    ///
    /// # Errors
    /// Where the feature store fails or cannot be reached.
    fn list_zones(&self) -> FeatureReadFuture<'_, Vec<ZoneId>>;

    /// The names of all features of the active definitions.
    ///
    /// # Errors
    /// Where the feature store fails or cannot be reached.
    fn feature_columns(&self) -> FeatureReadFuture<'_, BTreeSet<SmolStr>>;

    /// The newest row of a zone from the online store; none where the zone is
    /// unknown or has no row yet.
    ///
    /// # Errors
    /// Where the feature store fails or cannot be reached.
    fn latest_features<'a>(
        &'a self,
        zone: &'a ZoneId,
    ) -> FeatureReadFuture<'a, Option<LatestFeatures>>;

    /// Final rows from the offline store as a table with the columns `site`,
    /// `zone`, `at_ms` (UTC) and a column of `f64` for each feature, null where
    /// there is no value. Rows are sorted by zone and time.
    ///
    /// # Errors
    /// Where a feature or version is unknown, and where the feature store fails or
    /// cannot be reached.
    fn read_frame<'a>(
        &'a self,
        query: &'a FrameQuery,
        mode: RevisionMode,
    ) -> FeatureReadFuture<'a, DataFrame>;
}
