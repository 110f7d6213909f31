use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use feature_api::{FrameQuery, LatestFeatures, RevisionMode};
use telemetry::{SmolStr, ZoneId};

use super::{Champion, Trainer};
use crate::{error::TrainError, feature_frame::ZoneFrame, lag_columns::parse_lag_column};

/// Rows are at whole minutes.
const GRID_S: i64 = 60;

/// Columns of a zone's earlier rows, by their full names.
pub(super) type LagValues = Arc<HashMap<SmolStr, f64>>;

impl Trainer {
    /// Adds to a zone's newest row what its champion is told of earlier ones,
    /// as it was known then; what there is no row of stays missing.
    pub(super) async fn fetch_lags(
        &self,
        zone: &ZoneId,
        champion: &Champion,
        latest: &mut LatestFeatures,
    ) -> Result<(), TrainError> {
        let names = champion.lag_columns();
        let times = || names.iter().map(|name| parse_lag_column(name).1);
        let (Some(newest_s), Some(oldest_s)) = (times().min(), times().max()) else {
            return Ok(());
        };
        let minute = latest.at_ms.div_euclid(GRID_S * 1000);
        let (task, of) = (&champion.artifact.card.task, (champion.version, minute));
        let earlier = match self.0.lags.get(task, zone, of) {
            Some(earlier) => earlier,
            None => {
                let at_ms = |ago_s: i64| (minute * GRID_S - ago_s) * 1000;
                let columns: BTreeSet<&str> =
                    names.iter().map(|name| parse_lag_column(name).0).collect();
                let query = FrameQuery {
                    zones: Some(vec![zone.clone()]),
                    from_ms: Some(at_ms(oldest_s)),
                    to_ms: Some(at_ms(newest_s)),
                    columns: Some(columns.into_iter().map(str::to_owned).collect()),
                    step_s: Some(GRID_S),
                    ..FrameQuery::default()
                };
                let table = self.source().read_frame(&query, RevisionMode::AsKnown).await?;
                let frames = ZoneFrame::by_zone(&table)?;
                let value = |name: &str| {
                    let (column, ago_s) = parse_lag_column(name);
                    Some((name.into(), frames.first()?.value_at(column, at_ms(ago_s))?))
                };
                let earlier: LagValues = Arc::new(names.iter().filter_map(|n| value(n)).collect());
                self.0.lags.insert(task, zone, of, earlier.clone());
                earlier
            }
        };
        latest.features.extend(earlier.iter().map(|(name, value)| (name.clone(), *value)));
        Ok(())
    }
}
