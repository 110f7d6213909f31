//! Two weeks through everything, the models of every task, then live.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use firmware_sim::{PublishCounts, Simulation, replay};
use service::shutdown;
use tokio_util::sync::CancellationToken;
use toml::{Table, Value};
use trainer::{
    CompareRequest, ModelComparison, Prediction, backtest::ComparisonDepth, report,
    tasks::NotApplicable,
};

use crate::{
    app::MicroclimateApp,
    cli::DemoArgs,
    progress::{ProgressStage, format_thousands, set_progress},
    settings::AppSettings,
    summary::{self, DemoFeatureCounts, DemoReadingCounts, DemoSummary},
};

/// Names a data folder as a demo's own, which the next demo may replace.
const DEMO_MARKER_FILE: &str = ".microclimate-demo";
/// Written once everything is served: the addresses, for scripts.
const READY_FILE: &str = "ready.json";
/// Devices of a history run apart by minutes, which is no lateness of theirs.
const LATENESS_S: i64 = 600;
/// How long the feature store may take to read the rest of the log.
const INGEST_WAIT_S_MAX: u64 = 600;

/// What was played.
struct PlaybackResult {
    counts: PublishCounts,
    rejects: u64,
    /// The simulator, where there is more to come.
    simulation: Option<Simulation>,
}

pub(crate) async fn run_demo(demo: DemoArgs) -> Result<()> {
    let total = Instant::now();
    let data_dir = demo.common.data_dir.clone();
    // The simulated bay is watered when its mean is at 24.5 %.
    let bay = Table::from_iter([("soil_moisture_critical".to_owned(), Value::from(24.0))]);
    let bays = Table::from_iter([("farm/bay-1".to_owned(), Value::from(bay))]);
    // Recordings are as old as they are.
    let stale_s = if demo.replay.replay.is_some() { 0.0 } else { 900.0 };
    let defaults = [
        ("trainer.zones", Value::from(bays)),
        ("trainer.serving.stale_s", Value::from(stale_s)),
        ("feature_store.engine.lateness_s", Value::from(LATENESS_S)),
        ("simulator.simulate.days", Value::from(f64::from(demo.days))),
    ];
    let DemoArgs { common, .. } = &demo;
    let mut settings =
        AppSettings::load(&data_dir, &defaults, common.config.as_deref(), &common.set)?;
    if demo.replay.replay.is_none() && settings.feature_store.engine.place.is_empty() {
        // The simulated sun is highest at noon, UTC.
        settings.feature_store.engine.place = vec![settings.simulator.simulate.latitude_deg, 0.0];
    }
    prepare_data_dir(&data_dir)?;
    let shutdown = shutdown::cancel_on_signal()?;
    let mut seconds = BTreeMap::new();

    let start = Instant::now();
    let house = MicroclimateApp::start(&settings)?;
    settings.simulator.broker.host = house.mqtt.ip().to_string();
    settings.simulator.broker.port = house.mqtt.port();
    seconds.insert("start", start.elapsed().as_secs_f64());
    eprintln!("\n  Microclimate: one process, everything in {}\n", data_dir.display());

    let finished = tokio::select! {
        finished = play_and_compare(&demo, &settings, &house, &mut seconds, &shutdown) => Some(finished),
        () = shutdown.cancelled() => None,
        () = house.failed.cancelled() => None,
    };
    let Some(finished) = finished else { return house.stop().await };
    let (played, comparison) = match finished {
        Ok(finished) => finished,
        Err(error) => {
            // A part that failed says why; it is the cause of what followed.
            house.stop().await?;
            return Err(error);
        }
    };
    let predictions = predict_each_task(&house, &comparison).await?;
    seconds.insert("total", total.elapsed().as_secs_f64());
    if demo.json {
        let summary = summarise_demo(&house, &played, &comparison, &predictions, seconds);
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print_results(&house, &played, &comparison, &predictions, total.elapsed());
    }
    if !demo.once {
        run_live(&data_dir, &house, played.simulation, &shutdown).await?;
    } else if let Some(simulation) = played.simulation {
        simulation.close().await;
    }
    house.stop().await
}

/// Leaves an empty folder: an earlier demo's is replaced, anything else stays.
fn prepare_data_dir(data_dir: &Path) -> Result<()> {
    let shown = data_dir.display();
    let marker = data_dir.join(DEMO_MARKER_FILE);
    if marker.exists() {
        fs::remove_dir_all(data_dir)
            .with_context(|| format!("{shown}: cannot replace the earlier demo"))?;
    } else if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{shown} is not empty, and is not an earlier demo's\n\
             hint: choose another folder, as in `--data-dir /tmp/microclimate`"
        );
    }
    fs::create_dir_all(data_dir).with_context(|| format!("{shown}: cannot make this folder"))?;
    fs::write(&marker, "Made by `microclimate demo`, which replaces this folder the next time.\n")
        .with_context(|| format!("{shown}: cannot write to this folder"))
}

async fn play_and_compare(
    demo: &DemoArgs,
    settings: &AppSettings,
    house: &MicroclimateApp,
    seconds: &mut BTreeMap<&'static str, f64>,
    shutdown: &CancellationToken,
) -> Result<(PlaybackResult, ModelComparison)> {
    let stage = ProgressStage::start_stage("playing by MQTT");
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
    wait_until_ingested(house, &stage).await?;
    let counts = house.store.committed_counts();
    let result =
        format!("{} rows of up to {} features", format_thousands(counts.rows), counts.columns);
    seconds.insert("features", stage.finish_stage(&result));

    let stage = ProgressStage::start_stage("comparing models");
    let bar = stage.progress_bar();
    // What takes longer than the leaderboards is for who asks for it.
    let request = CompareRequest { depth: ComparisonDepth::Quick, ..CompareRequest::default() };
    let comparison = house
        .trainer
        .compare_models(&request, move |progress| {
            set_progress(
                &bar,
                progress.completed_share(),
                format!("{}: {}", progress.task, progress.step),
            );
        })
        .await?;
    let models: usize = comparison.tasks.iter().map(|task| task.leaderboard.len()).sum();
    seconds.insert(
        "compare",
        stage.finish_stage(&format!("{models} models of {} tasks", comparison.tasks.len())),
    );
    Ok((played, comparison))
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
        bail!("nothing was played\nhint: is there data of these rooms between --from and --to?");
    }
    Ok(PlaybackResult { counts: summary.counts, rejects: summary.rejects, simulation: None })
}

/// Waits until everything that the gateway has logged is in the feature store.
async fn wait_until_ingested(house: &MicroclimateApp, stage: &ProgressStage) -> Result<()> {
    let bar = stage.progress_bar();
    let start = Instant::now();
    loop {
        let (logged, stored) = (
            house.gateway.ledger_snapshot().totals.logged,
            house.store.committed_counts().readings,
        );
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

/// One prediction of each task that applies: of the first zone that has one.
async fn predict_each_task(
    house: &MicroclimateApp,
    comparison: &ModelComparison,
) -> Result<Vec<Prediction>> {
    let zones = house.trainer.zones().await?;
    let mut predictions = Vec::new();
    for task in comparison.tasks.iter().filter(|task| task.not_applicable.is_none()) {
        for zone in &zones {
            match house.trainer.predict_zone(&task.task, zone).await {
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
    house: &MicroclimateApp,
    played: &PlaybackResult,
    comparison: &ModelComparison,
    predictions: &[Prediction],
    seconds: BTreeMap<&'static str, f64>,
) -> DemoSummary {
    let totals = house.gateway.ledger_snapshot().totals;
    let counts = house.store.committed_counts();
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
            zones: house.store.zone_summaries().len(),
            columns: counts.columns,
            rows: counts.rows,
        },
        tasks: summary::summarise_tasks(comparison, predictions),
        seconds,
    }
}

fn print_results(
    house: &MicroclimateApp,
    played: &PlaybackResult,
    comparison: &ModelComparison,
    predictions: &[Prediction],
    took: Duration,
) {
    let totals = house.gateway.ledger_snapshot().totals;
    println!(
        "\nreadings: {} received = {} logged + {} dead-lettered + {} duplicates; {} unaccounted",
        format_thousands(totals.received),
        format_thousands(totals.logged),
        format_thousands(totals.dead_lettered),
        format_thousands(totals.duplicates),
        totals.unaccounted
    );
    if played.rejects > 0 {
        println!("{} rows of the recordings could not be read", format_thousands(played.rejects));
    }
    if let Some(first) = comparison.tasks.first() {
        println!("\n{}", report::terminal_report(first));
        println!("(the champion was chosen on an earlier part of the time than the errors are of)");
    }
    println!("\nwhat the champions say now:");
    for task in &comparison.tasks {
        if let Some(NotApplicable { why, hint }) = &task.not_applicable {
            println!("  {:17} not applicable: {why}", task.task);
            hint.iter().for_each(|hint| println!("  {:17} hint: {hint}", ""));
        } else if let Some(p) = predictions.iter().find(|p| p.task == task.task) {
            let (zone, said) = (p.zone.to_string(), format_prediction(p));
            println!("  {:17} {zone:14} {said}  {}", p.task, p.model);
        } else {
            println!("  {:17} no zone has fresh readings", task.task);
        }
    }
    println!(
        "\nreport: {} ({:.0} s in all)",
        comparison.dir.join("report.html").display(),
        took.as_secs_f64()
    );
}

/// As in `15.42 °C [15.33 to 15.51, 90 %]` or `hold (97 %)`.
fn format_prediction(p: &Prediction) -> String {
    if let Some(class) = p.class {
        let share = p.probabilities.as_ref().and_then(|all| all.get(class));
        let share = share.map_or(String::new(), |share| format!(" ({:.0} %)", 100.0 * share));
        return format!("{class}{share}");
    }
    // An anomaly's is what 90 % of usual minutes score.
    let usual = if p.task == "anomaly" { "usually " } else { "" };
    let interval = p.interval.map_or(String::new(), |[low, high]| {
        format!(" [{usual}{low:.2} to {high:.2}, {:.0} %]", 100.0 * p.interval_level)
    });
    format!("{:.2} {}{interval}", p.value, p.unit)
}

async fn run_live(
    data_dir: &Path,
    house: &MicroclimateApp,
    simulation: Option<Simulation>,
    shutdown: &CancellationToken,
) -> Result<()> {
    println!(
        "\nlive until Ctrl-C:\n  page and REST  http://{}/\n  MQTT           {}",
        house.rest, house.mqtt
    );
    let ready = serde_json::json!({ "rest": format!("http://{}", house.rest), "mqtt": house.mqtt });
    let path = data_dir.join(READY_FILE);
    fs::write(&path, ready.to_string()).with_context(|| path.display().to_string())?;
    let live = async {
        match simulation {
            Some(mut simulation) => {
                simulation.publish_live(shutdown).await;
                simulation.close().await;
            }
            None => shutdown.cancelled().await,
        }
    };
    tokio::select! {
        () = live => {}
        () = house.failed.cancelled() => {}
    }
    Ok(())
}
