//! The trainer by itself.

mod bars;
mod cli;
mod models_cli;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use service::{
    config::{self, Sources},
    descriptors, log, rest, shutdown,
};
use trainer::{
    Comparison, Request, Settings, Source, Trainer, report, serve::settings::Watch, settings, watch,
};

/// Compares models, keeps the best, serves predictions.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: trainer compare --task temperature-10m --zones farm/bay-1"
)]
struct Args {
    /// Configuration file; `trainer defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set source.url=http://127.0.0.1:8080`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare models on a feature store's rows and keep the best of each task.
    Compare(cli::Compare),
    /// What a model rests on, and what long-term data are worth to it.
    Relevance(cli::Relevance),
    /// Serve predictions until SIGINT or SIGTERM; with `watch.enabled` also
    /// score them and train again.
    Serve,
    /// Predict, score and train again without serving, beside other processes
    /// that serve with `watch.enabled = false`.
    Watch,
    /// See and change which models are served.
    Models(models_cli::Models),
    /// Print the commented default configuration.
    Defaults,
}

/// Of a comparison on which a build is to fail.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    log::init(log::Format::default(), "info");
    let settings: Settings = config::load(&Sources {
        defaults: settings::DEFAULTS,
        open_tables: &settings::OPEN_TABLES,
        file: args.config.as_deref(),
        env_prefix: "TRAINER",
        set: &args.set,
    })?;
    settings.check()?;
    match args.command {
        Command::Compare(asked) => compare(settings, asked).await,
        Command::Relevance(asked) => relevance(settings, asked).await,
        Command::Serve => Box::pin(serve(settings)).await.map(|()| ExitCode::SUCCESS),
        Command::Watch => {
            let trainer = Trainer::new(settings.clone(), Source::remote(&settings.source)?)?;
            let watched =
                Settings { watch: Watch { enabled: true, ..settings.watch.clone() }, ..settings };
            watch::run(&watched, trainer, shutdown::on_signal()?).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Models(asked) => models_cli::run(&settings, asked).map(|()| ExitCode::SUCCESS),
        Command::Defaults => {
            print!("{}", settings::DEFAULTS);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn compare(settings: Settings, asked: cli::Compare) -> Result<ExitCode> {
    let comparison = compared(settings, asked.request()).await?;
    if asked.rows.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        comparison.tasks.iter().for_each(|task| println!("{}\n", report::terminal(task)));
        println!("report: {}", comparison.dir.join("report.html").display());
    }
    let failures: Vec<String> =
        asked.fail_if.iter().filter_map(|condition| condition.failure(&comparison)).collect();
    failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn relevance(settings: Settings, asked: cli::Relevance) -> Result<ExitCode> {
    let comparison = compared(settings, asked.request()).await?;
    if asked.rows.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        comparison.tasks.iter().for_each(|task| println!("{}\n", report::relevance(task)));
        println!("report: {}", comparison.dir.join("report.html").display());
    }
    Ok(ExitCode::SUCCESS)
}

async fn compared(settings: Settings, request: Request) -> Result<Comparison> {
    request.check()?;
    let source = Source::remote(&settings.source)?;
    let trainer = Trainer::new(settings, source)?;
    let bars = bars::Bars::new();
    let shown = bars.clone();
    let comparison = trainer.compare(&request, move |progress| shown.show(&progress)).await;
    bars.end();
    Ok(comparison?)
}

async fn serve(settings: Settings) -> Result<()> {
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let socket = settings.rest.bind()?;
    let source = Source::remote(&settings.source)?;
    let trainer = Trainer::new(settings.clone(), source)?;
    tracing::info!(rest = %socket.local_addr()?, "serving");
    let stop = shutdown::on_signal()?;
    let routes = trainer::rest::service_routes(trainer.clone());
    let served = rest::serve(socket, routes, &settings.rest, stop.clone());
    let (served, watched) = tokio::join!(served, watch::run(&settings, trainer, stop));
    watched?;
    Ok(served?)
}
