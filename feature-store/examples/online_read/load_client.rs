//! A keep-alive HTTP/1.1 client with one request in flight per connection.

use std::{
    io::{Error, Result},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Measured latencies and throughput.
#[derive(Debug)]
pub(crate) struct ReadLatencies {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) per_s: f64,
}

/// Requests the paths in turn, on `connections` connections, for `time`.
pub(crate) async fn run_load(
    address: SocketAddr,
    paths: &[String],
    connections: usize,
    time: Duration,
) -> ReadLatencies {
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let requests: Vec<Vec<u8>> = paths.iter().map(|path| get_request(path)).collect();
            tokio::spawn(
                async move { send_requests(address, &requests, number, started, time).await },
            )
        })
        .collect();
    let mut took_ns = Vec::new();
    for task in tasks {
        took_ns.extend(task.await.expect("a task that ends").expect("answers"));
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    took_ns.sort_unstable();
    let at = |share: f64| took_ns[((took_ns.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    ReadLatencies {
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        per_s: took_ns.len() as f64 / elapsed_s,
    }
}

/// Returns the body of one answer.
pub(crate) async fn get_body(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut connection = HttpConnection::connect(address).await?;
    connection.send_request(&get_request(path)).await?;
    Ok(connection.body.clone())
}

async fn send_requests(
    address: SocketAddr,
    requests: &[Vec<u8>],
    first: usize,
    started: Instant,
    time: Duration,
) -> Result<Vec<u64>> {
    let mut connection = HttpConnection::connect(address).await?;
    let mut took_ns = Vec::with_capacity(1 << 18);
    let mut turn = first;
    while started.elapsed() < time {
        let before = Instant::now();
        connection.send_request(&requests[turn % requests.len()]).await?;
        took_ns.push(before.elapsed().as_nanos() as u64);
        turn += 1;
    }
    Ok(took_ns)
}

fn get_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

struct HttpConnection {
    stream: TcpStream,
    /// Body of the newest answer.
    body: Vec<u8>,
}

impl HttpConnection {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, body: Vec::with_capacity(64 * 1024) })
    }

    async fn send_request(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.body.clear();
        let head = loop {
            if let Some(end) = self.body.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_some().await?;
        };
        let text = std::str::from_utf8(&self.body[..head]).map_err(Error::other)?;
        if !text.starts_with("HTTP/1.1 200") {
            return Err(Error::other(text.to_owned()));
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.body.len() < head + length {
            self.read_some().await?;
        }
        self.body.drain(..head);
        Ok(())
    }

    async fn read_some(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.body).await? {
            0 => Err(Error::other("the connection was closed")),
            _ => Ok(()),
        }
    }
}
