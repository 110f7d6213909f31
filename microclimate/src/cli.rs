use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use feature_store::program::FeatureStoreArgs;
use firmware_sim::program::SimulatorArgs;
use gateway::program::GatewayArgs;
use telemetry::time::parse_bound_ms;
use trainer::program::TrainerArgs;

/// From MQTT message to served prediction in one process
#[derive(Debug, Parser)]
#[command(name = "microclimate", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct MicroclimateArgs {
    #[command(subcommand)]
    pub(crate) command: MicroclimateCommand,
}

const EXAMPLES: &str = "\
Start here:
  microclimate demo             two simulated weeks from message to prediction, then live
  microclimate demo --once      the same, ending after the leaderboard
(from the sources: cargo run -- demo)

Then with your own sensors:
  microclimate up
  mosquitto_pub -q 1 -t sensors/home/kitchen/probe-1/temperature -m 21.5
  curl http://127.0.0.1:8080/v1/features/latest";

#[derive(Debug, Subcommand)]
pub(crate) enum MicroclimateCommand {
    /// Publish simulated or recorded data, compute features, fit the models of every task, show
    /// their predictions, and go on live
    #[command(after_help = "\
Examples:
  microclimate demo
  microclimate demo --once --json --data-dir /tmp/demo | jq .tasks
  microclimate demo --replay ~/data --layout keti --rooms 415,417 --from 2013-08-24 --to 2013-08-26")]
    Demo(DemoArgs),
    /// Run all services for your own sensors
    Up(CommonArgs),
    /// Check what would keep it from running here, and say what to do
    Doctor(CommonArgs),
    /// Copy the data folder, whole and verified, while Microclimate runs on it or not
    Backup(BackupArgs),
    /// Put a backup in the place of an empty data folder
    Restore(BackupArgs),
    /// The gateway by itself; the program `gateway` is the same
    Gateway(GatewayArgs),
    /// The feature store by itself; the program `feature-store` is the same
    FeatureStore(FeatureStoreArgs),
    /// The trainer by itself; the program `trainer` is the same
    Trainer(TrainerArgs),
    /// The simulator by itself; the program `firmware-sim` is the same
    FirmwareSim(SimulatorArgs),
    /// Print a shell's completions of a program
    #[command(after_help = "\
Example:
  microclimate completions bash >~/.local/share/bash-completion/completions/microclimate")]
    Completions {
        /// The shell
        shell: Shell,
        /// The program: microclimate, gateway, feature-store, trainer or firmware-sim
        #[arg(default_value = "microclimate", value_parser = crate::programs::NAMES)]
        program: String,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder, which exists
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The backup's folder
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: PathBuf,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./var")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Folder for all data
    #[arg(long, value_name = "DIR", default_value = "./var")]
    pub(crate) data_dir: PathBuf,
    /// Configuration file; `src/default.toml` of each service documents its keys
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key, as in `--set rest.listen=127.0.0.1:9090` (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// End after the leaderboard instead of going on live
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON summary and nothing else on stdout
    #[arg(long, requires = "once")]
    pub(crate) json: bool,
    /// Days of simulated history
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=60), conflicts_with = "replay")]
    pub(crate) days: u32,
    #[command(flatten)]
    pub(crate) replay: ReplayArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Publish the recordings in this folder instead of simulated data
    #[arg(long, value_name = "DIR")]
    pub(crate) replay: Option<PathBuf>,
    /// Layout of the recordings
    #[arg(long, default_value = "keti", requires = "replay")]
    pub(crate) layout: firmware_sim::replay::RecordingLayout,
    /// Only these rooms, separated by commas
    #[arg(long, value_delimiter = ',', requires = "replay")]
    pub(crate) rooms: Vec<String>,
    /// Start at this UTC date or RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = parse_bound_ms)]
    pub(crate) from: Option<i64>,
    /// End before this UTC date or RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = parse_bound_ms)]
    pub(crate) to: Option<i64>,
}
