//! Publishes predictions by MQTT, for dashboards and for Home Assistant.
//!
//! # Layout
//! - this file: one client; messages that it cannot send now are dropped and counted
//! - [`discovery`]: configuration of sensors for Home Assistant

pub mod discovery;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, LastWill, MqttOptions, PublishOptions, QoS,
    TlsConfiguration, Transport,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    error::TrainError,
    serve::{Prediction, settings::PublisherSettings},
};
use discovery::DiscoverySensor;

/// Largest number of messages that wait for the broker.
const QUEUE_MAX: usize = 4096;
/// Shortest pause between attempts to connect; each pause is twice the previous one.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Largest number of sensors that are announced to Home Assistant.
const SENSORS_MAX: usize = 10_000;

/// Sends predictions to a broker. Clones share one client.
#[derive(Clone, Debug)]
pub struct Publisher(Arc<PublisherShared>);

#[derive(Debug)]
struct PublisherShared {
    mqtt: PublisherSettings,
    /// Time, s, after which a prediction expires if no other follows it.
    expire_s: u64,
    client: AsyncClient,
    /// Sensors that were announced to Home Assistant on this connection.
    announced: Mutex<BTreeSet<DiscoverySensor>>,
    dropped: AtomicU64,
}

impl Publisher {
    /// Creates a client, which must be run by [`Publisher::run_client`]. `every_s` is the interval
    /// of predictions, s.
    ///
    /// # Errors
    /// [`TrainError::Mqtt`] where the settings do not make a valid client.
    pub fn new(mqtt: &PublisherSettings, every_s: u64) -> Result<(Self, EventLoop), TrainError> {
        let mut options = MqttOptions::new(&mqtt.client_id, (mqtt.host.as_str(), mqtt.port));
        let gone = LastWill::new(status_topic(mqtt), "offline", QoS::AtLeastOnce, true, None);
        options.set_keep_alive(30).set_last_will(gone);
        if !mqtt.user.is_empty() {
            let password = mqtt.password.expose_secret().unwrap_or_default().to_owned();
            options.set_credentials(mqtt.user.clone(), password);
        }
        if mqtt.tls.enabled {
            let loaded = mqtt.tls.client_files().load_config();
            let config = loaded.map_err(|error| TrainError::Mqtt(error.to_string()))?;
            let tls = TlsConfiguration::Rustls(config);
            options.set_transport(Transport::tls_with_config(tls));
        }
        let (client, events) = AsyncClient::builder(options)
            .capacity(QUEUE_MAX)
            .try_build()
            .map_err(|error| TrainError::Mqtt(error.to_string()))?;
        let shared = PublisherShared {
            mqtt: mqtt.clone(),
            expire_s: 5 * every_s.max(60),
            client,
            announced: Mutex::default(),
            dropped: AtomicU64::new(0),
        };
        Ok((Self(Arc::new(shared)), events))
    }

    /// Runs the connection until `stop`.
    pub async fn run_client(&self, mut events: EventLoop, stop: CancellationToken) {
        let PublisherSettings { host, port, .. } = &self.0.mqtt;
        let mut backoff = BACKOFF_MIN;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = events.poll() => event,
            };
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    info!(host, port, "publishing predictions");
                    backoff = BACKOFF_MIN;
                    self.lock_announced().clear();
                    self.send_message(&status_topic(&self.0.mqtt), true, b"online".to_vec());
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(host, port, %error, "no broker: predictions are not published");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(backoff) => {}
                    }
                    backoff = (2 * backoff).min(BACKOFF_MAX);
                }
            }
        }
        self.send_message(&status_topic(&self.0.mqtt), true, b"offline".to_vec());
        let _ = self.0.client.try_disconnect();
        // Gives messages under way a moment to be sent.
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while events.poll().await.is_ok() {}
        })
        .await;
    }

    /// Sends a prediction to its topic, without waiting. Before the first prediction of a task and
    /// zone, the sensor is announced to Home Assistant.
    pub fn publish_prediction(&self, prediction: &Prediction) {
        let PublisherShared { mqtt, expire_s, .. } = &*self.0;
        let sensor = DiscoverySensor::from_prediction(prediction);
        if !mqtt.discovery_prefix.is_empty() {
            let is_new = {
                let mut announced = self.lock_announced();
                announced.len() < SENSORS_MAX && announced.insert(sensor.clone())
            };
            if is_new {
                let config = sensor.discovery_config(mqtt, *expire_s);
                self.send_message(
                    &sensor.config_topic(mqtt),
                    true,
                    config.to_string().into_bytes(),
                );
            }
        }
        let json = serde_json::to_vec(prediction).expect("a prediction has a JSON form");
        self.send_message(&sensor.state_topic(mqtt), false, json);
    }

    fn lock_announced(&self) -> std::sync::MutexGuard<'_, BTreeSet<DiscoverySensor>> {
        self.0.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_message(&self, topic: &str, retain: bool, payload: Vec<u8>) {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        if self.0.client.try_publish(topic, payload, options).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of messages that were dropped because too many waited.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Topic of the client's status: `online` or, as the client's last will, `offline`.
fn status_topic(mqtt: &PublisherSettings) -> String {
    format!("{}/status", mqtt.topic)
}
