//! MQTT 5 in the words of `session`.

use std::{future::pending, rc::Rc, sync::Arc};

use bytes::Bytes;
use ntex::{
    io::IoRef,
    service::{Service, fn_service},
    time::sleep,
    util::{self, ByteString},
};
use ntex_mqtt::{
    QoS,
    v5::{
        Handshake, HandshakeAck, MqttSink, ProtocolMessage, ProtocolMessageAck, Publish,
        PublishAck, Session as Of,
        codec::{
            Auth, ConnectAckReason, Disconnect, DisconnectReasonCode, PublishAckReason,
            SubscribeAckReason,
        },
    },
};
use telemetry::SmolStr;

use super::{
    Frontend,
    backpressure::HasSession,
    session::{
        Closing, ConnectRefusal, ConnectRequest, Flags, GOODBYE_TIME_MAX, PublishOutcome, Refused,
        Session, SubscribeOutcome, Will, assign_client_id, outlive_connection, requeue, writable,
    },
    unfinished::ConnectionContext,
};

/// A session, and where its bytes go.
#[derive(Clone, Debug)]
pub(super) struct V5Session {
    session: Rc<Session>,
    io: IoRef,
}

type Shared = Of<V5Session>;

impl HasSession for Shared {
    fn session(&self) -> &Rc<Session> {
        &self.session
    }
}

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
    send_outgoing(&session);
    Ok(fn_service(async move |message| Ok(protocol(&session, message).await)))
}

/// Takes a session's PUBLISH packets.
#[allow(clippy::unused_async)] // a factory of ntex is async
pub(super) async fn publish_service(
    session: Shared,
) -> Result<impl Service<Publish, Response = PublishAck, Error = Refused>, Refused> {
    Ok(fn_service(async move |message| {
        let (outcome, ack) = outlive_connection(publish(session.clone(), message)).await?;
        Ok(match outcome {
            PublishOutcome::Taken => ack,
            PublishOutcome::NotAuthorized => ack.reason_code(PublishAckReason::NotAuthorized),
            PublishOutcome::ShuttingDown => pending().await,
        })
    }))
}

/// Answers CONNECT.
pub(super) async fn open(
    frontend: Arc<Frontend>,
    handshake: Handshake,
) -> Result<HandshakeAck<V5Session>, Refused> {
    let io = handshake.io().get_ref();
    let context = io.query::<ConnectionContext>().as_ref().cloned().ok_or(Refused)?;
    let connect = handshake.packet();
    let will = connect.last_will.as_ref().map(|will| Will {
        topic: will.topic.as_str().into(),
        payload: Bytes::copy_from_slice(&will.message),
        retain: will.retain,
    });
    // MQTT 5, 3.1.3-6: one without a name is given one, and told it.
    let assigned = connect.client_id.is_empty().then(assign_client_id);
    let has_sessions =
        frontend.sessions.may_store(assigned.as_deref().unwrap_or(&connect.client_id));
    let request = ConnectRequest {
        client: assigned.as_deref().unwrap_or(&connect.client_id),
        user: connect.username.as_deref(),
        password: connect.password.as_deref(),
        will,
        is_clean: connect.clean_start,
        expiry_s: connect.session_expiry_interval_secs,
    };
    Ok(match Session::open(&frontend, context, request).await {
        Ok((session, is_present)) => {
            let (closing, sink) = (session.closing(), handshake.sink());
            ntex::rt::spawn(async move {
                let reason = match closing.await {
                    Closing::TakenOver => DisconnectReasonCode::SessionTakenOver,
                    Closing::ShuttingDown => DisconnectReasonCode::ServerShuttingDown,
                    Closing::RightsChanged => DisconnectReasonCode::NotAuthorized,
                };
                sink.close_with_reason(Disconnect::new(reason));
                sleep(GOODBYE_TIME_MAX).await;
                sink.force_close();
            });
            handshake.ack(V5Session { session: Rc::new(session), io }).with(|ack| {
                ack.session_present = is_present;
                if !has_sessions {
                    // MQTT 5, 3.2.2.3.2: none outlives its connection.
                    ack.session_expiry_interval_secs = Some(0);
                }
                ack.max_qos = QoS::AtLeastOnce;
                ack.assigned_client_id = assigned.map(ByteString::from);
                ack.shared_subscription_available = false;
                ack.subscription_identifiers_available = false;
            })
        }
        Err(refusal) => handshake.failed(match refusal {
            ConnectRefusal::BadCredentials => ConnectAckReason::BadUserNameOrPassword,
            ConnectRefusal::NotAuthorized => ConnectAckReason::NotAuthorized,
            ConnectRefusal::TooManyAttempts => ConnectAckReason::ConnectionRateExceeded,
            ConnectRefusal::Busy => ConnectAckReason::ServerBusy,
        }),
    })
}

async fn publish(
    shared: Shared,
    message: Publish,
) -> Result<(PublishOutcome, PublishAck), Refused> {
    let session = &shared.session;
    let order = session.publish_order(message.payload_size(), message.packet_size()).await?;
    // A copy, for the bytes themselves are a part of a read buffer, which they would hold.
    let payload = Bytes::copy_from_slice(&message.read_all().await.map_err(|_| Refused)?);
    if payload.len() != message.payload_size() {
        // The connection ended within the message.
        return Err(Refused);
    }
    let flags = Flags { retain: message.retain(), is_redelivery: message.dup() };
    let topic = SmolStr::from(message.publish_topic());
    if let Some(alias) = message.packet().properties.topic_alias {
        session.alias_came(alias.get(), topic.len());
    }
    // Its bytes are not needed any more.
    let ack = message.ack();
    Ok((session.publish(order, topic, payload, flags).await?, ack))
}

async fn protocol(shared: &Shared, message: ProtocolMessage) -> ProtocolMessageAck {
    let session = &shared.session;
    session.packet_came();
    match message {
        ProtocolMessage::Auth(auth) => auth.ack(Auth::default()),
        ProtocolMessage::Subscribe(mut subscribe) => {
            for (index, mut filter) in (&mut subscribe).into_iter().enumerate() {
                let qos = filter.options().qos.min(QoS::AtLeastOnce);
                match session.subscribe(index, filter.topic(), qos == QoS::AtLeastOnce) {
                    SubscribeOutcome::Accepted => filter.confirm(qos),
                    SubscribeOutcome::NotAuthorized => {
                        filter.fail(SubscribeAckReason::NotAuthorized);
                    }
                    SubscribeOutcome::TooMany => filter.fail(SubscribeAckReason::QuotaExceeded),
                    SubscribeOutcome::NotSupported => {
                        filter.fail(SubscribeAckReason::SharedSubscriptionNotSupported);
                    }
                }
            }
            session.subscriptions_changed();
            // One who sends one SUBSCRIBE after the other waits behind everybody else.
            requeue().await;
            send_outgoing(shared);
            subscribe.ack()
        }
        ProtocolMessage::Unsubscribe(mut unsubscribe) => {
            for mut filter in &mut unsubscribe {
                session.unsubscribe(filter.topic());
                filter.success();
            }
            session.subscriptions_changed();
            unsubscribe.ack()
        }
        ProtocolMessage::Disconnect(disconnect) => {
            let packet = disconnect.packet();
            if packet.reason_code != DisconnectReasonCode::DisconnectWithWillMessage {
                session.goodbye();
            }
            if packet.session_expiry_interval_secs == Some(0) {
                session.end_session();
            }
            disconnect.ack()
        }
        other => other.ack(),
    }
}

/// Begins to send what the client has subscribed to, where that has not begun.
fn send_outgoing(shared: &Shared) {
    let Some(mut outgoing) = shared.session.outgoing() else { return };
    let (sink, io) = (shared.sink().clone(), shared.io.clone());
    ntex::rt::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if !writable(&io).await {
                return;
            }
            send(&sink, &message).await;
            // Until its bytes are on their way, it counts as waiting.
            let is_open = writable(&io).await;
            drop(message);
            if !is_open {
                return;
            }
        }
    });
}

/// What does not reach a client that is gone is not kept for it.
async fn send(sink: &MqttSink, message: &crate::downlink::Outgoing) {
    let packet = sink.publish(message.topic.as_str()).retain(message.retain);
    let payload = util::Bytes::copy_from_slice(&message.payload);
    if message.at_least_once {
        let _ = packet.send_at_least_once(payload).await;
    } else {
        let _ = packet.send_at_most_once(payload);
    }
}
