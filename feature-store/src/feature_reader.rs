//! The feature store as a reader of features in its own process sees it.

use std::collections::BTreeSet;

use feature_api::{
    FeatureReadError, FeatureReadFuture, FeatureReader, FrameQuery, LatestFeatures, RevisionMode,
};
use polars::prelude::DataFrame;
use telemetry::{SmolStr, ZoneId};

use crate::FeatureStore;

impl FeatureReader for FeatureStore {
    fn list_zones(&self) -> FeatureReadFuture<'_, Vec<ZoneId>> {
        let zones = self.zone_summaries().into_iter().map(|zone| zone.zone).collect();
        Box::pin(async { Ok(zones) })
    }

    fn feature_columns(&self) -> FeatureReadFuture<'_, BTreeSet<SmolStr>> {
        let names = self.schema().names.iter().cloned().collect();
        Box::pin(async { Ok(names) })
    }

    fn latest_features<'a>(
        &'a self,
        zone: &'a ZoneId,
    ) -> FeatureReadFuture<'a, Option<LatestFeatures>> {
        let latest = self.online_row(zone).map(|(latest, status)| {
            let row = latest.row();
            let values = row.schema.names.iter().zip(&*row.values);
            let present = values.filter(|(_, value)| value.is_finite());
            let features = present.map(|(name, value)| (name.clone(), *value)).collect();
            LatestFeatures { at_ms: row.at_ms, status, features }
        });
        Box::pin(async { Ok(latest) })
    }

    /// DuckDB is asked on a thread for blocking work.
    fn read_frame<'a>(
        &'a self,
        query: &'a FrameQuery,
        mode: RevisionMode,
    ) -> FeatureReadFuture<'a, DataFrame> {
        let (store, query) = (self.clone(), query.clone());
        let read = move || store.read_feature_frame_as(&query, mode);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(read).await;
            read.map_err(FeatureReadError::from_store)?.map_err(FeatureReadError::from_store)
        })
    }
}
