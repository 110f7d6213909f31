//! Stops reading from a connection whose messages are unanswered.

use std::{marker::PhantomData, rc::Rc};

use ntex::{
    SharedCfg,
    service::{Middleware, Service, ServiceCtx, forward_poll, forward_shutdown},
};
use ntex_mqtt::Control;

use super::client_session::{ClientSession, ConnectionAborted, yield_to_queue};

/// A connection's state that holds its session, in either protocol version.
pub(super) trait HasSession {
    /// Returns the session.
    fn session(&self) -> &Rc<ClientSession>;
}

/// Adds [`PausingService`] in front of the packet handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishBackpressure;

/// Is ready when the session may accept another message.
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
        // `ready` has ensured that the service is ready. Waiting again would discard a message
        // whose connection ends meanwhile.
        ctx.call_nowait(&self.service, request).await
    }

    forward_poll!(service);
    forward_shutdown!(service);
}

/// Answers the control messages of ntex-mqtt.
///
/// Before the end of a connection it lets the received parts of messages reach their handlers.
/// ntex-mqtt 8.2.1 gives each part to a separate task. Once it knows that the client is gone, it
/// discards the parts of an incomplete message.
#[derive(Debug)]
pub(super) struct ConnectionControl<Packet> {
    session: Rc<ClientSession>,
    packet: PhantomData<Packet>,
}

/// Creates [`ConnectionControl`] for a connection.
#[allow(clippy::unused_async)] // factories of ntex are async
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
