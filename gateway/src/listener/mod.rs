//! The embedded MQTT listener: MQTT 3.1.1 and 5 on one port, on a dedicated thread. A PUBLISH is
//! answered when its record is durable.
//!
//! # Layout
//! In the order in which a connection meets them:
//! - `connection_table`: the number of connections, their addresses, and the bytes that each
//!   holds
//! - `unfinished_packets`: reports received bytes to that table
//! - `certificate_names`: a client's names in its certificate
//! - `connected_clients`: the slot of each connected client
//! - `stored_sessions`: sessions that outlive connections and restarts
//! - `client_session`: one connection: its will, its subscriptions, its messages
//! - `backpressure`: stops reading while messages are unanswered
//! - `outgoing_queue`: sends queued messages no faster than the client reads them
//! - `v3`, `v5`: the two protocol versions in terms of `client_session`
//! - `listener_counts`: counts of refused, cut and evicted connections

mod backpressure;
mod certificate_names;
mod client_session;
mod connected_clients;
mod connection_table;
mod listener_counts;
mod outgoing_queue;
mod stored_sessions;
mod unfinished_packets;
mod v3;
mod v5;

use std::{
    cell::Cell,
    fmt::Display,
    future::pending,
    net::{IpAddr, TcpListener},
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize},
    },
    thread,
    time::{Duration, Instant},
};

use backpressure::PublishBackpressure;
use certificate_names::certificate_names;
use connected_clients::ConnectedClients;
use connection_table::{ConnectionGuard, ConnectionTable, SWEEP_EVERY};
use ntex::{
    Pipeline, Service, ServiceFactory, SharedCfg,
    io::{IoBoxed, IoConfig},
    rt::from_tcp_stream,
    service::fn_factory_with_config,
    time::{Millis, Seconds, sleep},
};
use ntex_mqtt::{MqttServer, MqttServiceConfig, QoS};
use ntex_tls::rustls::{PeerCert, TlsServerFilter};
use service::{descriptors, rest::is_connection_error, tls::CurrentTls};
use stored_sessions::StoredSessions;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use unfinished_packets::{ConnectionContext, UnfinishedPackets};

pub(crate) use listener_counts::{CutReason, ListenerCounts};

use crate::{
    GatewayError,
    access::{AccessControl, AccessRefusal, AccessRules},
    downlink::{Downlink, is_filter_match},
    ingest_queue::IngestQueue,
    settings::GatewaySettings,
};

/// Time for a client to complete TLS and CONNECT together, and for protocol libraries with a
/// timer of their own.
const CONNECT_TIME_MAX: Seconds = Seconds(10);
/// Time for a client without a slot to send the protocol version for its refusal.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(3);
/// Time to send the last bytes at shutdown, when everything is already answered. Clients that
/// stay connected are not waited for.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(500);
/// Wait after `accept` failed for lack of descriptors or memory.
const ACCEPT_WAIT: Millis = Millis(200);
/// Largest number of unacknowledged messages to one subscriber.
const SEND_MAX: u16 = 64;
/// Largest number of bytes to one client that its connection has not accepted. No more are added.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Number of characters of a client's name, user or topic in the log.
const LOGGED_CHARS_MAX: usize = 64;
/// Shortest interval between log lines about the same repeated event.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The context that all connections share.
#[derive(Debug)]
pub(crate) struct ListenerContext {
    pub(crate) ingest_queue: IngestQueue,
    pub(crate) downlink: Downlink,
    /// Whether no more messages are submitted. Earlier ones are still answered.
    pub(crate) is_draining: AtomicBool,
    pub(crate) connections: Arc<AtomicUsize>,
    settings: watch::Receiver<Arc<GatewaySettings>>,
    access: Arc<AccessControl>,
    rules: watch::Receiver<Arc<AccessRules>>,
    counts: Arc<ListenerCounts>,
    clients: ConnectedClients,
    sessions: StoredSessions,
    /// Cancelled when every connection is to be closed.
    closing: CancellationToken,
    /// Largest number of simultaneous connections.
    capacity: usize,
    warned: LastWarnings,
}

/// The times of the last log lines about events that clients can repeat at will, one for each
/// kind.
#[derive(Debug, Default)]
struct LastWarnings {
    limit: LastWarning,
    refusal: LastWarning,
    will: LastWarning,
    lost_will: LastWarning,
    denied: LastWarning,
    denied_filter: LastWarning,
    malformed: LastWarning,
    closed: LastWarning,
}

type LastWarning = Mutex<Option<Instant>>;

/// The parts of a [`ListenerContext`].
#[derive(Debug)]
pub(crate) struct ListenerContextParts {
    pub(crate) ingest_queue: IngestQueue,
    pub(crate) downlink: Downlink,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) settings: watch::Receiver<Arc<GatewaySettings>>,
    pub(crate) access: Arc<AccessControl>,
    pub(crate) rules: watch::Receiver<Arc<AccessRules>>,
    pub(crate) counts: Arc<ListenerCounts>,
}

impl ListenerContext {
    pub(crate) fn new(parts: ListenerContextParts) -> Arc<Self> {
        let ListenerContextParts {
            ingest_queue,
            downlink,
            connections,
            settings,
            access,
            rules,
            counts,
        } = parts;
        let (sessions, capacity) = {
            let settings = settings.borrow();
            let dir = settings.log.state_dir().map(Path::to_path_buf);
            let sessions_max = settings.mqtt.sessions_max;
            let sessions = StoredSessions::open(dir.as_deref(), sessions_max, counts.clone());
            (sessions, connection_limit(&settings, descriptors::current_limit()))
        };
        Arc::new(Self {
            ingest_queue,
            downlink,
            is_draining: AtomicBool::new(false),
            connections,
            settings,
            access,
            rules,
            counts,
            clients: ConnectedClients::default(),
            sessions,
            closing: CancellationToken::new(),
            capacity,
            warned: LastWarnings::default(),
        })
    }

    /// Whether messages on this topic are forwarded to subscribers and not logged.
    fn is_forwarded(&self, topic: &str) -> bool {
        self.settings.borrow().mqtt.forward.iter().any(|filter| is_filter_match(filter, topic))
    }

    fn warn_of_limit(&self, client: &str) {
        if is_warning_due(&self.warned.limit) {
            let client = shorten_for_log(client);
            let (limit, open_files_max) = (self.capacity, descriptors::current_limit());
            warn!(client, limit, open_files_max, "connection refused: too many clients");
        }
    }

    fn warn_of_denied(&self, client: &str, user: &str, topic: &str, retain: bool) {
        if is_warning_due(&self.warned.denied) {
            let [client, user, topic] = [client, user, topic].map(shorten_for_log);
            warn!(
                client,
                user, topic, retain, "message refused: the user may not publish to the topic"
            );
        }
    }

    fn warn_of_refusal(
        &self,
        client: &str,
        user: Option<&str>,
        address: IpAddr,
        refusal: AccessRefusal,
    ) {
        if is_warning_due(&self.warned.refusal) {
            let (client, user) = (shorten_for_log(client), user.map(shorten_for_log));
            warn!(client, user, %address, ?refusal, "connection refused");
        }
    }

    fn warn_of_will(&self, client: &str, user: Option<&str>, topic: &str) {
        if is_warning_due(&self.warned.will) {
            let (client, user, topic) =
                (shorten_for_log(client), user.map(shorten_for_log), shorten_for_log(topic));
            warn!(client, user, topic, "connection refused: the user may not publish its will");
        }
    }

    fn warn_of_lost_will(&self, client: &str, topic: &str, error: impl Display) {
        if is_warning_due(&self.warned.lost_will) {
            let [client, topic] = [client, topic].map(shorten_for_log);
            warn!(client, topic, %error, "a will is lost");
        }
    }

    fn warn_of_denied_filter(&self, client: &str, user: &str, filter: &str) {
        if is_warning_due(&self.warned.denied_filter) {
            let [client, user, filter] = [client, user, filter].map(shorten_for_log);
            warn!(
                client,
                user, filter, "subscription refused: the user may not subscribe to the topics"
            );
        }
    }

    fn warn_of_malformed(&self, client: &str, packet_bytes: u32) {
        if is_warning_due(&self.warned.malformed) {
            let client = shorten_for_log(client);
            warn!(client, packet_bytes, "connection closed: a malformed PUBLISH");
        }
    }

    fn warn_of_closed(&self, client: &str, topic: &str, error: impl Display) {
        if is_warning_due(&self.warned.closed) {
            let [client, topic] = [client, topic].map(shorten_for_log);
            warn!(client, topic, %error, "connection closed");
        }
    }
}

/// Shortens a name or topic for the log. Clients choose it, and it may have 65,535 bytes.
fn shorten_for_log(name: &str) -> &str {
    name.char_indices().nth(LOGGED_CHARS_MAX).map_or(name, |(end, _)| &name[..end])
}

/// Whether another log line is due.
fn is_warning_due(last: &Mutex<Option<Instant>>) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = last.is_none_or(|last| last.elapsed() > WARN_EVERY);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

/// Returns the largest number of connections, as configured and as the system allows.
fn connection_limit(settings: &GatewaySettings, open_files_max: u64) -> usize {
    let wanted = settings.mqtt.connections_max;
    let capacity = descriptors::clients_max(wanted, settings.rest.connections_max, open_files_max);
    if capacity < wanted {
        warn!(
            connections_max = wanted,
            capacity,
            open_files_max,
            "fewer clients than mqtt.connections_max: the limit of open files is too low \
             (hint: `LimitNOFILE=` of systemd, `ulimit -Hn`, or `ulimits` of Docker raise it)"
        );
    }
    capacity
}

/// Serves `socket` until `shutdown`, then closes every connection.
pub(crate) async fn serve_listener(
    socket: TcpListener,
    tls: Option<CurrentTls>,
    frontend: Arc<ListenerContext>,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let address = socket.local_addr().ok();
    let (ended, end) = oneshot::channel();
    let run = move || {
        let system = ntex::rt::System::new("mqtt", ntex::rt::DefaultRuntime);
        let result = system.block_on(async move {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            info!(address = address.map(tracing::field::display), "MQTT listener is up");
            accept_connections(socket, tls, frontend, shutdown).await;
            Ok::<(), std::io::Error>(())
        });
        // The receiver is dropped only when nobody waits for the end any more.
        let _ = ended.send(result);
    };
    let failed = |source| GatewayError::Listener { source };
    thread::Builder::new().name("mqtt".to_owned()).spawn(run).map_err(failed)?;
    match end.await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(std::io::Error::other("its thread panicked"))),
    }
}

/// Returns ntex's settings of a connection.
fn connection_config(settings: &GatewaySettings) -> SharedCfg {
    let mqtt = &settings.mqtt;
    let protocol = MqttServiceConfig::new()
        // MQTT 3.1.1 cannot report that QoS 2 is not supported; MQTT 5 can.
        .set_max_qos(QoS::ExactlyOnce)
        // QoS 0 messages before a DISCONNECT are accepted. At QoS 1 the client sends them again.
        .set_handle_qos_after_disconnect(Some(QoS::AtMostOnce))
        .set_max_size(mqtt.packet_bytes_max)
        // Payloads are delivered whole, not in parts.
        .set_min_chunk_size(mqtt.packet_bytes_max)
        .set_max_payload_buffer_size(mqtt.packet_bytes_max as usize)
        .set_max_receive(mqtt.receive_maximum)
        .set_max_send(SEND_MAX)
        .set_connect_timeout(CONNECT_TIME_MAX)
        .set_handshake_timeout(CONNECT_TIME_MAX)
        .protocol_version_timeout(CONNECT_TIME_MAX);
    let io = IoConfig::new().set_write_buf(WRITE_BYTES_MAX, WRITE_BYTES_MAX / 4, 16);
    SharedCfg::new("mqtt").add(protocol).add(io).into()
}

/// Accepts connections until `shutdown`, and then gives them a moment to end.
async fn accept_connections(
    socket: tokio::net::TcpListener,
    tls: Option<CurrentTls>,
    frontend: Arc<ListenerContext>,
    shutdown: CancellationToken,
) {
    let (config, held_bytes_max) = {
        let settings = frontend.settings.borrow();
        (connection_config(&settings), settings.limits.connections_bytes_max)
    };
    let table = ConnectionTable::new(frontend.capacity, held_bytes_max, frontend.counts.clone());
    let (for_v3, for_v5) = (frontend.clone(), frontend.clone());
    let protocols = MqttServer::new()
        .v3(ntex_mqtt::v3::MqttServer::new(move |it| v3::open_session(for_v3.clone(), it))
            .replace_middlewares(PublishBackpressure)
            .protocol(fn_factory_with_config(v3::protocol_service))
            .publish(fn_factory_with_config(v3::publish_service)))
        .v5(ntex_mqtt::v5::MqttServer::new(move |it| v5::open_session(for_v5.clone(), it))
            .replace_middlewares(PublishBackpressure)
            .protocol(fn_factory_with_config(v5::protocol_service))
            .publish(fn_factory_with_config(v5::publish_service)));
    let Ok(protocols) =
        ServiceFactory::<IoBoxed, SharedCfg>::create(&protocols, config.clone()).await
    else {
        unreachable!("the factories above make services");
    };
    let protocols = Pipeline::new(protocols);
    let sweeping = ntex::rt::spawn({
        let table = table.clone();
        async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                table.cut_stalled();
            }
        }
    });
    let is_warned = Cell::new(false);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_connection_error(&error) => continue,
            Err(error) => {
                if !is_warned.replace(true) {
                    warn!(%error, "cannot accept connections; will retry");
                }
                sleep(ACCEPT_WAIT).await;
                continue;
            }
        };
        is_warned.set(false);
        let Some(guard) = table.admit_connection(peer.ip(), Instant::now()) else {
            frontend.warn_of_limit("");
            continue;
        };
        let tls = tls.as_ref().map(CurrentTls::get);
        let (protocols, config) = (protocols.clone(), config.clone());
        let table = table.clone();
        ntex::rt::spawn(async move {
            let connection = guard.connection.clone();
            let limit = if connection.is_refused {
                REFUSAL_TIME_MAX
            } else {
                Duration::from(CONNECT_TIME_MAX)
            };
            let served = serve_connection(stream, tls, &guard, &table, protocols, config);
            let is_late = async {
                tokio::time::sleep(limit).await;
                if connection.is_half_open() || connection.is_refused {
                    table.cut_connection(&connection, CutReason::HalfOpen);
                }
                pending::<()>().await;
            };
            tokio::select! {
                () = served => {}
                () = connection.cut.cancelled() => {}
                () = is_late => {}
            }
            if let Some(reason) = connection.cut_reason() {
                debug!(%peer, ?reason, "connection closed by the gateway");
            }
        });
    }
    drop(socket);
    sweeping.cancel();
    // Durable messages are still to be answered.
    let began = Instant::now();
    while table.has_unanswered() && began.elapsed() < CLOSE_TIME_MAX {
        sleep(Millis(1)).await;
    }
    frontend.closing.cancel();
    let began = Instant::now();
    while !table.is_empty() && began.elapsed() < CLOSE_TIME_MAX {
        sleep(Millis(10)).await;
    }
}

/// Serves one connection, from the TLS handshake to its end.
async fn serve_connection<S>(
    stream: tokio::net::TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    guard: &ConnectionGuard,
    table: &Rc<ConnectionTable>,
    protocols: Pipeline<S>,
    config: SharedCfg,
) where
    S: Service<IoBoxed> + 'static,
{
    let context = |certificate_names: Vec<String>| {
        let (table, connection) = (table.clone(), guard.connection.clone());
        UnfinishedPackets(ConnectionContext {
            table,
            connection,
            certificate_names: certificate_names.into(),
        })
    };
    let io = stream.into_std().and_then(|stream| from_tcp_stream(stream, config));
    let io = match (io, tls) {
        (Ok(io), None) => IoBoxed::from(io.add_filter(context(Vec::new()))),
        (Ok(io), Some(tls)) => {
            match TlsServerFilter::create(io, tls, CONNECT_TIME_MAX.into()).await {
                Ok(io) => {
                    let names = io.query::<PeerCert<'static>>();
                    let names = names.as_ref().map(|PeerCert(der)| certificate_names(der));
                    IoBoxed::from(io.add_filter(context(names.unwrap_or_default())))
                }
                Err(error) => return debug!(%error, "TLS handshake failed"),
            }
        }
        (Err(error), _) => return debug!(%error, "cannot use a socket"),
    };
    // Errors on our side have been logged.
    let _ = protocols.call_static(io).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_log_are_short() {
        let check = |name: &str, expect| assert_eq!(shorten_for_log(name).chars().count(), expect);
        check("", 0);
        check("probe", 5);
        check(&"é".repeat(64), 64);
        check(&"é".repeat(40_000), 64);
    }
}
