//! The demo: two weeks of data from message to prediction, with the models of every task, then
//! live.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use firmware_sim::{PublishCounts, Simulation, replay};
use service::shutdown;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use toml::{Table, Value};
use trainer::{
    CompareProgress, CompareRequest, ModelComparison, Prediction, TaskResult, TrainError,
    backtest::ComparisonDepth,
};

use crate::{
    app::MicroclimateApp,
    cli::DemoArgs,
    first_screen,
    progress::{ProgressStage, StatusLine, format_thousands, set_progress},
    settings::AppSettings,
    summary::{self, DemoFeatureCounts, DemoReadingCounts, DemoSummary},
};

/// File that marks a folder as written by a demo, which the next demo may replace.
const DEMO_MARKER_FILE: &str = ".microclimate-demo";
/// File with the addresses, for scripts, written once all tasks are compared.
const READY_FILE: &str = "ready.json";
/// Allowed lateness, s. The devices of a replayed history are minutes apart, which does not make
/// their readings late.
const LATENESS_S: i64 = 600;
/// Longest time, s, for the feature store to ingest the rest of the log.
const INGEST_WAIT_S_MAX: u64 = 600;

/// Result of publishing the data.
struct PlaybackResult {
    counts: PublishCounts,
    rejects: u64,
    /// Simulator, if the demo continues with live data.
    simulation: Option<Simulation>,
}

pub(crate) async fn run_demo(demo: DemoArgs) -> Result<()> {
    let data_dir = demo.common.data_dir.clone();
    // The simulated bay is watered when its mean moisture is 24.5 %.
    let bay = Table::from_iter([("soil_moisture_critical".to_owned(), Value::from(24.0))]);
    let bays = Table::from_iter([("farm/bay-1".to_owned(), Value::from(bay))]);
    // Recordings are old, so their features never count as stale.
    let stale_s = if demo.replay.replay.is_some() { 0.0 } else { 900.0 };
    // A first look takes a minute, not ten; `trainer compare` has the rest.
    let rows = |count: i64| Value::from(count);
    let defaults = [
        ("trainer.split.train_rows_max", rows(20_000)),
        ("trainer.split.selection_rows_max", rows(20_000)),
        ("trainer.split.test_rows_max", rows(20_000)),
        ("trainer.zones", Value::from(bays)),
        ("trainer.serving.stale_s", Value::from(stale_s)),
        ("feature_store.engine.lateness_s", Value::from(LATENESS_S)),
        ("simulator.simulate.days", Value::from(f64::from(demo.days))),
    ];
    let common = &demo.common;
    let mut settings =
        AppSettings::load(&data_dir, &defaults, common.config.as_deref(), &common.set)?;
    if demo.replay.replay.is_none() && settings.feature_store.engine.place.is_empty() {
        // The simulated sun is highest at noon UTC.
        settings.feature_store.engine.place = vec![settings.simulator.simulate.latitude_deg, 0.0];
    }
    prepare_data_dir(&data_dir)?;
    let stop_token = shutdown::cancel_on_signal()?;
    let app = MicroclimateApp::start(&settings)?;
    // What the history has is of the past, and nobody is silent until the live phase.
    app.alerts.expect_readings(false);
    settings.simulator.broker.host = app.mqtt.ip().to_string();
    settings.simulator.broker.port = app.mqtt.port();
    eprintln!("\n  Microclimate: one process, everything in {}", data_dir.display());
    if !demo.once {
        eprintln!("  The page is {} and fills from now on.", app.page_url());
    }
    eprintln!();

    let finished = tokio::select! {
        finished = run_stages(&demo, &data_dir, &settings, &app, &stop_token) => finished,
        () = stop_token.cancelled() => Ok(()),
        // The error of the failed service is the cause.
        () = app.failed.cancelled() => Ok(()),
    };
    app.stop().await.and(finished)
}

/// Creates an empty folder. It replaces that of an earlier demo and refuses any other content.
fn prepare_data_dir(data_dir: &Path) -> Result<()> {
    let shown = data_dir.display();
    let marker = data_dir.join(DEMO_MARKER_FILE);
    if marker.exists() {
        fs::remove_dir_all(data_dir)
            .with_context(|| format!("{shown}: cannot replace the earlier demo"))?;
    } else if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{shown} is not empty and was not made by an earlier demo\n\
             hint: choose another folder, as in `--data-dir /tmp/microclimate`"
        );
    }
    fs::create_dir_all(data_dir).with_context(|| format!("{shown}: cannot create this folder"))?;
    fs::write(&marker, "Made by `microclimate demo`, which replaces this folder the next time.\n")
        .with_context(|| format!("{shown}: cannot write to this folder"))
}

/// Plays the data, compares models and shows results; then ends, or goes on live.
async fn run_stages(
    demo: &DemoArgs,
    data_dir: &Path,
    settings: &AppSettings,
    app: &MicroclimateApp,
    shutdown: &CancellationToken,
) -> Result<()> {
    let total = Instant::now();
    let mut seconds = BTreeMap::new();
    let mut played = play_and_ingest(demo, settings, app, &mut seconds, shutdown).await?;
    if !demo.once {
        return compare_live(data_dir, app, played, shutdown).await;
    }
    let stage = ProgressStage::start_stage("comparing models");
    let bar = stage.progress_bar();
    let mut comparing = ComparisonTask::spawn(app);
    while let Some(progress) = comparing.progress.recv().await {
        set_progress(&bar, progress.completed_share(), describe_progress(&progress));
    }
    let comparison = comparing.wait_for_end().await?;
    let models: usize = comparison.tasks.iter().map(|task| task.leaderboard.len()).sum();
    let tasks = comparison.tasks.len();
    seconds.insert("compare", stage.finish_stage(&format!("{models} models of {tasks} tasks")));
    let predictions = predict_each_task(app, &comparison.tasks).await?;
    seconds.insert("total", total.elapsed().as_secs_f64());
    if let Some(simulation) = played.simulation.take() {
        simulation.close().await;
    }
    if demo.json {
        let summary = summarise_demo(app, &played, &comparison, &predictions, seconds);
        println!("{}", serde_json::to_string_pretty(&summary)?);
        return Ok(());
    }
    print_readings(app, &played);
    if let Some(first) = comparison.tasks.first() {
        print!("{}", first_screen::first_result(first, &predictions));
    }
    print!("{}", first_screen::other_predictions(&comparison.tasks, &predictions));
    println!("\nReport: {}", comparison.dir.join("report.html").display());
    Ok(())
}

async fn play_and_ingest(
    demo: &DemoArgs,
    settings: &AppSettings,
    app: &MicroclimateApp,
    seconds: &mut BTreeMap<&'static str, f64>,
    shutdown: &CancellationToken,
) -> Result<PlaybackResult> {
    let stage = ProgressStage::start_stage("publishing over MQTT");
    let played = play_data(demo, settings, &stage, shutdown).await?;
    let PublishCounts { readings_published, readings_acknowledged, messages_published, .. } =
        played.counts;
    let result = format!(
        "{} readings in {} messages, {} acknowledged",
        format_thousands(readings_published),
        format_thousands(messages_published),
        format_thousands(readings_acknowledged)
    );
    seconds.insert("play", stage.finish_stage(&result));

    let stage = ProgressStage::start_stage("computing features");
    wait_until_ingested(app, &stage).await?;
    let counts = app.store.committed_counts();
    let result =
        format!("{} rows of up to {} features", format_thousands(counts.rows), counts.columns);
    seconds.insert("features", stage.finish_stage(&result));
    Ok(played)
}

/// A comparison of models that runs beside everything else.
struct ComparisonTask {
    progress: mpsc::UnboundedReceiver<CompareProgress>,
    running: JoinHandle<Result<ModelComparison, TrainError>>,
}

impl ComparisonTask {
    fn spawn(app: &MicroclimateApp) -> Self {
        // Steps that take longer than the leaderboards are left to `trainer compare`.
        let request = CompareRequest { depth: ComparisonDepth::Quick, ..CompareRequest::default() };
        let (sender, progress) = mpsc::unbounded_channel();
        let trainer = app.trainer.clone();
        let running = tokio::spawn(async move {
            // Nobody listens any more once the demo ends.
            let observe = move |progress| drop(sender.send(progress));
            trainer.compare_models(&request, observe).await
        });
        Self { progress, running }
    }

    async fn wait_for_end(self) -> Result<ModelComparison> {
        Ok(self.running.await.context("the comparison panicked")??)
    }
}

fn describe_progress(progress: &CompareProgress) -> String {
    format!("{}: {}", progress.task, progress.step)
}

/// Shows the first task's result as soon as it is there, goes on live, and compares the other
/// tasks meanwhile.
async fn compare_live(
    data_dir: &Path,
    app: &MicroclimateApp,
    mut played: PlaybackResult,
    shutdown: &CancellationToken,
) -> Result<()> {
    let simulation = played.simulation.take();
    let live = async {
        match simulation {
            Some(mut simulation) => {
                app.alerts.expect_readings(true);
                simulation.publish_live(shutdown).await;
                simulation.close().await;
            }
            None => shutdown.cancelled().await,
        }
        Ok(())
    };
    tokio::try_join!(live, show_live(data_dir, app, &played, shutdown)).map(|((), ())| ())
}

async fn show_live(
    data_dir: &Path,
    app: &MicroclimateApp,
    played: &PlaybackResult,
    shutdown: &CancellationToken,
) -> Result<()> {
    let status = StatusLine::start_line();
    let mut comparing = ComparisonTask::spawn(app);
    let mut is_first = true;
    while let Some(progress) = comparing.progress.recv().await {
        let tasks = format!("{} of {} tasks compared", progress.tasks_done, progress.tasks);
        status.show(&format!("{tasks}; {}", describe_progress(&progress)));
        let Some(result) = progress.finished.as_deref().filter(|_| is_first) else { continue };
        is_first = false;
        let predictions = predict_each_task(app, std::slice::from_ref(result)).await?;
        let shown = first_screen::first_result(result, &predictions)
            + &first_screen::addresses(&app.page_url(), app.mqtt);
        status.print_above(|| {
            print_readings(app, played);
            println!("{shown}");
        });
    }
    let comparison = comparing.wait_for_end().await?;
    let predictions = predict_each_task(app, &comparison.tasks).await?;
    status.print_above(|| {
        print!("{}", first_screen::other_predictions(&comparison.tasks, &predictions));
        println!("\nReport: {}", comparison.dir.join("report.html").display());
    });
    write_ready_file(data_dir, app)?;
    status.follow(app, shutdown).await;
    Ok(())
}

async fn play_data(
    demo: &DemoArgs,
    settings: &AppSettings,
    stage: &ProgressStage,
    shutdown: &CancellationToken,
) -> Result<PlaybackResult> {
    let bar = stage.progress_bar();
    let observe = |progress: firmware_sim::SimulationProgress| {
        let acknowledged = format_thousands(progress.counts.readings_acknowledged);
        set_progress(&bar, progress.share, format!("{acknowledged} readings acknowledged"));
    };
    let crate::cli::ReplayArgs { replay, layout, rooms, from, to } = demo.replay.clone();
    let Some(path) = replay else {
        let mut simulation = Simulation::start(&settings.simulator)?;
        let counts = simulation.publish_history(observe, shutdown).await;
        return Ok(PlaybackResult { counts, rejects: 0, simulation: Some(simulation) });
    };
    let request =
        replay::ReplayRequest { path, layout, rooms, from_ms: from, to_ms: to, max: None };
    let summary =
        replay::replay_recording(&settings.simulator, &request, observe, shutdown).await?;
    if summary.counts.messages_published == 0 {
        bail!("nothing was published\nhint: do these rooms have data between --from and --to?");
    }
    Ok(PlaybackResult { counts: summary.counts, rejects: summary.rejects, simulation: None })
}

/// Waits until the feature store has ingested everything that the gateway has logged.
async fn wait_until_ingested(app: &MicroclimateApp, stage: &ProgressStage) -> Result<()> {
    let bar = stage.progress_bar();
    let start = Instant::now();
    loop {
        let (logged, stored) =
            (app.gateway.ledger_snapshot().totals.logged, app.store.committed_counts().readings);
        if stored >= logged {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(INGEST_WAIT_S_MAX) {
            bail!(
                "the feature store has {stored} of {logged} readings after {INGEST_WAIT_S_MAX} s"
            );
        }
        set_progress(
            &bar,
            stored as f64 / logged as f64,
            format!("{} readings", format_thousands(stored)),
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes one prediction for each applicable task, for the first zone that has one.
async fn predict_each_task(app: &MicroclimateApp, tasks: &[TaskResult]) -> Result<Vec<Prediction>> {
    let zones = app.trainer.zones().await?;
    let mut predictions = Vec::new();
    for task in tasks.iter().filter(|task| task.not_applicable.is_none()) {
        for zone in &zones {
            match app.trainer.predict_zone(&task.task, zone).await {
                Ok(prediction) => {
                    predictions.push(prediction);
                    break;
                }
                Err(error) => tracing::debug!(task = task.task, %zone, %error, "no prediction"),
            }
        }
    }
    Ok(predictions)
}

fn summarise_demo(
    app: &MicroclimateApp,
    played: &PlaybackResult,
    comparison: &ModelComparison,
    predictions: &[Prediction],
    seconds: BTreeMap<&'static str, f64>,
) -> DemoSummary {
    let totals = app.gateway.ledger_snapshot().totals;
    let counts = app.store.committed_counts();
    let duplicates = counts.by_quality.get("duplicate").copied().unwrap_or_default();
    DemoSummary {
        readings: DemoReadingCounts {
            published: played.counts.readings_published,
            acknowledged: played.counts.readings_acknowledged,
            logged: totals.logged,
            dead_lettered: totals.dead_lettered,
            duplicates: totals.duplicates + duplicates,
            unaccounted: totals.unaccounted,
        },
        features: DemoFeatureCounts {
            zones: app.store.zone_summaries().len(),
            columns: counts.columns,
            rows: counts.rows,
        },
        tasks: summary::summarise_tasks(comparison, predictions),
        seconds,
    }
}

/// Prints what became of every reading.
fn print_readings(app: &MicroclimateApp, played: &PlaybackResult) {
    let totals = app.gateway.ledger_snapshot().totals;
    println!(
        "Readings: {} received = {} logged + {} dead-lettered\n          + {} duplicates; {} unaccounted",
        format_thousands(totals.received),
        format_thousands(totals.logged),
        format_thousands(totals.dead_lettered),
        format_thousands(totals.duplicates),
        totals.unaccounted
    );
    if played.rejects > 0 {
        println!("{} rows of the recordings could not be read", format_thousands(played.rejects));
    }
}

fn write_ready_file(data_dir: &Path, app: &MicroclimateApp) -> Result<()> {
    let ready = serde_json::json!({ "rest": format!("http://{}", app.rest), "mqtt": app.mqtt });
    let path = data_dir.join(READY_FILE);
    fs::write(&path, ready.to_string()).with_context(|| path.display().to_string())
}
