use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// Argument that makes a program the guest.
pub(super) const GUEST_ARGUMENT: &str = "sql-sandbox-guest";
/// Programs that can be the guest; library code, as in tests, may run in the folder of one.
const PROGRAMS: [&str; 2] = ["feature-store", "microclimate"];

/// Whether this program checks at its start whether it is the guest.
static IS_GUEST_CAPABLE: AtomicBool = AtomicBool::new(false);

/// Records that this program can be started as the guest.
pub(super) fn mark_guest_capable() {
    IS_GUEST_CAPABLE.store(true, Ordering::Relaxed);
}

/// Returns the program to start: this one if it can be the guest, or one in the same folder.
pub(super) fn find_guest_program() -> Option<PathBuf> {
    let this_program = std::env::current_exe().ok()?;
    if IS_GUEST_CAPABLE.load(Ordering::Relaxed) {
        return Some(this_program);
    }
    // Tests are in a folder below that of the programs.
    let folders = this_program.ancestors().skip(1).take(2);
    let mut beside = folders.flat_map(|folder| PROGRAMS.map(|name| folder.join(name)));
    beside.find(|path| path.is_file())
}
