//! Injected faults, for tests and the fault bench. [`FaultInjector`] delays a sync to show that
//! nothing is acknowledged before it, or fails it to show that nothing is acknowledged after it.
//! [`kill_point`] ends the process at a named point.

use std::{
    env, io,
    sync::{
        Arc, Condvar, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Environment variable that names a [`kill_point`] and how often it is passed before the process
/// ends there.
pub const KILL_AT: &str = "MICROCLIMATE_KILL_AT";

/// A point where `MICROCLIMATE_KILL_AT=NAME:N` ends the process by SIGKILL the N-th time that it
/// is passed. No destructor runs and no buffer is written.
///
/// The points, in the order in which a message passes them: `receive` (read from the connection),
/// `enqueue` (before it is given to Kafka), `report` (Kafka has it), `append` (before it is
/// written to the local log or spool), `fsync` (written, not yet synced), `ack` (before its
/// PUBACK).
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
        // A process that cannot be killed must not continue either.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        std::process::abort();
    }
}

/// A handle that injects faults into the embedded log's disk. All clones act on the same disk.
/// The default injects nothing.
#[derive(Clone, Debug, Default)]
pub struct FaultInjector(Arc<(Mutex<DiskFaultPlan>, Condvar)>);

#[derive(Debug, Default)]
struct DiskFaultPlan {
    held: bool,
    failing: bool,
}

impl FaultInjector {
    /// Blocks every sync from now on, until [`FaultInjector::release_syncs`].
    pub fn hold_syncs(&self) {
        self.change_plan(|plan| plan.held = true);
    }

    /// Releases the blocked syncs.
    pub fn release_syncs(&self) {
        self.change_plan(|plan| plan.held = false);
    }

    /// Fails every sync from now on.
    pub fn fail_syncs(&self) {
        self.change_plan(|plan| plan.failing = true);
    }

    fn change_plan(&self, change: impl FnOnce(&mut DiskFaultPlan)) {
        let (plan, changed) = &*self.0;
        change(&mut plan.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// Applies the injected faults; called before every sync.
    pub(crate) fn before_sync(&self) -> io::Result<()> {
        let (plan, changed) = &*self.0;
        let locked = plan.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = changed
            .wait_while(locked, |plan| plan.held && !plan.failing)
            .unwrap_or_else(PoisonError::into_inner);
        if plan.failing { Err(io::Error::other("injected fault")) } else { Ok(()) }
    }
}
