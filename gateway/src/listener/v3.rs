//! MQTT 3.1.1 in the words of `session`.

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
    Frontend,
    backpressure::HasSession,
    session::{
        ConnectRefusal, ConnectRequest, Flags, GOODBYE_TIME_MAX, PublishOutcome, Refused, Session,
        SubscribeOutcome, Will, outlive_connection, requeue, writable,
    },
    stored_sessions::NEVER_EXPIRES,
    unfinished::ConnectionContext,
};

/// A session, and where its bytes go.
#[derive(Clone, Debug)]
pub(super) struct V3Session {
    session: Rc<Session>,
    io: IoRef,
}

type Shared = Of<V3Session>;

impl HasSession for Shared {
    fn session(&self) -> &Rc<Session> {
        &self.session
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
) -> Result<impl Service<Publish, Response = (), Error = Refused>, Refused> {
    Ok(fn_service(async move |message| {
        match outlive_connection(publish(session.clone(), message)).await? {
            PublishOutcome::ShuttingDown => pending().await,
            PublishOutcome::Taken | PublishOutcome::NotAuthorized => Ok(()),
        }
    }))
}

/// Answers CONNECT.
pub(super) async fn open(
    frontend: Arc<Frontend>,
    handshake: Handshake,
) -> Result<HandshakeAck<V3Session>, Refused> {
    let io = handshake.io().get_ref();
    let context = io.query::<ConnectionContext>().as_ref().cloned().ok_or(Refused)?;
    let connect = handshake.packet();
    let will = connect.last_will.as_ref().map(|will| Will {
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
    Ok(match Session::open(&frontend, context, request).await {
        Ok((session, is_present)) => {
            let (closing, sink) = (session.closing(), handshake.sink());
            ntex::rt::spawn(async move {
                closing.await;
                // What is answered already goes out first.
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

async fn publish(shared: Shared, message: Publish) -> Result<PublishOutcome, Refused> {
    let session = &shared.session;
    let order = session.publish_order(message.payload_size(), message.packet_size()).await?;
    // A copy, for the bytes themselves are a part of a read buffer, which they would hold.
    let payload = Bytes::copy_from_slice(&message.read_all().await.map_err(|_| Refused)?);
    if payload.len() != message.payload_size() {
        // The connection ended within the message.
        return Err(Refused);
    }
    let flags = Flags { retain: message.retain(), is_redelivery: message.dup() };
    let (topic, qos) = (SmolStr::from(message.publish_topic()), message.qos());
    if qos == QoS::ExactlyOnce {
        // An exchange of QoS 2 that a broken connection interrupts is not remembered.
        session.end_session();
    }
    // Its bytes are not needed any more.
    drop(message);
    let outcome = session.publish(order, topic, payload, flags).await?;
    if outcome == PublishOutcome::NotAuthorized && qos != QoS::AtMostOnce {
        // 3.1.1 has no negative acknowledgement, and a positive one would be untrue (3.3.5-2).
        session.cut_for_rights();
        return Err(Refused);
    }
    Ok(outcome)
}

async fn protocol(shared: &Shared, message: ProtocolMessage) -> ProtocolMessageAck {
    let session = &shared.session;
    session.packet_came();
    match message {
        ProtocolMessage::Subscribe(mut subscribe) => {
            for (index, mut filter) in (&mut subscribe).into_iter().enumerate() {
                let qos = filter.qos().min(QoS::AtLeastOnce);
                match session.subscribe(index, filter.topic(), qos == QoS::AtLeastOnce) {
                    SubscribeOutcome::Accepted => filter.confirm(qos),
                    _ => filter.fail(),
                }
            }
            session.subscriptions_changed();
            // One who sends one SUBSCRIBE after the other waits behind everybody else.
            requeue().await;
            send_outgoing(shared);
            subscribe.ack()
        }
        ProtocolMessage::Unsubscribe(unsubscribe) => {
            unsubscribe.iter().for_each(|filter| session.unsubscribe(filter));
            session.subscriptions_changed();
            unsubscribe.ack()
        }
        ProtocolMessage::Disconnect(disconnect) => {
            session.goodbye();
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
