//! Faults on demand, for tests and the fault bench: [`FaultInjector`] holds a sync to
//! see that nothing is acknowledged before it, or fails it to see that nothing
//! is acknowledged after; [`point`] ends the process at a named place.

use std::{
    env, io,
    sync::{
        Arc, Condvar, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Names a [`point`] and how often it is passed before the process ends there.
pub const KILL_AT: &str = "MICROCLIMATE_KILL_AT";

/// A place where `MICROCLIMATE_KILL_AT=NAME:N` ends the process the N-th time
/// that it is passed, by SIGKILL: no destructor runs, no buffer is written.
///
/// In the order in which a message passes them: `receive` (taken from the
/// connection), `enqueue` (before it is given to Kafka), `report` (Kafka has
/// it), `append` (before it is written to the local log or spool), `fsync`
/// (written, not yet synced), `ack` (before its PUBACK).
pub fn kill_point(name: &'static str) {
    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = env::var(KILL_AT).ok()?;
        let (name, nth) = text.rsplit_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);
    if let Some((armed, nth)) = &*ARMED
        && armed == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 >= *nth
    {
        // A process that cannot be killed must not go on either.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        std::process::abort();
    }
}

/// A handle on the embedded log's disk; all clones act on the same one. The
/// default injects nothing.
#[derive(Clone, Debug, Default)]
pub struct FaultInjector(Arc<(Mutex<DiskFaultPlan>, Condvar)>);

#[derive(Debug, Default)]
struct DiskFaultPlan {
    held: bool,
    failing: bool,
}

impl FaultInjector {
    /// Every sync waits from now on, until [`FaultInjector::release`].
    pub fn hold_syncs(&self) {
        self.change_plan(|plan| plan.held = true);
    }

    /// Lets the held syncs go on.
    pub fn release_syncs(&self) {
        self.change_plan(|plan| plan.held = false);
    }

    /// Every sync fails from now on.
    pub fn fail_syncs(&self) {
        self.change_plan(|plan| plan.failing = true);
    }

    fn change_plan(&self, change: impl FnOnce(&mut DiskFaultPlan)) {
        let (plan, changed) = &*self.0;
        change(&mut plan.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// Called before every sync.
    pub(crate) fn before_sync(&self) -> io::Result<()> {
        let (plan, changed) = &*self.0;
        let plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = changed
            .wait_while(plan, |plan| plan.held && !plan.failing)
            .unwrap_or_else(PoisonError::into_inner);
        if plan.failing { Err(io::Error::other("injected fault")) } else { Ok(()) }
    }
}
