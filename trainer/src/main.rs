//! The trainer by itself.

mod models_cli;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use service::{
    config::{self, Sources},
    listen, log, rest, shutdown,
    time::parse_ms,
};
use telemetry::ZoneId;
use trainer::{
    Request, Settings, Source, Trainer, report, serve::settings::Watch, settings, tasks, watch,
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
    Compare(Compare),
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

#[derive(clap::Args)]
struct Compare {
    /// Only these tasks.
    #[arg(long = "task", value_parser = clap::builder::PossibleValuesParser::new(tasks::NAMES))]
    tasks: Vec<String>,
    /// Only these models, as named in leaderboards; baselines are always there.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Only these zones, as in farm/bay-1,house/room-1.
    #[arg(long, value_delimiter = ',')]
    zones: Vec<ZoneId>,
    /// Rows from this time on, as in 2013-08-24 or 2013-08-24T12:00:00Z.
    #[arg(long, value_parser = parse_ms)]
    from: Option<i64>,
    /// Rows up to this time.
    #[arg(long, value_parser = parse_ms)]
    to: Option<i64>,
    /// Print the leaderboards as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
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
        Command::Serve => serve(settings).await,
        Command::Watch => {
            let trainer = Trainer::new(settings.clone(), Source::remote(&settings.source)?)?;
            let watched =
                Settings { watch: Watch { enabled: true, ..settings.watch.clone() }, ..settings };
            Ok(watch::run(&watched, trainer, shutdown::on_signal()?).await?)
        }
        Command::Models(asked) => models_cli::run(&settings, asked),
        Command::Defaults => {
            print!("{}", settings::DEFAULTS);
            Ok(())
        }
    }
}

async fn compare(settings: Settings, asked: Compare) -> Result<()> {
    let source = Source::remote(&settings.source)?;
    let trainer = Trainer::new(settings, source)?;
    let Compare { tasks, models, zones, from, to, json } = asked;
    let request = Request { tasks, models, zones, from_ms: from, to_ms: to };
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} tasks  {msg}").expect("a template"),
    );
    let shown = bar.clone();
    let comparison = trainer
        .compare(&request, move |progress| {
            shown.set_length(progress.tasks as u64);
            shown.set_position(progress.tasks_done as u64);
            shown.set_message(format!("{}: {}", progress.task, progress.step));
        })
        .await?;
    bar.finish_and_clear();
    if json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        for task in &comparison.tasks {
            println!("{}", report::terminal(task));
            if let Some(decision) = &task.decision {
                let role = if decision.promoted { "champion" } else { "challenger" };
                println!("version {} is {role}: {}", decision.version, decision.why);
            }
            println!();
        }
        println!("report: {}", comparison.dir.join("report.html").display());
    }
    Ok(())
}

async fn serve(settings: Settings) -> Result<()> {
    let socket =
        listen::bind("rest.listen", settings.rest.listen, "rest.token", &settings.rest.token)?;
    let source = Source::remote(&settings.source)?;
    let trainer = Trainer::new(settings.clone(), source)?;
    tracing::info!(rest = %socket.local_addr()?, "serving");
    let stop = shutdown::on_signal()?;
    let routes = trainer::rest::service_routes(trainer.clone());
    let served = rest::serve(socket, routes, settings.rest.token.clone(), stop.clone());
    let (served, watched) = tokio::join!(served, watch::run(&settings, trainer, stop));
    watched?;
    Ok(served?)
}
