//! A model's life after it was chosen: every zone is predicted, predictions are
//! scored once the truth has come, and models are trained again as challengers.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use feature_store::{FrameQuery, Mode};
use telemetry::ZoneId;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Request,
    backtest::Depth,
    error::TrainError,
    frame::ZoneFrame,
    publish::Publisher,
    score::{Noted, truth},
    serve::Trainer,
    settings::Settings,
    tasks::{self, Task},
};
use models::registry::{By, What};

/// Who decides here.
const WHO: &str = "trainer watch";
/// Seconds.
const HOUR: f64 = 3600.0;

/// Watches and publishes until `stop`, as far as the settings say so.
///
/// # Errors
/// [`TrainError::Mqtt`] where the settings make no client.
pub async fn run(
    settings: &Settings,
    trainer: Trainer,
    stop: CancellationToken,
) -> Result<(), TrainError> {
    let Settings { watch, mqtt, .. } = settings;
    if !watch.enabled {
        return Ok(());
    }
    if !mqtt.enabled {
        trainer.watch(None, stop).await;
        return Ok(());
    }
    let (publisher, events) = Publisher::new(mqtt, watch.every_s)?;
    let sender = publisher.clone();
    tokio::join!(trainer.watch(Some(publisher), stop.clone()), sender.run(events, stop));
    Ok(())
}

impl Trainer {
    /// Watches until `stop`: see the module. Nothing that fails ends it.
    pub async fn watch(&self, publisher: Option<Publisher>, stop: CancellationToken) {
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
            if let Err(error) = self.round(publisher.as_ref()).await {
                warn!(%error, "this round of predictions is left out");
            }
        }
    }

    /// Predicts every zone once, and scores what is due.
    ///
    /// # Errors
    /// Where the feature store fails.
    pub async fn round(&self, publisher: Option<&Publisher>) -> Result<(), TrainError> {
        self.refresh().await;
        let mut clocks: HashMap<ZoneId, i64> = HashMap::new();
        for zone in self.zones().await? {
            for name in tasks::NAMES {
                if self.champion(name).is_none() {
                    continue;
                }
                // A task that does not apply to a zone says so each time.
                let Ok(said) = self.predict(name, &zone).await else { continue };
                clocks.insert(zone.clone(), said.features_at_ms);
                if let Some(publisher) = publisher {
                    publisher.publish(&said);
                }
                // Anomalies have no truth to wait for.
                if let Some(task) = tasks::all().into_iter().find(|task| task.about().name == name)
                {
                    self.scores().note(&said, task.about().step_s);
                }
            }
        }
        for task in tasks::all() {
            for (zone, clock_ms) in &clocks {
                let due = self.scores().due(task.as_ref(), zone, *clock_ms);
                if !due.is_empty() {
                    self.score(task.as_ref(), zone, &due).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes champions into service that other processes promoted.
    async fn refresh(&self) {
        let trainer = self.clone();
        let work = move || {
            for task in tasks::NAMES {
                if let Err(error) = trainer.load_champion(task) {
                    warn!(task, %error, "the champion in service stays");
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            error!(%error, "champions are not looked for");
        }
    }

    /// Looks up what came of predictions of one zone.
    async fn score(&self, task: &dyn Task, zone: &ZoneId, due: &[Noted]) -> Result<(), TrainError> {
        let known = self.source().columns().await?;
        let own = task.about().truth_columns.iter().filter(|column| known.contains(**column));
        let columns = own.map(|column| (*column).to_owned()).collect();
        let times = || due.iter().map(|noted| noted.at_ms);
        let (Some(first_ms), Some(last_ms)) = (times().min(), times().max()) else {
            return Ok(());
        };
        let query = FrameQuery {
            zones: Some(vec![zone.clone()]),
            from_ms: Some(first_ms - 60_000),
            to_ms: Some(last_ms + task.about().horizon_s * 1000 + 60_000),
            columns: Some(columns),
            ..FrameQuery::default()
        };
        let frames = ZoneFrame::by_zone(&self.source().frame(&query, Mode::AsCorrected).await?)?;
        let comfort = self.settings().comfort_in(zone);
        for noted in due {
            let truth =
                frames.first().and_then(|frame| truth::truth(task, frame, noted.at_ms, &comfort));
            self.scores().learn(noted, truth);
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
            for name in tasks::asked(&self.settings().watch.retrain_tasks) {
                let pause = Duration::from_secs_f64(HOUR * self.settings().watch.retrain_pause_h);
                if tried.get(name).is_some_and(|last| last.elapsed() < pause) {
                    continue;
                }
                let why = match self.reason_to_train(name) {
                    Ok(Some(why)) => why,
                    Ok(None) => continue,
                    Err(error) => {
                        warn!(task = name, %error, "it is not known whether to train again");
                        continue;
                    }
                };
                tried.insert(name, Instant::now());
                info!(task = name, why, "training again");
                if let Err(error) = self.retrain(name).await {
                    warn!(task = name, %error, "training again failed, the champion stays");
                }
            }
        }
    }

    /// Why a task is to be trained again now, if it is.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn reason_to_train(&self, task: &str) -> Result<Option<String>, TrainError> {
        let settings = &self.settings().watch;
        let newest = self.registry().log(task, 20)?;
        let kept = newest.iter().find(|entry| entry.what == What::Kept);
        let age_h = kept
            .map_or(f64::INFINITY, |entry| (crate::now_ms() - entry.at_ms) as f64 / 1000.0 / HOUR);
        if settings.retrain_every_h > 0.0 && age_h >= settings.retrain_every_h {
            return Ok(Some(match kept {
                Some(_) => format!("the newest version is {age_h:.0} h old"),
                None => "there is no version yet".to_owned(),
            }));
        }
        let fresh = !settings.retrain_on_drift || age_h < settings.retrain_pause_h;
        let Some(score) = self.scores().of(task).filter(|_| !fresh) else { return Ok(None) };
        if score.is_worse_than_baseline() {
            return Ok(Some("the baseline does better on what was served".to_owned()));
        }
        let outside = score.outside_share.unwrap_or_default();
        Ok((outside > self.settings().serving.outside_max)
            .then(|| format!("{:.0} % of inputs are outside what training saw", 100.0 * outside)))
    }

    /// Trains a task's models again; the gate decides. Then old versions go.
    async fn retrain(&self, task: &str) -> Result<(), TrainError> {
        let request = Request {
            tasks: vec![task.to_owned()],
            models: self.settings().watch.retrain_models.clone(),
            depth: Depth::Quick,
            out: Some(self.settings().reports_dir.join("watch")),
            who: Some(WHO.to_owned()),
            ..Request::default()
        };
        let compared = self.compare(&request, |_| {}).await?;
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
                (None, Some(own)) => info!(task, why = own.why, "it does not apply"),
                (None, None) => {}
            }
        }
        let surplus = self.registry().surplus(task, self.settings().watch.versions_kept)?;
        let by = By { who: WHO, why: "more versions than watch.versions_kept" };
        Ok(self.registry().remove(task, &surplus, by)?)
    }
}
