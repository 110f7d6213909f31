use std::{env, fs::OpenOptions, io::Write};

/// Says on the terminal, as cargo does, what takes long. Cargo keeps what build scripts print
/// to itself until they end, and half an hour of silence looks like a fault.
pub(crate) fn say(verb: &str, what: &str) {
    let set = |name: &str| env::var(name).is_ok_and(|own| own == "true");
    if set("CARGO_TERM_QUIET") || set("CI") {
        return;
    }
    if let Ok(mut terminal) = OpenOptions::new().write(true).open("/dev/tty") {
        // A terminal that is gone is no reason to stop.
        drop(writeln!(terminal, "\r\x1b[K\x1b[1;32m{verb:>12}\x1b[0m {what}"));
    }
}
