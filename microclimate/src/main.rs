//! All services in one process.
//!
//! # Layout
//! - `cli`: commands and flags
//! - `settings`: one configuration for all parts
//! - `house`: all parts, started, served together, stopped in order
//! - `demo`: two weeks through everything
//! - `screen`, `summary`: what people and programs see of it
//! - `overview`: the state of all zones at once, and as it changes
//! - `page`: the files of the page; `compression`: of answers

mod app;
mod cli;
mod compression;
mod demo;
mod overview;
mod page;
mod progress;
mod settings;
mod summary;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use service::{log, shutdown};
use tokio::signal::unix::{SignalKind, signal};

use app::MicroclimateApp;
use cli::{CommonArgs, MicroclimateArgs, MicroclimateCommand};
use settings::AppSettings;

fn main() -> Result<ExitCode> {
    if let Some(code) = feature_store::sql_sandbox::serve_if_requested() {
        return Ok(code);
    }
    run_command().map(|()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run_command() -> Result<()> {
    let cli = MicroclimateArgs::parse();
    match cli.command {
        MicroclimateCommand::Demo(demo) => {
            // Progress bars and results are enough; warnings are still logged.
            log::init_logging(log::LogFormat::default(), "warn");
            demo::run_demo(demo).await
        }
        MicroclimateCommand::Up(common) => {
            log::init_logging(log::LogFormat::default(), "info");
            run_services(common).await
        }
    }
}

async fn run_services(common: CommonArgs) -> Result<()> {
    let CommonArgs { data_dir, config, set } = common;
    let settings = AppSettings::load(&data_dir, &[], config.as_deref(), &set)?;
    let stop_token = shutdown::cancel_on_signal()?;
    let app = MicroclimateApp::start(&settings)?;
    let url = format!("{}://{}/", settings.rest.tls.scheme(), app.rest);
    tracing::info!(mqtt = %app.mqtt, rest = %url, "up");
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
    app.stop().await
}
