//! MQTT 3.1.1 in terms of [`client_session`](super::client_session).

use std::{future::pending, rc::Rc, sync::Arc};

use bytes::Bytes;
use ntex::{
    io::IoRef,
    service::{Service, fn_service},
    time::sleep,
    util,
};
use ntex_mqtt::{
    QoS,
    v3::{
        Handshake, HandshakeAck, MqttSink, ProtocolMessage, ProtocolMessageAck, Publish,
        Session as Of,
    },
};
use telemetry::SmolStr;

use super::{
    ListenerContext,
    backpressure::HasSession,
    client_session::{
        ClientSession, ConnectRefusal, ConnectRequest, ConnectionAborted, GOODBYE_TIME_MAX,
        LastWill, PublishFlags, PublishOutcome, SubscribeOutcome, outlive_connection,
        yield_to_queue,
    },
    outgoing_queue::spawn_sending,
    stored_sessions::NEVER_EXPIRES,
    unfinished_packets::ConnectionContext,
};
use crate::downlink::OutgoingMessage;

/// A session, and the sink for its bytes.
#[derive(Clone, Debug)]
pub(super) struct V3Session {
    session: Rc<ClientSession>,
    io: IoRef,
}

type V3SessionHandle = Of<V3Session>;

impl HasSession for V3SessionHandle {
    fn session(&self) -> &Rc<ClientSession> {
        &self.session
    }
}

/// Handles a session's SUBSCRIBE, DISCONNECT and the like.
#[allow(clippy::unused_async)] // factories of ntex are async
pub(super) async fn protocol_service(
    session: V3SessionHandle,
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
    session: V3SessionHandle,
) -> Result<impl Service<Publish, Response = (), Error = ConnectionAborted>, ConnectionAborted> {
    Ok(fn_service(async move |message| {
        match outlive_connection(handle_publish(session.clone(), message)).await? {
            PublishOutcome::ShuttingDown => pending().await,
            PublishOutcome::Accepted | PublishOutcome::NotAuthorized => Ok(()),
        }
    }))
}

/// Answers CONNECT.
pub(super) async fn open_session(
    frontend: Arc<ListenerContext>,
    handshake: Handshake,
) -> Result<HandshakeAck<V3Session>, ConnectionAborted> {
    let io = handshake.io().get_ref();
    let context = io.query::<ConnectionContext>().as_ref().cloned().ok_or(ConnectionAborted)?;
    let connect = handshake.packet();
    let will = connect.last_will.as_ref().map(|will| LastWill {
        topic: will.topic.as_str().into(),
        payload: Bytes::copy_from_slice(&will.message),
        retain: will.retain,
    });
    let request = ConnectRequest {
        client: &connect.client_id,
        user: connect.username.as_deref(),
        password: connect.password.as_deref(),
        will,
        is_clean: connect.clean_session,
        // 3.1.1 has no expiry: a session lasts until there is no room for it.
        expiry_s: if connect.clean_session { 0 } else { NEVER_EXPIRES },
    };
    Ok(match ClientSession::open_session(&frontend, context, request).await {
        Ok((session, is_present)) => {
            let (closing, sink) = (session.wait_for_close(), handshake.sink());
            ntex::rt::spawn(async move {
                closing.await;
                // Answers that are already queued are sent first.
                sink.close();
                sleep(GOODBYE_TIME_MAX).await;
                sink.force_close();
            });
            handshake.ack(V3Session { session: Rc::new(session), io }, is_present)
        }
        Err(ConnectRefusal::BadCredentials) => handshake.bad_username_or_pwd(),
        Err(ConnectRefusal::NotAuthorized) => handshake.not_authorized(),
        Err(ConnectRefusal::TooManyAttempts | ConnectRefusal::Busy) => {
            handshake.service_unavailable()
        }
    })
}

async fn handle_publish(
    shared: V3SessionHandle,
    message: Publish,
) -> Result<PublishOutcome, ConnectionAborted> {
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
    let (topic, qos) = (SmolStr::from(message.publish_topic()), message.qos());
    if qos == QoS::ExactlyOnce {
        // An interrupted QoS 2 exchange is not stored.
        session.end_session();
    }
    // The message's bytes are not needed any more.
    drop(message);
    let outcome = session.handle_publish(order, topic, payload, flags).await?;
    if outcome == PublishOutcome::NotAuthorized && qos != QoS::AtMostOnce {
        // 3.1.1 has no negative acknowledgement, and a positive one would be wrong (3.3.5-2).
        session.cut_for_rights();
        return Err(ConnectionAborted);
    }
    Ok(outcome)
}

async fn handle_protocol(shared: &V3SessionHandle, message: ProtocolMessage) -> ProtocolMessageAck {
    let session = &shared.session;
    session.count_packet();
    match message {
        ProtocolMessage::Subscribe(mut subscribe) => {
            for (index, mut filter) in (&mut subscribe).into_iter().enumerate() {
                let qos = filter.qos().min(QoS::AtLeastOnce);
                match session.subscribe_filter(index, filter.topic(), qos == QoS::AtLeastOnce) {
                    SubscribeOutcome::Accepted => filter.confirm(qos),
                    _ => filter.fail(),
                }
            }
            session.update_subscriptions();
            // A client that sends one SUBSCRIBE after the other waits behind all others.
            yield_to_queue().await;
            send_outgoing(shared);
            subscribe.ack()
        }
        ProtocolMessage::Unsubscribe(unsubscribe) => {
            unsubscribe.iter().for_each(|filter| session.unsubscribe_filter(filter));
            session.update_subscriptions();
            unsubscribe.ack()
        }
        ProtocolMessage::Disconnect(disconnect) => {
            session.discard_will();
            disconnect.ack()
        }
        other => other.ack(),
    }
}

/// Begins to send messages to the client once it has a subscription.
fn send_outgoing(shared: &V3SessionHandle) {
    let sink = shared.sink().clone();
    spawn_sending(&shared.session, &shared.io, async move |message| {
        send_message(&sink, message).await;
    });
}

/// Sends a message. Messages for a disconnected client are not stored.
async fn send_message(sink: &MqttSink, message: &OutgoingMessage) {
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
