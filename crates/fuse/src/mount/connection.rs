//! What the kernel lets one set and do about a FUSE connection, beside its messages.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use forebay_model::ByteSize;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::Passthrough;
use super::table::DeviceNumber;

/// CAP_SYS_ADMIN, as a bit of `CapEff`.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Raises how far the kernel reads ahead in a file: a mount starts with 128 KiB, and its messages cannot raise that.
pub(crate) fn raise_read_ahead((major, minor): DeviceNumber, read_ahead: ByteSize) {
    let path = PathBuf::from(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"));
    if let Err(error) = fs::write(&path, (read_ahead.0 >> 10).to_string()) {
        tracing::warn!(path = %path.display(), %error, "read-ahead of the mount stays at 128 KiB: large files read slower");
    }
}

/// Whether the kernel takes backing files, given that it agreed to in the handshake.
pub(crate) fn passthrough(agreed: bool) -> Passthrough {
    if !agreed {
        return Passthrough::Unavailable("this kernel has no FUSE passthrough (Linux 6.9 or later has)".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) {
        Some(capabilities) if capabilities & CAP_SYS_ADMIN == 0 => Passthrough::Unavailable(
            "passthrough needs CAP_SYS_ADMIN: run forebay as root or give it the capability".to_owned(),
        ),
        // The first backing file tells whether a namespace makes the capability worthless.
        _ => Passthrough::Active,
    }
}

/// Ends a connection: whoever waits for an answer gets ECONNABORTED.
pub(crate) fn abort((major, minor): DeviceNumber) -> io::Result<()> {
    let name = format!("{}/abort", (u64::from(major) << 20) | u64::from(minor));
    if fs::write(format!("/sys/fs/fuse/connections/{name}"), "1").is_ok() {
        return Ok(());
    }
    // The control file system is not mounted on this machine, or cannot be written to in this container: look at one that
    // only this function sees.
    let control = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&control)?;
    let control = rustix::mount::fsmount(&control, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let abort = rustix::fs::openat(&control, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    fs::File::from(abort).write_all(b"1")
}
