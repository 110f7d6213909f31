//! A TCP proxy with faults on demand: cuts, half-open connections, delay, limited bandwidth.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::packet_tap::{ConnectionSide, PacketTap, TappedConnection};

/// Largest number of chunks in flight in one direction. With [`CHUNK_BYTES`] it bounds the
/// memory.
const CHUNKS_MAX: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;
/// Interval at which a throttled connection forwards bytes.
const SLICE: Duration = Duration::from_millis(50);

/// The behaviour of the proxy. Connections are numbered in the order in which they were accepted.
#[derive(Clone, Copy, Debug, Default)]
struct ProxyBehavior {
    /// Connections below this number are closed.
    cut_below: u64,
    /// Connections below this number stay open and never carry anything again.
    dead_below: u64,
    /// Whether new connections are closed at once.
    refuses: bool,
    /// Whether new connections carry nothing.
    swallows: bool,
    /// Delay in one direction.
    delay: Duration,
    bytes_per_s: Option<u64>,
}

/// A proxy on its own port. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct FaultProxy {
    pub(crate) port: u16,
    upstream: Arc<AtomicU16>,
    line: watch::Sender<ProxyBehavior>,
    connections: Arc<AtomicU64>,
}

impl FaultProxy {
    /// Listens on any free port.
    pub(crate) async fn start_proxy(upstream: u16, tap: Option<Arc<PacketTap>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let upstream = Arc::new(AtomicU16::new(upstream));
        let line = watch::Sender::new(ProxyBehavior::default());
        let connections = Arc::new(AtomicU64::new(0));
        let proxy = Self { port, upstream, line, connections };
        tokio::spawn({
            let proxy = proxy.clone();
            async move {
                while let Ok((near, _)) = listener.accept().await {
                    proxy.accept_connection(near, tap.as_ref());
                }
            }
        });
        proxy
    }

    fn accept_connection(&self, near: TcpStream, tap: Option<&Arc<PacketTap>>) {
        let upstream = self.upstream.load(Ordering::SeqCst);
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let line = self.line.subscribe();
        if line.borrow().refuses {
            return;
        }
        if line.borrow().swallows {
            self.line.send_modify(|line| line.dead_below = line.dead_below.max(number + 1));
        }
        let wire = tap.map(PacketTap::tap_connection);
        tokio::spawn(async move {
            // If the upstream is away, the connection is closed.
            let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let up = pump_bytes(
                number,
                ConnectionSide::Client,
                near_in,
                far_out,
                line.clone(),
                wire.clone(),
            );
            let down =
                pump_bytes(number, ConnectionSide::Server, far_in, near_out, line.clone(), wire);
            let cut = async {
                let mut line = line.clone();
                // This fails only if the proxy is gone, which is a cut too.
                let _ = line.wait_for(|line| number < line.cut_below).await;
            };
            // One direction may end before the other: a side that has finished sending may still
            // receive.
            let both = async { tokio::join!(up, down) };
            tokio::select! { _ = both => {} () = cut => {} }
        });
    }

    /// Sends new connections to this port.
    pub(crate) fn set_upstream(&self, upstream: u16) {
        self.upstream.store(upstream, Ordering::SeqCst);
    }

    fn next_number(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Closes every connection. New ones are accepted.
    pub(crate) fn cut_connections(&self) {
        self.line.send_modify(|line| line.cut_below = self.next_number());
    }

    /// Closes every connection, and new ones at once.
    pub(crate) fn refuse_connections(&self) {
        self.line.send_modify(|line| (line.cut_below, line.refuses) = (self.next_number(), true));
    }

    /// Keeps connections open without carrying anything in either direction.
    pub(crate) fn hold_half_open(&self) {
        self.line.send_modify(|line| (line.dead_below, line.swallows) = (self.next_number(), true));
    }

    /// Delays every byte by `one_way`.
    pub(crate) fn delay_bytes(&self, one_way: Duration) {
        self.line.send_modify(|line| line.delay = one_way);
    }

    /// Limits each direction of each connection to this many bytes per second.
    pub(crate) fn throttle_bytes(&self, bytes_per_s: u64) {
        self.line.send_modify(|line| line.bytes_per_s = Some(bytes_per_s));
    }

    /// Restores new connections. Dead ones stay dead.
    pub(crate) fn restore_line(&self) {
        self.line.send_modify(|line| {
            *line = ProxyBehavior {
                cut_below: line.cut_below,
                dead_below: line.dead_below,
                ..ProxyBehavior::default()
            };
        });
    }
}

/// Forwards one direction of one connection, until it ends.
async fn pump_bytes(
    number: u64,
    side: ConnectionSide,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: watch::Receiver<ProxyBehavior>,
    wire: Option<TappedConnection>,
) {
    let (queue, mut queued) = mpsc::channel(CHUNKS_MAX);
    let is_dead = || number < line.borrow().dead_below;
    let read = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(len @ 1..) = from.read(&mut chunk).await {
            if is_dead() {
                continue;
            }
            if let Some(wire) = &wire {
                wire.record_bytes(side, &chunk[..len]);
            }
            if queue.send((Instant::now(), chunk[..len].to_vec())).await.is_err() {
                break;
            }
        }
        drop(queue);
    };
    let write = async {
        while let Some((received_at, chunk)) = queued.recv().await {
            let delay = line.borrow().delay;
            sleep_until(received_at + delay).await;
            if !is_dead() && pass_on(&mut to, &chunk, &line).await.is_err() {
                break;
            }
        }
        queued.close();
    };
    tokio::join!(read, write);
    if is_dead() {
        // The other end is not notified.
        std::future::pending::<()>().await;
    }
}

/// Writes at the current bandwidth, which may change meanwhile.
async fn pass_on(
    to: &mut OwnedWriteHalf,
    mut chunk: &[u8],
    line: &watch::Receiver<ProxyBehavior>,
) -> std::io::Result<()> {
    while !chunk.is_empty() {
        let speed = line.borrow().bytes_per_s;
        let Some(bytes_per_s) = speed else { return to.write_all(chunk).await };
        let per_slice = bytes_per_s * SLICE.as_millis() as u64 / 1000;
        let (now, later) = chunk.split_at(chunk.len().min(per_slice.max(1) as usize));
        to.write_all(now).await?;
        sleep(SLICE).await;
        chunk = later;
    }
    Ok(())
}
