//! A real Apache Kafka with TLS, and with users and passwords over TLS.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use microclimate_eventlog::{
    EventLog, EventLogConfig, LogError, PartitionOffsets, Record, config::KafkaSecurity,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

const SOON: Duration = Duration::from_secs(30);
/// Exit status of `scripts/kafka` if Java, Maven or Kafka's jars are missing.
const EXIT_MISSING: i32 = 3;

/// The broker of one test. Dropping it stops it.
struct Broker {
    script: PathBuf,
    dir: PathBuf,
    port: u16,
}

impl Broker {
    /// Starts a broker; `None` if `scripts/kafka` reports that something is missing. In CI that
    /// is a failure.
    fn start(dir: &Path) -> Option<Self> {
        let port = free_port();
        // KRaft's controller listens one port above; our listeners are after that.
        let (tls, sasl) = (free_port(), free_port());
        certificates(dir, "localhost");
        let keystore = dir.join("localhost.both");
        let text = format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},\
             SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},SSL://localhost:{tls},SASL_SSL://localhost:{sasl}\n\
             ssl.keystore.type=PEM\nssl.keystore.location={keystore}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
             listener.name.ssl.ssl.client.auth=required\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway=\"s3cret\";\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n",
            controller = port + 1,
            keystore = keystore.display(),
            ca = dir.join("ca.pem").display(),
        );
        let properties = dir.join("secure.properties");
        fs::write(&properties, text).unwrap();
        fs::write(dir.join("ports"), format!("{tls} {sasl}")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka");
        let broker = Self { script, dir: dir.join("kafka"), port };
        let started = broker
            .command("start")
            .env("KAFKA_PROPERTIES", properties)
            .env("KAFKA_FORMAT", "--add-scram SCRAM-SHA-512=[name=gateway,password=s3cret]")
            .status();
        let status = started.unwrap();
        if status.code() == Some(EXIT_MISSING) && std::env::var_os("MICROCLIMATE_BROKERS").is_none()
        {
            eprintln!("skipped: needs a real Kafka");
            return None;
        }
        assert!(status.success());
        Some(broker)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(verb).arg(self.port.to_string()).arg(&self.dir);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.command("stop").status();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Creates an authority, and certificates by it for the broker and for a client.
fn certificates(dir: &Path, server: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for name in [server, "client"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        let both = key.serialize_pem() + &certificate.pem();
        fs::write(dir.join(format!("{name}.both")), both).unwrap();
    }
}

/// Writes a record with these settings and reads it back.
async fn round_trip(settings: EventLogConfig, topic: &str) -> Result<(), LogError> {
    let opened = tokio::task::spawn_blocking({
        let (settings, topic) = (settings, topic.to_owned());
        move || {
            let log = EventLog::open(&settings)?;
            Ok::<_, LogError>((
                log.open_writer(&topic)?,
                log.open_reader(&topic, &PartitionOffsets::new())?,
            ))
        }
    });
    let (writer, mut reader) = opened.await.unwrap()?;
    writer.append(Record::new("farm/bay-1", "21.5", 1)).await?.await?;
    let batch = reader.next_batch(10, SOON).await?;
    assert_eq!(&batch[0].record.payload[..], b"21.5");
    Ok(())
}

#[tokio::test]
async fn certificates_and_passwords_open_and_wrong_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_broker) = Broker::start(dir.path()) else { return };
    let ports = fs::read_to_string(dir.path().join("ports")).unwrap();
    let (tls, sasl) = ports.split_once(' ').unwrap();
    let settings = |port: &str, security: KafkaSecurity| {
        let mut settings = EventLogConfig::for_kafka(&format!("localhost:{port}"));
        settings.kafka.security = security;
        settings.kafka.ca_file = dir.path().join("ca.pem");
        settings.kafka.connect_timeout_ms = 5_000;
        settings
    };
    let mutual = |name: &str| {
        let mut settings = settings(tls, KafkaSecurity::Tls);
        settings.kafka.cert_file = dir.path().join(format!("{name}.pem"));
        settings.kafka.key_file = dir.path().join(format!("{name}.key"));
        settings
    };
    round_trip(mutual("client"), "tls").await.unwrap();
    round_trip(settings(tls, KafkaSecurity::Tls), "tls-no-certificate").await.unwrap_err();
    let user = |mechanism: &str, password: &str| {
        let mut settings = settings(sasl, KafkaSecurity::SaslTls);
        settings.kafka.sasl_mechanism = mechanism.to_owned();
        settings.kafka.user = "gateway".to_owned();
        settings.kafka.password = password.into();
        settings
    };
    round_trip(user("PLAIN", "s3cret"), "plain").await.unwrap();
    round_trip(user("SCRAM-SHA-512", "s3cret"), "scram").await.unwrap();
    round_trip(user("PLAIN", "wrong"), "plain-wrong").await.unwrap_err();
    round_trip(user("SCRAM-SHA-512", "wrong"), "scram-wrong").await.unwrap_err();
    let mut stranger = user("PLAIN", "s3cret");
    certificates(&dir.path().join("."), "other");
    stranger.kafka.ca_file = dir.path().join("ca.pem");
    round_trip(stranger, "another-authority").await.unwrap_err();
}
