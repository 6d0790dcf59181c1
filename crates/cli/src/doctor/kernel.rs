//! Calls of the kernel that no safe library offers.
#![expect(unsafe_code, reason = "F_SETLEASE and adjtimex have no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Takes a write lease on the only descriptor of a file and gives it back.
pub(super) fn try_write_lease(file: &File) -> io::Result<()> {
    for lease in [libc::F_WRLCK, libc::F_UNLCK] {
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and F_SETLEASE takes an integer.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whether the kernel says that something keeps its clock right.
pub(super) fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: `timex` is made of integers, for which zero is valid; `modes` = 0 asks and changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid `timex` that lives through the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(result != libc::TIME_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_can_be_asked() {
        assert!(clock_is_synchronised().is_ok());
    }

    #[test]
    fn a_lease_is_given_back() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        if try_write_lease(file.as_file()).is_ok() {
            assert!(File::open(file.path()).is_ok());
        }
    }
}
