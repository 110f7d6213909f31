//! File descriptors: the limit of this process, and the reserve that is not given to network
//! clients.

use std::io;

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// The limit that is requested at most, even where the hard limit is higher.
const WANTED: u64 = 65_536;
/// Descriptors that network clients never get. They are for log segments, databases, connections
/// to brokers, and certificates that are read again.
const RESERVED: u64 = 128;
/// Clients that a process with a very low limit still accepts.
const CLIENTS_MIN: usize = 16;

/// Raises the soft limit of open files as far as the hard limit allows, and returns the limit
/// then in force.
///
/// # Errors
/// Returns an error if the system refuses to report or to change the limit.
pub fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(WANTED);
    if soft >= wanted {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    Ok(wanted)
}

/// Returns the limit of open files that is in force, or `u64::MAX` where the system does not
/// report it.
#[must_use]
pub fn current_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Whether an operation failed because this process or the system has too many open files. It
/// should be tried again, because clients come and go.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE].iter().any(|none| error.raw_os_error() == Some(*none as i32))
}

/// Returns how many clients, at most `wanted`, may connect under `limit`, so that the reserve and
/// `others` connections of other servers in this process remain.
#[must_use]
pub fn clients_max(wanted: usize, others: usize, limit: u64) -> usize {
    let kept_back = RESERVED.saturating_add(others as u64);
    let free = usize::try_from(limit.saturating_sub(kept_back)).unwrap_or(usize::MAX);
    wanted.min(free.max(CLIENTS_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_the_reserve() {
        let check = |wanted, others, limit, expect| {
            assert_eq!(clients_max(wanted, others, limit), expect, "{wanted} {others} {limit}");
        };
        check(2000, 128, 1024, 768);
        check(2000, 128, 65_536, 2000);
        check(2000, 0, u64::MAX, 2000);
        check(2000, 128, 64, 16);
        check(4, 128, 64, 4);
    }

    #[test]
    fn too_many_open_files_are_told_from_other_failures() {
        let check = |code: Errno, expect| {
            let error = io::Error::from_raw_os_error(code as i32);
            assert_eq!(is_exhausted(&error), expect, "{error}");
        };
        check(Errno::EMFILE, true);
        check(Errno::ENFILE, true);
        check(Errno::ENOSPC, false);
        assert!(!is_exhausted(&io::Error::other("EMFILE")));
    }

    #[test]
    fn the_limit_in_force_is_at_least_the_one_before() {
        let before = current_limit();
        let raised = raise_limit().unwrap();
        assert!(
            raised >= before && raised == current_limit(),
            "{before} {raised} {}",
            current_limit()
        );
    }
}
