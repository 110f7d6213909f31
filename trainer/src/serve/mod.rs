//! Champions in memory, predictions for a zone.
//!
//! # Layout
//! - [`settings`]: when a prediction is the baseline's, the gate, the watch
//! - [`champion`]: a model that is served, ready to be asked
//! - [`prediction`]: what is said, and why nothing is
//! - `recall`, `remembered`: what a champion is told of a zone's earlier rows
//! - `regress`, `detect`: from a zone's newest row to a prediction
//! - [`irrigation`]: how long to water
//! - `explain`: what a prediction rests on
//! - `newest`: what was predicted last, of each zone
//! - `meter`: how many, how fast

mod anomaly_detection;
/// A model that is served.
pub mod champion;
mod explain;
/// How long to water.
pub mod irrigation;
mod lags;
mod meter;
mod newest;
/// What is said.
pub mod prediction;
mod prediction_cache;
mod regression;
pub mod settings;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use feature_api::{FeatureReader, LatestFeatures};
use models::{
    ModelRegistry,
    registry::{ModelAliases, VersionRef},
};
use service::prometheus::MetricsPage;
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
pub use newest::{NewestPredictions, ZonePredictions};
pub use prediction::{Contribution, Drift, PredictError, Prediction};
use prediction_cache::PredictionCache;

/// Zones that one request may ask for.
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
    /// Champions that the registry names and that were refused, with the
    /// reason.
    refused: RwLock<HashMap<String, String>>,
    /// Tasks that the last comparison of this process found nothing to learn for.
    not_applicable: RwLock<HashMap<String, NotApplicable>>,
    scores: PredictionScores,
    meter: PredictionMeter,
    anomalies: PredictionCache<Arc<anomaly::AnomalyScore>>,
    lags: PredictionCache<LagValues>,
    newest: NewestPredictions,
}

impl Trainer {
    /// A trainer with the champions that the registry has, which reads features from
    /// `source`.
    ///
    /// # Errors
    /// Where the registry cannot be read. A champion that is refused is logged,
    /// and one before it is served.
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

    /// Where models are kept.
    #[must_use]
    pub fn registry(&self) -> &ModelRegistry {
        &self.0.registry
    }

    /// What was predicted last, of each zone.
    #[must_use]
    pub fn newest_predictions(&self) -> &NewestPredictions {
        &self.0.newest
    }

    /// How predictions fared.
    #[must_use]
    pub fn scores(&self) -> &PredictionScores {
        &self.0.scores
    }

    /// Takes the registry's champion of a task into service. Where it is
    /// refused, the one in service stays; where none is in service, as after a
    /// start, the newest champion before it that is whole is served.
    ///
    /// # Errors
    /// Where the registry cannot be read, or no champion is whole.
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

    /// Why the champion that the registry names is not the one in service.
    #[must_use]
    pub fn refusal_reason(&self, task: &str) -> Option<String> {
        self.0.refused.read().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Why the last comparison in this process had no leaderboard of a task, if it
    /// had none.
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

    /// The model in service, if there is one.
    #[must_use]
    pub fn champion(&self, task: &str) -> Option<Arc<Champion>> {
        self.0.champions.read().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// The zones that can be predicted.
    ///
    /// # Errors
    /// Where the feature store fails.
    pub async fn zones(&self) -> Result<Vec<ZoneId>, TrainError> {
        Ok(self.0.source.list_zones().await?)
    }

    /// Predicts for a zone as it is now.
    ///
    /// # Errors
    /// See [`PredictError`].
    pub async fn predict_zone(
        &self,
        task: &str,
        zone: &ZoneId,
    ) -> Result<Prediction, PredictError> {
        self.predict_with_explanation(task, zone, 0).await
    }

    /// Predicts every task that has a champion and applies to a zone, and remembers the result
    /// as the zone's newest.
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

    /// The same with the `explain` inputs that moved the prediction most.
    ///
    /// # Errors
    /// See [`PredictError`].
    pub async fn predict_with_explanation(
        &self,
        task: &str,
        zone: &ZoneId,
        explain: usize,
    ) -> Result<Prediction, PredictError> {
        let start = Instant::now();
        let said = self.predict_uncounted(task, zone, explain).await;
        self.0.meter.count_prediction(task, &said, start.elapsed());
        said
    }

    async fn predict_uncounted(
        &self,
        task: &str,
        zone: &ZoneId,
        explain: usize,
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
                self.predict_regression(own.as_ref(), zone, &champion, &latest, explain)
            }
            None => self.detect_anomaly(zone, &champion, &latest).await,
        }
    }

    /// Prometheus' text form.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut page = MetricsPage::new("microclimate_trainer");
        self.0.meter.write_metrics(&mut page);
        self.scores().write_metrics(&mut page);
        page.into_text()
    }
}
