use std::{sync::Arc, time::Duration};

use rand::RngExt;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, PublishNoticeError,
    PublishOptions, QoS,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use telemetry::ReportSource;

use crate::{
    SimError, config::SimulatorBroker, message::DeviceMessage, publish_counts::PublishTally,
    simulation::wall_clock_ms,
};

/// One device's MQTT 5 connection with QoS 1. It counts exactly what was acknowledged, and sends
/// messages again that a broken connection lost.
#[derive(Debug)]
pub(crate) struct DeviceConnection {
    queue: mpsc::Sender<PendingPublish>,
    /// One permit for each unacknowledged message.
    permits: Arc<Semaphore>,
    permits_max: u32,
    tally: Arc<PublishTally>,
    tasks: Vec<JoinHandle<()>>,
    /// Ends the tasks at once.
    stop: CancellationToken,
}

#[derive(Debug)]
struct PendingPublish {
    topic: String,
    content: MessageContent,
    readings: u64,
    permit: OwnedSemaphorePermit,
}

/// The content of a message, which is encoded each time that it is sent.
#[derive(Debug)]
enum MessageContent {
    /// The same bytes each time.
    Recorded(Vec<u8>),
    /// Live, or marked as buffered if it had to wait.
    Measured(DeviceMessage),
}

impl MessageContent {
    fn encode_payload(&self, now_ms: i64) -> Vec<u8> {
        match self {
            Self::Recorded(payload) => payload.clone(),
            Self::Measured(message) if now_ms - message.sent_ms > BUFFERED_MS => {
                message.encode_payload(ReportSource::Backfill)
            }
            Self::Measured(message) => message.encode_payload(ReportSource::Live),
        }
    }
}

/// Wait after which a live message counts as buffered, ms.
const BUFFERED_MS: i64 = 60_000;
/// Number of requests between this crate and the library's event loop.
const REQUESTS_MAX: usize = 64;
const KEEP_ALIVE_S: u16 = 30;

impl DeviceConnection {
    /// Connects in the background, and again after each disconnection. At most
    /// `unacknowledged_max` messages are in flight.
    pub(crate) fn open(
        broker: &SimulatorBroker,
        client_id: &str,
        status_topic: &str,
        unacknowledged_max: u32,
        tally: Arc<PublishTally>,
    ) -> Result<Self, SimError> {
        let mut options = MqttOptions::new(client_id, (broker.host.as_str(), broker.port));
        options
            .set_keep_alive(KEEP_ALIVE_S)
            // This side stores unacknowledged messages and sends them again.
            .set_clean_start(true)
            .set_last_will(LastWill::new(status_topic, "offline", QoS::AtLeastOnce, true, None));
        options.set_outgoing_inflight_upper_limit(broker.inflight_max);
        let (client, events) = AsyncClient::builder(options)
            .capacity(REQUESTS_MAX)
            .try_build()
            .map_err(|error| SimError::Client {
                host: broker.host.clone(),
                port: broker.port,
                what: error.to_string(),
            })?;
        let stop = CancellationToken::new();
        let permits = Arc::new(Semaphore::new(unacknowledged_max as usize));
        let (queue, outgoing) = mpsc::channel(unacknowledged_max as usize);
        let waits = (broker.reconnect_s_min, broker.reconnect_s_max);
        let tasks = vec![
            tokio::spawn(poll_events(events, client_id.to_owned(), waits, stop.clone())),
            tokio::spawn(publish_outgoing(client, outgoing, tally.clone(), stop.clone())),
        ];
        Ok(Self { queue, permits, permits_max: unacknowledged_max, tally, tasks, stop })
    }

    /// Sends a message; waits while too many are unacknowledged.
    pub(crate) async fn send_recorded(&self, topic: String, payload: Vec<u8>, readings: u64) {
        let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
        self.tally.count_published(readings);
        let _ = self
            .queue
            .send(PendingPublish {
                topic,
                content: MessageContent::Recorded(payload),
                readings,
                permit,
            })
            .await;
    }

    /// Sends a live message unless the device's buffer is full.
    pub(crate) fn offer_live(&self, message: DeviceMessage) -> bool {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.tally.count_dropped();
            return false;
        };
        let readings = message.reading_count();
        self.tally.count_published(readings);
        let (topic, content) = (message.topic.clone(), MessageContent::Measured(message));
        self.queue.try_send(PendingPublish { topic, content, readings, permit }).is_ok()
    }

    /// Whether every message so far is acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        self.permits.available_permits() == self.permits_max as usize
    }

    /// Waits until every message so far is acknowledged.
    pub(crate) async fn wait_until_settled(&self) {
        // All permits are free only when no message is in flight.
        drop(self.permits.acquire_many(self.permits_max).await);
    }

    /// Ends the connection. Unacknowledged messages stay unacknowledged.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Polls the library. After a disconnection it connects again, each time a little later, with a
/// random part so that devices do not reconnect all at once.
async fn poll_events(
    mut events: EventLoop,
    client_id: String,
    (wait_s_min, wait_s_max): (f64, f64),
    stop: CancellationToken,
) {
    let mut wait_s = wait_s_min;
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            () = stop.cancelled() => return,
        };
        match event {
            Ok(Event::Incoming(rumqttc::Incoming::ConnAck(_))) => wait_s = wait_s_min,
            Ok(_) => {}
            // The connection was closed from this side.
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => {
                tracing::warn!(client_id, %error, wait_s, "no connection to the broker");
                let wait = Duration::from_secs_f64(wait_s * rand::rng().random_range(0.5..1.5));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => return,
                }
                wait_s = (wait_s * 2.0).min(wait_s_max);
            }
        }
    }
}

async fn publish_outgoing(
    client: AsyncClient,
    mut outgoing: mpsc::Receiver<PendingPublish>,
    tally: Arc<PublishTally>,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = outgoing.recv() => message,
            () = stop.cancelled() => None,
        };
        let Some(message) = message else { break };
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let sent = client.publish_tracked(
            message.topic.clone(),
            message.content.encode_payload(wall_clock_ms()),
            options,
        );
        let notice = tokio::select! {
            sent = sent => sent,
            () = stop.cancelled() => break,
        };
        let Ok(notice) = notice else {
            tracing::error!(topic = message.topic, "cannot publish a message");
            tally.count_refused();
            continue;
        };
        let (client, tally, stop) = (client.clone(), tally.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = await_acknowledgement(client, message, notice, &tally) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    let _ = client.try_disconnect();
}

/// Waits for the PUBACK. Sends the message again if the session was lost.
async fn await_acknowledgement(
    client: AsyncClient,
    message: PendingPublish,
    mut notice: rumqttc::PublishNotice,
    tally: &PublishTally,
) {
    loop {
        match notice.wait_completion_async().await {
            Ok(()) => {
                tally.count_acknowledged(message.readings);
                break;
            }
            Err(PublishNoticeError::V5PubAck(reason)) => {
                tracing::warn!(topic = message.topic, ?reason, "refused by the broker");
                tally.count_refused();
                break;
            }
            Err(error) => tracing::debug!(%error, "sending again"),
        }
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let payload = message.content.encode_payload(wall_clock_ms());
        let again = client.publish_tracked(message.topic.clone(), payload, options);
        match again.await {
            Ok(next) => notice = next,
            Err(_) => break,
        }
    }
    drop(message.permit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageBody, SampleBody};

    #[test]
    fn what_waited_says_that_it_comes_from_the_buffer() {
        let (boot, values) = ("b".to_owned(), vec![("co2", 400.0)]);
        let body =
            MessageBody::Sample(SampleBody { boot, seq: 1, event_ms: 5, values, single: true });
        let content =
            MessageContent::Measured(DeviceMessage { topic: "t".to_owned(), sent_ms: 5, body });
        let check = |now_ms: i64, expect: bool| {
            let payload = String::from_utf8(content.encode_payload(now_ms)).unwrap();
            assert_eq!(payload.contains(r#""source":"backfill""#), expect, "{payload}");
        };
        check(1_000, false);
        check(5 + BUFFERED_MS, false);
        check(6 + BUFFERED_MS, true);
    }
}
