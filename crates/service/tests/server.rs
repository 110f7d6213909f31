//! The HTTP server on real sockets: slow and hostile clients, names, tokens, TLS, shutdown.

use std::{
    convert::Infallible,
    fs,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Path,
    response::sse::{Event, Sse},
    routing::get,
};
use futures_util::stream;
use microclimate_service::{
    Secret,
    rest::{ServeOptions, serve_routes},
    tls::TlsServerFiles,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Time-out that nothing correct reaches. A test that waits for it has failed.
const AGES: Duration = Duration::from_mins(1);

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

fn start(options: ServeOptions) -> Running {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    // One event at once, and then none.
    let events = async || {
        let first = stream::iter([Ok::<_, Infallible>(Event::default().data("hello"))]);
        Sse::new(futures_util::StreamExt::chain(first, stream::pending()))
    };
    let forever = async || std::future::pending::<()>().await;
    let routes = Router::new()
        .route("/", get(async || "hello"))
        .route("/healthz", get(async || "ok"))
        .route("/forever", get(forever))
        .route("/panic", get(async || if true { panic!("a fault") } else { "no" }))
        .route("/numbers/{number}", get(async |Path(number): Path<u32>| number.to_string()))
        .route("/events", get(events));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve_routes(socket, routes, options, shutdown.clone()));
    Running { address, shutdown, task }
}

fn options() -> ServeOptions {
    ServeOptions::from(Secret::default())
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own. Returns all that is received.
    async fn exchange(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        rest_of(&mut stream).await
    }

    /// Stops the server. Returns how long that took.
    async fn stop(self) -> Duration {
        let began = Instant::now();
        self.shutdown.cancel();
        timeout(AGES, self.task).await.unwrap().unwrap().unwrap();
        began.elapsed()
    }
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset ends the response too.
    let _ = timeout(AGES, stream.read_to_end(&mut text)).await.expect("an end");
    String::from_utf8(text).unwrap()
}

fn request(path: &str, host: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn only_names_of_this_machine_are_answered_on_loopback() {
    let mut options = options();
    options.host_names = vec!["farm.local".to_owned()];
    let server = start(options);
    let check = async |host: &str, expect: &str| {
        let answer = server.exchange(&request("/", host, "")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expect}")), "{host}: {answer}");
    };
    check(&server.address.to_string(), "200").await;
    check("localhost", "200").await;
    check("farm.local:8081", "200").await;
    check("evil.example", "421").await;
    check("evil.example:80", "421").await;
    let answer = server.exchange(&request("/", "evil.example", "")).await;
    assert!(answer.contains("unknown_host") && answer.contains("rest.host_names"), "{answer}");
    server.stop().await;
}

/// Returns the body of a response, after a check that it is problem details of this status.
fn problem_of(answer: &str, status: u16) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], status, "{answer}");
    let code = body["code"].as_str().unwrap();
    assert_eq!(body["type"], format!("urn:microclimate:problem:{code}"));
    assert!(!body["title"].as_str().unwrap().is_empty());
    assert_eq!(body["detail"], body["error"]["message"]);
    body
}

#[tokio::test]
async fn every_error_is_problem_details_whoever_made_it() {
    let server = start(options());
    let check = async |request: &str, status, code: &str| {
        let answer = server.exchange(request).await;
        assert_eq!(problem_of(&answer, status)["code"], code, "{answer}");
        answer
    };
    let post = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    check(&request("/nowhere", "localhost", ""), 404, "not_found").await;
    check(&request("/", "evil.example", ""), 421, "unknown_host").await;
    let refused = check(&post("/", 0), 405, "method_not_allowed").await;
    assert!(refused.to_ascii_lowercase().contains("\r\nallow: get,head\r\n"), "{refused}");
    check(&post("/", 10 << 20), 413, "too_large").await;
    check(&request("/numbers/x", "localhost", ""), 400, "bad_request").await;
    check(&request("/panic", "localhost", ""), 500, "internal").await;
    server.stop().await;
}

#[tokio::test]
async fn who_guesses_tokens_waits_and_who_has_an_old_one_does_not() {
    let server = start(ServeOptions::from(Secret::from("s3cret")));
    let check = async |token: &str, expect: &str| {
        let more = format!("Authorization: Bearer {token}\r\n");
        let answer = server.exchange(&request("/", "localhost", &more)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expect}")), "{token}: {answer}");
        answer
    };
    check("s3cret", "200").await;
    for _ in 0..30 {
        check("old", "401").await;
    }
    check("s3cret", "200").await;
    // The outdated token was the first of eleven.
    for guess in 0..10 {
        check(&format!("guess-{guess}"), "401").await;
    }
    let answer = check("guess-x", "429").await;
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    // Neither a client with the right token behind the same address nor a supervisor is slowed
    // down.
    check("s3cret", "200").await;
    check("guess-y", "429").await;
    let answer = server.exchange(&request("/healthz", "localhost", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn beyond_the_limit_a_client_is_told_and_others_are_served_later() {
    let mut options = options();
    options.connections_max = 4;
    let server = start(options);
    // One address may have three quarters of the connections.
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        held.push(stream);
    }
    let answer = server.exchange(&request("/", "localhost", "")).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("rest.connections_max"), "{answer}");
    held.clear();
    let again = async {
        while !server.exchange(&request("/", "localhost", "")).await.starts_with("HTTP/1.1 200") {}
    };
    timeout(AGES, again).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn half_a_head_is_cut_after_seconds() {
    let server = start(options());
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
    let began = Instant::now();
    let answer = rest_of(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn the_end_ends_event_streams_at_once_and_everything_within_its_limit() {
    let server = start(options());
    let mut stream = server.connect().await;
    stream.write_all(request("/events", "localhost", "").as_bytes()).await.unwrap();
    let mut first = [0; 1024];
    let mut text = String::new();
    while !text.contains("hello") {
        let n = stream.read(&mut first).await.unwrap();
        text.push_str(std::str::from_utf8(&first[..n]).unwrap());
    }
    // A connection that is kept open between its requests.
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(idle.read_u8().await.unwrap(), b'H');
    let took = server.stop().await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    rest_of(&mut stream).await;

    let mut options = options();
    options.drain_time = Duration::from_millis(300);
    let server = start(options);
    let mut stream = server.connect().await;
    stream.write_all(request("/forever", "localhost", "").as_bytes()).await.unwrap();
    // The request is running when another on the same server has been answered.
    server.exchange(&request("/", "localhost", "")).await;
    let took = server.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(rest_of(&mut stream).await, "");
}

/// Writes a self-signed certificate for localhost, and its key.
fn certificate(dir: &std::path::Path) -> (TlsServerFiles, reqwest::Certificate) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let files = TlsServerFiles {
        cert_file: dir.join("server.pem"),
        key_file: dir.join("server.key"),
        ..TlsServerFiles::default()
    };
    fs::write(&files.cert_file, certificate.pem()).unwrap();
    fs::write(&files.key_file, key.serialize_pem()).unwrap();
    (files, reqwest::Certificate::from_pem(certificate.pem().as_bytes()).unwrap())
}

#[tokio::test]
async fn tls_with_certificates_that_are_taken_again_at_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let (files, old) = certificate(dir.path());
    let server = start(ServeOptions { tls: Some(files), ..options() });
    let url = format!("https://localhost:{}/", server.address.port());
    let get = async |trusted: &reqwest::Certificate| {
        let client = reqwest::Client::builder().add_root_certificate(trusted.clone());
        let answer = client.build().unwrap().get(&url).send().await?;
        answer.text().await
    };
    assert_eq!(get(&old).await.unwrap(), "hello");
    // A command of this machine recognises the server by its file, under any name.
    let by_address = format!("https://{}/", server.address);
    let get_pinned = async || {
        let pinned =
            microclimate_service::tls::pinned_client(&dir.path().join("server.pem")).unwrap();
        let client = reqwest::Client::builder().use_preconfigured_tls(pinned).build().unwrap();
        client.get(&by_address).send().await?.text().await
    };
    assert_eq!(get_pinned().await.unwrap(), "hello");
    assert!(!server.exchange(&request("/", "localhost", "")).await.contains("hello"));
    let (_, new) = certificate(dir.path());
    assert_eq!(get(&old).await.unwrap(), "hello");
    assert!(get_pinned().await.is_err(), "the file has changed");
    let hangup = async || {
        nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGHUP).unwrap();
    };
    hangup().await;
    let reloaded = async { while get(&new).await.is_err() {} };
    timeout(AGES, reloaded).await.unwrap();
    assert!(get(&old).await.is_err());
    // An invalid certificate changes nothing.
    fs::write(dir.path().join("server.pem"), "no certificate").unwrap();
    hangup().await;
    assert_eq!(get(&new).await.unwrap(), "hello");
    server.stop().await;
}
