//! Stops reading from a connection whose messages are not answered.

use std::rc::Rc;

use ntex::{
    SharedCfg,
    service::{Middleware, Service, ServiceCtx, forward_poll, forward_shutdown},
};

use super::session::Session;

/// Where a protocol version keeps the session of a connection.
pub(super) trait HasSession {
    /// The session.
    fn session(&self) -> &Rc<Session>;
}

/// Puts [`PausingService`] before the packets' handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishBackpressure;

/// Is ready when the session may take a message more.
#[derive(Debug)]
pub(super) struct PausingService<S> {
    session: Rc<Session>,
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
        self.session.may_read_on().await;
        ctx.ready(&self.service).await
    }

    async fn call(&self, request: R, ctx: ServiceCtx<'_, Self>) -> Result<S::Response, S::Error> {
        ctx.call(&self.service, request).await
    }

    forward_poll!(service);
    forward_shutdown!(service);
}
