//! All parts put together, and their life from start to drain.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use eventlog::EventLog;
use service::shutdown::drain;
use telemetry::{MetricTable, payload};
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    GatewayError,
    blocking::blocking,
    bridge::{self, Bridge},
    conventions::Conventions,
    dead_letters::{DeadLetters, Shown},
    downlink::Downlink,
    intake::Decoder,
    ledger::{Ledger, Snapshot},
    listener::{self, Frontend},
    metadata,
    pipeline::{Inlet, Job, Pipeline},
    rest,
    settings::{Mode, Settings},
};

/// What the caller has bound.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For devices; needed in listener mode.
    pub mqtt: Option<TcpListener>,
    /// For HTTP; none where the routes are served by another.
    pub rest: Option<TcpListener>,
}

/// A gateway: its counts, its dead letters, its way to subscribers. Clones are
/// the same one.
#[derive(Clone, Debug)]
pub struct Gateway(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) downlink: Downlink,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Messages are taken: the listener is up, or the broker is connected.
    pub(crate) is_ready: Arc<AtomicBool>,
    settings: Settings,
    metrics: MetricTable,
    log: EventLog,
    inlet: Inlet,
    jobs: Mutex<Option<UnboundedReceiver<Job>>>,
}

/// Opens a gateway and runs it until `shutdown`.
///
/// # Errors
/// See [`GatewayError`].
pub async fn run(
    settings: &Settings,
    metrics: MetricTable,
    log: EventLog,
    sockets: Sockets,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    Gateway::new(settings, metrics, log).run(sockets, shutdown).await
}

impl Gateway {
    /// A gateway that does not run yet.
    #[must_use]
    pub fn new(settings: &Settings, metrics: MetricTable, log: EventLog) -> Self {
        let limits = &settings.limits;
        let ledger = Arc::new(Ledger::new(limits.devices_max, limits.duplicates_window));
        let (inlet, jobs) = Inlet::new(ledger.clone(), limits.in_flight_bytes_max);
        Self(Arc::new(Inner {
            ledger,
            dead_letters: Arc::new(DeadLetters::new(limits.dead_letters_shown)),
            downlink: Downlink::default(),
            connections: Arc::default(),
            is_ready: Arc::default(),
            settings: settings.clone(),
            metrics,
            log,
            inlet,
            jobs: Mutex::new(Some(jobs)),
        }))
    }

    /// What became of every reading since the start.
    #[must_use]
    pub fn ledger(&self) -> Snapshot {
        self.0.ledger.snapshot()
    }

    /// The latest dead letters, newest first, at most `limit`.
    #[must_use]
    pub fn dead_letters(&self, limit: usize) -> Vec<Shown> {
        self.0.dead_letters.latest(limit)
    }

    /// Publishes to MQTT subscribers, or through the broker.
    #[must_use]
    pub fn downlink(&self) -> Downlink {
        self.0.downlink.clone()
    }

    /// `/ledger` and `/dead-letters`, to be merged with other services' routes.
    pub fn routes(&self) -> axum::Router {
        rest::routes(self.clone())
    }

    /// Counts in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        rest::metrics(self)
    }

    /// Takes messages until `shutdown`, then answers those under way, at most
    /// for `limits.drain_s`, and ends. To be called once.
    ///
    /// # Errors
    /// See [`GatewayError`]. After a failure of the log, nothing has been
    /// acknowledged that is not in it.
    ///
    /// # Panics
    /// When called a second time.
    pub async fn run(
        &self,
        sockets: Sockets,
        shutdown: CancellationToken,
    ) -> Result<(), GatewayError> {
        let Inner { settings, ledger, dead_letters, log, .. } = &*self.0;
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let jobs = jobs.expect("a gateway runs once");
        let limits = payload::Limits {
            payload_bytes_max: settings.limits.payload_bytes_max,
            readings_max: settings.limits.readings_max,
        };
        let conventions = Conventions::new(&settings.mappings, &self.0.metrics)?;
        let metadata_filters = conventions.metadata_filters();
        let decoder = Decoder {
            metrics: self.0.metrics.clone(),
            limits,
            conventions: Mutex::new(conventions),
            downlink: self.0.downlink.clone(),
        };
        let opened = {
            let (log, ledger, letters) = (log.clone(), ledger.clone(), dead_letters.clone());
            // Recovers segments or asks Kafka's brokers, which takes its time.
            blocking(move || Pipeline::open(&log, decoder, ledger, letters))
        };
        let pipeline = opened.await?;
        dead_letters.load(log).await?;

        let rest = async {
            match sockets.rest {
                Some(socket) => {
                    let routes = rest::service_routes(self.clone());
                    let token = settings.rest.token.clone();
                    let served = service::rest::serve(socket, routes, token, shutdown.clone());
                    served.await.map_err(GatewayError::Rest)
                }
                None => Ok(()),
            }
        };
        let transport = async {
            match settings.mqtt.mode {
                Mode::Listener => self.listen(sockets.mqtt, &shutdown).await,
                Mode::Bridge => Box::pin(self.bridge(metadata_filters, &shutdown)).await,
            }
        };
        let result = tokio::select! {
            failed = pipeline.run(jobs) => failed.map_err(GatewayError::from),
            ended = async { tokio::try_join!(transport, rest) } => ended.map(|_| ()),
        };
        self.0.is_ready.store(false, Ordering::Relaxed);
        let totals = self.ledger().totals;
        info!(
            received = totals.received,
            logged = totals.logged,
            dead_lettered = totals.dead_lettered,
            duplicates = totals.duplicates,
            in_flight = totals.in_flight,
            unaccounted = totals.unaccounted,
            "ended"
        );
        result
    }

    async fn listen(
        &self,
        socket: Option<TcpListener>,
        shutdown: &CancellationToken,
    ) -> Result<(), GatewayError> {
        let Inner { settings, inlet, downlink, connections, ledger, .. } = &*self.0;
        let socket = socket.ok_or(GatewayError::NoSocket)?;
        let frontend =
            Frontend::new(&settings.mqtt, inlet.clone(), downlink.clone(), connections.clone());
        let close = CancellationToken::new();
        // The listener's thread ends too when this future is dropped, because
        // the log failed.
        let _close_on_drop = close.clone().drop_guard();
        let drained = async {
            shutdown.cancelled().await;
            frontend.is_draining.store(true, Ordering::Release);
            drain("messages under way", settings.limits.drain(), ledger.drained()).await;
            close.cancel();
            Ok(())
        };
        self.0.is_ready.store(true, Ordering::Relaxed);
        let served = listener::serve(socket, &settings.mqtt, frontend.clone(), close.clone());
        tokio::try_join!(served, drained).map(|_| ())
    }

    async fn bridge(
        &self,
        metadata_filters: Vec<String>,
        shutdown: &CancellationToken,
    ) -> Result<(), GatewayError> {
        let Inner { settings, inlet, downlink, ledger, is_ready, .. } = &*self.0;
        let (bridge, events) =
            Bridge::new(&settings.mqtt, inlet.clone(), ledger.clone(), is_ready.clone())?;
        let (told, is_told) = oneshot::channel();
        let values = async {
            // They wait at the broker until it is known what they mean.
            tokio::select! {
                _ = is_told => {}
                () = shutdown.cancelled() => {}
            }
            bridge.run(events, shutdown.clone()).await
        };
        let metadata = metadata::follow(
            &settings.mqtt,
            metadata_filters,
            inlet.clone(),
            told,
            shutdown.clone(),
        );
        let work = async {
            tokio::try_join!(
                values,
                metadata,
                bridge::publish(&settings.mqtt, downlink, shutdown.clone()),
            )
            .map(|_| ())
        };
        let expired = async {
            shutdown.cancelled().await;
            drain("messages under way", settings.limits.drain(), std::future::pending::<()>())
                .await;
        };
        tokio::select! {
            ended = work => ended,
            () = expired => Ok(()),
        }
    }
}
