//! A real feature store and the trainer: an embedded log, a DuckDB file, and the REST
//! API over it. The trainer reads features in the same process or over HTTP.

use std::{f64::consts::TAU, path::Path, sync::Arc, time::Duration};

use eventlog::{EventLog, Record};
use feature_store::{FeatureReader, FeatureStore, FrameQuery, RevisionMode, RowStatus};
use models::{
    FeatureSchema, FittedRegressor,
    registry::{DecisionKind, DecisionRecord},
    regressors::{column::ScaledColumn, constant::ConstantModel},
};
use service::Secret;
use telemetry::{MetricTable, SensorReading, SensorReport, ZoneId, topic::READINGS};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainer::{
    Trainer, TrainerSettings, score::LoggedPrediction, target_transform::TargetTransform,
};

use crate::handmade_champion::promote_model;

const TASK: &str = "temperature-10m";
const MINUTE_MS: i64 = 60_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;
const DAY_MINUTES: i64 = 1440;
const ZONE: &str = "farm/bay-1";
/// Few windows, so that rows are computed quickly.
const FEATURES: &str = r#"
version = 1
[windows]
10m = ["mean", "min", "max", "first", "slope"]
1h = ["mean", "slope"]
"#;

/// A site with one zone, whose readings tests send.
struct TestSite {
    dir: TempDir,
    log: EventLog,
    store: FeatureStore,
    url: String,
    stop: CancellationToken,
    sent: u64,
}

impl TestSite {
    fn start(features: &str) -> Self {
        Self::start_with(features, |_| {})
    }

    fn start_with(
        features: &str,
        change: impl FnOnce(&mut feature_store::FeatureStoreSettings),
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let mut settings = feature_store::FeatureStoreSettings::default();
        change(&mut settings);
        settings.store.path = dir.path().join("microclimate.duckdb");
        settings.log = eventlog::EventLogConfig::for_embedded(&dir.path().join("log"));
        settings.commit.interval_ms = 20;
        if !features.is_empty() {
            settings.engine.features = dir.path().join("features.toml");
            std::fs::write(&settings.engine.features, features).unwrap();
        }
        let log = EventLog::open(&settings.log).unwrap();
        let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let routes = feature_store::routes(store.clone());
        tokio::spawn(service::rest::serve_routes(
            listener,
            routes,
            Secret::default(),
            stop.clone(),
        ));
        let (running, log_of_store, until) = (store.clone(), log.clone(), stop.clone());
        tokio::spawn(async move { running.run(&log_of_store, until).await });
        Self { dir, log, store, url, stop, sent: 0 }
    }

    /// Sends readings (event time, arrival, metric, value) and waits until they are committed.
    async fn send_readings(&mut self, readings: &[(i64, i64, &str, f64)]) {
        let writer = self.log.open_writer(READINGS).unwrap();
        let mut receipts = Vec::new();
        for (event_ms, arrival_ms, metric, value) in readings {
            self.sent += 1;
            let (site, zone) = ZONE.split_once('/').unwrap();
            let report = SensorReport {
                zone: ZoneId::new(site, zone),
                device: "probe".into(),
                boot: Some("b1".into()),
                seq: Some(self.sent),
                arrival_ms: *arrival_ms,
                source: telemetry::ReportSource::Replay,
                readings: vec![SensorReading {
                    metric: (*metric).into(),
                    event_ms: *event_ms,
                    value: *value,
                }],
            };
            let record = Record::new(ZONE.to_owned(), report.to_json(), *arrival_ms);
            receipts.push(writer.append(record).await.unwrap());
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
        let taken_in = async {
            while self.store.committed_counts().readings < self.sent {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), taken_in).await.expect("all is taken in");
    }

    /// Sends one temperature reading for each of these minutes, without delay.
    async fn send_minutes(&mut self, minutes: std::ops::Range<i64>, value: impl Fn(i64) -> f64) {
        let reading = |minute: i64| {
            let at_ms = START_MS + minute * MINUTE_MS;
            (at_ms, at_ms, "temperature", value(minute))
        };
        self.send_readings(&minutes.map(reading).collect::<Vec<_>>()).await;
    }

    fn open_trainer(&self, change: impl FnOnce(&mut TrainerSettings)) -> Trainer {
        let settings = site_settings(self.dir.path(), &self.url, change);
        let source = settings.source.new_client().unwrap();
        Trainer::new(settings, Arc::new(source)).unwrap()
    }

    /// The feature store in this process, then the same one over HTTP.
    fn feature_readers(&self) -> [Arc<dyn FeatureReader>; 2] {
        let settings = site_settings(self.dir.path(), &self.url, |_| {});
        [Arc::new(self.store.clone()), Arc::new(settings.source.new_client().unwrap())]
    }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn site_settings(
    dir: &Path,
    url: &str,
    change: impl FnOnce(&mut TrainerSettings),
) -> TrainerSettings {
    let mut settings = TrainerSettings {
        registry_dir: dir.join("models"),
        reports_dir: dir.join("reports"),
        ..TrainerSettings::default()
    };
    url.clone_into(&mut settings.source.url);
    settings.split.train_rows_max = 1500;
    settings.split.warm_up_s = 3600;
    // These readings are of 2025.
    settings.serving.stale_s = 0.0;
    settings.watch.journal_dir = dir.join("predictions");
    settings.watch.every_s = 1;
    settings.watch.settle_s = 0.0;
    settings.watch.retrain_every_h = 0.0;
    settings.watch.retrain_on_drift = false;
    settings.watch.retrain_pause_h = 0.0;
    settings.watch.retrain_tasks = vec![TASK.to_owned()];
    settings.watch.retrain_models = vec!["ridge".to_owned()];
    change(&mut settings);
    settings
}

/// Swings of a day and of three hours, and what looks like noise.
fn temperature_at(minute: i64) -> f64 {
    let t = minute as f64;
    let noise = (minute * 7919).rem_euclid(101) as f64 / 101.0 - 0.5;
    20.0 + 3.0 * (TAU * t / 1440.0).sin() + 2.0 * (TAU * t / 180.0).sin() + 0.1 * noise
}

/// Temperature after a change of the heating: warmer, with swings of 40 minutes.
fn drifted_temperature(minute: i64) -> f64 {
    temperature_at(minute) + 8.0 + 3.0 * (TAU * minute as f64 / 40.0).sin()
}

/// Watches until the token is cancelled.
fn spawn_watch(trainer: &Trainer) -> (JoinHandle<()>, CancellationToken) {
    let (trainer, stop) = (trainer.clone(), CancellationToken::new());
    let until = stop.clone();
    (tokio::spawn(async move { trainer.watch_models(None, until).await }), stop)
}

/// Waits until the decision log satisfies the condition, at most a minute.
async fn wait_for_log(
    trainer: &Trainer,
    what: &str,
    wanted: impl Fn(&[DecisionRecord]) -> bool,
) -> Vec<DecisionRecord> {
    for _ in 0..600 {
        let mut log = trainer.registry().recent_decisions(TASK, 100).unwrap();
        log.reverse();
        if wanted(&log) {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "no {what} within a minute: {:?}",
        trainer.registry().recent_decisions(TASK, 100).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_reading_corrects_rows_and_no_input() {
    let mut site = TestSite::start(FEATURES);
    let usual = |minute: i64| 20.0 + 0.01 * (minute % 7) as f64;
    site.send_minutes(0..60, usual).await;
    // A reading of minute 30, half an hour late.
    let (event_ms, arrival_ms) = (START_MS + 30 * MINUTE_MS + 1, START_MS + 60 * MINUTE_MS);
    site.send_readings(&[(event_ms, arrival_ms, "temperature", 20.5)]).await;
    site.send_minutes(60..70, usual).await;
    let columns = vec!["temperature_max_10m".to_owned()];
    let query = FrameQuery { columns: Some(columns), ..FrameQuery::default() };
    for reader in site.feature_readers() {
        let check = async |mode: RevisionMode, expect: f64| {
            let table = reader.read_frame(&query, mode).await.unwrap();
            let at_ms = table.column("at_ms").unwrap().i64().unwrap().clone();
            let max = table.column("temperature_max_10m").unwrap().f64().unwrap().clone();
            let row = at_ms.iter().position(|at| at == Some(START_MS + 35 * MINUTE_MS)).unwrap();
            assert_eq!(max.get(row), Some(expect), "{mode:?}");
        };
        check(RevisionMode::AsKnown, usual(6)).await;
        check(RevisionMode::AsCorrected, 20.5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_trained_again_on_a_schedule_and_on_drift_and_promoted_by_the_gate_alone() {
    let mut site = TestSite::start(FEATURES);
    site.send_minutes(0..2 * DAY_MINUTES, temperature_at).await;

    // A schedule of two seconds: the first version becomes champion. The next, of the same rows, is
    // not better and stays a challenger.
    let scheduled = site.open_trainer(|settings| settings.watch.retrain_every_h = 2.0 / 3600.0);
    let (watching, stop) = spawn_watch(&scheduled);
    let log = wait_for_log(&scheduled, "second version", |log| {
        log.iter().filter(|entry| entry.what == DecisionKind::Kept).count() >= 2
            && log.last().is_some_and(|entry| entry.what != DecisionKind::Kept)
    })
    .await;
    stop.cancel();
    watching.await.unwrap();
    assert!(log.iter().all(|entry| entry.who == "trainer watch"), "{log:?}");
    let decided: Vec<DecisionKind> =
        log.iter().map(|entry| entry.what).filter(|what| *what != DecisionKind::Kept).collect();
    assert_eq!(decided[..2], [DecisionKind::Promoted, DecisionKind::Held], "{log:?}");
    let aliases = scheduled.registry().current_aliases(TASK).unwrap();
    let first = aliases.champion.unwrap().version;
    assert_ne!(aliases.challenger.unwrap().version, first);

    // No schedule: drift alone is a reason, and there is none yet.
    let careful = site.open_trainer(|settings| settings.watch.retrain_on_drift = true);
    for minute in 2 * DAY_MINUTES..2 * DAY_MINUTES + 30 {
        site.send_minutes(minute..minute + 1, temperature_at).await;
        careful.predict_and_score(None).await.unwrap();
    }
    assert_eq!(careful.reason_to_train(TASK).unwrap(), None);
    // Predictions before the drift were scored once their actual values were known.
    let score = careful.scores().task_score(TASK).unwrap();
    assert!(score.scored >= 10 && score.mae.unwrap() < 0.3, "{score:?}");
    let before = careful.registry().recent_decisions(TASK, 1).unwrap()[0].number;

    // Three days of different temperatures.
    let drift_from = 2 * DAY_MINUTES + 30;
    site.send_minutes(drift_from..5 * DAY_MINUTES, drifted_temperature).await;
    for minute in 5 * DAY_MINUTES..5 * DAY_MINUTES + 40 {
        site.send_minutes(minute..minute + 1, drifted_temperature).await;
        careful.predict_and_score(None).await.unwrap();
    }
    let why = careful.reason_to_train(TASK).unwrap().expect("there is drift");
    assert!(why.contains("outside what training saw"), "{why}");
    let (watching, stop) = spawn_watch(&careful);
    let log = wait_for_log(&careful, "decision about drift", |log| {
        log.iter().any(|entry| entry.number > before && entry.what != DecisionKind::Kept)
    })
    .await;
    stop.cancel();
    watching.await.unwrap();
    let decided = log
        .iter()
        .find(|entry| {
            entry.number > before
                && matches!(entry.what, DecisionKind::Promoted | DecisionKind::Held)
        })
        .unwrap();
    assert_eq!(decided.what, DecisionKind::Promoted, "{decided:?}");
    let evidence = decided.evidence.as_ref().unwrap();
    assert_eq!(evidence.against, Some(first), "the champion was the rival");
    assert!(evidence.p_value < Some(0.05), "{evidence:?}");
    assert!(decided.version > first);

    // Actual values in the journal are the measured ones.
    let mut actual_count = 0;
    for file in std::fs::read_dir(site.dir.path().join("predictions")).unwrap() {
        for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let noted: LoggedPrediction = serde_json::from_str(line).unwrap();
            let Some(actual) = noted.truth else { continue };
            let minute = (noted.at_ms - START_MS) / MINUTE_MS + 10;
            if (drift_from..drift_from + 5).contains(&minute) {
                continue; // the jump is not confirmed yet
            }
            let measured = if minute < drift_from {
                temperature_at(minute)
            } else {
                drifted_temperature(minute)
            };
            assert!((actual - measured).abs() < 1e-9, "{noted:?}: measured {measured}");
            actual_count += 1;
        }
    }
    assert!(actual_count >= 30, "{actual_count} actual values");
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_inputs_are_those_of_the_same_hour_yesterday() {
    let mut site = TestSite::start(FEATURES);
    let trainer = site.open_trainer(|settings| settings.serving.missing_max = 1.0);
    let input = "temperature_mean_1h 23h ago - temperature_mean_1h 22h ago";
    let schema = FeatureSchema { features: vec![input.to_owned()] };
    // The model predicts this difference, or -5 if it is not known.
    let column = ScaledColumn::from_schema(&schema, input, 1.0, -5.0).unwrap();
    promote_model(&trainer, TASK, input, column, TargetTransform::Change).unwrap();
    let predict = async || {
        let prediction = trainer.predict_zone(TASK, &ZONE.parse().unwrap()).await.unwrap();
        assert!(!prediction.fallback, "{prediction:?}");
        prediction.value
    };
    site.send_minutes(0..DAY_MINUTES - 60, temperature_at).await;
    let change = predict().await - temperature_at(DAY_MINUTES - 61);
    assert!((change + 5.0).abs() < 1e-9, "{change} before there was a yesterday");
    site.send_minutes(DAY_MINUTES - 60..2 * DAY_MINUTES, temperature_at).await;
    for now in 2 * DAY_MINUTES - 1..2 * DAY_MINUTES + 2 {
        if now >= 2 * DAY_MINUTES {
            site.send_minutes(now..now + 1, temperature_at).await;
        }
        // A reading at a full minute belongs to the minute before.
        let mean = |after: i64| {
            let hour = now - DAY_MINUTES + after + 1..=now - DAY_MINUTES + after + 60;
            hour.map(temperature_at).sum::<f64>() / 60.0
        };
        let change = predict().await - temperature_at(now);
        // Means are weighted by time: a reading counts for as long as it holds.
        let expect = mean(0) - mean(60);
        assert!((change - expect).abs() < 0.1, "minute {now}: {change}, expected about {expect}");
        assert_eq!(predict().await - temperature_at(now), change, "the prediction is repeatable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_an_earlier_meaning_of_its_task_is_refused() {
    let site = TestSite::start(FEATURES);
    let trainer = site.open_trainer(|_| {});
    let constant = FittedRegressor::Constant(ConstantModel { value: 12.0 });
    let refused =
        promote_model(&trainer, "heating", "temperature_now", constant, TargetTransform::Change);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("heating, version 1") && refused.contains("compare"), "{refused}");
    assert!(trainer.champion("heating").is_none());
    assert!(trainer.refusal_reason("heating").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_of_watering_says_how_many_minutes_to_give() {
    let mut site = TestSite::start("");
    let trainer = site.open_trainer(|_| {});
    let constant = FittedRegressor::Constant(ConstantModel { value: 12.0 });
    promote_model(&trainer, "watering", "soil_moisture_now", constant, TargetTransform::Change)
        .unwrap();
    let irrigation = async || {
        let prediction = trainer.predict_zone("watering", &ZONE.parse().unwrap()).await.unwrap();
        assert_eq!(prediction.value, 12.0);
        prediction.irrigation.unwrap()
    };
    // A day of drying, 0.6 % an hour from 45 %.
    let drying = |from: i64, minutes: std::ops::Range<i64>, pct: f64| -> Vec<_> {
        minutes
            .step_by(10)
            .map(|minute| {
                let at_ms = START_MS + (from + minute) * MINUTE_MS;
                (at_ms, at_ms, "soil_moisture", pct - 0.01 * minute as f64)
            })
            .collect()
    };
    site.send_readings(&drying(0, 0..DAY_MINUTES, 45.0)).await;
    let before = irrigation().await;
    assert_eq!(before.minutes, None);
    assert!(before.reason.unwrap().contains("no watering"));
    // Ten minutes of irrigation add 15 %; then the soil dries for a day and a half.
    let valve = |minute: i64, on: f64| {
        let at_ms = START_MS + minute * MINUTE_MS;
        (at_ms, at_ms, "irrigation", on)
    };
    site.send_readings(&[valve(DAY_MINUTES, 1.0), valve(DAY_MINUTES + 10, 0.0)]).await;
    site.send_readings(&drying(DAY_MINUTES + 20, 0..3 * DAY_MINUTES / 2, 45.6)).await;
    let after = irrigation().await;
    let response = after.response_pct_min.unwrap();
    assert!((1.2..=1.8).contains(&response), "15 % in ten minutes: {after:?}");
    let latest = site.store.latest_features(&ZONE.parse().unwrap()).await.unwrap();
    let moisture = latest.unwrap().feature_value("soil_moisture_last");
    let minutes = after.minutes.unwrap();
    assert!((minutes - (40.0 - moisture) / response).abs() < 1e-6, "{after:?} at {moisture} %");
    assert!(minutes > 5.0 && after.reason.is_none(), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_has_the_status_of_the_row_that_it_used() {
    let mut site = TestSite::start(FEATURES);
    site.send_minutes(0..60, temperature_at).await;
    let zone: ZoneId = ZONE.parse().unwrap();
    let newest_ms = START_MS + 59 * MINUTE_MS;
    let trainers: Vec<Trainer> = site
        .feature_readers()
        .into_iter()
        .enumerate()
        .map(|(number, reader)| {
            let dir = site.dir.path().join(number.to_string());
            Trainer::new(site_settings(&dir, &site.url, |_| {}), reader).unwrap()
        })
        .collect();
    for trainer in &trainers {
        let constant = FittedRegressor::Constant(ConstantModel { value: 1.0 });
        promote_model(trainer, TASK, "temperature_last", constant, TargetTransform::Change)
            .unwrap();
    }
    let check = async |expect: RowStatus| {
        for trainer in &trainers {
            let prediction = trainer.predict_zone(TASK, &zone).await.unwrap();
            assert_eq!(prediction.features_at_ms, newest_ms, "{prediction:?}");
            assert_eq!(prediction.status, expect, "{prediction:?}");
            let json = serde_json::to_value(&prediction).unwrap();
            assert_eq!(json["status"], expect.as_str());
        }
    };
    check(RowStatus::Provisional).await;
    // A reading of minute 30 arrives an hour after the newest one: the watermark, which
    // follows arrivals, has passed the newest row.
    let (event_ms, arrival_ms) = (START_MS + 30 * MINUTE_MS + 1, newest_ms + 60 * MINUTE_MS);
    site.send_readings(&[(event_ms, arrival_ms, "temperature", 20.5)]).await;
    check(RowStatus::Final).await;
    // The next reading makes a newer row, which can still change.
    let (event_ms, arrival_ms) = (arrival_ms + MINUTE_MS, arrival_ms + MINUTE_MS);
    site.send_readings(&[(event_ms, arrival_ms, "temperature", 20.5)]).await;
    for trainer in &trainers {
        let prediction = trainer.predict_zone(TASK, &zone).await.unwrap();
        assert_eq!(prediction.features_at_ms, event_ms, "{prediction:?}");
        assert_eq!(prediction.status, RowStatus::Provisional, "{prediction:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_are_scored_however_late_rows_become_final() {
    for lateness_s in [120, 900, 3600] {
        let mut site =
            TestSite::start_with(FEATURES, |settings| settings.engine.lateness_s = lateness_s);
        site.send_minutes(0..60, temperature_at).await;
        let trainer = site.open_trainer(|_| {});
        let constant = FittedRegressor::Constant(ConstantModel { value: 0.0 });
        promote_model(&trainer, TASK, "temperature_last", constant, TargetTransform::Change)
            .unwrap();
        for minute in 60..160 {
            site.send_minutes(minute..minute + 1, temperature_at).await;
            trainer.predict_and_score(None).await.unwrap();
        }
        let score = trainer.scores().task_score(TASK).unwrap();
        // 100 predictions, whose horizon is ten minutes.
        let expected = 100 - 10 - lateness_s as usize / 60 - 5;
        assert!(score.scored >= expected, "{lateness_s} s: {score:?}");
        assert_eq!(score.unknown, 0, "{lateness_s} s: {score:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_in_the_process_and_over_http_give_the_same_answers() {
    let mut site = TestSite::start(FEATURES);
    site.send_minutes(0..90, temperature_at).await;
    let [local, remote] = site.feature_readers();
    let zone: ZoneId = ZONE.parse().unwrap();

    assert_eq!(local.list_zones().await.unwrap(), std::slice::from_ref(&zone));
    assert_eq!(remote.list_zones().await.unwrap(), std::slice::from_ref(&zone));

    let columns = local.feature_columns().await.unwrap();
    assert!(columns.contains("temperature_slope_1h"), "{columns:?}");
    assert_eq!(remote.feature_columns().await.unwrap(), columns);

    let latest = local.latest_features(&zone).await.unwrap().unwrap();
    assert_eq!(latest.feature_value("temperature_last"), temperature_at(89));
    assert_eq!(remote.latest_features(&zone).await.unwrap().unwrap(), latest);
    let nowhere = ZoneId::new("farm", "nowhere");
    for reader in [&local, &remote] {
        assert_eq!(reader.latest_features(&nowhere).await.unwrap(), None);
    }

    let query = FrameQuery {
        zones: Some(vec![zone]),
        from_ms: Some(START_MS + 10 * MINUTE_MS),
        to_ms: Some(START_MS + 40 * MINUTE_MS),
        columns: Some(vec!["temperature_mean_10m".into(), "temperature_slope_1h".into()]),
        step_s: Some(300),
        version: None,
    };
    for mode in [RevisionMode::AsKnown, RevisionMode::AsCorrected] {
        let frame = local.read_frame(&query, mode).await.unwrap();
        assert_eq!(frame.shape(), (7, 5), "{frame:?}");
        assert!(remote.read_frame(&query, mode).await.unwrap().equals_missing(&frame));
    }

    let unknown = FrameQuery { columns: Some(vec!["weather".into()]), ..FrameQuery::default() };
    for reader in [&local, &remote] {
        let refused = reader.read_frame(&unknown, RevisionMode::AsKnown).await.unwrap_err();
        assert!(refused.to_string().contains("weather"), "{refused}");
    }
}
