//! Shutdown: SIGINT and SIGTERM cancel a token, and draining has a time limit.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Returns a token that SIGINT or SIGTERM cancels. A second signal ends the process at once, for
/// users who do not want to wait for draining.
///
/// # Errors
/// Returns an error if the process may not handle signals.
pub fn cancel_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn({
        let token = token.clone();
        async move {
            for times in 0.. {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                if times == 0 {
                    info!(signal = name, "draining");
                    token.cancel();
                } else {
                    warn!(signal = name, "second signal: ending without draining");
                    std::process::exit(130);
                }
            }
        }
    });
    Ok(token)
}

/// Waits for `work` to finish, at most `limit`, and logs a warning if it did not. Returns whether
/// it did.
pub async fn drain_within(what: &str, limit: Duration, work: impl Future) -> bool {
    let finished = tokio::time::timeout(limit, work).await.is_ok();
    if !finished {
        warn!(what, limit_s = limit.as_secs_f64(), "not drained within the limit");
    }
    finished
}
