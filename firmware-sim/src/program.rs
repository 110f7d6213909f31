//! The program `firmware-sim`, which `microclimate firmware-sim` is too.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    DEFAULTS, OPEN_TABLES, Simulation, SimulationProgress, SimulatorConfig,
    replay::{self, RecordingLayout, ReplayRequest},
};
use anyhow::Result;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use service::{
    config::{self, ConfigSources},
    log, shutdown,
};
use telemetry::time::parse_bound_ms;

/// Publishes simulated or recorded sensor data over MQTT.
#[derive(Debug, Parser)]
#[command(
    name = "firmware-sim",
    version,
    after_help = "Example: firmware-sim replay ./data --layout keti --rooms 415,417 --from 2013-08-24 --to 2013-08-26"
)]
pub struct SimulatorArgs {
    /// Configuration file; `firmware-sim defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set broker.host=10.0.0.5`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: SimulatorCommand,
}

#[derive(Debug, Subcommand)]
enum SimulatorCommand {
    /// Simulate a greenhouse bay and two rooms: history first, then live.
    Simulate,
    /// Replay recorded data in the order of its time.
    Replay(SimulatorReplayArgs),
    /// Print the commented default configuration.
    Defaults,
}

#[derive(Debug, clap::Args)]
struct SimulatorReplayArgs {
    /// A folder or a file.
    path: PathBuf,
    /// The layout of the recorded files.
    #[arg(long, value_enum)]
    layout: RecordingLayout,
    /// Only these rooms, such as 415,417.
    #[arg(long, value_delimiter = ',')]
    rooms: Vec<String>,
    /// Start time, such as 2013-08-24 or 2013-08-24T12:00:00Z.
    #[arg(long, value_parser = parse_bound_ms)]
    from: Option<i64>,
    /// End time, which is excluded.
    #[arg(long, value_parser = parse_bound_ms)]
    to: Option<i64>,
    /// Largest number of messages per second.
    #[arg(long)]
    rate: Option<f64>,
    /// Largest number of recorded seconds per second, such as x60.
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    /// Largest number of messages.
    #[arg(long)]
    max: Option<u64>,
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.trim_start_matches(['x', '×']).parse::<f64>();
    number.ok().filter(|n| *n > 0.0).ok_or_else(|| "expected a factor as in x60".to_owned())
}

/// Runs a command of the program until it has ended.
///
/// # Errors
/// Fails if the configuration or a recording is invalid, or the broker or the system refuses.
pub fn run_program(args: SimulatorArgs) -> Result<ExitCode> {
    run_command(args).map(|()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run_command(args: SimulatorArgs) -> Result<()> {
    log::init_logging(log::LogFormat::default(), "info");
    let mut settings: SimulatorConfig = config::load_config(&ConfigSources {
        defaults: DEFAULTS,
        open_tables: OPEN_TABLES,
        file: args.config.as_deref(),
        env_prefix: "FIRMWARE_SIM",
        set: &args.set,
    })?;
    match args.command {
        SimulatorCommand::Defaults => print!("{DEFAULTS}"),
        SimulatorCommand::Simulate => run_simulation(&settings).await?,
        SimulatorCommand::Replay(arguments) => {
            settings.replay.rate_max = arguments.rate.unwrap_or(settings.replay.rate_max);
            settings.replay.speed_max = arguments.speed.unwrap_or(settings.replay.speed_max);
            let SimulatorReplayArgs { path, layout, rooms, from, to, max, .. } = arguments;
            let request = ReplayRequest { path, layout, rooms, from_ms: from, to_ms: to, max };
            let bar = progress_bar();
            let show = |progress| show_progress(&bar, progress);
            let summary =
                replay::replay_recording(&settings, &request, show, &shutdown::cancel_on_signal()?)
                    .await?;
            bar.finish_and_clear();
            println!("{}", serde_json::to_string_pretty(&summary)?);
        }
    }
    Ok(())
}

async fn run_simulation(settings: &SimulatorConfig) -> Result<()> {
    let shutdown = shutdown::cancel_on_signal()?;
    let mut simulation = Simulation::start(settings)?;
    let bar = progress_bar();
    let counts =
        simulation.publish_history(|progress| show_progress(&bar, progress), &shutdown).await;
    bar.finish_and_clear();
    tracing::info!(?counts, "the history is published");
    if settings.simulate.live {
        simulation.publish_live(&shutdown).await;
    }
    println!("{}", serde_json::to_string_pretty(&simulation.close().await)?);
    Ok(())
}

fn progress_bar() -> ProgressBar {
    let template = "{bar:30} {percent}%  {msg}  {elapsed}, {eta} left";
    ProgressBar::new(1000).with_style(ProgressStyle::with_template(template).expect("a template"))
}

fn show_progress(bar: &ProgressBar, progress: SimulationProgress) {
    bar.set_position((progress.share * 1000.0) as u64);
    let at = jiff::Timestamp::from_millisecond(progress.at_ms).unwrap_or_default();
    let acknowledged = progress.counts.messages_acknowledged;
    bar.set_message(format!(
        "{acknowledged} messages acknowledged, {}",
        at.strftime("%Y-%m-%d %H:%M")
    ));
}
