use std::sync::Arc;

use feature_api::{FrameQuery, LatestFeatures, RevisionMode};
use telemetry::ZoneId;

use super::{Champion, PredictError, Prediction, Trainer};
use crate::{anomaly, error::TrainError, feature_frame::ZoneFrame};

/// A score is made from final rows, of which there is a new one a minute.
const STEP_MS: i64 = 60_000;
impl Trainer {
    /// Features that [`Trainer::score_past_anomalies`] needs of a zone; `None` while there is no
    /// champion, or it knows nothing of the zone.
    #[must_use]
    pub fn anomaly_columns(&self, zone: &ZoneId) -> Option<Vec<String>> {
        let serving: anomaly::AnomalyServing =
            self.champion(anomaly::TASK_NAME)?.serving_facts().ok()?;
        let prefix = format!("{zone} ");
        let metrics = serving.scales.keys().filter_map(|key| key.strip_prefix(&prefix));
        let columns: Vec<String> =
            metrics.flat_map(|m| [format!("{m}_last"), format!("{m}_age_s")]).collect();
        (!columns.is_empty()).then_some(columns)
    }

    /// Scores the minutes of a frame of the past with the champion, oldest first; none without a
    /// champion.
    #[must_use]
    pub fn score_past_anomalies(&self, frame: &ZoneFrame) -> Vec<anomaly::PastAnomalyScore> {
        let Some(champion) = self.champion(anomaly::TASK_NAME) else { return Vec::new() };
        let serving: Result<anomaly::AnomalyServing, _> = champion.serving_facts();
        serving.map_or_else(
            |_| Vec::new(),
            |serving| {
                let model = &champion.artifact.predictor;
                anomaly::score_past_minutes(&frame.zone, frame, &serving, model)
            },
        )
    }

    /// Scores the last hours of a zone.
    pub(super) async fn detect_anomaly(
        &self,
        zone: &ZoneId,
        champion: &Champion,
        latest: &LatestFeatures,
    ) -> Result<Prediction, PredictError> {
        let not_applicable = |why: &str| PredictError::NotApplicable {
            task: anomaly::TASK_NAME.to_owned(),
            zone: zone.clone(),
            why: why.to_owned(),
        };
        let serving: anomaly::AnomalyServing =
            champion.serving_facts().map_err(|why| not_applicable(&why))?;
        let metrics = serving.scales.keys().filter_map(|key| key.strip_prefix(&format!("{zone} ")));
        let columns: Vec<String> =
            metrics.flat_map(|m| [format!("{m}_last"), format!("{m}_age_s")]).collect();
        if columns.is_empty() {
            return Err(not_applicable("it had no metric that moves when the model was trained"));
        }
        let (low, high) = serving.usual;
        let minute = latest.at_ms.div_euclid(STEP_MS);
        let of = (champion.version, minute);
        let score = match self.0.anomalies.get(anomaly::TASK_NAME, zone, of) {
            Some(score) => score,
            None => {
                let query = FrameQuery {
                    zones: Some(vec![zone.clone()]),
                    from_ms: Some(latest.at_ms - anomaly::HISTORY_S * 1000),
                    to_ms: None,
                    columns: Some(columns),
                    ..FrameQuery::default()
                };
                let table = self.source().read_frame(&query, RevisionMode::AsKnown).await;
                let table = table.map_err(TrainError::from)?;
                let frames = ZoneFrame::by_zone(&table)?;
                let score = frames.first().and_then(|frame| {
                    anomaly::score_zone(zone, frame, &serving, &champion.artifact.predictor)
                });
                let score = score.ok_or_else(|| not_applicable("it has no fresh readings"))?;
                let score = Arc::new(score);
                self.0.anomalies.insert(anomaly::TASK_NAME, zone, of, score.clone());
                score
            }
        };
        Ok(Prediction {
            value: score.value,
            interval: Some([low, high]),
            interval_level: 0.9,
            metric: Some(score.metric.clone()),
            fault: score.fault,
            ..Prediction::for_champion(zone, champion, latest, &self.settings().serving)
        })
    }
}
