//! TLS on the MQTT side: the listener's and the bridge's, and mutual.

mod support;

use std::{fs, path::Path};

use gateway::GatewayError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PublishOptions, TlsConfiguration,
    Transport,
};
use support::{
    Running,
    broker::{Broker, free_port},
    try_start, within,
};

/// Writes an authority, and certificates by it for the server and a device.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL tells certificates apart by their names.
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

fn listener(dir: &Path, client_ca: bool) -> Running {
    try_listener(dir, client_ca).unwrap()
}

fn try_listener(dir: &Path, client_ca: bool) -> Result<Running, GatewayError> {
    try_listener_with(dir, client_ca, "mqtt.users_file=")
}

fn try_listener_with(dir: &Path, client_ca: bool, more: &str) -> Result<Running, GatewayError> {
    let file = |name: &str| dir.join(name).display().to_string();
    let ca = if client_ca { file("ca.pem") } else { String::new() };
    try_start(
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

/// A device's connection, with its own certificate or without.
fn device(gateway: &Running, dir: &Path, own: bool) -> (AsyncClient, EventLoop) {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let client_auth = own.then(|| (read("device.pem"), read("device.key")));
    let mut options = MqttOptions::new("probe", ("localhost", gateway.mqtt.port()));
    let tls = TlsConfiguration::Simple { ca: read("ca.pem"), alpn: None, client_auth };
    options.set_transport(Transport::tls_with_config(tls));
    AsyncClient::builder(options).capacity(8).try_build().unwrap()
}

/// Publishes one reading; returns once it is acknowledged.
async fn publish((client, mut events): (AsyncClient, EventLoop)) -> Result<(), ConnectionError> {
    let topic = "sensors/farm/bay-1/probe/temperature";
    let sent =
        client.publish_tracked(topic, "21.5", PublishOptions::at_least_once()).await.unwrap();
    // The client's future is a large one.
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
    certificates(dir.path());
    let gateway = listener(dir.path(), false);
    within(publish(device(&gateway, dir.path(), false))).await.unwrap();
    gateway.check([1, 1, 0, 0]);
    let options = MqttOptions::new("plain", ("localhost", gateway.mqtt.port()));
    let plain = AsyncClient::builder(options).capacity(8).try_build().unwrap();
    within(publish(plain)).await.unwrap_err();
    gateway.stop().await;
}

#[tokio::test]
async fn mutual_tls_takes_only_devices_with_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let gateway = listener(dir.path(), true);
    within(publish(device(&gateway, dir.path(), false))).await.unwrap_err();
    within(publish(device(&gateway, dir.path(), true))).await.unwrap();
    gateway.check([1, 1, 0, 0]);
    gateway.stop().await;
}

#[tokio::test]
async fn the_name_in_a_certificate_is_a_user_with_its_rights() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let users = dir.path().join("users");
    let start = |text: &str| {
        fs::write(&users, text).unwrap();
        try_listener_with(dir.path(), true, &format!("mqtt.users_file={}", users.display()))
    };
    let gateway = start("device - publish:sensors/farm/bay-1/#\n").unwrap();
    within(publish(device(&gateway, dir.path(), true))).await.unwrap();
    gateway.check([1, 1, 0, 0]);
    // Another name, other rights: the reload closes connections and refuses the next.
    fs::write(&users, "other - publish:#\n").unwrap();
    gateway.gateway.reload(&gateway.settings).unwrap();
    within(publish(device(&gateway, dir.path(), true))).await.unwrap_err();
    gateway.check([1, 1, 0, 0]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_reload_takes_certificates_again() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let gateway = listener(dir.path(), false);
    within(publish(device(&gateway, dir.path(), false))).await.unwrap();
    // Another authority, another certificate.
    certificates(dir.path());
    within(publish(device(&gateway, dir.path(), false))).await.unwrap_err();
    gateway.gateway.reload(&gateway.settings).unwrap();
    within(publish(device(&gateway, dir.path(), false))).await.unwrap();
    // A bad one changes nothing.
    fs::write(dir.path().join("localhost.pem"), "not PEM").unwrap();
    let refused = gateway.gateway.reload(&gateway.settings).unwrap_err().to_string();
    assert!(refused.contains("localhost.pem"), "{refused}");
    within(publish(device(&gateway, dir.path(), false))).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    fs::write(dir.path().join("localhost.pem"), "not PEM").unwrap();
    let error = try_listener(dir.path(), false).err().unwrap().to_string();
    assert!(error.contains("localhost.pem") && error.contains("hint: "), "{error}");
}

#[tokio::test]
async fn the_bridge_shows_the_broker_its_certificate_and_password() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
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
    let Some(broker) = Broker::start_with(dir.path(), &more) else { return };
    drop(broker); // It is installed, and so is what makes the file of users.
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-c", "-b", &file("users"), "bay", "s3cret"])
        .status();
    assert!(made.unwrap().success());
    let broker = Broker::start_with(dir.path(), &more).unwrap();
    let mut device = broker.device().await;
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
    let gateway = broker.gateway(&dir.path().join("log"), &set).await;
    // The first may come before the subscription.
    while gateway.gateway.ledger().messages == 0 {
        device.deliver(1, "sensors/farm/bay-1/probe/temperature", "21.5").await;
    }
    gateway.until("logged", |ledger| ledger.totals.in_flight == 0).await;
    // QoS 0 that the broker has when the gateway leaves is read to the end.
    for _ in 0..2000 {
        device.send_unacknowledged("sensors/farm/bay-2/probe/temperature", "21.5").await;
    }
    device.ping().await;
    let ended = gateway.gateway.clone();
    gateway.stop().await;
    let logged: Vec<u64> =
        ended.ledger().devices.iter().skip(1).map(|line| line.counts.logged).collect();
    assert_eq!(logged, [2000]);
}
