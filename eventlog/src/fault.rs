//! Faults of the disk, on demand: tests and the fault bench hold a sync to see
//! that nothing is acknowledged before it, or fail it to see that nothing is
//! acknowledged after.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

/// A handle on the embedded log's disk; all clones act on the same one. The
/// default injects nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<(Mutex<Plan>, Condvar)>);

#[derive(Debug, Default)]
struct Plan {
    held: bool,
    failing: bool,
}

impl Faults {
    /// Every sync waits from now on, until [`Faults::release`].
    pub fn hold(&self) {
        self.change(|plan| plan.held = true);
    }

    /// Lets the held syncs go on.
    pub fn release(&self) {
        self.change(|plan| plan.held = false);
    }

    /// Every sync fails from now on.
    pub fn fail(&self) {
        self.change(|plan| plan.failing = true);
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
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
