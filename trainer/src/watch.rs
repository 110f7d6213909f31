//! Life of a model after its selection: every zone is predicted, predictions are scored once the
//! actual values are known, and models are trained again as challengers.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use feature_api::{FrameQuery, RevisionMode};
use telemetry::ZoneId;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    CompareRequest,
    backtest::ComparisonDepth,
    error::TrainError,
    feature_frame::ZoneFrame,
    publish::Publisher,
    score::{LoggedPrediction, actual_value},
    serve::Trainer,
    settings::TrainerSettings,
    tasks::{self, PredictionTask},
};
use models::registry::{DecisionAuthor, DecisionKind};

/// Author of the decisions made here.
const WHO: &str = "trainer watch";
/// Duration of an hour, s.
const HOUR: f64 = 3600.0;
/// Distance of feature rows, ms.
const MINUTE_MS: i64 = 60_000;

/// Watches and publishes until `stop`, as far as the settings enable it.
///
/// # Errors
/// [`TrainError::Mqtt`] if no client can be made from the settings.
pub async fn run_watch(
    settings: &TrainerSettings,
    trainer: Trainer,
    stop: CancellationToken,
) -> Result<(), TrainError> {
    let TrainerSettings { watch, mqtt, .. } = settings;
    if !watch.enabled {
        return Ok(());
    }
    if !mqtt.enabled {
        trainer.watch_models(None, stop).await;
        return Ok(());
    }
    let (publisher, events) = Publisher::new(mqtt, watch.every_s)?;
    let sender = publisher.clone();
    tokio::join!(
        trainer.watch_models(Some(publisher), stop.clone()),
        sender.run_client(events, stop)
    );
    Ok(())
}

impl Trainer {
    /// Predicts, scores and retrains until `stop`: see the module. No error ends it.
    pub async fn watch_models(&self, publisher: Option<Publisher>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = async { tokio::join!(self.predict_often(publisher), self.retrain_often()) } => {}
        }
    }

    async fn predict_often(&self, publisher: Option<Publisher>) {
        let mut ticks = interval(Duration::from_secs(self.settings().watch.every_s));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.predict_and_score(publisher.as_ref()).await {
                warn!(%error, "this round of predictions is skipped");
            }
        }
    }

    /// Predicts every zone once, and scores the predictions that are due.
    ///
    /// # Errors
    /// If the feature store fails.
    pub async fn predict_and_score(&self, publisher: Option<&Publisher>) -> Result<(), TrainError> {
        self.refresh_champions().await;
        let mut clocks: HashMap<ZoneId, i64> = HashMap::new();
        let zones = self.zones().await?;
        for zone in &zones {
            for prediction in self.predict_all_tasks(zone).await {
                clocks.insert(zone.clone(), prediction.features_at_ms);
                if let Some(publisher) = publisher {
                    publisher.publish_prediction(&prediction);
                }
                // Anomalies have no truth to wait for.
                let mut tasks = tasks::all_tasks().into_iter();
                if let Some(task) = tasks.find(|task| task.spec().name == prediction.task) {
                    self.scores().note_prediction(&prediction, task.spec().step_s);
                }
            }
        }
        self.newest_predictions().retain_zones(&zones);
        for task in tasks::all_tasks() {
            for (zone, clock_ms) in &clocks {
                let due = self.scores().due_predictions(task.as_ref(), zone, *clock_ms);
                if !due.is_empty() {
                    self.score_due(task.as_ref(), zone, &due).await?;
                }
            }
        }
        Ok(())
    }

    /// Serves champions that other processes promoted.
    async fn refresh_champions(&self) {
        let trainer = self.clone();
        let work = move || {
            for task in tasks::NAMES {
                if let Err(error) = trainer.load_champion(task) {
                    warn!(task, %error, "the champion in service is kept");
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            error!(%error, "champions cannot be refreshed");
        }
    }

    /// Finds the actual values for predictions of one zone.
    async fn score_due(
        &self,
        task: &dyn PredictionTask,
        zone: &ZoneId,
        due: &[LoggedPrediction],
    ) -> Result<(), TrainError> {
        let known = self.source().feature_columns().await?;
        let needed = task.spec().truth_columns.iter().filter(|column| known.contains(**column));
        let columns = needed.map(|column| (*column).to_owned()).collect();
        let times = || due.iter().map(|noted| noted.at_ms);
        let Some(first_ms) = times().min() else { return Ok(()) };
        let query = FrameQuery {
            zones: Some(vec![zone.clone()]),
            from_ms: Some(first_ms - 60_000),
            // Open: the newest final row tells whether an actual value can still come.
            to_ms: None,
            columns: Some(columns),
            ..FrameQuery::default()
        };
        let frames = ZoneFrame::by_zone(
            &self.source().read_frame(&query, RevisionMode::AsCorrected).await?,
        )?;
        let comfort = self.settings().comfort_in(zone);
        let Some(frame) = frames.first() else { return Ok(()) };
        let final_ms = frame.at_ms.last().copied().unwrap_or(i64::MIN);
        for noted in due {
            let actual = actual_value::find_actual(task, frame, noted.at_ms, &comfort);
            // With a large `engine.lateness_s` rows become final long after they are due.
            let may_still_come = final_ms < noted.at_ms + task.spec().horizon_s * 1000 + MINUTE_MS;
            if actual.is_some() || !may_still_come {
                self.scores().record_actual(noted, actual);
            }
        }
        Ok(())
    }

    async fn retrain_often(&self) {
        let start = Instant::now();
        let mut tried: HashMap<&str, Instant> = HashMap::new();
        let settle = Duration::from_secs_f64(self.settings().watch.settle_s);
        let mut ticks = interval(Duration::from_secs(self.settings().watch.every_s));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if start.elapsed() < settle {
                continue;
            }
            for name in tasks::select_tasks(&self.settings().watch.retrain_tasks) {
                let pause = Duration::from_secs_f64(HOUR * self.settings().watch.retrain_pause_h);
                if tried.get(name).is_some_and(|last| last.elapsed() < pause) {
                    continue;
                }
                let why = match self.reason_to_train(name) {
                    Ok(Some(why)) => why,
                    Ok(None) => continue,
                    Err(error) => {
                        warn!(task = name, %error, "cannot decide whether to train again");
                        continue;
                    }
                };
                tried.insert(name, Instant::now());
                info!(task = name, why, "training again");
                if let Err(error) = self.retrain_task(name).await {
                    warn!(task = name, %error, "training again failed, the champion is kept");
                }
            }
        }
    }

    /// Reason for training a task again now, if there is one.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn reason_to_train(&self, task: &str) -> Result<Option<String>, TrainError> {
        let settings = &self.settings().watch;
        let newest = self.registry().recent_decisions(task, 20)?;
        let kept = newest.iter().find(|entry| entry.what == DecisionKind::Kept);
        let age_h = kept
            .map_or(f64::INFINITY, |entry| (crate::now_ms() - entry.at_ms) as f64 / 1000.0 / HOUR);
        if settings.retrain_every_h > 0.0 && age_h >= settings.retrain_every_h {
            return Ok(Some(match kept {
                Some(_) => format!("the newest version is {age_h:.0} h old"),
                None => "there is no version yet".to_owned(),
            }));
        }
        let fresh = !settings.retrain_on_drift || age_h < settings.retrain_pause_h;
        let Some(score) = self.scores().task_score(task).filter(|_| !fresh) else {
            return Ok(None);
        };
        if score.is_worse_than_baseline() {
            return Ok(Some("the baseline does better on what was served".to_owned()));
        }
        let outside = score.outside_share.unwrap_or_default();
        Ok((outside > self.settings().serving.outside_max)
            .then(|| format!("{:.0} % of inputs are outside what training saw", 100.0 * outside)))
    }

    /// Trains a task's models again; the gate decides. Then removes old versions.
    async fn retrain_task(&self, task: &str) -> Result<(), TrainError> {
        let request = CompareRequest {
            tasks: vec![task.to_owned()],
            models: self.settings().watch.retrain_models.clone(),
            depth: ComparisonDepth::Quick,
            out: Some(self.settings().reports_dir.join("watch")),
            who: Some(WHO.to_owned()),
            ..CompareRequest::default()
        };
        let compared = self.compare_models(&request, |_| {}).await?;
        for result in &compared.tasks {
            match (&result.offered, &result.not_applicable) {
                (Some(decision), _) => {
                    info!(
                        task,
                        version = decision.version,
                        promoted = decision.promoted,
                        why = decision.why,
                        "trained again"
                    );
                }
                (None, Some(reason)) => info!(task, why = reason.why, "the task does not apply"),
                (None, None) => {}
            }
        }
        let surplus =
            self.registry().surplus_versions(task, self.settings().watch.versions_kept)?;
        let by = DecisionAuthor { who: WHO, why: "more versions than watch.versions_kept" };
        Ok(self.registry().remove_versions(task, &surplus, by)?)
    }
}
