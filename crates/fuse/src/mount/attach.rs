//! Putting a FUSE connection on a directory, and taking it away.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::table::{DeviceNumber, mounted_at};
use super::{fusermount, resolve};
use crate::error::MountError;
use crate::options::MountOptions;

/// The file system's type in the mount table.
const FS_TYPE: &str = "fuse.forebay";

/// Dead mounts that may lie upon each other, as repeated crashes leave them.
const DEAD_MAX: usize = 16;

/// How long another file system on the mountpoint may take to answer.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// A mount of ours.
#[derive(Debug)]
pub(crate) struct Attachment {
    mountpoint: PathBuf,
    device: DeviceNumber,
    /// Nobody else's mount is taken away for ours.
    attached: AtomicBool,
}

impl Attachment {
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    pub(crate) fn device_number(&self) -> DeviceNumber {
        self.device
    }

    /// Something open in the mount; none if it is not there any more. Asks nothing of the mount.
    pub(crate) fn anchor(&self) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let anchor = rustix::fs::open(&self.mountpoint, flags, Mode::empty()).ok()?;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let seen = rustix::fs::statx(&anchor, "", flags, StatxFlags::empty()).ok()?;
        ((seen.stx_dev_major, seen.stx_dev_minor) == self.device).then_some(anchor)
    }

    /// Takes the mount out of the file tree, unless somebody did already. What is open in it stays open.
    pub(crate) fn detach(&self) -> io::Result<()> {
        let ours = |device| mounted_at(&self.mountpoint).map(|found| found.is_some_and(|found| found.device == device));
        if !self.attached.swap(false, Ordering::Relaxed) || !ours(self.device)? {
            return Ok(());
        }
        unmount(&self.mountpoint)
    }
}

/// Clears away what dead processes left on `mountpoint`, and makes sure that it can be mounted on.
pub(crate) fn prepare(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let refuse = |why: String| MountError::Mountpoint { path: mountpoint.to_owned(), why };
    let path = resolve(mountpoint).map_err(|error| refuse(format!("{error}; make the directory first")))?;
    for _ in 0..DEAD_MAX {
        match mounted_at(&path).map_err(system("reading the mount table"))? {
            Some(mounted) if mounted.fs_type.starts_with("fuse") => match look(&path) {
                Err(error) if is_dead(&error) => {
                    tracing::info!(mountpoint = %path.display(), "clearing a mount that a dead process left");
                    unmount(&path).map_err(system("clearing a dead mount"))?;
                    continue;
                }
                Err(error) => return Err(refuse(format!("what is mounted there does not answer: {error}"))),
                Ok(()) if mounted.fs_type == FS_TYPE => {
                    let why = "another forebay has it mounted; stop that one or choose another place";
                    return Err(refuse(why.to_owned()));
                }
                Ok(()) => {}
            },
            Some(_) | None => {}
        }
        return match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(path),
            Ok(_) => Err(refuse("it is not a directory".to_owned())),
            Err(error) => Err(refuse(format!("{error}; make the directory first"))),
        };
    }
    Err(refuse(format!("more than {DEAD_MAX} dead mounts lie on it; run `umount -l` on it")))
}

/// Mounts: by the kernel if this process may, else by `fusermount3`.
pub(crate) fn attach(mountpoint: &Path, options: &MountOptions) -> Result<(OwnedFd, Attachment), MountError> {
    let device = match attach_by_kernel(mountpoint, options) {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "/dev/fuse is missing; load the module by `modprobe fuse`, or give the container the device";
            return Err(MountError::Machine { why: why.to_owned() });
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => fusermount::mount(mountpoint, options)?,
        Err(source) => return Err(MountError::System { what: "mounting", source }),
    };
    let device_number = match mounted_at(mountpoint) {
        Ok(Some(mounted)) if mounted.fs_type == FS_TYPE => mounted.device,
        // Mounted, but not to be seen: in a mount namespace that hides it. Dropping the device ends it.
        Ok(_) => {
            let why = format!("the mount on {} does not show in /proc/self/mountinfo", mountpoint.display());
            return Err(MountError::Machine { why });
        }
        Err(error) => return Err(system("reading the mount table")(error)),
    };
    let attachment =
        Attachment { mountpoint: mountpoint.to_owned(), device: device_number, attached: AtomicBool::new(true) };
    Ok((device, attachment))
}

fn attach_by_kernel(mountpoint: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mode = std::fs::metadata(mountpoint)?.mode() & 0o170_000;
    let mut data = format!("fd={},rootmode={mode:o},user_id={uid},group_id={gid}", device.as_raw_fd());
    data += ",default_permissions";
    if options.allow_other {
        data += ",allow_other";
    }
    let data = CString::new(data)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount(options.fs_name.as_str(), mountpoint, FS_TYPE, flags, Some(data.as_c_str()))?;
    Ok(device)
}

/// Unmounts, lazily if it is in use.
fn unmount(mountpoint: &Path) -> io::Result<()> {
    let unmount = |flags| rustix::mount::unmount(mountpoint, flags);
    match unmount(UnmountFlags::NOFOLLOW).or_else(|_| unmount(UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)) {
        Err(error) if error == rustix::io::Errno::PERM => fusermount::unmount(mountpoint),
        result => Ok(result?),
    }
}

/// Asks the file system at `path` something that the kernel cannot answer by itself, as it does a stat.
fn look(path: &Path) -> io::Result<()> {
    let (answer, answered) = sync_channel(1);
    let path = path.to_owned();
    // Left behind if the file system never answers.
    std::thread::Builder::new().name("forebay-look".to_owned()).spawn(move || {
        let _ = answer.send(rustix::fs::statfs(&path).map(drop));
    })?;
    match answered.recv_timeout(LOOK_LIMIT) {
        Ok(result) => Ok(result?),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether looking at a mount failed for want of its process.
fn is_dead(error: &io::Error) -> bool {
    [libc::ENOTCONN, libc::ECONNABORTED].map(Some).contains(&error.raw_os_error())
}

fn system(what: &'static str) -> impl Fn(io::Error) -> MountError {
    move |source| MountError::System { what, source }
}
