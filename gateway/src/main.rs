//! The gateway by itself.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use eventlog::EventLog;
use gateway::{Settings, Sockets, settings::Mode};
use service::{listen, log, shutdown};

/// Takes MQTT messages into a durable log.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration file; `gateway defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set mqtt.listen=127.0.0.1:1884`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGINT or SIGTERM.
    Run,
    /// Print the ledger of a running gateway as JSON.
    Ledger,
    /// Print the latest dead letters of a running gateway as JSON.
    DeadLetters {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Print the commented default configuration.
    Defaults,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    log::init(log::Format::default(), "info");
    let settings = Settings::load(args.config.as_deref(), &args.set)?;
    match args.command {
        Command::Run => run(&settings).await,
        Command::Ledger => print(&settings, "ledger").await,
        Command::DeadLetters { limit } => {
            print(&settings, &format!("dead-letters?limit={limit}")).await
        }
        Command::Defaults => {
            print!("{}", gateway::settings::DEFAULTS);
            Ok(())
        }
    }
}

async fn run(settings: &Settings) -> Result<()> {
    let Settings { mqtt, rest, .. } = settings;
    let sockets = Sockets {
        mqtt: (mqtt.mode == Mode::Listener)
            .then(|| listen::bind("mqtt.listen", mqtt.listen, "mqtt.password", &mqtt.password))
            .transpose()?,
        rest: Some(listen::bind("rest.listen", rest.listen, "rest.token", &rest.token)?),
    };
    let (metrics, log) = (settings.metric_table()?, EventLog::open(&settings.log)?);
    let shutdown = shutdown::on_signal()?;
    Ok(gateway::run(settings, metrics, log, sockets, shutdown).await?)
}

/// Asks the running gateway that this configuration describes.
async fn print(settings: &Settings, path: &str) -> Result<()> {
    let url = format!("http://{}/{path}", settings.rest.listen);
    let mut request = reqwest::Client::new().get(&url).timeout(Duration::from_secs(10));
    if let Some(token) = settings.rest.token.reveal() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.with_context(|| {
        format!("{url}: no answer\nhint: is `gateway run` running, with this rest.listen?")
    })?;
    let (status, body) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        bail!("{url}: {status}: {body}");
    }
    let json: serde_json::Value = serde_json::from_str(&body)?;
    println!("{}", serde_json::to_string_pretty(&json)?);
    Ok(())
}
