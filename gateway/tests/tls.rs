//! TLS on the MQTT side: the listener's and the bridge's, and mutual TLS.

mod support;

use std::{fs, path::Path};

use microclimate_gateway::GatewayError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PublishOptions, TlsConfiguration,
    Transport,
};
use support::{
    RunningGateway,
    broker::{MosquittoFixture, free_port},
    try_start_gateway, within_timeout,
};

/// Writes an authority, and certificates by it for the server and a device.
fn write_certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL distinguishes certificates by their names.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for name in ["localhost", "device"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn start_listener(dir: &Path, client_ca: bool) -> RunningGateway {
    try_start_listener(dir, client_ca).unwrap()
}

fn try_start_listener(dir: &Path, client_ca: bool) -> Result<RunningGateway, GatewayError> {
    try_start_listener_with(dir, client_ca, "mqtt.users_file=")
}

fn try_start_listener_with(
    dir: &Path,
    client_ca: bool,
    more: &str,
) -> Result<RunningGateway, GatewayError> {
    let file = |name: &str| dir.join(name).display().to_string();
    let ca = if client_ca { file("ca.pem") } else { String::new() };
    try_start_gateway(
        &dir.join("log"),
        &[
            "mqtt.tls.enabled=true",
            &format!("mqtt.tls.cert_file={}", file("localhost.pem")),
            &format!("mqtt.tls.key_file={}", file("localhost.key")),
            &format!("mqtt.tls.ca_file={ca}"),
            more,
        ],
    )
}

/// Creates a device's client, with or without a certificate of its own.
fn tls_client(
    gateway: &RunningGateway,
    dir: &Path,
    with_certificate: bool,
) -> (AsyncClient, EventLoop) {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let client_auth = with_certificate.then(|| (read("device.pem"), read("device.key")));
    let mut options = MqttOptions::new("probe", ("localhost", gateway.mqtt.port()));
    let tls = TlsConfiguration::Simple { ca: read("ca.pem"), alpn: None, client_auth };
    options.set_transport(Transport::tls_with_config(tls));
    AsyncClient::builder(options).capacity(8).try_build().unwrap()
}

/// Publishes one reading. Returns once it is acknowledged.
async fn publish_reading(
    (client, mut events): (AsyncClient, EventLoop),
) -> Result<(), ConnectionError> {
    let topic = "sensors/farm/bay-1/probe/temperature";
    let sent =
        client.publish_tracked(topic, "21.5", PublishOptions::at_least_once()).await.unwrap();
    // The client's future is large.
    let poll = Box::pin(async {
        loop {
            events.poll().await?;
        }
    });
    tokio::select! {
        done = sent.wait_completion_async() => { done.unwrap(); Ok(()) }
        failed = poll => failed,
    }
}

#[tokio::test]
async fn devices_publish_over_tls_and_not_without() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    let gateway = start_listener(dir.path(), false);
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), false))).await.unwrap();
    gateway.check_totals([1, 1, 0, 0]);
    let options = MqttOptions::new("plain", ("localhost", gateway.mqtt.port()));
    let plain = AsyncClient::builder(options).capacity(8).try_build().unwrap();
    within_timeout(publish_reading(plain)).await.unwrap_err();
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn mutual_tls_takes_only_devices_with_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    let gateway = start_listener(dir.path(), true);
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), false))).await.unwrap_err();
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), true))).await.unwrap();
    gateway.check_totals([1, 1, 0, 0]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_name_in_a_certificate_is_a_user_with_its_rights() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    let users = dir.path().join("users");
    let start = |text: &str| {
        fs::write(&users, text).unwrap();
        try_start_listener_with(dir.path(), true, &format!("mqtt.users_file={}", users.display()))
    };
    let gateway = start("device - publish:sensors/farm/bay-1/#\n").unwrap();
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), true))).await.unwrap();
    gateway.check_totals([1, 1, 0, 0]);
    // Another name has other rights: the reload closes connections and refuses the next.
    fs::write(&users, "other - publish:#\n").unwrap();
    gateway.gateway.apply_settings(&gateway.settings).unwrap();
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), true))).await.unwrap_err();
    gateway.check_totals([1, 1, 0, 0]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_reload_takes_certificates_again() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    let gateway = start_listener(dir.path(), false);
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), false))).await.unwrap();
    // Another authority and another certificate.
    write_certificates(dir.path());
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), false))).await.unwrap_err();
    gateway.gateway.apply_settings(&gateway.settings).unwrap();
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), false))).await.unwrap();
    // An invalid certificate changes nothing.
    fs::write(dir.path().join("localhost.pem"), "not PEM").unwrap();
    let refused = gateway.gateway.apply_settings(&gateway.settings).unwrap_err().to_string();
    assert!(refused.contains("localhost.pem"), "{refused}");
    within_timeout(publish_reading(tls_client(&gateway, dir.path(), false))).await.unwrap();
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    fs::write(dir.path().join("localhost.pem"), "not PEM").unwrap();
    let error = try_start_listener(dir.path(), false).err().unwrap().to_string();
    assert!(error.contains("localhost.pem") && error.contains("hint: "), "{error}");
}

#[tokio::test]
async fn the_bridge_shows_the_broker_its_certificate_and_password() {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let port = free_port();
    let more = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
         allow_anonymous false\npassword_file {}\n",
        file("ca.pem"),
        file("localhost.pem"),
        file("localhost.key"),
        file("users"),
    );
    let Some(broker) = MosquittoFixture::start_with(dir.path(), &more) else { return };
    drop(broker); // Mosquitto is installed, and so is the program that makes its users file
    let status = std::process::Command::new("mosquitto_passwd")
        .args(["-c", "-b", &file("users"), "bay", "s3cret"])
        .status();
    assert!(status.unwrap().success());
    let broker = MosquittoFixture::start_with(dir.path(), &more).unwrap();
    let mut device = broker.connect_device().await;
    let set = [
        "mqtt.host=localhost",
        &format!("mqtt.port={port}"),
        "mqtt.user=bay",
        "mqtt.password=s3cret",
        "mqtt.tls.enabled=true",
        &format!("mqtt.tls.ca_file={}", file("ca.pem")),
        &format!("mqtt.tls.cert_file={}", file("device.pem")),
        &format!("mqtt.tls.key_file={}", file("device.key")),
    ];
    let gateway = broker.start_gateway(&dir.path().join("log"), &set).await;
    // The first message may arrive before the subscription.
    while gateway.gateway.ledger_snapshot().messages == 0 {
        device.deliver_message(1, "sensors/farm/bay-1/probe/temperature", "21.5").await;
    }
    gateway.wait_until("logged", |ledger| ledger.totals.in_flight == 0).await;
    // Messages of QoS 0 that the broker has when the gateway disconnects are read to the end.
    for _ in 0..2000 {
        device.send_unacknowledged("sensors/farm/bay-2/probe/temperature", "21.5").await;
    }
    device.ping().await;
    let ended = gateway.gateway.clone();
    gateway.stop_gateway().await;
    let logged: Vec<u64> =
        ended.ledger_snapshot().devices.iter().skip(1).map(|line| line.counts.logged).collect();
    assert_eq!(logged, [2000]);
}
