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

/// How long work on threads of its own may go on after everything else has ended.
const BLOCKING_WORK_MAX: Duration = Duration::from_secs(2);

/// Runs a program to its end on as many threads as there are processors. Work that is still going
/// on then, such as a comparison of models that nobody waits for, is given up after two seconds
/// (with `#[tokio::main]` the process would stay until it is finished).
///
/// # Errors
/// Those of `program`, or an error if threads cannot be started.
///
/// ```
/// let answer = microclimate_service::shutdown::run_to_end(async { Ok::<_, std::io::Error>(42) });
/// assert_eq!(answer.unwrap(), 42);
/// ```
pub fn run_to_end<T, E: From<std::io::Error>>(
    program: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(program);
    runtime.shutdown_timeout(BLOCKING_WORK_MAX);
    result
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
