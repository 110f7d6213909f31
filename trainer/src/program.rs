//! The program `trainer`, which `microclimate trainer` is too.

mod cli;
mod models_cli;
mod output;
mod progress;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use crate::{
    CompareRequest, ModelComparison, Trainer, TrainerSettings, report,
    serve::settings::ModelWatchSettings, settings, watch,
};
use anyhow::Result;
use clap::{Parser, Subcommand};
use service::{
    config::{self, ConfigSources},
    descriptors, log, rest, shutdown,
};

use output::print_line;

/// Compares models, registers the best, serves predictions.
#[derive(Debug, Parser)]
#[command(
    name = "trainer",
    version,
    after_help = "Example: trainer compare --task temperature-10m --zones farm/bay-1"
)]
pub struct TrainerArgs {
    /// Configuration file; `trainer defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set source.url=http://127.0.0.1:8080`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: TrainerCommand,
}

#[derive(Debug, Subcommand)]
enum TrainerCommand {
    /// Compare models on a feature store's rows and register the best of each task.
    Compare(cli::CompareArgs),
    /// Show the importance of a model's inputs, and the value of long-term data to it.
    Relevance(cli::RelevanceArgs),
    /// Serve predictions until SIGINT or SIGTERM; with `watch.enabled` also score them and retrain
    /// models.
    Serve,
    /// Predict, score and retrain without serving, beside other processes that serve with
    /// `watch.enabled = false`.
    Watch,
    /// Show and change which models are served.
    Models(models_cli::ModelsArgs),
    /// Print the commented default configuration.
    Defaults,
}

/// Exit status of a comparison for which a `--fail-if` condition holds.
const FAIL_IF_STATUS: u8 = 2;

/// Runs a command of the program until it has ended.
///
/// # Errors
/// Fails if the configuration is invalid, or the feature store or the system refuses.
pub fn run_program(args: TrainerArgs) -> Result<ExitCode> {
    shutdown::run_to_end(run_command(args))
}

async fn run_command(args: TrainerArgs) -> Result<ExitCode> {
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
        TrainerCommand::Compare(options) => run_compare(settings, options).await,
        TrainerCommand::Relevance(options) => run_relevance(settings, options).await,
        TrainerCommand::Serve => Box::pin(run_server(settings)).await.map(|()| ExitCode::SUCCESS),
        TrainerCommand::Watch => {
            let source = Arc::new(settings.source.new_client()?);
            let trainer = Trainer::new(settings.clone(), source)?;
            let watched = TrainerSettings {
                watch: ModelWatchSettings { enabled: true, ..settings.watch.clone() },
                ..settings
            };
            watch::run_watch(&watched, trainer, shutdown::cancel_on_signal()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        TrainerCommand::Models(options) => {
            models_cli::run_command(&settings, options).map(|()| ExitCode::SUCCESS)
        }
        TrainerCommand::Defaults => {
            print_line!("{}", settings::DEFAULTS.trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run_compare(settings: TrainerSettings, options: cli::CompareArgs) -> Result<ExitCode> {
    let comparison = compare_with_progress(settings, options.to_request()).await?;
    if options.rows.json {
        print_line!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        comparison.tasks.iter().for_each(|task| print_line!("{}\n", report::terminal_report(task)));
        print_line!("report: {}", comparison.dir.join("report.html").display());
    }
    let failures: Vec<String> = options
        .fail_if
        .iter()
        .filter_map(|condition| condition.failure_reason(&comparison))
        .collect();
    failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAIL_IF_STATUS) })
}

async fn run_relevance(settings: TrainerSettings, options: cli::RelevanceArgs) -> Result<ExitCode> {
    let comparison = compare_with_progress(settings, options.to_request()).await?;
    if options.rows.json {
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
    let source = Arc::new(settings.source.new_client()?);
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
    let source = Arc::new(settings.source.new_client()?);
    let trainer = Trainer::new(settings.clone(), source)?;
    tracing::info!(rest = %socket.local_addr()?, "serving");
    let stop = shutdown::cancel_on_signal()?;
    let routes = crate::rest::service_routes(trainer.clone());
    let served = rest::serve_routes(socket, routes, &settings.rest, stop.clone());
    let (served, watched) = tokio::join!(served, watch::run_watch(&settings, trainer, stop));
    watched?;
    Ok(served?)
}
