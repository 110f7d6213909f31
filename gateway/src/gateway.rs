//! All parts of a gateway together, from start to drain.

use std::{
    net::TcpListener,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use eventlog::{EventLog, LogError};
use rustls::ServerConfig;
use service::{
    config::ConfigError, prometheus::TimeHistogram, rest::ServeOptions, shutdown::drain_within,
    tls::CurrentTls,
};
use telemetry::{MetricTable, topic};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    GatewayError,
    access::{AccessControl, AccessRules},
    blocking::run_blocking,
    bridge::{self, MqttBridge},
    conventions::{Conventions, settings::MappingSettings},
    dead_letters::{
        DeadLetterSelection, DeadLetterSummary, RecentDeadLetters, ReinjectOutcome as Reinjected,
    },
    downlink::{Downlink, DownlinkLimits},
    duplicates::{DuplicateMessage, RecentDuplicates},
    ingest_queue::{IngestJob, IngestQueue},
    ledger::{AccountLimits, Ledger, LedgerFile, LedgerSnapshot},
    listener::{self, ListenerContext, ListenerContextParts, ListenerCounts},
    message_decoder::MessageDecoder,
    metadata, metrics,
    pipeline::{IngestPipeline, IngestPipelineParts},
    rest,
    retained_messages::RetainedMessages,
    settings::{GatewaySettings, MqttMode},
    tls,
};

/// Longest wait at the start for the dead letters of earlier processes.
const RECALL_TIME_MAX: Duration = Duration::from_secs(3);

/// Interval at which the ledger is stored beside the log.
const LEDGER_EVERY: Duration = Duration::from_secs(1);
/// Interval at which Kafka is asked for its offsets.
const KAFKA_EVERY: Duration = Duration::from_mins(1);
/// Interval at which the log's retention is applied.
const RETENTION_EVERY: Duration = Duration::from_mins(1);

/// Upper bounds of the time from a message's arrival to its durability, seconds.
const LAG_BOUNDS_S: [f64; 13] =
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The sockets that the caller has bound.
#[derive(Debug, Default)]
pub struct GatewaySockets {
    /// The socket for devices; needed in listener mode.
    pub mqtt: Option<TcpListener>,
    /// The socket for HTTP; `None` if another server serves the routes.
    pub rest: Option<TcpListener>,
}

/// A gateway: its counts, its dead letters, its downlink. Clones share it.
#[derive(Clone, Debug)]
pub struct Gateway(pub(crate) Arc<GatewayInner>);

#[derive(Debug)]
pub(crate) struct GatewayInner {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dead_letters: Arc<RecentDeadLetters>,
    pub(crate) duplicates: Arc<RecentDuplicates>,
    pub(crate) downlink: Downlink,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Whether messages are accepted: the listener is up, or the broker is connected.
    pub(crate) is_ready: Arc<AtomicBool>,
    /// Time from a message's arrival to its durability.
    pub(crate) lag: Arc<TimeHistogram>,
    pub(crate) log: EventLog,
    pub(crate) ingest_queue: IngestQueue,
    pub(crate) access: Arc<AccessControl>,
    pub(crate) listener_counts: Arc<ListenerCounts>,
    /// The rights of the listener's users; read again at each reload.
    rules: watch::Sender<Arc<AccessRules>>,
    /// The listener's certificate, if it has one; read again at each reload.
    listener_tls: Option<CurrentTls>,
    /// The newest settings, for all parts that need them.
    settings: watch::Sender<Arc<GatewaySettings>>,
    decoder: watch::Sender<Arc<MessageDecoder>>,
    jobs: Mutex<Option<UnboundedReceiver<IngestJob>>>,
}

impl GatewayInner {
    /// Returns the newest settings.
    pub(crate) fn current_settings(&self) -> Arc<GatewaySettings> {
        self.settings.borrow().clone()
    }
}

/// Opens a gateway and runs it until `shutdown`.
///
/// # Errors
/// See [`GatewayError`].
pub async fn run(
    settings: &GatewaySettings,
    metrics: MetricTable,
    log: EventLog,
    sockets: GatewaySockets,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    Gateway::new(settings, metrics, log)?.run(sockets, shutdown).await
}

impl Gateway {
    /// Creates a gateway that does not run yet.
    ///
    /// # Errors
    /// Returns an error if a mapping is invalid, or if the users file or a certificate cannot be
    /// used.
    pub fn new(
        settings: &GatewaySettings,
        metrics: MetricTable,
        log: EventLog,
    ) -> Result<Self, GatewayError> {
        let limits = &settings.limits;
        let ledger = Arc::new(Ledger::new(AccountLimits {
            devices_max: limits.devices_max,
            window: limits.duplicates_window,
            ..AccountLimits::default()
        }));
        let (ingest_queue, jobs) = IngestQueue::new(ledger.clone(), limits.in_flight_bytes_max);
        let downlink = Downlink::new(DownlinkLimits {
            retained_bytes_max: limits.retained_bytes_max,
            subscriber_bytes_max: limits.subscriber_bytes_max,
            subscribers_bytes_max: limits.subscribers_bytes_max,
        });
        let rules = AccessRules::load(&settings.mqtt)?;
        let listener_tls = load_listener_tls(settings)?.map(CurrentTls::new);
        let conventions = Arc::new(Mutex::new(Conventions::new(&settings.mappings, &metrics)?));
        let decoder =
            MessageDecoder::from_settings(settings, metrics, conventions, downlink.clone());
        Ok(Self(Arc::new(GatewayInner {
            ledger,
            dead_letters: Arc::new(RecentDeadLetters::new(limits.dead_letters_shown)),
            duplicates: Arc::new(RecentDuplicates::new(limits.duplicates_shown)),
            downlink,
            connections: Arc::default(),
            is_ready: Arc::default(),
            lag: Arc::new(TimeHistogram::new(&LAG_BOUNDS_S)),
            log,
            ingest_queue,
            access: Arc::default(),
            listener_counts: Arc::default(),
            rules: watch::Sender::new(Arc::new(rules)),
            listener_tls,
            settings: watch::Sender::new(Arc::new(settings.clone())),
            decoder: watch::Sender::new(Arc::new(decoder)),
            jobs: Mutex::new(Some(jobs)),
        })))
    }

    /// Returns the account of all readings.
    #[must_use]
    pub fn ledger_snapshot(&self) -> LedgerSnapshot {
        let entities = self.0.decoder.borrow().entity_counts();
        LedgerSnapshot { entities, ..self.0.ledger.snapshot() }
    }

    /// Returns the latest dead letters, newest first, at most `limit`.
    #[must_use]
    pub fn latest_dead_letters(&self, limit: usize) -> Vec<DeadLetterSummary> {
        self.0.dead_letters.latest_summaries(limit)
    }

    /// Returns the latest duplicates of one device, or of all, newest first, at most `limit`.
    #[must_use]
    pub fn latest_duplicates(&self, device: Option<&str>, limit: usize) -> Vec<DuplicateMessage> {
        self.0.duplicates.latest_duplicates(device, limit)
    }

    /// Decodes dead letters again, after their cause was fixed.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read.
    pub async fn reinject_dead_letters(
        &self,
        selection: &DeadLetterSelection,
    ) -> Result<Reinjected, LogError> {
        selection.reinject_selected(&self.0.log, &self.0.ingest_queue).await
    }

    /// Applies new settings: all of them, or none if one of them cannot be changed at run time.
    ///
    /// # Errors
    /// Names the settings that need a restart or are invalid, and the file that cannot be used.
    pub fn apply_settings(&self, settings: &GatewaySettings) -> Result<(), GatewayError> {
        let metrics = settings.metric_table()?;
        let fixed = self.0.settings.borrow().restart_keys(settings);
        if !fixed.is_empty() {
            let what = "cannot change while the gateway runs; nothing was changed: restart it";
            return Err(ConfigError::invalid(&fixed.join(", "), what).into());
        }
        settings.mqtt.check_is_guarded()?;
        let rules = AccessRules::load(&settings.mqtt)?;
        let tls = load_listener_tls(settings)?;
        let conventions =
            if are_mappings_equal(&self.0.settings.borrow().mappings, &settings.mappings) {
                // The conventions keep what they have learned from messages.
                self.0.decoder.borrow().conventions.clone()
            } else {
                Arc::new(Mutex::new(Conventions::new(&settings.mappings, &metrics)?))
            };
        let decoder =
            MessageDecoder::from_settings(settings, metrics, conventions, self.0.downlink.clone());
        self.0.decoder.send_replace(Arc::new(decoder));
        self.0.settings.send_replace(Arc::new(settings.clone()));
        // This closes connections whose user has changed or was removed.
        self.0.rules.send_replace(Arc::new(rules));
        if let Some((current, new)) = self.0.listener_tls.as_ref().zip(tls) {
            current.replace_config(new);
        }
        info!("new settings are in force");
        Ok(())
    }

    /// Returns the downlink, which publishes to MQTT subscribers or through the broker.
    #[must_use]
    pub fn downlink(&self) -> Downlink {
        self.0.downlink.clone()
    }

    /// Routes `/ledger`, `/duplicates`, `/dead-letters` and `POST /v1/readings`, to be merged
    /// with the routes of other services.
    pub fn rest_routes(&self) -> axum::Router {
        rest::ledger_routes(self.clone())
    }

    /// Renders the metrics in the text format of Prometheus.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        metrics::render_metrics(self)
    }

    /// Accepts messages until `shutdown`, then finishes those in flight within `limits.drain_s`,
    /// and ends. Call it once.
    ///
    /// # Errors
    /// See [`GatewayError`]. After a failure of the log, no message was acknowledged that is not
    /// in the log.
    ///
    /// # Panics
    /// Panics when it is called a second time.
    pub async fn run(
        &self,
        sockets: GatewaySockets,
        shutdown: CancellationToken,
    ) -> Result<(), GatewayError> {
        let GatewayInner { settings, ledger, dead_letters, log, .. } = &*self.0;
        let mut rest_options = ServeOptions::from(&settings.borrow().rest);
        rest_options.drain_time = self.drain_time();
        let mode = settings.borrow().mqtt.mode;
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let jobs = jobs.expect("a gateway runs once");
        let opened = {
            let log = log.clone();
            let decoder = self.0.decoder.subscribe();
            let (ledger, dead_letters) = (ledger.clone(), dead_letters.clone());
            let (duplicates, lag) = (self.0.duplicates.clone(), self.0.lag.clone());
            let dir = settings.borrow().log.state_dir().map(Path::to_path_buf);
            // This recovers segments or contacts Kafka's brokers, which takes time.
            run_blocking(move || {
                let retained =
                    (mode == MqttMode::Bridge).then(|| RetainedMessages::open(dir.as_deref()));
                let parts = IngestPipelineParts {
                    decoder,
                    ledger,
                    dead_letters,
                    duplicates,
                    lag,
                    retained,
                };
                IngestPipeline::open(&log, parts)
            })
        };
        let pipeline = opened.await?;
        // Kafka may be away now. Data that is only shown is not worth waiting for.
        match tokio::time::timeout(RECALL_TIME_MAX, dead_letters.load_latest(log)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "cannot load earlier dead letters"),
            Err(_) => warn!("cannot load earlier dead letters: the log does not answer"),
        }

        let rest = async {
            match sockets.rest {
                Some(socket) => {
                    let routes = rest::service_routes(self.clone());
                    let served =
                        service::rest::serve_routes(socket, routes, rest_options, shutdown.clone());
                    served.await.map_err(GatewayError::Rest)
                }
                None => Ok(()),
            }
        };
        let transport = async {
            match mode {
                MqttMode::Listener => self.run_listener(sockets.mqtt, &shutdown).await,
                MqttMode::Bridge => Box::pin(self.run_bridge(&shutdown)).await,
            }
        };
        let mut ledger_file = self.open_ledger().await?;
        let result = tokio::select! {
            failed = pipeline.run(jobs) => failed.map_err(GatewayError::from),
            () = pipeline.dead_letter_refused_records() => Ok(()),
            () = self.apply_retention() => Ok(()),
            () = self.save_ledger_periodically(&mut ledger_file) => Ok(()),
            () = self.compare_with_kafka() => Ok(()),
            ended = async { tokio::try_join!(transport, rest) } => ended.map(|_| ()),
        };
        self.0.is_ready.store(false, Ordering::Relaxed);
        pipeline.save_retained();
        ledger_file.write_if_changed(ledger);
        let totals = self.ledger_snapshot().totals;
        info!(
            received = totals.received,
            logged = totals.logged,
            dead_lettered = totals.dead_lettered,
            duplicates = totals.duplicates,
            dropped = totals.dropped,
            in_flight = totals.in_flight,
            unaccounted = totals.unaccounted,
            "ended"
        );
        result
    }

    /// Applies the log's retention periodically. Never ends.
    async fn apply_retention(&self) {
        let mut clock = tokio::time::interval(RETENTION_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let log = self.0.log.clone();
            if let Err(error) = run_blocking(move || log.apply_retention()).await {
                warn!(%error, "cannot apply the retention: old records stay for now; will retry");
            }
        }
    }

    /// Restores the counts of an earlier process.
    async fn open_ledger(&self) -> Result<LedgerFile, GatewayError> {
        let GatewayInner { ledger, log, settings, .. } = &*self.0;
        let dir = settings.borrow().log.state_dir().map(Path::to_path_buf);
        let restored = ledger.clone();
        let file = run_blocking(move || LedgerFile::open(dir.as_deref(), &restored)).await;
        if log.is_embedded() {
            ledger.recount_from_log(log).await?;
        }
        Ok(file)
    }

    /// Stores the ledger beside the log periodically. Never ends.
    async fn save_ledger_periodically(&self, file: &mut LedgerFile) {
        let mut clock = tokio::time::interval(LEDGER_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let began = tokio::time::Instant::now();
            file.write_if_changed(&self.0.ledger);
            // With many devices, writing takes longer and is done less often.
            tokio::time::sleep(began.elapsed() * 20).await;
        }
    }

    /// Compares the ledger with Kafka's offsets periodically. Never ends.
    async fn compare_with_kafka(&self) {
        let GatewayInner { ledger, log, .. } = &*self.0;
        if log.is_embedded() {
            return std::future::pending().await;
        }
        let mut clock = tokio::time::interval(KAFKA_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let (ledger, log) = (ledger.clone(), log.clone());
            let compared = run_blocking(move || {
                [topic::READINGS, topic::DEAD_LETTERS]
                    .into_iter()
                    .try_for_each(|topic| ledger.compare_with_kafka(&log, topic))
            });
            if let Err(error) = compared.await {
                debug!(%error, "cannot compare with Kafka now");
            }
        }
    }

    async fn run_listener(
        &self,
        socket: Option<TcpListener>,
        shutdown: &CancellationToken,
    ) -> Result<(), GatewayError> {
        let GatewayInner { settings, ingest_queue, downlink, connections, ledger, rules, .. } =
            &*self.0;
        let socket = socket.ok_or(GatewayError::NoSocket)?;
        let frontend = ListenerContext::new(ListenerContextParts {
            ingest_queue: ingest_queue.clone(),
            downlink: downlink.clone(),
            connections: connections.clone(),
            settings: settings.subscribe(),
            access: self.0.access.clone(),
            rules: rules.subscribe(),
            counts: self.0.listener_counts.clone(),
        });
        let close = CancellationToken::new();
        // When this future is dropped because the log failed, the listener's thread ends too.
        let _close_on_drop = close.clone().drop_guard();
        let drained = async {
            shutdown.cancelled().await;
            frontend.is_draining.store(true, Ordering::Release);
            drain_within("messages under way", self.drain_time(), ledger.wait_until_drained())
                .await;
            close.cancel();
            Ok(())
        };
        self.0.is_ready.store(true, Ordering::Relaxed);
        let served = listener::serve_listener(
            socket,
            self.0.listener_tls.clone(),
            frontend.clone(),
            close.clone(),
        );
        tokio::try_join!(served, drained).map(|_| ())
    }

    /// Runs a bridge. When its settings change, another bridge takes over the session.
    async fn run_bridge(&self, shutdown: &CancellationToken) -> Result<(), GatewayError> {
        let GatewayInner { settings, ingest_queue, downlink, ledger, is_ready, .. } = &*self.0;
        let mut settings = settings.subscribe();
        let mut dropped_filters = Vec::new();
        loop {
            let GatewaySettings { mqtt, mappings, .. } = (**settings.borrow_and_update()).clone();
            let metadata_filters = self.0.decoder.borrow().metadata_filters();
            let stop = shutdown.child_token();
            let (bridge, events) = MqttBridge::new(
                &mqtt,
                ingest_queue.clone(),
                ledger.clone(),
                is_ready.clone(),
                std::mem::take(&mut dropped_filters),
            )?;
            let (loaded, is_loaded) = oneshot::channel();
            let values = async {
                // Messages wait at the broker until the metadata has arrived.
                tokio::select! {
                    _ = is_loaded => {}
                    () = stop.cancelled() => {}
                }
                bridge.run(events, stop.clone()).await
            };
            let work = async {
                tokio::try_join!(
                    values,
                    metadata::follow_metadata(
                        &mqtt,
                        metadata_filters,
                        ingest_queue.clone(),
                        loaded,
                        stop.clone()
                    ),
                    bridge::forward_downlink(&mqtt, downlink, stop.clone()),
                )
                .map(|_| ())
            };
            let changed = async {
                let is_other = |new: &Arc<GatewaySettings>| {
                    new.mqtt.connection_fingerprint() != mqtt.connection_fingerprint()
                        || !are_mappings_equal(&new.mappings, &mappings)
                };
                // The sender lives as long as the gateway.
                let _ = settings.wait_for(is_other).await;
                stop.cancel();
                std::future::pending::<()>().await;
            };
            let expired = async {
                stop.cancelled().await;
                let never = std::future::pending::<()>();
                drain_within("messages under way", self.drain_time(), never).await;
            };
            tokio::select! {
                ended = work => ended?,
                () = changed => {}
                () = expired => {}
            }
            if shutdown.is_cancelled() {
                return Ok(());
            }
            let current_filters = &settings.borrow().mqtt.filters;
            dropped_filters = mqtt
                .filters
                .into_iter()
                .filter(|filter| !current_filters.contains(filter))
                .collect();
        }
    }

    fn drain_time(&self) -> Duration {
        self.0.settings.borrow().limits.drain_time()
    }
}

/// Loads the certificate of the listener, if it uses TLS.
fn load_listener_tls(
    settings: &GatewaySettings,
) -> Result<Option<Arc<ServerConfig>>, GatewayError> {
    let (mode, tls) = (settings.mqtt.mode, &settings.mqtt.tls);
    (mode == MqttMode::Listener && tls.enabled).then(|| tls::load_server_tls(tls)).transpose()
}

/// Whether two lists of mappings are equal.
fn are_mappings_equal(a: &[MappingSettings], b: &[MappingSettings]) -> bool {
    format!("{a:?}") == format!("{b:?}")
}
