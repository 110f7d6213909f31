//! The program `gateway`, which `microclimate gateway` is too.

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use crate::{
    Gateway, GatewayError, GatewaySettings, GatewaySockets, dead_letters::DeadLetterSelection,
    settings::MqttMode,
};
use anyhow::{Context, Error, Result, bail};
use clap::{Parser, Subcommand};
use eventlog::EventLog;
use service::{descriptors, log, shutdown};
use telemetry::DeadLetterReason;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, warn};

/// Receives MQTT messages into a durable log.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
pub struct GatewayArgs {
    /// Configuration file; `gateway defaults` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in `--set mqtt.listen=127.0.0.1:1884`.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Run until SIGINT or SIGTERM.
    Run,
    /// Print the ledger of a running gateway as JSON.
    Ledger,
    /// Print the latest messages that were found to be duplicates, newest first, as JSON.
    Duplicates {
        /// Largest number of messages.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show the dead letters of a running gateway, or decode them again.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Make lines for the users file (mqtt.users_file).
    #[command(subcommand)]
    User(UserCommand),
    /// Print the commented default configuration.
    Defaults,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Print the line of a user, with the hash of the password that is read from standard
    /// input. A right is publish:FILTER, retain:FILTER (to keep messages for later
    /// subscribers, on topics of mqtt.forward), subscribe:FILTER, or @GROUP, a line
    /// "@GROUP RIGHT…" above it in the file. {user} and {client} in a filter stand for the
    /// names of user and client. Example:
    /// printf %s "$PASSWORD" | gateway user add bay-1 'publish:sensors/farm/{user}/#' >>users
    #[command(verbatim_doc_comment)]
    Add {
        /// The user's name; a certificate with this name identifies the user too.
        name: String,
        /// The user's rights; none if empty.
        rights: Vec<String>,
        /// Generate a password and print it to standard error, instead of reading one.
        #[arg(long, conflicts_with = "certificate_only")]
        generate: bool,
        /// No password: only a certificate identifies this user.
        #[arg(long)]
        certificate_only: bool,
    },
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Print the latest dead letters as JSON, newest first.
    List {
        /// Largest number of dead letters.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Decode dead letters again, after a metric or mapping was fixed (SIGHUP makes a
    /// running gateway read its configuration again). Those that become readings are no
    /// longer shown; the others stay as they are. Example:
    /// gateway dead-letters reinject --reason unknown_metric --topic 'sensors/farm/#'
    #[command(verbatim_doc_comment)]
    Reinject {
        /// Only dead letters with this reason, as `list` shows it.
        #[arg(long)]
        reason: Option<DeadLetterReason>,
        /// Only dead letters whose topic matches this MQTT filter.
        #[arg(long)]
        topic: Option<String>,
        /// Largest number of dead letters, oldest first (10000).
        #[arg(long)]
        limit: Option<usize>,
        /// Only count the dead letters.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs a command of the program until it has ended.
///
/// # Errors
/// Fails if the configuration is invalid, or the running gateway or the system refuses.
pub fn run_program(args: GatewayArgs) -> Result<ExitCode> {
    run_command(args).map(|()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run_command(args: GatewayArgs) -> Result<()> {
    log::init_logging(log::LogFormat::default(), "info");
    let settings = GatewaySettings::load(args.config.as_deref(), &args.set)?;
    match args.command {
        GatewayCommand::Run => run_gateway(&settings, args.config, args.set).await,
        GatewayCommand::Ledger => query_gateway(&settings, "ledger", None).await,
        GatewayCommand::Duplicates { limit } => {
            query_gateway(&settings, &format!("duplicates?limit={limit}"), None).await
        }
        GatewayCommand::DeadLetters(DeadLettersCommand::List { limit }) => {
            query_gateway(&settings, &format!("dead-letters?limit={limit}"), None).await
        }
        GatewayCommand::DeadLetters(DeadLettersCommand::Reinject {
            reason,
            topic,
            limit,
            dry_run,
        }) => {
            let selection = DeadLetterSelection {
                reason,
                topic,
                limit,
                dry_run,
                ..DeadLetterSelection::default()
            };
            query_gateway(&settings, "dead-letters/reinject", Some(&selection)).await
        }
        GatewayCommand::User(UserCommand::Add { name, rights, generate, certificate_only }) => {
            let password = match (generate, certificate_only) {
                (_, true) => None,
                (true, _) => {
                    let password = crate::access::generate_password().map_err(Error::msg)?;
                    eprintln!("{password}");
                    Some(password)
                }
                _ => Some(read_password()?),
            };
            let line = crate::access::users_file_line(&name, password.as_deref(), &rights);
            println!("{}", line.map_err(Error::msg)?);
            Ok(())
        }
        GatewayCommand::Defaults => {
            print!("{}", crate::settings::DEFAULTS);
            Ok(())
        }
    }
}

/// Reads the first line of standard input.
fn read_password() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("standard input: no password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("standard input: no password\nhint: printf %s \"$PASSWORD\" | gateway user add …");
    }
    Ok(password.to_owned())
}

async fn run_gateway(
    settings: &GatewaySettings,
    config: Option<PathBuf>,
    set: Vec<String>,
) -> Result<()> {
    let GatewaySettings { mqtt, rest, .. } = settings;
    match descriptors::raise_limit() {
        Ok(open_files_max) => debug!(open_files_max, "limit of open files"),
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let sockets = GatewaySockets {
        mqtt: (mqtt.mode == MqttMode::Listener).then(|| mqtt.bind_listener("mqtt")).transpose()?,
        rest: Some(rest.bind_listener()?),
    };
    let (metrics, log) = (settings.metric_table()?, EventLog::open(&settings.log)?);
    let shutdown = shutdown::cancel_on_signal()?;
    let gateway = Gateway::new(settings, metrics, log)?;
    tokio::spawn(reload_on_hangup(gateway.clone(), signal(SignalKind::hangup())?, config, set));
    Ok(gateway.run(sockets, shutdown).await?)
}

/// Reads the configuration again at each SIGHUP. An invalid one changes nothing.
async fn reload_on_hangup(
    gateway: Gateway,
    mut hangups: Signal,
    config: Option<PathBuf>,
    set: Vec<String>,
) {
    while hangups.recv().await.is_some() {
        let loaded = GatewaySettings::load(config.as_deref(), &set).map_err(GatewayError::from);
        if let Err(error) = loaded.and_then(|settings| gateway.apply_settings(&settings)) {
            error!(%error, "cannot reload the configuration: the old settings stay in force");
        }
    }
}

/// Creates a client that accepts exactly the gateway's own certificate, if the gateway uses TLS.
fn rest_client(settings: &GatewaySettings) -> Result<reqwest::Client> {
    let mut client = reqwest::Client::builder();
    if settings.rest.tls.is_enabled() {
        let pinned = service::tls::pinned_client(&settings.rest.tls.cert_file)?;
        client = client.use_preconfigured_tls(pinned);
    }
    Ok(client.build()?)
}

/// Queries the running gateway of this configuration, by GET, or by POST if there is a body.
async fn query_gateway(
    settings: &GatewaySettings,
    path: &str,
    body: Option<&DeadLetterSelection>,
) -> Result<()> {
    let url = format!("{}://{}/{path}", settings.rest.tls.scheme(), settings.rest.listen);
    let client = rest_client(settings)?;
    let mut request = match body {
        None => client.get(&url).timeout(Duration::from_secs(10)),
        Some(body) => client.post(&url).json(body),
    };
    if let Some(token) = settings.rest.token.expose_secret() {
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
    // The reader of a pipe, such as `head`, may have ended.
    match writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&json)?) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
