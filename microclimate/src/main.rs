//! All services in one process.
//!
//! # Layout
//! - `cli`: commands and flags
//! - `settings`: one configuration for all services
//! - `alerting`: alerts: rounds of checks, what they changed, the REST API
//! - `app`: all services, started, served together, stopped in order
//! - `demo`: two weeks of data from message to prediction
//! - `first_screen`, `progress`, `summary`: output for people and for programs
//! - `overview`: the state of all zones at once, and as it changes
//! - `page`: the files of the page; `compression`: of answers
//! - `programs`: the services by their own names, completions and man pages
//! - `doctor`: what would keep it from running here
//! - `backup`: the data folder, copied and put back

mod alerting;
mod app;
mod backup;
mod cli;
mod compression;
mod demo;
mod doctor;
mod first_screen;
mod overview;
mod page;
mod programs;
mod progress;
mod settings;
mod summary;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use service::{log, shutdown};
use tokio::signal::unix::{SignalKind, signal};

use app::MicroclimateApp;
use cli::{BackupArgs, CommonArgs, MicroclimateArgs, MicroclimateCommand};
use settings::AppSettings;

fn main() -> Result<ExitCode> {
    if let Some(code) = feature_store::sql_sandbox::serve_if_requested() {
        return Ok(code);
    }
    if let Some(service) = programs::named_service() {
        return programs::run_service(service);
    }
    match MicroclimateArgs::parse().command {
        MicroclimateCommand::Demo(demo) => {
            // Progress bars and results are enough; warnings are still logged.
            log::init_logging(log::LogFormat::default(), "warn");
            shutdown::run_to_end(demo::run_demo(demo))?;
        }
        MicroclimateCommand::Up(common) => {
            log::init_logging(log::LogFormat::default(), "info");
            shutdown::run_to_end(run_services(common))?;
        }
        MicroclimateCommand::Doctor(common) if doctor::run_checks(&common) => {}
        MicroclimateCommand::Doctor(_) => return Ok(ExitCode::FAILURE),
        MicroclimateCommand::Backup(BackupArgs { backup, data_dir }) => {
            println!("{}", backup::back_up(&data_dir, &backup)?);
        }
        MicroclimateCommand::Restore(BackupArgs { backup, data_dir }) => {
            println!("{}", backup::restore(&backup, &data_dir)?);
        }
        MicroclimateCommand::Gateway(args) => return gateway::program::run_program(args),
        MicroclimateCommand::FeatureStore(args) => {
            return feature_store::program::run_program(args);
        }
        MicroclimateCommand::Trainer(args) => return trainer::program::run_program(args),
        MicroclimateCommand::FirmwareSim(args) => return firmware_sim::program::run_program(args),
        MicroclimateCommand::Completions { shell, program } => {
            programs::print_completions(shell, &program);
        }
        MicroclimateCommand::Man { dir } => programs::write_man_pages(&dir)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_services(common: CommonArgs) -> Result<()> {
    let CommonArgs { data_dir, config, set } = common;
    let settings = AppSettings::load(&data_dir, &[], config.as_deref(), &set)?;
    let stop_token = shutdown::cancel_on_signal()?;
    let app = MicroclimateApp::start(&settings)?;
    let url = app.page_url();
    tracing::info!(mqtt = %app.mqtt, rest = %url, "up");
    if io::stdout().is_terminal() {
        println!("\n{}", first_screen::addresses(&url, app.mqtt));
    }
    let stop_backups = stop_token.child_token();
    let backups = tokio::spawn(backup::serve_backups(
        data_dir.clone(),
        app.store.clone(),
        stop_backups.clone(),
    ));
    let mut hangups = signal(SignalKind::hangup())?;
    let gateway = app.gateway.clone();
    let reloading = async {
        // The gateway's settings, users and certificates are loaded again; invalid ones change
        // nothing.
        while hangups.recv().await.is_some() {
            let loaded = AppSettings::load(&data_dir, &[], config.as_deref(), &set);
            let reloaded = match loaded {
                Ok(settings) => {
                    gateway.apply_settings(&settings.gateway).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = reloaded {
                tracing::error!(%error, "SIGHUP: the old settings stay in force");
            }
        }
    };
    tokio::select! {
        () = reloading => {}
        () = stop_token.cancelled() => {}
        () = app.failed.cancelled() => {}
    }
    stop_backups.cancel();
    let _ = backups.await;
    app.stop().await
}
