//! The trainer by itself.

mod cli;
mod models_cli;
mod output;
mod progress;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use microclimate_trainer::{
    CompareRequest, FeatureSource, ModelComparison, Trainer, TrainerSettings, report,
    serve::settings::ModelWatchSettings, settings, watch,
};
use service::{
    config::{self, ConfigSources},
    descriptors, log, rest, shutdown,
};

use output::print_line;

/// Compares models, keeps the best, serves predictions.
#[derive(Parser)]
#[command(
    name = "trainer",
    version,
    after_help = "Example: trainer compare --task temperature-10m --zones farm/bay-1"
)]
struct TrainerArgs {
    /// Configuration file; `trainer defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set source.url=http://127.0.0.1:8080`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: TrainerCommand,
}

#[derive(Subcommand)]
enum TrainerCommand {
    /// Compare models on a feature store's rows and keep the best of each task.
    Compare(cli::CompareArgs),
    /// What a model rests on, and what long-term data are worth to it.
    Relevance(cli::RelevanceArgs),
    /// Serve predictions until SIGINT or SIGTERM; with `watch.enabled` also
    /// score them and train again.
    Serve,
    /// Predict, score and train again without serving, beside other processes
    /// that serve with `watch.enabled = false`.
    Watch,
    /// See and change which models are served.
    Models(models_cli::ModelsArgs),
    /// Print the commented default configuration.
    Defaults,
}

/// Of a comparison on which a build is to fail.
const FAIL_IF_STATUS: u8 = 2;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = TrainerArgs::parse();
    log::init_logging(log::LogFormat::default(), "info");
    let settings: TrainerSettings = config::load_config(&ConfigSources {
        defaults: settings::DEFAULTS,
        open_tables: &settings::OPEN_TABLES,
        file: args.config.as_deref(),
        env_prefix: "TRAINER",
        set: &args.set,
    })?;
    settings.check()?;
    match args.command {
        TrainerCommand::Compare(asked) => run_compare(settings, asked).await,
        TrainerCommand::Relevance(asked) => run_relevance(settings, asked).await,
        TrainerCommand::Serve => Box::pin(run_server(settings)).await.map(|()| ExitCode::SUCCESS),
        TrainerCommand::Watch => {
            let trainer =
                Trainer::new(settings.clone(), FeatureSource::new_remote(&settings.source)?)?;
            let watched = TrainerSettings {
                watch: ModelWatchSettings { enabled: true, ..settings.watch.clone() },
                ..settings
            };
            watch::run_watch(&watched, trainer, shutdown::cancel_on_signal()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        TrainerCommand::Models(asked) => {
            models_cli::run_command(&settings, asked).map(|()| ExitCode::SUCCESS)
        }
        TrainerCommand::Defaults => {
            print_line!("{}", settings::DEFAULTS.trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run_compare(settings: TrainerSettings, asked: cli::CompareArgs) -> Result<ExitCode> {
    let comparison = compare_with_progress(settings, asked.to_request()).await?;
    if asked.rows.json {
        print_line!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        comparison.tasks.iter().for_each(|task| print_line!("{}\n", report::terminal_report(task)));
        print_line!("report: {}", comparison.dir.join("report.html").display());
    }
    let failures: Vec<String> = asked
        .fail_if
        .iter()
        .filter_map(|condition| condition.failure_reason(&comparison))
        .collect();
    failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAIL_IF_STATUS) })
}

async fn run_relevance(settings: TrainerSettings, asked: cli::RelevanceArgs) -> Result<ExitCode> {
    let comparison = compare_with_progress(settings, asked.to_request()).await?;
    if asked.rows.json {
        print_line!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        comparison
            .tasks
            .iter()
            .for_each(|task| print_line!("{}\n", report::relevance_report(task)));
        print_line!("report: {}", comparison.dir.join("report.html").display());
    }
    Ok(ExitCode::SUCCESS)
}

async fn compare_with_progress(
    settings: TrainerSettings,
    request: CompareRequest,
) -> Result<ModelComparison> {
    request.check()?;
    let source = FeatureSource::new_remote(&settings.source)?;
    let trainer = Trainer::new(settings, source)?;
    let bars = progress::ProgressBars::new();
    let shown = bars.clone();
    let comparison =
        trainer.compare_models(&request, move |progress| shown.show_progress(&progress)).await;
    bars.finish_bars();
    Ok(comparison?)
}

async fn run_server(settings: TrainerSettings) -> Result<()> {
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let socket = settings.rest.bind_listener()?;
    let source = FeatureSource::new_remote(&settings.source)?;
    let trainer = Trainer::new(settings.clone(), source)?;
    tracing::info!(rest = %socket.local_addr()?, "serving");
    let stop = shutdown::cancel_on_signal()?;
    let routes = microclimate_trainer::rest::service_routes(trainer.clone());
    let served = rest::serve_routes(socket, routes, &settings.rest, stop.clone());
    let (served, watched) = tokio::join!(served, watch::run_watch(&settings, trainer, stop));
    watched?;
    Ok(served?)
}
