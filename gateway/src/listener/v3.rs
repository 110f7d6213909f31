//! MQTT 3.1.1 in the words of `session`.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use ntex::{
    service::{Service, fn_service},
    util,
};
use ntex_mqtt::{
    QoS,
    v3::{
        Handshake, HandshakeAck, MqttSink, ProtocolMessage, ProtocolMessageAck, Publish,
        Session as Of,
    },
};

use super::{
    Frontend,
    session::{Flags, Refused, Session, Will},
};

type Shared = Of<Rc<Session>>;

/// Takes a session's SUBSCRIBE, DISCONNECT and the like.
#[allow(clippy::unused_async)] // a factory of ntex is async
pub(super) async fn protocol_service(
    session: Shared,
) -> Result<impl Service<ProtocolMessage, Response = ProtocolMessageAck, Error = Refused>, Refused>
{
    Ok(fn_service(async move |message| Ok(protocol(&session, message))))
}

/// Takes a session's PUBLISH packets.
#[allow(clippy::unused_async)] // a factory of ntex is async
pub(super) async fn publish_service(
    session: Shared,
) -> Result<impl Service<Publish, Response = (), Error = Refused>, Refused> {
    Ok(fn_service(move |message| publish(session.clone(), message)))
}

/// Answers CONNECT.
#[allow(clippy::unused_async)] // a handler of ntex is async
pub(super) async fn open(
    frontend: Arc<Frontend>,
    handshake: Handshake,
) -> Result<HandshakeAck<Rc<Session>>, Refused> {
    let connect = handshake.packet();
    let will = connect.last_will.as_ref().map(|will| Will {
        topic: will.topic.as_str().into(),
        payload: Bytes::copy_from_slice(&will.message),
        retain: will.retain,
    });
    let (user, password) = (connect.username.as_deref(), connect.password.as_deref());
    let session = Session::open(&frontend, &connect.client_id, user, password, will);
    Ok(match session {
        Some(session) => {
            let (taken, sink) = (session.taken(), handshake.sink());
            ntex::rt::spawn(async move {
                taken.cancelled().await;
                sink.force_close();
            });
            // No session outlives its connection: there is never one to resume.
            handshake.ack(Rc::new(session), false)
        }
        None => handshake.bad_username_or_pwd(),
    })
}

async fn publish(session: Shared, message: Publish) -> Result<(), Refused> {
    let turn = session.turn(message.payload_size(), message.packet_size()).await?;
    let payload = message.read_all().await.map_err(|_| Refused)?;
    let payload = Bytes::copy_from_slice(&payload);
    let flags = Flags { retain: message.retain(), is_redelivery: message.dup() };
    session.publish(turn, message.publish_topic(), payload, flags).await
}

fn protocol(session: &Shared, message: ProtocolMessage) -> ProtocolMessageAck {
    match message {
        ProtocolMessage::Subscribe(mut subscribe) => {
            if let Some(mut outgoing) = session.outgoing() {
                let sink = session.sink().clone();
                ntex::rt::spawn(async move {
                    while let Some(message) = outgoing.recv().await {
                        send(&sink, message).await;
                    }
                });
            }
            for mut filter in &mut subscribe {
                let qos = filter.qos().min(QoS::AtLeastOnce);
                if session.subscribe(filter.topic(), qos == QoS::AtLeastOnce) {
                    filter.confirm(qos);
                } else {
                    filter.fail();
                }
            }
            subscribe.ack()
        }
        ProtocolMessage::Unsubscribe(unsubscribe) => {
            unsubscribe.iter().for_each(|filter| session.unsubscribe(filter));
            unsubscribe.ack()
        }
        ProtocolMessage::Disconnect(disconnect) => {
            session.goodbye();
            disconnect.ack()
        }
        other => other.ack(),
    }
}

/// What does not reach a client that is gone is not kept for it.
async fn send(sink: &MqttSink, message: crate::downlink::Outgoing) {
    let mut packet = sink.publish(message.topic.as_str());
    if message.retain {
        packet = packet.retain();
    }
    let payload = util::Bytes::copy_from_slice(&message.payload);
    if message.at_least_once {
        let _ = packet.send_at_least_once(payload).await;
    } else {
        let _ = packet.send_at_most_once(payload);
    }
}
