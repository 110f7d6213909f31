//! Sends queued messages to a client, no faster than it reads them.

use std::time::Duration;

use ntex::{io::IoRef, time::sleep};

use super::client_session::ClientSession;
use crate::downlink::OutgoingMessage;

/// Wait before another check of a client whose connection accepts no more bytes.
const WRITE_WAIT: Duration = Duration::from_millis(20);
/// Number of checks before the first wait.
const CHECKS_WITHOUT_WAIT: usize = 3;

/// Begins to send what is queued for a client, once it has a subscription: `send` writes one
/// message as its protocol version has it.
pub(super) fn spawn_sending<F>(session: &ClientSession, io: &IoRef, send: F)
where
    F: AsyncFn(&OutgoingMessage) + 'static,
{
    let Some(mut outgoing) = session.take_outgoing() else { return };
    let io = io.clone();
    ntex::rt::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if !wait_until_writable(&io).await {
                return;
            }
            send(&message).await;
            // Until its bytes are being sent, the message counts as waiting.
            let is_open = wait_until_writable(&io).await;
            drop(message);
            if !is_open {
                return;
            }
        }
    });
}

/// Waits until a connection accepts bytes again. Returns whether it still can.
async fn wait_until_writable(io: &IoRef) -> bool {
    let mut checks = 0;
    while io.is_wr_backpressure() && !io.is_closed() {
        // A client that reads is ready soon. One that does not is checked less often.
        if checks < CHECKS_WITHOUT_WAIT {
            tokio::task::yield_now().await;
        } else {
            sleep(WRITE_WAIT).await;
        }
        checks += 1;
    }
    !io.is_closed()
}
