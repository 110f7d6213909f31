//! Subscribers with a real client: predictions, status, wills, retained messages.

mod support;

use microclimate_gateway::Gateway;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use support::{
    start_gateway,
    wire::{ConnectPacket, ProtocolVersion, ServerPacket, WireDevice},
    within_timeout,
};
use tokio::sync::mpsc;

/// Starts a subscriber of `filter`. Returns what it receives: topic, payload, retained.
async fn start_subscriber(
    gateway: &support::RunningGateway,
    filter: &str,
) -> (AsyncClient, mpsc::UnboundedReceiver<(String, String, bool)>) {
    let options = MqttOptions::new("reader", ("127.0.0.1", gateway.mqtt.port()));
    let (client, mut events) = AsyncClient::builder(options).capacity(8).build();
    let (got, messages) = mpsc::unbounded_channel();
    let (subscribed, is_subscribed) = tokio::sync::oneshot::channel();
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    tokio::spawn(async move {
        let mut subscribed = Some(subscribed);
        while let Ok(event) = events.poll().await {
            match event {
                Event::Incoming(Incoming::SubAck(_)) => {
                    subscribed.take().map(|answer| answer.send(()));
                }
                Event::Incoming(Incoming::Publish(publish)) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let message = (text(&publish.topic), text(&publish.payload), publish.retain);
                    // The test may have ended.
                    let _ = got.send(message);
                }
                _ => {}
            }
        }
    });
    within_timeout(is_subscribed).await.unwrap();
    (client, messages)
}

fn received_message(topic: &str, payload: &str, retained: bool) -> (String, String, bool) {
    (topic.to_owned(), payload.to_owned(), retained)
}

fn publish_prediction(gateway: &Gateway, task: &str, value: &str) {
    gateway.downlink().publish(&format!("predictions/{task}"), value.to_owned(), true);
}

#[tokio::test]
async fn predictions_reach_who_subscribed_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    publish_prediction(&gateway.gateway, "frost", "0.1");
    let (_client, mut messages) = start_subscriber(&gateway, "predictions/#").await;
    assert_eq!(
        within_timeout(messages.recv()).await,
        Some(received_message("predictions/frost", "0.1", true))
    );
    publish_prediction(&gateway.gateway, "soil", "0.2");
    assert_eq!(
        within_timeout(messages.recv()).await,
        Some(received_message("predictions/soil", "0.2", false))
    );
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn status_is_passed_on_and_readings_once_they_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let (client, mut messages) = start_subscriber(&gateway, "#").await;
    let options = PublishOptions::at_least_once();
    client.publish("status/probe", "online", options.clone().retained()).await.unwrap();
    assert_eq!(
        within_timeout(messages.recv()).await,
        Some(received_message("status/probe", "online", false))
    );
    let topic = "sensors/farm/bay-1/probe/temperature";
    client.publish(topic, "21.5", options).await.unwrap();
    assert_eq!(within_timeout(messages.recv()).await, Some(received_message(topic, "21.5", false)));
    gateway.check_totals([1, 1, 0, 0]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_will_of_who_vanishes_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let (_client, mut messages) = start_subscriber(&gateway, "status/#").await;
    for version in [ProtocolVersion::V3, ProtocolVersion::V5] {
        let hello =
            ConnectPacket { will: Some(("status/probe", "gone")), ..ConnectPacket::default() };
        let (device, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0));
        drop(device);
        assert_eq!(
            within_timeout(messages.recv()).await,
            Some(received_message("status/probe", "gone", false))
        );
    }
    gateway.stop_gateway().await;
}
