//! Stops reading from a connection whose messages are not answered.

use std::{marker::PhantomData, rc::Rc};

use ntex::{
    SharedCfg,
    service::{Middleware, Service, ServiceCtx, forward_poll, forward_shutdown},
};
use ntex_mqtt::Control;

use super::client_session::{ClientSession, ConnectionAborted, yield_to_queue};

/// Where a protocol version keeps the session of a connection.
pub(super) trait HasSession {
    /// The session.
    fn session(&self) -> &Rc<ClientSession>;
}

/// Puts [`PausingService`] before the packets' handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishBackpressure;

/// Is ready when the session may take a message more.
#[derive(Debug)]
pub(super) struct PausingService<S> {
    session: Rc<ClientSession>,
    service: S,
}

impl<S, St: HasSession> Middleware<S, (SharedCfg, St)> for PublishBackpressure {
    type Service = PausingService<S>;

    fn create(&self, service: S, (_, shared): (SharedCfg, St)) -> Self::Service {
        PausingService { session: shared.session().clone(), service }
    }
}

impl<S: Service<R>, R> Service<R> for PausingService<S> {
    type Response = S::Response;
    type Error = S::Error;

    async fn ready(&self, ctx: ServiceCtx<'_, Self>) -> Result<(), S::Error> {
        self.session.wait_until_may_read().await;
        ctx.ready(&self.service).await
    }

    async fn call(&self, request: R, ctx: ServiceCtx<'_, Self>) -> Result<S::Response, S::Error> {
        // `ready` has seen to it that the service is. Waiting for that again would let a message be
        // thrown away whose connection ends meanwhile.
        ctx.call_nowait(&self.service, request).await
    }

    forward_poll!(service);
    forward_shutdown!(service);
}

/// Answers what ntex-mqtt has to say of a connection itself.
///
/// Before the end of a connection it lets the parts of messages that have come reach their
/// handlers: ntex-mqtt 8.2.1 hands each part to a task of its own, and once it knows that the
/// client is gone, throws away the parts of the message that is not whole yet.
#[derive(Debug)]
pub(super) struct ConnectionControl<Packet> {
    session: Rc<ClientSession>,
    packet: PhantomData<Packet>,
}

/// Makes [`ConnectionControl`] for a connection.
#[allow(clippy::unused_async)] // a factory of ntex is async
pub(super) async fn connection_control<St: HasSession, Packet>(
    shared: St,
) -> Result<ConnectionControl<Packet>, ConnectionAborted> {
    Ok(ConnectionControl { session: shared.session().clone(), packet: PhantomData })
}

impl<Packet> Service<Control<ConnectionAborted>> for ConnectionControl<Packet> {
    type Response = Option<Packet>;
    type Error = ConnectionAborted;

    async fn ready(&self, _: ServiceCtx<'_, Self>) -> Result<(), ConnectionAborted> {
        if self.session.is_client_gone() {
            yield_to_queue().await;
        }
        Ok(())
    }

    async fn call(
        &self,
        _: Control<ConnectionAborted>,
        _: ServiceCtx<'_, Self>,
    ) -> Result<Self::Response, ConnectionAborted> {
        Ok(None)
    }
}
