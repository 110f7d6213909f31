//! A client of its own for topics whose stored messages tell what the values
//! of others mean (`conventions`).
//!
//! What they told is not kept beyond the process, so that they are wanted at
//! each connection, and before the values, which wait at the broker meanwhile;
//! the bridge's session gives each message once.

use std::{pin::pin, time::Duration};

use rumqttc::{AsyncClient, Event, Incoming, QoS, SubscribeFilter};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    GatewayError,
    bridge::{BACKOFF_MAX, REQUESTS_SPARE, bridge_error, message_from_publish, mqtt_options},
    ingest_queue::IngestQueue,
    settings::MqttSettings,
};

/// A broker sends all that it has stored at once: after a pause as long as
/// this there is no more, …
const PAUSE: Duration = Duration::from_millis(500);
/// … or the values wait no longer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Hands in what comes on `filters` until `shutdown`. Answers `told` once what
/// is stored has come.
pub(crate) async fn follow_metadata(
    mqtt: &MqttSettings,
    filters: Vec<String>,
    inlet: IngestQueue,
    told: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let mut told = Some(told);
    if filters.is_empty() {
        // Whoever waits may have ended.
        told.take().map(|told| told.send(()));
        return Ok(());
    }
    let mut options = mqtt_options(mqtt, &format!("{}-metadata", mqtt.client_id))?;
    options.set_clean_start(true).set_receive_maximum(Some(mqtt.receive_maximum));
    let (client, mut events) = AsyncClient::builder(options)
        .capacity(REQUESTS_SPARE + usize::from(mqtt.receive_maximum))
        .try_build()
        .map_err(|e| bridge_error(e.to_string()))?;
    // Until the subscription is answered.
    let (mut is_subscribed, mut latest, mut first) = (false, Instant::now(), Instant::now());
    loop {
        let event = {
            // One poll at a time, never dropped half-way.
            let mut poll = pin!(events.poll());
            loop {
                let is_waiting = is_subscribed && told.is_some();
                tokio::select! {
                    biased;
                    event = &mut poll => break event,
                    () = tokio::time::sleep_until((latest + PAUSE).min(first + WAIT_MAX)), if is_waiting => {
                        info!("what is stored on the topics of metadata has come");
                        told.take().map(|told| told.send(()));
                    }
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
        };
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                let filters =
                    filters.iter().map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
                if let Err(error) = client.try_subscribe_many(filters) {
                    error!(%error, "cannot subscribe to the topics of metadata");
                }
            }
            Ok(Event::Incoming(Incoming::SubAck(ack))) => {
                info!(?filters, codes = ?ack.return_codes, "subscribed to the topics of metadata");
                (is_subscribed, latest, first) = (true, Instant::now(), Instant::now());
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                latest = Instant::now();
                if let Err(error) = inlet.submit_message(message_from_publish(&publish)) {
                    // The broker still has it, and sends it on the next
                    // connection.
                    error!(%error, "not taking metadata; leaving the broker for a while");
                    events.clean();
                    back_off(&shutdown).await;
                }
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "no connection to the broker for metadata; trying again");
                back_off(&shutdown).await;
            }
        }
    }
}

async fn back_off(shutdown: &CancellationToken) {
    // Either way the caller goes on.
    let _ = tokio::time::timeout(BACKOFF_MAX, shutdown.cancelled()).await;
}
