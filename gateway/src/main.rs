//! The gateway by itself.

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use eventlog::EventLog;
use gateway::{Gateway, Settings, Sockets, dead_letters::Selection, settings::Mode};
use service::{listen, log, shutdown};
use telemetry::Reason;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::error;

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
    /// Print the latest messages that were found to be duplicates, newest first, as JSON.
    Duplicates {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show the dead letters of a running gateway, or hand them in again.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Print the commented default configuration.
    Defaults,
}

#[derive(Subcommand)]
enum DeadLetters {
    /// Print the latest as JSON, newest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Decode them once more, after a metric or mapping was mended (SIGHUP makes a
    /// running gateway read its configuration again). What is readings now is not
    /// shown any more; what is not stays as it is. Example:
    /// gateway dead-letters reinject --reason unknown_metric --topic 'sensors/farm/#'
    #[command(verbatim_doc_comment)]
    Reinject {
        /// Only those for this reason, as `list` shows it.
        #[arg(long)]
        reason: Option<Reason>,
        /// Only those whose topic matches this MQTT filter.
        #[arg(long)]
        topic: Option<String>,
        /// At most this many, the oldest first (10000).
        #[arg(long)]
        limit: Option<usize>,
        /// Only count them.
        #[arg(long)]
        dry_run: bool,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    log::init(log::Format::default(), "info");
    let settings = Settings::load(args.config.as_deref(), &args.set)?;
    match args.command {
        Command::Run => run(&settings, args.config, args.set).await,
        Command::Ledger => ask(&settings, "ledger", None).await,
        Command::Duplicates { limit } => {
            ask(&settings, &format!("duplicates?limit={limit}"), None).await
        }
        Command::DeadLetters(DeadLetters::List { limit }) => {
            ask(&settings, &format!("dead-letters?limit={limit}"), None).await
        }
        Command::DeadLetters(DeadLetters::Reinject { reason, topic, limit, dry_run }) => {
            let selection = Selection { reason, topic, limit, dry_run, ..Selection::default() };
            ask(&settings, "dead-letters/reinject", Some(&selection)).await
        }
        Command::Defaults => {
            print!("{}", gateway::settings::DEFAULTS);
            Ok(())
        }
    }
}

async fn run(settings: &Settings, config: Option<PathBuf>, set: Vec<String>) -> Result<()> {
    let Settings { mqtt, rest, .. } = settings;
    let sockets = Sockets {
        mqtt: (mqtt.mode == Mode::Listener)
            .then(|| listen::bind("mqtt.listen", mqtt.listen, "mqtt.password", &mqtt.password))
            .transpose()?,
        rest: Some(listen::bind("rest.listen", rest.listen, "rest.token", &rest.token)?),
    };
    let (metrics, log) = (settings.metric_table()?, EventLog::open(&settings.log)?);
    let shutdown = shutdown::on_signal()?;
    let gateway = Gateway::new(settings, metrics, log)?;
    tokio::spawn(reload(gateway.clone(), signal(SignalKind::hangup())?, config, set));
    Ok(gateway.run(sockets, shutdown).await?)
}

/// At each SIGHUP reads the configuration again; a bad one changes nothing.
async fn reload(gateway: Gateway, mut hangups: Signal, config: Option<PathBuf>, set: Vec<String>) {
    while hangups.recv().await.is_some() {
        let loaded = Settings::load(config.as_deref(), &set);
        if let Err(error) = loaded.and_then(|settings| gateway.reload(&settings)) {
            error!(%error, "SIGHUP: the old settings stay in force");
        }
    }
}

/// Asks the running gateway that this configuration describes, by GET, or by
/// POST where there is something to say.
async fn ask(settings: &Settings, path: &str, body: Option<&Selection>) -> Result<()> {
    let url = format!("http://{}/{path}", settings.rest.listen);
    let client = reqwest::Client::new();
    let mut request = match body {
        None => client.get(&url).timeout(Duration::from_secs(10)),
        Some(body) => client.post(&url).json(body),
    };
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
    // `| head` may have seen enough.
    match writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&json)?) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
