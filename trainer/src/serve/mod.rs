//! Champions in memory, and predictions for a zone.
//!
//! # Layout
//! - [`settings`]: when a prediction is the baseline's, the gate, the watch
//! - [`champion`]: a served model, ready to predict
//! - [`prediction`]: a prediction, or the reason why there is none
//! - `lags`, `prediction_cache`: lag features of a zone, and their cache
//! - `regression`, `anomaly_detection`: from a zone's latest row to a prediction
//! - [`irrigation`]: duration of irrigation
//! - `explain`: explanation of a prediction by its inputs
//! - [`path_forecast`]: the course of a metric over the next hours
//! - [`what_if`]: predictions for conditions that are asked about
//! - `newest_predictions`: the latest prediction of each task in each zone
//! - `meter`: number and duration of predictions

mod anomaly_detection;
/// A served model.
pub mod champion;
mod explain;
/// Duration of irrigation.
pub mod irrigation;
mod lags;
mod meter;
mod newest_predictions;
/// The course of a metric over the next hours.
pub mod path_forecast;
/// Predictions, and reasons why there is none.
pub mod prediction;
mod prediction_cache;
mod regression;
pub mod settings;
/// Predictions for conditions that are asked about.
pub mod what_if;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use feature_api::{FeatureReader, LatestFeatures};
use models::{
    ModelRegistry,
    registry::{ModelAliases, VersionRef},
};
use service::prometheus::{MetricsPage, format_label};
use telemetry::ZoneId;

use crate::{
    anomaly, backtest,
    error::TrainError,
    registry_store,
    score::PredictionScores,
    settings::TrainerSettings,
    tasks::{self, NotApplicable},
};
pub use champion::Champion;
pub use irrigation::Irrigation;
use lags::LagValues;
use meter::PredictionMeter;
pub use newest_predictions::{NewestPredictions, ZonePredictions};
pub use path_forecast::{ForecastError, PathForecast};
pub use prediction::{Contribution, Drift, PredictError, Prediction};
use prediction_cache::PredictionCache;
use what_if::AssumedFeatures;
pub use what_if::WhatIf;

/// Largest number of zones in one request.
pub const ZONES_MAX: usize = 1000;

/// Compares models and serves the champions. Clones share it.
#[derive(Clone, Debug)]
pub struct Trainer(Arc<TrainerShared>);

#[derive(Debug)]
struct TrainerShared {
    settings: TrainerSettings,
    source: Arc<dyn FeatureReader>,
    registry: ModelRegistry,
    champions: RwLock<HashMap<String, Arc<Champion>>>,
    /// Champions of the registry that were refused, with the reason.
    refused: RwLock<HashMap<String, String>>,
    /// Tasks without training rows in the last comparison of this process.
    not_applicable: RwLock<HashMap<String, NotApplicable>>,
    scores: PredictionScores,
    meter: PredictionMeter,
    anomalies: PredictionCache<Arc<anomaly::AnomalyScore>>,
    lags: PredictionCache<LagValues>,
    newest: NewestPredictions,
}

impl Trainer {
    /// Creates a trainer that serves the registry's champions and reads features from `source`.
    ///
    /// # Errors
    /// Fails if the registry cannot be read. A refused champion is logged, and an earlier one is
    /// served.
    pub fn new(
        settings: TrainerSettings,
        source: Arc<dyn FeatureReader>,
    ) -> Result<Self, TrainError> {
        let registry = registry_store::open_registry(&settings)?;
        let scores = PredictionScores::open(&settings.watch);
        let trainer = Self(Arc::new(TrainerShared {
            settings,
            source,
            registry,
            champions: RwLock::default(),
            refused: RwLock::default(),
            not_applicable: RwLock::default(),
            scores,
            meter: PredictionMeter::default(),
            anomalies: PredictionCache::default(),
            lags: PredictionCache::default(),
            newest: NewestPredictions::default(),
        }));
        for task in tasks::NAMES {
            if let Err(error) = trainer.load_champion(task) {
                tracing::error!(task, %error, "no champion");
            }
        }
        Ok(trainer)
    }

    pub(crate) fn settings(&self) -> &TrainerSettings {
        &self.0.settings
    }

    pub(crate) fn source(&self) -> &dyn FeatureReader {
        &*self.0.source
    }

    /// Returns the registry of models.
    #[must_use]
    pub fn registry(&self) -> &ModelRegistry {
        &self.0.registry
    }

    /// Returns the latest prediction of each task in each zone.
    #[must_use]
    pub fn newest_predictions(&self) -> &NewestPredictions {
        &self.0.newest
    }

    /// Returns the scores of past predictions.
    #[must_use]
    pub fn scores(&self) -> &PredictionScores {
        &self.0.scores
    }

    /// Takes the registry's champion of a task into service. If it is refused, the champion in
    /// service stays. If none is in service, as after a start, the latest intact champion before it
    /// is served.
    ///
    /// # Errors
    /// Fails if the registry cannot be read, or no champion is intact.
    pub fn load_champion(&self, task: &str) -> Result<(), TrainError> {
        let ModelAliases { champion, before, .. } = self.0.registry.current_aliases(task)?;
        let Some(slot) = champion else { return Ok(()) };
        let in_service = self.champion(task);
        if in_service.as_ref().is_some_and(|own| own.version == slot.version) {
            self.lock_refused().remove(task);
            return Ok(());
        }
        let refused = match self.load_version(task, &slot) {
            Ok(()) => {
                self.lock_refused().remove(task);
                return Ok(());
            }
            Err(error) => error,
        };
        self.lock_refused().insert(task.to_owned(), refused.to_string());
        if in_service.is_none() {
            for earlier in before.iter().rev() {
                if self.load_version(task, earlier).is_ok() {
                    tracing::error!(task, %refused, version = earlier.version,
                        "the champion is refused, the one before it is served");
                    return Ok(());
                }
            }
        }
        Err(refused)
    }

    fn load_version(&self, task: &str, slot: &VersionRef) -> Result<(), TrainError> {
        let artifact = self.0.registry.load_artifact(task, slot.version)?;
        let champion = Arc::new(Champion::new(slot.version, artifact));
        if let Some(own) = tasks::all_tasks().iter().find(|own| own.spec().name == task) {
            let serving: Result<backtest::RegressionServing, String> = champion.serving_facts();
            if serving.is_ok_and(|serving| serving.link != own.spec().transform) {
                return Err(TrainError::Outdated { task: task.to_owned(), version: slot.version });
            }
        }
        let mut champions = self.0.champions.write().unwrap_or_else(PoisonError::into_inner);
        champions.insert(task.to_owned(), champion);
        Ok(())
    }

    fn lock_refused(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, String>> {
        self.0.refused.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the reason why the registry's champion is not in service, if that is so.
    #[must_use]
    pub fn refusal_reason(&self, task: &str) -> Option<String> {
        self.0.refused.read().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Returns the reason why the last comparison of this process had no leaderboard for a task, if
    /// that is so.
    #[must_use]
    pub fn not_applicable_reason(&self, task: &str) -> Option<NotApplicable> {
        let all = self.0.not_applicable.read().unwrap_or_else(PoisonError::into_inner);
        all.get(task).cloned()
    }

    pub(crate) fn set_not_applicable(&self, task: &str, found: Option<NotApplicable>) {
        let mut all = self.0.not_applicable.write().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(why) => all.insert(task.to_owned(), why),
            None => all.remove(task),
        };
    }

    /// Returns the model in service, if there is one.
    #[must_use]
    pub fn champion(&self, task: &str) -> Option<Arc<Champion>> {
        self.0.champions.read().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Returns the zones that can be predicted.
    ///
    /// # Errors
    /// Fails if the feature store fails.
    pub async fn zones(&self) -> Result<Vec<ZoneId>, TrainError> {
        Ok(self.0.source.list_zones().await?)
    }

    /// Predicts a task for a zone at the present time.
    ///
    /// # Errors
    /// Fails with a [`PredictError`].
    pub async fn predict_zone(
        &self,
        task: &str,
        zone: &ZoneId,
    ) -> Result<Prediction, PredictError> {
        self.predict_with_explanation(task, zone, 0).await
    }

    /// Predicts every task that has a champion and applies to a zone, and stores the results as the
    /// zone's latest predictions.
    pub async fn predict_all_tasks(&self, zone: &ZoneId) -> Vec<Prediction> {
        let mut predictions = Vec::new();
        for task in tasks::NAMES {
            if self.champion(task).is_none() {
                continue;
            }
            // A task that does not apply to a zone says so each time.
            if let Ok(prediction) = self.predict_zone(task, zone).await {
                predictions.push(prediction);
            }
        }
        self.0.newest.put(zone, predictions.clone());
        predictions
    }

    /// Predicts like [`Trainer::predict_zone`], and adds the `explain` inputs that moved the
    /// prediction most.
    ///
    /// # Errors
    /// Fails with a [`PredictError`].
    pub async fn predict_with_explanation(
        &self,
        task: &str,
        zone: &ZoneId,
        explain: usize,
    ) -> Result<Prediction, PredictError> {
        let start = Instant::now();
        let said = self.predict_uncounted(task, zone, explain, &BTreeMap::new()).await;
        self.0.meter.count_prediction(task, &said, start.elapsed());
        said
    }

    /// Predicts a task for a zone under other conditions than the present ones: `overrides` are
    /// metrics (as in `heater`), features, or `irrigation_min`, with the values to assume. Such a
    /// prediction is not scored.
    ///
    /// # Errors
    /// Fails with a [`PredictError`].
    pub async fn predict_what_if(
        &self,
        task: &str,
        zone: &ZoneId,
        overrides: &BTreeMap<String, f64>,
        explain: usize,
    ) -> Result<Prediction, PredictError> {
        let present = self.predict_uncounted(task, zone, 0, &BTreeMap::new()).await?;
        let mut assumed = self.predict_uncounted(task, zone, explain, overrides).await?;
        if let Some(what_if) = &mut assumed.what_if {
            what_if.present_value = present.value;
        }
        Ok(assumed)
    }

    async fn predict_uncounted(
        &self,
        task: &str,
        zone: &ZoneId,
        explain: usize,
        overrides: &BTreeMap<String, f64>,
    ) -> Result<Prediction, PredictError> {
        if !tasks::NAMES.contains(&task) {
            return Err(PredictError::UnknownTask(task.to_owned()));
        }
        let no_champion = || PredictError::NoChampion {
            task: task.to_owned(),
            not_applicable: self.not_applicable_reason(task),
        };
        let champion = self.champion(task).ok_or_else(no_champion)?;
        let latest: Option<LatestFeatures> =
            self.0.source.latest_features(zone).await.map_err(TrainError::from)?;
        let mut latest = latest.ok_or_else(|| PredictError::UnknownZone(zone.clone()))?;
        match tasks::all_tasks().into_iter().find(|own| own.spec().name == task) {
            Some(own) => {
                self.fetch_lags(zone, &champion, &mut latest).await?;
                if overrides.is_empty() {
                    return self.predict_regression(
                        own.as_ref(),
                        zone,
                        &champion,
                        &latest,
                        explain,
                    );
                }
                let AssumedFeatures { latest, assumed } =
                    AssumedFeatures::apply(latest, &champion, overrides)?;
                let prediction =
                    self.predict_regression(own.as_ref(), zone, &champion, &latest, explain)?;
                let extrapolated = self.extrapolated_inputs(&champion, zone, &latest);
                let what_if = WhatIf { present_value: f64::NAN, assumed, extrapolated };
                Ok(Prediction { what_if: Some(what_if), ..prediction })
            }
            None if !overrides.is_empty() => Err(PredictError::NotApplicable {
                task: task.to_owned(),
                zone: zone.clone(),
                why: "it is about what was measured, and takes no overrides".to_owned(),
            }),
            None => self.detect_anomaly(zone, &champion, &latest).await,
        }
    }

    /// Returns the metrics in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut page = MetricsPage::new("microclimate_trainer");
        self.0.meter.write_metrics(&mut page);
        self.scores().write_metrics(&mut page);
        self.0.newest.write_metrics(&mut page);
        let champions = tasks::NAMES.iter().filter_map(|task| Some((*task, self.champion(task)?)));
        let versions = champions.map(|(task, own)| (format_label("task", task), own.version));
        let about = ("champion_version", "gauge", "Version that is served");
        page.add_family(about, versions);
        page.into_text()
    }
}
