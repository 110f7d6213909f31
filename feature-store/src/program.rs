//! The program `feature-store`, which `microclimate feature-store` is too.

use std::{
    path::PathBuf,
    process::{self, ExitCode},
};

use crate::{
    FeatureStore, FeatureStoreSettings, backfill,
    cli::{features, set_back},
    lake, settings,
};
use anyhow::Result;
use clap::{Parser, Subcommand};
use eventlog::EventLog;
use service::{
    config::{self, ConfigSources},
    descriptors, log, rest, shutdown,
};

/// Computes window features from the log, stores them and serves them.
#[derive(Debug, Parser)]
#[command(name = "feature-store", version)]
pub struct FeatureStoreArgs {
    /// Configuration file; `feature-store defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set rest.listen=127.0.0.1:9082`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: FeatureStoreCommand,
}

#[derive(Debug, Subcommand)]
enum FeatureStoreCommand {
    /// Run until SIGINT or SIGTERM.
    Run {
        /// Also ingest the files of this folder, each once.
        #[arg(long, value_name = "DIR")]
        watch: Option<PathBuf>,
    },
    /// Load recorded readings, fast; the store must not be running.
    Backfill(backfill::BackfillCommand),
    /// Manage old rows in Parquet files; the store must not be running.
    #[command(subcommand)]
    Lake(lake::LakeCommand),
    /// Set back a zone that a wrong clock pushed ahead; the store must not be running.
    SetBack(set_back::SetBackCommand),
    /// Feature definitions: list, show, check, diff, and their versions.
    #[command(subcommand)]
    Features(features::FeaturesCommand),
    /// Print the commented default configuration.
    Defaults,
}

/// Runs a command of the program until it has ended.
///
/// # Errors
/// Fails if the configuration is invalid, or the store or the system refuses.
pub fn run_program(args: FeatureStoreArgs) -> Result<ExitCode> {
    run_command(args).map(|()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run_command(args: FeatureStoreArgs) -> Result<()> {
    log::init_logging(log::LogFormat::default(), "info");
    let mut settings: FeatureStoreSettings = config::load_config(&ConfigSources {
        defaults: settings::DEFAULTS,
        open_tables: &settings::OPEN_TABLES,
        file: args.config.as_deref(),
        env_prefix: "FEATURE_STORE",
        set: &args.set,
    })?;
    match args.command {
        FeatureStoreCommand::Run { watch } => {
            settings.watch.dir = watch.unwrap_or(settings.watch.dir);
            run(&settings).await
        }
        FeatureStoreCommand::Backfill(command) => {
            let ran = tokio::task::spawn_blocking(move || command.run(&settings));
            Ok(ran.await??)
        }
        FeatureStoreCommand::Lake(command) => {
            let ran = tokio::task::spawn_blocking(move || command.run(&settings));
            Ok(ran.await??)
        }
        FeatureStoreCommand::SetBack(command) => {
            let ran = tokio::task::spawn_blocking(move || command.run(&settings));
            Ok(ran.await??)
        }
        FeatureStoreCommand::Features(command) => {
            let metrics = settings.metric_table()?;
            let answer = features::execute_command(&command, &settings, &metrics)?;
            print!("{}", answer.text);
            eprint!("{}", answer.error);
            process::exit(answer.exit_code.into())
        }
        FeatureStoreCommand::Defaults => {
            print!("{}", settings::DEFAULTS);
            Ok(())
        }
    }
}

async fn run(settings: &FeatureStoreSettings) -> Result<()> {
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let socket = settings.rest.server.bind_listener()?;
    let store = FeatureStore::open(settings, settings.metric_table()?)?;
    let log = EventLog::open(&settings.log)?;
    let shutdown = shutdown::cancel_on_signal()?;
    tracing::info!(rest = %socket.local_addr()?, "serving");
    let routes = crate::service_routes(store.clone());
    let options = rest::ServeOptions::from(&settings.rest.server);
    let server = tokio::spawn(rest::serve_routes(socket, routes, options, shutdown.clone()));
    let ran = store.run(&log, shutdown.clone()).await;
    shutdown.cancel();
    server.await??;
    Ok(ran?)
}
