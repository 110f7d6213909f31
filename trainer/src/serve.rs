//! Champions in memory, predictions for a zone.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use feature_store::FrameQuery;
use models::{Artifact, Registry};
use ndarray::Array2;
use serde::Serialize;
use telemetry::ZoneId;

use crate::{
    anomaly, backtest,
    error::TrainError,
    frame::ZoneFrame,
    input::Input,
    settings::Settings,
    source::{Latest, Source},
    tasks::{self, Task},
};

/// Compares models and serves the champions. Clones share it.
#[derive(Clone, Debug)]
pub struct Trainer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    source: Source,
    registry: Registry,
    champions: RwLock<HashMap<String, Arc<Champion>>>,
}

/// A model that is served.
#[derive(Debug)]
pub struct Champion {
    /// Its version in the registry.
    pub version: u64,
    /// The model.
    pub artifact: Artifact,
}

/// What a task says of a zone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The task.
    pub task: String,
    /// The zone.
    pub zone: ZoneId,
    /// In `unit`.
    pub value: f64,
    /// Of all values.
    pub unit: String,
    /// Covers the truth with probability `interval_level`; for anomalies, what
    /// 90 % of usual minutes score.
    pub interval: Option<[f64; 2]>,
    /// A share.
    pub interval_level: f64,
    /// The model's name.
    pub model: String,
    /// Its version in the registry.
    pub version: u64,
    /// What the best baseline says.
    pub baseline_value: Option<f64>,
    /// What the value is about, if it is about one metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Event time of the features, UTC ms.
    pub features_at_ms: i64,
    /// Their age now, seconds.
    pub features_age_s: f64,
    /// Whether the features are `provisional` or `final`.
    pub status: String,
}

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// There is no such task.
    #[error("there is no task `{0}`")]
    UnknownTask(String),
    /// There is no such zone.
    #[error("there are no features of zone `{0}`")]
    UnknownZone(ZoneId),
    /// No model was trained yet.
    #[error("there is no champion of task `{0}` yet")]
    NoChampion(String),
    /// The zone lacks what the task is about.
    #[error("task `{task}` does not apply to zone `{zone}`: {why}")]
    NotApplicable {
        /// The task.
        task: String,
        /// The zone.
        zone: ZoneId,
        /// What is missing.
        why: String,
    },
    /// The feature store failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl Trainer {
    /// A trainer with the champions that the registry has.
    ///
    /// # Errors
    /// Where the registry cannot be read. A champion that is refused is logged
    /// and left out.
    pub fn new(settings: Settings, source: Source) -> Result<Self, TrainError> {
        let registry = Registry::new(&settings.registry_dir);
        let champions = RwLock::default();
        let trainer = Self(Arc::new(Shared { settings, source, registry, champions }));
        for task in tasks::NAMES {
            if let Err(error) = trainer.load_champion(task) {
                tracing::error!(task, %error, "no champion");
            }
        }
        Ok(trainer)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn source(&self) -> &Source {
        &self.0.source
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Takes the registry's champion of a task into service.
    ///
    /// # Errors
    /// Where it is refused; the one in service stays.
    pub fn load_champion(&self, task: &str) -> Result<(), TrainError> {
        let Some(champion) = self.0.registry.champion(task)? else { return Ok(()) };
        let artifact = self.0.registry.load(task, champion.version)?;
        let champion = Arc::new(Champion { version: champion.version, artifact });
        let mut champions = self.0.champions.write().unwrap_or_else(PoisonError::into_inner);
        champions.insert(task.to_owned(), champion);
        Ok(())
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
        self.0.source.zones().await
    }

    /// Predicts for a zone as it is now.
    ///
    /// # Errors
    /// See [`PredictError`].
    pub async fn predict(&self, task: &str, zone: &ZoneId) -> Result<Prediction, PredictError> {
        if !tasks::NAMES.contains(&task) {
            return Err(PredictError::UnknownTask(task.to_owned()));
        }
        let no_champion = || PredictError::NoChampion(task.to_owned());
        let champion = self.champion(task).ok_or_else(no_champion)?;
        let latest = self.0.source.latest(zone).await?;
        let latest = latest.ok_or_else(|| PredictError::UnknownZone(zone.clone()))?;
        match tasks::all().into_iter().find(|own| own.name() == task) {
            Some(own) => self.regress(own.as_ref(), zone, &champion, &latest),
            None => self.detect(zone, &champion, &latest).await,
        }
    }

    fn regress(
        &self,
        task: &dyn Task,
        zone: &ZoneId,
        champion: &Champion,
        latest: &Latest,
    ) -> Result<Prediction, PredictError> {
        let Champion { artifact, .. } = champion;
        let not_applicable = |why: String| PredictError::NotApplicable {
            task: task.name().to_owned(),
            zone: zone.clone(),
            why,
        };
        let column = |name: &str| latest.features.get(name).copied().unwrap_or(f64::NAN);
        for metric in task.metrics() {
            if column(&format!("{metric}_last")).is_nan() {
                return Err(not_applicable(format!("it has no {metric}")));
            }
        }
        let serving: backtest::Serving =
            serde_json::from_value(artifact.serving.clone()).map_err(|error| {
                not_applicable(format!("its model says nothing of serving: {error}"))
            })?;
        let comfort = self.settings().comfort_in(zone);
        let input = |name: &str| Input::parse(name).value(&comfort, column);
        let x: Vec<f64> = artifact.schema.features.iter().map(|name| input(name)).collect();
        let x = Array2::from_shape_vec((1, x.len()), x).expect("one row");
        let anchor = task.anchor().map_or(0.0, |name| input(name));
        let (low, high) = task.bounds();
        let level = |said: f64| (said + anchor).clamp(low, high);
        let value = level(artifact.predictor.predict(x.view())[0]);
        let (baseline_input, factor) = &serving.baseline;
        let baseline = match baseline_input {
            Some(name) => Some(input(name)).filter(|value| value.is_finite()).map(|v| v * factor),
            None => Some(0.0),
        };
        let interval = serving
            .half_width
            .map(|half| [(value - half).clamp(low, high), (value + half).clamp(low, high)]);
        Ok(Prediction {
            value,
            interval,
            interval_level: serving.level,
            baseline_value: baseline.map(level),
            ..about(task.name(), zone, champion, latest)
        })
    }

    async fn detect(
        &self,
        zone: &ZoneId,
        champion: &Champion,
        latest: &Latest,
    ) -> Result<Prediction, PredictError> {
        let not_applicable = |why: &str| PredictError::NotApplicable {
            task: anomaly::NAME.to_owned(),
            zone: zone.clone(),
            why: why.to_owned(),
        };
        let serving: anomaly::Serving =
            serde_json::from_value(champion.artifact.serving.clone())
                .map_err(|_| not_applicable("its model says nothing of serving"))?;
        let metrics = serving.scales.keys().filter_map(|key| key.strip_prefix(&format!("{zone} ")));
        let columns: Vec<String> =
            metrics.flat_map(|m| [format!("{m}_last"), format!("{m}_age_s")]).collect();
        if columns.is_empty() {
            return Err(not_applicable("it had no metric that moves when the model was trained"));
        }
        let query = FrameQuery {
            zones: Some(vec![zone.clone()]),
            from_ms: Some(latest.at_ms - anomaly::HISTORY_S * 1000),
            to_ms: None,
            columns: Some(columns),
            step_s: None,
        };
        let table = self.0.source.frame(&query).await?;
        let frames = ZoneFrame::by_zone(&table)?;
        let score = frames
            .first()
            .and_then(|frame| anomaly::score(zone, frame, &serving, &champion.artifact.predictor));
        let score = score.ok_or_else(|| not_applicable("it has no fresh readings"))?;
        let (low, high) = serving.usual;
        Ok(Prediction {
            value: score.value,
            interval: Some([low, high]),
            interval_level: 0.9,
            metric: Some(score.metric),
            ..about(anomaly::NAME, zone, champion, latest)
        })
    }
}

/// The parts of a prediction that are the same for all tasks.
fn about(task: &str, zone: &ZoneId, champion: &Champion, latest: &Latest) -> Prediction {
    let now_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    Prediction {
        task: task.to_owned(),
        zone: zone.clone(),
        value: f64::NAN,
        unit: champion.artifact.unit.clone(),
        interval: None,
        interval_level: 0.0,
        model: champion.artifact.model.clone(),
        version: champion.version,
        baseline_value: None,
        metric: None,
        features_at_ms: latest.at_ms,
        features_age_s: (now_ms - latest.at_ms) as f64 / 1000.0,
        status: latest.status.clone(),
    }
}
