//! SIGINT and SIGTERM become a token; draining has a limit.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process
/// at once, for who does not want to wait for draining.
///
/// # Errors
/// Where the process may not handle signals.
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

/// Waits for `work` to finish, at most `limit`, and says so when it did not.
/// Returns whether it did.
pub async fn drain_within(what: &str, limit: Duration, work: impl Future) -> bool {
    let finished = tokio::time::timeout(limit, work).await.is_ok();
    if !finished {
        warn!(what, limit_s = limit.as_secs_f64(), "not drained within the limit");
    }
    finished
}
