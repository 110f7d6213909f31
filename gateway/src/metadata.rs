//! A second client, for topics whose retained messages describe the meaning of other topics'
//! values (`conventions`).
//!
//! What they describe is not stored beyond the process. They are therefore needed at each
//! connection and before the values, which wait at the broker meanwhile. The bridge's own session
//! would deliver each message only once.

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

/// Pause after which all retained messages have arrived, since a broker sends them at once.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for the retained messages.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Submits the messages on `filters` until `shutdown`. Sends `loaded` once the retained messages
/// have arrived.
pub(crate) async fn follow_metadata(
    mqtt: &MqttSettings,
    filters: Vec<String>,
    ingest_queue: IngestQueue,
    loaded: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let mut loaded = Some(loaded);
    if filters.is_empty() {
        // The receiver may have ended.
        loaded.take().map(|loaded| loaded.send(()));
        return Ok(());
    }
    let mut options = mqtt_options(mqtt, &format!("{}-metadata", mqtt.client_id))?;
    options.set_clean_start(true).set_receive_maximum(Some(mqtt.receive_maximum));
    let (client, mut events) = AsyncClient::builder(options)
        .capacity(REQUESTS_SPARE + usize::from(mqtt.receive_maximum))
        .try_build()
        .map_err(|e| bridge_error(e.to_string()))?;
    // The times count from the answer to the subscription.
    let (mut is_subscribed, mut latest, mut first) = (false, Instant::now(), Instant::now());
    loop {
        let event = {
            // Only one poll runs at a time, and it is never dropped halfway.
            let mut poll = pin!(events.poll());
            loop {
                let is_waiting = is_subscribed && loaded.is_some();
                tokio::select! {
                    biased;
                    event = &mut poll => break event,
                    () = tokio::time::sleep_until((latest + PAUSE).min(first + WAIT_MAX)), if is_waiting => {
                        info!("the retained metadata has arrived");
                        loaded.take().map(|loaded| loaded.send(()));
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
                if let Err(error) = ingest_queue.submit_message(message_from_publish(&publish)) {
                    // The broker still has the message, and sends it on the next connection.
                    error!(%error, "cannot accept metadata: disconnecting from the broker for a while");
                    events.clean();
                    back_off(&shutdown).await;
                }
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "no connection to the broker for metadata; will retry");
                back_off(&shutdown).await;
            }
        }
    }
}

async fn back_off(shutdown: &CancellationToken) {
    // The caller continues in either case.
    let _ = tokio::time::timeout(BACKOFF_MAX, shutdown.cancelled()).await;
}
