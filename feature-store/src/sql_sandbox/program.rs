use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// The argument that makes a program the guest.
pub(super) const GUEST_ARGUMENT: &str = "sql-sandbox-guest";
/// Programs that can be the guest, beside which library code may run, as in tests.
const PROGRAMS: [&str; 2] = ["feature-store", "microclimate"];

/// Whether this program asks at its start whether it is to be the guest.
static IS_GUEST_CAPABLE: AtomicBool = AtomicBool::new(false);

/// Notes that this program can be started as the guest.
pub(super) fn mark_guest_capable() {
    IS_GUEST_CAPABLE.store(true, Ordering::Relaxed);
}

/// The program to start: this one where it is prepared for it, or one beside it.
pub(super) fn find_guest_program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    if IS_GUEST_CAPABLE.load(Ordering::Relaxed) {
        return Some(own);
    }
    // Tests are in a folder below that of programs.
    let folders = own.ancestors().skip(1).take(2);
    let mut beside = folders.flat_map(|folder| PROGRAMS.map(|name| folder.join(name)));
    beside.find(|path| path.is_file())
}
