//! The connections of the HTTP server: limited in number and by client address, with time limits
//! for incomplete heads and handshakes, TLS, and a shutdown under a time limit.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener},
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{PROBLEM_TYPE, Problem, ProblemDetails, ServeOptions, middleware::with_middleware};
use crate::{attempts::address_block, tls::CurrentTls};

/// Longest time that a client may take for the head of a request, including the next one on a
/// kept-alive connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest time that a client may take for the TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time in which a client may read nothing of a response. Otherwise it would hold its
/// slot for ever.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// Largest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Number of connections beyond the limit that get an error response. Further ones are closed at
/// once.
const REFUSALS_MAX: usize = 16;
/// Time for a refused client to read the error response.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);
/// Wait after `accept` failed for lack of descriptors or memory.
const ACCEPT_WAIT: Duration = Duration::from_millis(200);
/// Shortest interval between warnings about refused connections.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// The response to a client beyond the limit.
static REFUSAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let problem = Problem::new(status, "too_many_connections", "rest.connections_max is reached")
        .with_hint("try again in some seconds");
    let body = serde_json::to_string(&ProblemDetails::from(problem)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nRetry-After: 5\r\nConnection: close\r\n\
         Content-Type: {PROBLEM_TYPE}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head, body].concat().into_bytes()
});

/// The client address of a request, among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Serves `routes` on `listener` until `shutdown`. At shutdown event streams end, running
/// requests are finished within [`ServeOptions::drain_time`], and the remaining ones are cut.
///
/// # Errors
/// Returns an error if the socket fails, or if a certificate or key cannot be used.
pub async fn serve_routes(
    listener: TcpListener,
    routes: Router,
    options: impl Into<ServeOptions>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let options = options.into();
    let address = listener.local_addr()?;
    let app = with_middleware(routes, &options, address, shutdown.clone());
    let loaded_tls = options.tls.as_ref().map(|files| files.load_config().map(CurrentTls::new));
    let tls = loaded_tls.transpose().map_err(io::Error::other)?;
    let _reloading = tls.clone().zip(options.tls.clone()).map(|(current, files)| {
        let stop = CancellationToken::new();
        tokio::spawn(reload_at_hangup(current, files, stop.clone()));
        stop.drop_guard()
    });
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(ConnectionSlots::new(options.connections_max));
    let mut connections = JoinSet::new();
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_connection_error(&error) => continue,
            Err(error) => {
                warn!(%error, "cannot accept connections; will retry");
                sleep(ACCEPT_WAIT).await;
                continue;
            }
        };
        // Otherwise a response in two writes would wait for the client's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        match places.admit_client(peer.ip()) {
            SlotAdmission::Admitted(place) => {
                let stream = limit_writes(stream, WRITE_TIME_MAX);
                let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.get()));
                let (app, shutdown) = (app.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _place = place;
                    match tls {
                        None => serve_connection(stream, peer, app, shutdown).await,
                        Some(acceptor) => {
                            match timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
                                Ok(Ok(stream)) => {
                                    serve_connection(stream, peer, app, shutdown).await;
                                }
                                Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
                                Err(_) => debug!(%peer, "TLS handshake timed out"),
                            }
                        }
                    }
                });
            }
            SlotAdmission::Refused(place) => {
                if warned.is_none_or(|warned| warned.elapsed() > WARN_EVERY) {
                    warned = Some(Instant::now());
                    let limit = options.connections_max;
                    warn!(%peer, limit, "connection refused: rest.connections_max is reached");
                }
                let is_plain = tls.is_none();
                if let Some(place) = place.filter(|_| is_plain) {
                    connections.spawn(async move {
                        let _place = place;
                        // A client that does not read must not delay others.
                        let _ = timeout(REFUSAL_TIME_MAX, send_refusal(stream)).await;
                    });
                }
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(options.drain_time, finished).await.is_err() {
        let limit_s = options.drain_time.as_secs_f64();
        warn!(
            connections = connections.len(),
            limit_s, "drain time is over: remaining requests are cut"
        );
        connections.shutdown().await;
    }
    Ok(())
}

/// Limits each write to a stream: one that takes longer than `limit` is an error.
fn limit_writes<S>(stream: S, limit: Duration) -> Pin<Box<TimeoutStream<S>>>
where
    S: AsyncRead + AsyncWrite,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limit));
    Box::pin(stream)
}

/// Answers the requests of one connection.
async fn serve_connection<S>(stream: S, peer: SocketAddr, app: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        let answer = hyper::service::Service::call(&app, request);
        async move { answer.await as Result<Response, Infallible> }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection ended");
    }
}

/// Sends the error response. Reads the rest of the request meanwhile, because the client might
/// not see the response otherwise.
async fn send_refusal(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&REFUSAL).await?;
    stream.shutdown().await?;
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Reloads the certificates at each SIGHUP. If they are invalid, the old ones stay in force.
async fn reload_at_hangup(
    current: CurrentTls,
    files: crate::tls::TlsServerFiles,
    stop: CancellationToken,
) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            return error!(%error, "cannot listen for SIGHUP: certificates will not be reloaded");
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = hangups.recv() => match files.load_config() {
                Ok(config) => {
                    current.replace_config(config);
                    info!(cert_file = %files.cert_file.display(), "certificate reloaded");
                }
                Err(error) => error!(%error, "cannot reload the certificate: the old one stays in force"),
            },
        }
    }
}

/// Whether an error of `accept` concerns only one connection, so that the next may succeed.
#[must_use]
pub fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}

/// Limits simultaneous connections. One address may have three quarters of them.
#[derive(Debug)]
struct ConnectionSlots {
    counts: Mutex<SlotCounts>,
    all_max: usize,
    of_one_max: usize,
}

#[derive(Debug, Default)]
struct SlotCounts {
    all: usize,
    refusals: usize,
    by_address: HashMap<IpAddr, usize>,
}

enum SlotAdmission {
    Admitted(ConnectionSlot),
    /// With a slot for the error response, if one is free.
    Refused(Option<ConnectionSlot>),
}

/// An occupied slot. Dropping it frees it.
#[derive(Debug)]
struct ConnectionSlot {
    places: Arc<ConnectionSlots>,
    /// The client's address; `None` for a client that only gets the error response.
    address: Option<IpAddr>,
}

impl ConnectionSlots {
    fn new(all_max: usize) -> Self {
        let of_one_max = (all_max - all_max / 4).max(1);
        Self { counts: Mutex::default(), all_max, of_one_max }
    }

    fn admit_client(self: &Arc<Self>, address: IpAddr) -> SlotAdmission {
        let address = address_block(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = counts.by_address.get(&address).copied().unwrap_or_default();
        if counts.all < self.all_max && of_one < self.of_one_max {
            counts.all += 1;
            *counts.by_address.entry(address).or_default() += 1;
            return SlotAdmission::Admitted(ConnectionSlot {
                places: self.clone(),
                address: Some(address),
            });
        }
        if counts.refusals < REFUSALS_MAX {
            counts.refusals += 1;
            return SlotAdmission::Refused(Some(ConnectionSlot {
                places: self.clone(),
                address: None,
            }));
        }
        SlotAdmission::Refused(None)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = self.address else {
            counts.refusals -= 1;
            return;
        };
        counts.all -= 1;
        if let Some(of_one) = counts.by_address.get_mut(&address) {
            *of_one -= 1;
            if *of_one == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_of_an_answer_is_cut() {
        let routes = Router::new().route("/", axum::routing::get(async || "x".repeat(100_000)));
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let peer = "127.0.0.1:1".parse().unwrap();
        let server = limit_writes(server, Duration::from_millis(50));
        let answered = serve_connection(server, peer, routes, CancellationToken::new());
        timeout(HANDSHAKE_TIME_MAX, answered).await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got.len() <= 1024, "{}", got.len());
    }

    #[test]
    fn places_are_given_back_and_one_address_cannot_take_all() {
        let places = Arc::new(ConnectionSlots::new(4));
        let enter = |address: &str| places.admit_client(address.parse().unwrap());
        let mut held = Vec::new();
        for (address, expect) in
            [("10.0.0.1", true), ("10.0.0.1", true), ("10.0.0.1", true), ("10.0.0.1", false)]
        {
            let entry = enter(address);
            assert_eq!(matches!(entry, SlotAdmission::Admitted(_)), expect);
            held.push(entry);
        }
        assert!(matches!(enter("10.0.0.2"), SlotAdmission::Admitted(_)));
        held.push(enter("10.0.0.2"));
        assert!(matches!(enter("10.0.0.3"), SlotAdmission::Refused(Some(_))));
        held.clear();
        let counts = places.counts.lock().unwrap();
        assert_eq!((counts.all, counts.refusals, counts.by_address.len()), (0, 0, 0));
    }
}
