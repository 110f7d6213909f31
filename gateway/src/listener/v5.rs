//! MQTT 5 in terms of [`client_session`](super::client_session).

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
    ListenerContext,
    backpressure::HasSession,
    client_session::{
        ClientSession, CloseReason, ConnectRefusal, ConnectRequest, ConnectionAborted,
        GOODBYE_TIME_MAX, LastWill, PublishFlags, PublishOutcome, SubscribeOutcome,
        assign_client_id, outlive_connection, yield_to_queue,
    },
    outgoing_queue::spawn_sending,
    unfinished_packets::ConnectionContext,
};
use crate::downlink::OutgoingMessage;

/// A session, and the sink for its bytes.
#[derive(Clone, Debug)]
pub(super) struct V5Session {
    session: Rc<ClientSession>,
    io: IoRef,
}

type V5SessionHandle = Of<V5Session>;

impl HasSession for V5SessionHandle {
    fn session(&self) -> &Rc<ClientSession> {
        &self.session
    }
}

impl TryFrom<ConnectionAborted> for PublishAck {
    type Error = ConnectionAborted;

    /// Sends no acknowledgement, not even a negative one, so that the client keeps the message.
    fn try_from(refused: ConnectionAborted) -> Result<Self, ConnectionAborted> {
        Err(refused)
    }
}

/// Handles a session's SUBSCRIBE, DISCONNECT and the like.
#[allow(clippy::unused_async)] // factories of ntex are async
pub(super) async fn protocol_service(
    session: V5SessionHandle,
) -> Result<
    impl Service<ProtocolMessage, Response = ProtocolMessageAck, Error = ConnectionAborted>,
    ConnectionAborted,
> {
    send_outgoing(&session);
    Ok(fn_service(async move |message| Ok(handle_protocol(&session, message).await)))
}

/// Handles a session's PUBLISH packets.
#[allow(clippy::unused_async)] // factories of ntex are async
pub(super) async fn publish_service(
    session: V5SessionHandle,
) -> Result<
    impl Service<Publish, Response = PublishAck, Error = ConnectionAborted>,
    ConnectionAborted,
> {
    Ok(fn_service(async move |message| {
        let (outcome, ack) = outlive_connection(handle_publish(session.clone(), message)).await?;
        Ok(match outcome {
            PublishOutcome::Accepted => ack,
            PublishOutcome::NotAuthorized => ack.reason_code(PublishAckReason::NotAuthorized),
            PublishOutcome::ShuttingDown => pending().await,
        })
    }))
}

/// Answers CONNECT.
pub(super) async fn open_session(
    frontend: Arc<ListenerContext>,
    handshake: Handshake,
) -> Result<HandshakeAck<V5Session>, ConnectionAborted> {
    let io = handshake.io().get_ref();
    let context = io.query::<ConnectionContext>().as_ref().cloned().ok_or(ConnectionAborted)?;
    let connect = handshake.packet();
    let will = connect.last_will.as_ref().map(|will| LastWill {
        topic: will.topic.as_str().into(),
        payload: Bytes::copy_from_slice(&will.message),
        retain: will.retain,
    });
    // MQTT 5, 3.1.3-6: the server assigns a client identifier to a client without one, and
    // reports it.
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
    Ok(match ClientSession::open_session(&frontend, context, request).await {
        Ok((session, is_present)) => {
            let (closing, sink) = (session.wait_for_close(), handshake.sink());
            ntex::rt::spawn(async move {
                let reason = match closing.await {
                    CloseReason::TakenOver => DisconnectReasonCode::SessionTakenOver,
                    CloseReason::ShuttingDown => DisconnectReasonCode::ServerShuttingDown,
                    CloseReason::RightsChanged => DisconnectReasonCode::NotAuthorized,
                };
                sink.close_with_reason(Disconnect::new(reason));
                sleep(GOODBYE_TIME_MAX).await;
                sink.force_close();
            });
            handshake.ack(V5Session { session: Rc::new(session), io }).with(|ack| {
                ack.session_present = is_present;
                if !has_sessions {
                    // MQTT 5, 3.2.2.3.2: the session does not outlive its connection.
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

async fn handle_publish(
    shared: V5SessionHandle,
    message: Publish,
) -> Result<(PublishOutcome, PublishAck), ConnectionAborted> {
    let session = &shared.session;
    let order =
        session.acquire_publish_order(message.payload_size(), message.packet_size()).await?;
    // The payload is copied, because the bytes are a part of a read buffer that they would keep
    // alive.
    let payload = Bytes::copy_from_slice(&message.read_all().await.map_err(|_| ConnectionAborted)?);
    if payload.len() != message.payload_size() {
        // The connection ended within the message.
        return Err(ConnectionAborted);
    }
    let flags = PublishFlags { retain: message.retain(), is_redelivery: message.dup() };
    let topic = SmolStr::from(message.publish_topic());
    if let Some(alias) = message.packet().properties.topic_alias {
        session.count_alias(alias.get(), topic.len());
    }
    // The message's bytes are not needed any more.
    let ack = message.ack();
    Ok((session.handle_publish(order, topic, payload, flags).await?, ack))
}

async fn handle_protocol(shared: &V5SessionHandle, message: ProtocolMessage) -> ProtocolMessageAck {
    let session = &shared.session;
    session.count_packet();
    match message {
        ProtocolMessage::Auth(auth) => auth.ack(Auth::default()),
        ProtocolMessage::Subscribe(mut subscribe) => {
            for (index, mut filter) in (&mut subscribe).into_iter().enumerate() {
                let qos = filter.options().qos.min(QoS::AtLeastOnce);
                match session.subscribe_filter(index, filter.topic(), qos == QoS::AtLeastOnce) {
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
            session.update_subscriptions();
            // A client that sends one SUBSCRIBE after the other waits behind all others.
            yield_to_queue().await;
            send_outgoing(shared);
            subscribe.ack()
        }
        ProtocolMessage::Unsubscribe(mut unsubscribe) => {
            for mut filter in &mut unsubscribe {
                session.unsubscribe_filter(filter.topic());
                filter.success();
            }
            session.update_subscriptions();
            unsubscribe.ack()
        }
        ProtocolMessage::Disconnect(disconnect) => {
            let packet = disconnect.packet();
            if packet.reason_code != DisconnectReasonCode::DisconnectWithWillMessage {
                session.discard_will();
            }
            if packet.session_expiry_interval_secs == Some(0) {
                session.end_session();
            }
            disconnect.ack()
        }
        other => other.ack(),
    }
}

/// Begins to send messages to the client once it has a subscription.
fn send_outgoing(shared: &V5SessionHandle) {
    let sink = shared.sink().clone();
    spawn_sending(&shared.session, &shared.io, async move |message| {
        send_message(&sink, message).await;
    });
}

/// Sends a message. Messages for a disconnected client are not stored.
async fn send_message(sink: &MqttSink, message: &OutgoingMessage) {
    let packet = sink.publish(message.topic.as_str()).retain(message.retain);
    let payload = util::Bytes::copy_from_slice(&message.payload);
    if message.at_least_once {
        let _ = packet.send_at_least_once(payload).await;
    } else {
        let _ = packet.send_at_most_once(payload);
    }
}
