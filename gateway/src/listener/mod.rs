//! The embedded MQTT listener: MQTT 3.1.1 and 5 on one port, on a thread of its
//! own. A PUBLISH is answered when its record is durable.
//!
//! # Layout
//! - `clients`: who is connected
//! - `session`: one connection: its will, its subscriptions, its messages
//! - `v3`, `v5`: the two protocol versions in the words of `session`

mod clients;
mod session;
mod v3;
mod v5;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    thread,
};

use clients::Clients;
use ntex::{
    SharedCfg,
    service::{chain_factory, fn_factory_with_config},
    time::{Millis, Seconds},
};
use ntex_mqtt::{MqttError, MqttServer, MqttServiceConfig, QoS};
use ntex_tls::rustls::TlsAcceptor;
use session::Refused;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    GatewayError,
    downlink::{Downlink, is_match},
    inlet::Inlet,
    settings::{Mqtt, Settings},
    tls,
};

/// A client has this long to say who it is.
const CONNECT_TIME_MAX: Seconds = Seconds(10);
/// At the end everything is answered already; only the last bytes are to be
/// sent. Clients that stay connected are not waited for.
const CLOSE_TIME_MAX: Millis = Millis(500);
/// Messages to one subscriber that it has not acknowledged.
const SEND_MAX: u16 = 64;

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Frontend {
    pub(crate) inlet: Inlet,
    pub(crate) downlink: Downlink,
    /// From here on nothing is handed in; what came before is answered.
    pub(crate) is_draining: AtomicBool,
    pub(crate) connections: Arc<AtomicUsize>,
    settings: watch::Receiver<Arc<Settings>>,
    clients: Clients,
}

impl Frontend {
    pub(crate) fn new(
        settings: watch::Receiver<Arc<Settings>>,
        inlet: Inlet,
        downlink: Downlink,
        connections: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inlet,
            downlink,
            is_draining: AtomicBool::new(false),
            connections,
            settings,
            clients: Clients::default(),
        })
    }

    /// Whether these are the configured credentials, or none are configured.
    fn admits(&self, user: Option<&str>, password: Option<&[u8]>) -> bool {
        let mqtt = &self.settings.borrow().mqtt;
        if mqtt.password.reveal().is_none() {
            return mqtt.user.is_empty() || user == Some(mqtt.user.as_str());
        }
        let password = password.and_then(|password| std::str::from_utf8(password).ok());
        user.unwrap_or_default() == mqtt.user && mqtt.password.matches(password.unwrap_or_default())
    }

    /// Whether messages on this topic are passed on to subscribers, not logged.
    fn forwards(&self, topic: &str) -> bool {
        self.settings.borrow().mqtt.forward.iter().any(|filter| is_match(filter, topic))
    }
}

/// MQTT 3.1.1 and 5, whatever carries the bytes. A macro, for the type of the
/// service names the bytes' carrier.
macro_rules! protocols {
    ($frontend:expr) => {{
        let (for_v3, for_v5) = ($frontend.clone(), $frontend.clone());
        MqttServer::new()
            .v3(ntex_mqtt::v3::MqttServer::new(move |it| v3::open(for_v3.clone(), it))
                .protocol(fn_factory_with_config(v3::protocol_service))
                .publish(fn_factory_with_config(v3::publish_service)))
            .v5(ntex_mqtt::v5::MqttServer::new(move |it| v5::open(for_v5.clone(), it))
                .protocol(fn_factory_with_config(v5::protocol_service))
                .publish(fn_factory_with_config(v5::publish_service)))
    }};
}

/// Serves `socket` until `shutdown`, then closes every connection.
pub(crate) async fn serve(
    socket: TcpListener,
    mqtt: &Mqtt,
    frontend: Arc<Frontend>,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let address = socket.local_addr().ok();
    let protocol = MqttServiceConfig::new()
        // MQTT 3.1.1 has no way to say that QoS 2 is not taken; MQTT 5 is told so.
        .set_max_qos(QoS::ExactlyOnce)
        .set_max_size(mqtt.packet_bytes_max)
        // Payloads come whole, not in parts.
        .set_min_chunk_size(mqtt.packet_bytes_max)
        .set_max_payload_buffer_size(mqtt.packet_bytes_max as usize)
        .set_max_receive(mqtt.receive_maximum)
        .set_max_receive_size(mqtt.packet_bytes_max as usize)
        .set_max_send(SEND_MAX)
        .set_connect_timeout(CONNECT_TIME_MAX)
        .set_handshake_timeout(CONNECT_TIME_MAX)
        .protocol_version_timeout(CONNECT_TIME_MAX);
    let connections_max = mqtt.connections_max;
    let acceptor = match &mqtt.tls {
        tls if tls.enabled => Some(TlsAcceptor::new(tls::server(tls)?)),
        _ => None,
    };
    let (ended, end) = oneshot::channel();
    let run = move || {
        let system = ntex::rt::System::new("mqtt", ntex::rt::DefaultRuntime);
        let result = system.block_on(async move {
            let build = ntex::server::build()
                .disable_signals()
                .workers(1)
                .maxconn(connections_max)
                .shutdown_timeout(CLOSE_TIME_MAX);
            let build = match acceptor {
                None => build.listen("mqtt", socket, async move |_| protocols!(frontend)),
                Some(acceptor) => build.listen("mqtt", socket, async move |_| {
                    chain_factory(acceptor.clone())
                        .map_err(|_| MqttError::Service(Refused))
                        .and_then(protocols!(frontend))
                }),
            };
            let server = build?.config("mqtt", SharedCfg::new("mqtt").add(protocol)).run();
            info!(address = address.map(tracing::field::display), "MQTT listener is up");
            shutdown.cancelled().await;
            server.stop(true).await;
            Ok::<(), std::io::Error>(())
        });
        // The receiver is gone only when nobody waits for the end any more.
        let _ = ended.send(result);
    };
    let failed = |source| GatewayError::Listener { source };
    thread::Builder::new().name("mqtt".to_owned()).spawn(run).map_err(failed)?;
    match end.await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(std::io::Error::other("its thread panicked"))),
    }
}
