//! MQTT 5 in the words of `session`.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use ntex::{
    service::{Service, fn_service},
    util::{self, ByteString},
};
use ntex_mqtt::{
    QoS,
    v5::{
        Handshake, HandshakeAck, MqttSink, ProtocolMessage, ProtocolMessageAck, Publish,
        PublishAck, Session as Of,
        codec::{Auth, ConnectAckReason, Disconnect, DisconnectReasonCode, SubscribeAckReason},
    },
};

use super::{
    Frontend,
    session::{Flags, Refused, Session, Will, assign_client_id},
};

type Shared = Of<Rc<Session>>;

impl TryFrom<Refused> for PublishAck {
    type Error = Refused;

    /// No acknowledgement, not even a negative one: the client keeps the message.
    fn try_from(refused: Refused) -> Result<Self, Refused> {
        Err(refused)
    }
}

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
) -> Result<impl Service<Publish, Response = PublishAck, Error = Refused>, Refused> {
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
    // MQTT 5, 3.1.3-6: one without a name is given one, and told it.
    let assigned = connect.client_id.is_empty().then(assign_client_id);
    let client = assigned.as_deref().unwrap_or(&connect.client_id);
    let session = Session::open(&frontend, client, user, password, will);
    Ok(match session {
        Some(session) => {
            let (taken, sink) = (session.taken(), handshake.sink());
            ntex::rt::spawn(async move {
                taken.cancelled().await;
                sink.close_with_reason(Disconnect::new(DisconnectReasonCode::SessionTakenOver));
                sink.force_close();
            });
            handshake.ack(Rc::new(session)).with(|ack| {
                // No session outlives its connection: MQTT 5, 3.2.2.3.2.
                ack.session_expiry_interval_secs = Some(0);
                ack.max_qos = QoS::AtLeastOnce;
                ack.assigned_client_id = assigned.map(ByteString::from);
                ack.shared_subscription_available = false;
                ack.subscription_identifiers_available = false;
            })
        }
        None => handshake.failed(ConnectAckReason::BadUserNameOrPassword),
    })
}

async fn publish(session: Shared, message: Publish) -> Result<PublishAck, Refused> {
    let turn = session.turn(message.payload_size(), message.packet_size()).await?;
    let payload = message.read_all().await.map_err(|_| Refused)?;
    let payload = Bytes::copy_from_slice(&payload);
    let flags = Flags { retain: message.retain(), is_redelivery: message.dup() };
    session.publish(turn, message.publish_topic(), payload, flags).await?;
    Ok(message.ack())
}

fn protocol(session: &Shared, message: ProtocolMessage) -> ProtocolMessageAck {
    match message {
        ProtocolMessage::Auth(auth) => auth.ack(Auth::default()),
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
                let qos = filter.options().qos.min(QoS::AtLeastOnce);
                if session.subscribe(filter.topic(), qos == QoS::AtLeastOnce) {
                    filter.confirm(qos);
                } else {
                    filter.fail(SubscribeAckReason::QuotaExceeded);
                }
            }
            subscribe.ack()
        }
        ProtocolMessage::Unsubscribe(mut unsubscribe) => {
            for mut filter in &mut unsubscribe {
                session.unsubscribe(filter.topic());
                filter.success();
            }
            unsubscribe.ack()
        }
        ProtocolMessage::Disconnect(disconnect) => {
            let reason = disconnect.packet().reason_code;
            if reason != DisconnectReasonCode::DisconnectWithWillMessage {
                session.goodbye();
            }
            disconnect.ack()
        }
        other => other.ack(),
    }
}

/// What does not reach a client that is gone is not kept for it.
async fn send(sink: &MqttSink, message: crate::downlink::Outgoing) {
    let packet = sink.publish(message.topic.as_str()).retain(message.retain);
    let payload = util::Bytes::copy_from_slice(&message.payload);
    if message.at_least_once {
        let _ = packet.send_at_least_once(payload).await;
    } else {
        let _ = packet.send_at_most_once(payload);
    }
}
