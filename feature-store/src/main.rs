//! The feature store by itself.

use std::{
    path::PathBuf,
    process::{self, ExitCode},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use eventlog::EventLog;
use feature_store::{
    FeatureStore, Settings, backfill,
    cli::{features, set_back},
    lake, settings, sql_sandbox,
};
use service::{
    config::{self, Sources},
    descriptors, log, rest, shutdown,
};

/// Computes window features from the log, keeps and serves them.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration file; `feature-store defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set rest.listen=127.0.0.1:9082`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGINT or SIGTERM.
    Run {
        /// Take in the files of this folder too, each once.
        #[arg(long, value_name = "DIR")]
        watch: Option<PathBuf>,
    },
    /// Take recorded readings in, fast; the store must not be running.
    Backfill(backfill::Command),
    /// Old readings as Parquet files; the store must not be running.
    #[command(subcommand)]
    Lake(lake::Command),
    /// Set a zone back that a wrong clock pushed ahead; the store must not be running.
    SetBack(set_back::Command),
    /// What is computed: list, show, check, diff, and its versions.
    #[command(subcommand)]
    Features(features::Command),
    /// Print the commented default configuration.
    Defaults,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = sql_sandbox::serve_if_requested() {
        return Ok(code);
    }
    run_command().map(|()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run_command() -> Result<()> {
    let args = Args::parse();
    log::init(log::Format::default(), "info");
    let mut settings: Settings = config::load(&Sources {
        defaults: settings::DEFAULTS,
        open_tables: &settings::OPEN_TABLES,
        file: args.config.as_deref(),
        env_prefix: "FEATURE_STORE",
        set: &args.set,
    })?;
    match args.command {
        Command::Run { watch } => {
            settings.watch.dir = watch.unwrap_or(settings.watch.dir);
            run(&settings).await
        }
        Command::Backfill(command) => {
            let ran = tokio::task::spawn_blocking(move || command.run(&settings));
            Ok(ran.await??)
        }
        Command::Lake(command) => {
            let ran = tokio::task::spawn_blocking(move || command.run(&settings));
            Ok(ran.await??)
        }
        Command::SetBack(command) => {
            let ran = tokio::task::spawn_blocking(move || command.run(&settings));
            Ok(ran.await??)
        }
        Command::Features(command) => {
            let metrics = settings.metric_table()?;
            let answer = features::answer(&command, &settings, &metrics)?;
            print!("{}", answer.text);
            eprint!("{}", answer.error);
            process::exit(answer.exit_code.into())
        }
        Command::Defaults => {
            print!("{}", settings::DEFAULTS);
            Ok(())
        }
    }
}

async fn run(settings: &Settings) -> Result<()> {
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let socket = settings.rest.server.bind()?;
    let store = FeatureStore::open(settings, settings.metric_table()?)?;
    let log = EventLog::open(&settings.log)?;
    let shutdown = shutdown::on_signal()?;
    tracing::info!(rest = %socket.local_addr()?, "serving");
    let routes = feature_store::service_routes(store.clone());
    let options = rest::ServeOptions::from(&settings.rest.server);
    let server = tokio::spawn(rest::serve(socket, routes, options, shutdown.clone()));
    let ran = store.run(&log, shutdown.clone()).await;
    shutdown.cancel();
    server.await??;
    Ok(ran?)
}
