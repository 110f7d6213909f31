//! All services in one process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use axum::{Router, routing::get};
use eventlog::EventLog;
use feature_store::FeatureStore;
use gateway::{Gateway, GatewaySockets};
use service::{descriptors, prometheus, rest};
use telemetry::MetricTable;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainer::Trainer;

use crate::{
    alerting::{self, AlertService, AlertSources},
    overview::{self, StateEvents, ZoneStates},
    page,
    settings::AppSettings,
};

/// All services, running.
pub(crate) struct MicroclimateApp {
    pub(crate) gateway: Gateway,
    pub(crate) store: FeatureStore,
    pub(crate) trainer: Trainer,
    pub(crate) alerts: AlertService,
    pub(crate) mqtt: SocketAddr,
    pub(crate) rest: SocketAddr,
    /// `http` or `https`.
    scheme: &'static str,
    /// Cancelled when a service fails.
    pub(crate) failed: CancellationToken,
    parts: Vec<ServiceHandle>,
}

/// One running service. Services are stopped in the order in which data passes through them.
struct ServiceHandle {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl ServiceHandle {
    fn spawn_service<W: Future<Output = Result<()>> + Send + 'static>(
        name: &'static str,
        failed: &CancellationToken,
        work: impl FnOnce(CancellationToken) -> W,
    ) -> Self {
        let (stop, failed) = (CancellationToken::new(), failed.clone());
        let running = work(stop.clone());
        let task = tokio::spawn(async move {
            let result = running.await.with_context(|| format!("the {name} ended"));
            if result.is_err() {
                failed.cancel();
            }
            result
        });
        Self { name, stop, task }
    }
}

impl MicroclimateApp {
    /// Opens and starts all services. If one cannot be opened, none is left running.
    pub(crate) fn start(settings: &AppSettings) -> Result<Self> {
        let AppSettings { rest: rest_config, gateway: gateway_settings, .. } = settings;
        if let Err(error) = descriptors::raise_limit() {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        let mqtt_socket = gateway_settings.mqtt.bind_listener("gateway.mqtt")?;
        let rest_socket = rest_config.bind_listener()?;
        let (mqtt, rest_address) = (mqtt_socket.local_addr()?, rest_socket.local_addr()?);
        let metrics = MetricTable::with_site_metrics(settings.site_metrics().clone())
            .map_err(|what| service::config::ConfigError::invalid("metrics", what))?;
        let log = EventLog::open(&gateway_settings.log)?;
        let store = FeatureStore::open(&settings.feature_store, metrics.clone())?;
        let trainer = Trainer::new(settings.trainer.clone(), Arc::new(store.clone()))?;
        let gateway = Gateway::new(gateway_settings, metrics, log.clone())?;

        let sources = AlertSources {
            gateway: gateway.clone(),
            store: store.clone(),
            trainer: trainer.clone(),
            log: log.clone(),
        };
        let alerts = AlertService::open(settings, sources)?;

        let failed = CancellationToken::new();
        let gateway_service = {
            let running = gateway.clone();
            let sockets = GatewaySockets { mqtt: Some(mqtt_socket), rest: None };
            ServiceHandle::spawn_service("gateway", &failed, |stop| async move {
                Ok(running.run(sockets, stop).await?)
            })
        };
        let store_service = {
            let running = store.clone();
            ServiceHandle::spawn_service("feature store", &failed, |stop| async move {
                Ok(running.run(&log, stop).await?)
            })
        };
        let rest_service = {
            let states = ZoneStates::new(settings, store.clone(), trainer.clone(), alerts.clone());
            let events = StateEvents::new(states.clone());
            let routes = build_routes(&gateway, &store, &trainer, &alerts)
                .merge(overview::overview_routes(states, events.clone()));
            let mut options = rest::ServeOptions::from(rest_config);
            options.page_paths = page::public_paths();
            ServiceHandle::spawn_service("REST API", &failed, |stop| async move {
                let following = tokio::spawn(events.run(stop.clone()));
                let served = rest::serve_routes(rest_socket, routes, options, stop).await;
                following.abort();
                Ok(served?)
            })
        };
        let trainer_service = {
            let (settings, trainer) = (settings.trainer.clone(), trainer.clone());
            ServiceHandle::spawn_service("trainer", &failed, |stop| async move {
                Ok(trainer::watch::run_watch(&settings, trainer, stop).await?)
            })
        };
        let alert_service = {
            let alerts = alerts.clone();
            ServiceHandle::spawn_service("alerts", &failed, |stop| alerts.run(stop))
        };
        let parts =
            vec![gateway_service, store_service, trainer_service, alert_service, rest_service];
        let scheme = rest_config.tls.scheme();
        let rest = rest_address;
        Ok(Self { gateway, store, trainer, alerts, mqtt, rest, scheme, failed, parts })
    }

    /// Address of the page, for a browser on this machine.
    pub(crate) fn page_url(&self) -> String {
        let mut address = self.rest;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("{}://{address}/", self.scheme)
    }

    /// Stops the services one after the other, each after it has finished its work. Returns the
    /// error of the first that failed.
    pub(crate) async fn stop(self) -> Result<()> {
        let mut first = Ok(());
        for ServiceHandle { name, stop, task } in self.parts {
            stop.cancel();
            let ended = task.await.with_context(|| format!("the {name} panicked"));
            if let (Ok(()), Err(error)) = (&first, ended.and_then(|result| result)) {
                first = Err(error);
            }
        }
        first
    }
}

/// Routes of all services and of the page.
fn build_routes(
    gateway: &Gateway,
    store: &FeatureStore,
    trainer: &Trainer,
    alerts: &AlertService,
) -> Router {
    let metrics = {
        let (gateway, store, trainer) = (gateway.clone(), store.clone(), trainer.clone());
        let alerts = alerts.clone();
        move || async move {
            prometheus::metrics_response(
                gateway.render_metrics()
                    + &store.render_prometheus()
                    + &trainer.metrics()
                    + &alerts.render_metrics(),
            )
        }
    };
    // The trainer does not count: a new installation has no champion, but accepts readings.
    let readyz = {
        let (gateway, store) = (gateway.clone(), store.clone());
        move || async move { gateway.check_ready().and_then(|()| store.check_ready()).map(|()| "ready") }
    };
    let mut document = feature_store::openapi();
    document.merge(trainer::rest::openapi());
    document.merge(overview::openapi());
    document.merge(gateway::openapi());
    document.merge(service::rest::session_openapi());
    document.merge(alerting::openapi());
    "Microclimate".clone_into(&mut document.info.title);
    document = service::openapi::complete_document(document);
    Router::new()
        .merge(page::page_routes())
        .merge(service::openapi::openapi_routes(document))
        .merge(gateway.rest_routes())
        .merge(feature_store::routes(store.clone()))
        .merge(trainer::routes(trainer.clone()))
        .merge(alerting::alert_routes(alerts.clone()))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
}
