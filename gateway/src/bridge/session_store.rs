use std::pin::Pin;

use rumqttc::{
    PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey,
};

/// The client library's `SessionStoreFuture`, which it does not export.
type SessionStoreAnswer<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

/// Format version of the client library's session model.
const FORMAT_VERSION: u16 = 1;

/// The stored state of a session that outlived the process, which is always empty. The bridge
/// publishes nothing itself, so no packet of its own is in flight when it ends.
///
/// Without this store the client library, which cannot know that, refuses to subscribe in a
/// session that the broker kept, and new `mqtt.filters` would have no effect.
#[derive(Debug)]
pub(super) struct EmptySessionStore {
    pub(super) session_expiry_s: u32,
    pub(super) outgoing_inflight_max: Option<u16>,
}

impl SessionStore for EmptySessionStore {
    fn load<'a>(
        &'a self,
        key: &'a SessionStoreKey,
    ) -> SessionStoreAnswer<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: FORMAT_VERSION,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(self.session_expiry_s),
            outgoing_inflight_upper_limit: self.outgoing_inflight_max,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async move { Ok(Some(session)) })
    }

    fn save<'a>(
        &'a self,
        _: &'a SessionStoreKey,
        _: &'a PersistedSession,
    ) -> SessionStoreAnswer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> SessionStoreAnswer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
