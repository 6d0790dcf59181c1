//! What a mount needs: the FUSE device, the right to mount, and the kernel's features.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};

use super::Finding;
use crate::settings::{MountKind, MountSettings};

/// Whether mounts that are made from now on may use io_uring.
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";
/// The kernel that brought FUSE passthrough.
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);
/// The oldest kernel that Forebay is tested on.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Looks at everything, mount or not: a user may want to know before writing the settings.
pub(super) fn check(mount: &MountSettings) -> Vec<Finding> {
    let admin = has_sys_admin();
    let mut findings = vec![device(), right_to_mount(admin)];
    findings.extend(kernel(mount.kind, admin));
    if !rustix::process::geteuid().is_root() {
        findings.push(allow_other(mount.allow_other));
    }
    findings.extend(mount.dir.as_deref().map(mountpoint));
    findings
}

fn device() -> Finding {
    let path = "/dev/fuse";
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_char_device() => {
            match fs::OpenOptions::new().read(true).write(true).open(path) {
                Ok(_) => Finding::ok("FUSE device", format!("{path} can be opened")),
                Err(error) => Finding::fail(
                    "FUSE device",
                    format!("{path}: {error}"),
                    "let this user open it (in a container: `--device /dev/fuse`)",
                ),
            }
        }
        _ => Finding::fail(
            "FUSE device",
            format!("there is no {path}"),
            "load the module (`modprobe fuse`); in a container give the device (`--device /dev/fuse`)",
        ),
    }
}

fn has_sys_admin() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn right_to_mount(admin: bool) -> Finding {
    let check = "right to mount";
    let helper = fusermount();
    match (admin, helper) {
        (true, _) => Finding::ok(check, "CAP_SYS_ADMIN"),
        (false, Some((path, true))) => Finding::warn(
            check,
            format!("{} without CAP_SYS_ADMIN", path.display()),
            "mounts work; kernel passthrough and the mount's read-ahead need CAP_SYS_ADMIN: run as root for full speed",
        ),
        (false, Some((path, false))) => Finding::fail(
            check,
            format!("{} is not set-user-id root, and CAP_SYS_ADMIN is missing", path.display()),
            "reinstall the package fuse3, or run as root (in a container: `--cap-add SYS_ADMIN`)",
        ),
        (false, None) => Finding::fail(
            check,
            "neither CAP_SYS_ADMIN nor fusermount3",
            "install the package fuse3, or run as root (in a container: `--cap-add SYS_ADMIN`)",
        ),
    }
}

/// Where `fusermount3` is, and whether it may mount for a user.
fn fusermount() -> Option<(PathBuf, bool)> {
    let path = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join("fusermount3"))
        .find(|path| path.is_file())?;
    let mode = fs::metadata(&path).ok()?.permissions().mode();
    Some((path, mode & 0o4000 != 0))
}

fn kernel(kind: MountKind, admin: bool) -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = version(&release);
    let mut findings = Vec::new();
    findings.push(match version {
        Some(version) if version < OLDEST_KERNEL => Finding::warn(
            "kernel",
            format!("Linux {release}"),
            format!("Forebay is tested on {}.{} and newer", OLDEST_KERNEL.0, OLDEST_KERNEL.1),
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    });
    let check = "FUSE passthrough";
    findings.push(match version {
        Some(version) if version >= PASSTHROUGH_KERNEL && admin => Finding::ok(check, "the kernel and this user can"),
        Some(version) if version >= PASSTHROUGH_KERNEL => {
            missing(kind, check, "it needs CAP_SYS_ADMIN", "run as root for the full speed of `--kind streams`")
        }
        _ => missing(kind, check, "it needs Linux 6.9", "use a newer kernel for the full speed of `--kind streams`"),
    });
    findings.push(io_uring());
    findings
}

/// Whether requests can come by io_uring. Without it everything works, many small files slower.
fn io_uring() -> Finding {
    let check = "FUSE over io_uring";
    let forbidden = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() == "2");
    match fs::read_to_string(ENABLE_URING).unwrap_or_default().trim() {
        "Y" if forbidden => Finding::warn(
            check,
            "the kernel forbids io_uring (kernel.io_uring_disabled = 2)",
            "set it to 0 or 1 for faster reads of many small files",
        ),
        "Y" => Finding::ok(check, "enabled"),
        "" => Finding::ok(check, "not available (it needs Linux 6.14); requests go through /dev/fuse"),
        _ => Finding::warn(
            check,
            "switched off in the kernel: many small files are read slower",
            format!(
                "as root: `echo Y > {ENABLE_URING}`, and for good the line `options fuse enable_uring=1` in \
                 /etc/modprobe.d/fuse.conf"
            ),
        ),
    }
}

/// A missing passthrough matters to `streams` alone.
fn missing(kind: MountKind, check: &str, found: &str, advice: &str) -> Finding {
    match kind {
        MountKind::Streams => Finding::warn(check, format!("not available: {found}"), advice),
        MountKind::Files => Finding::ok(check, format!("not available ({found}), and `--kind files` does not use it")),
    }
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn allow_other(wanted: Option<bool>) -> Finding {
    let check = "other users";
    let text = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let allowed = text.lines().any(|line| line.trim() == "user_allow_other");
    let advice = "add the line `user_allow_other` to /etc/fuse.conf";
    match (allowed, wanted) {
        (true, _) => Finding::ok(check, "/etc/fuse.conf lets this user share the mount"),
        (false, Some(true)) => Finding::fail(check, "/etc/fuse.conf has no line `user_allow_other`", advice),
        (false, _) => Finding::warn(check, "only this user will see the mount", advice),
    }
}

fn mountpoint(directory: &Path) -> Finding {
    let check = format!("mount {}", directory.display());
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Finding::ok(check, "an empty directory"),
            Some(_) => {
                Finding::warn(check, "the directory is not empty", "the mount hides what is in it: choose another")
            }
        },
        // The kernel's answer for a mount whose daemon has died.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            Finding::ok(check, "a dead mount, which `forebay up` clears")
        }
        Err(error) => Finding::fail(check, error.to_string(), format!("`mkdir -p {}`", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers() {
        for (release, expected) in
            [("6.18.44-fc-v657", Some((6, 18))), ("5.15.0", Some((5, 15))), ("6.9-rc1", Some((6, 9))), ("x", None)]
        {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn passthrough_matters_to_streams_alone() {
        assert_eq!(missing(MountKind::Files, "p", "f", "a").state, super::super::State::Ok);
        assert_eq!(missing(MountKind::Streams, "p", "f", "a").state, super::super::State::Warn);
    }

    #[test]
    fn an_absent_mountpoint_is_a_failure() {
        assert_eq!(mountpoint(Path::new("/absent/mount")).state, super::super::State::Fail);
    }
}
