//! Mounting without root, by the setuid helper `fusermount3`. It passes the connection over a socket, here its stdin.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::error::MountError;
use crate::options::MountOptions;

const HELPER: &str = "fusermount3";

/// Mounts on `mountpoint`.
pub(crate) fn mount(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let system = |what| move |source: io::Error| MountError::System { what, source };
    let (ours, theirs) = UnixStream::pair().map_err(system("making a socket for fusermount3"))?;
    let mut wishes = "ro,nosuid,nodev,noatime,default_permissions,subtype=forebay".to_owned();
    if options.allow_other {
        wishes += ",allow_other";
    }
    wishes += ",fsname=";
    wishes += &options.fs_name.replace('\\', r"\\").replace(',', r"\,");
    let child = Command::new(HELPER)
        .args(["-o", &wishes, "--"])
        .arg(mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| MountError::Machine {
            why: format!("this user may not mount, and {HELPER} does not start ({error}); install fuse3"),
        })?;
    let device = receive(&ours);
    // It has its end of the socket no more, so it ends.
    let output = child.wait_with_output().map_err(system("waiting for fusermount3"))?;
    match device {
        Ok(Some(device)) => Ok(device),
        Ok(None) | Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let hint = if said.contains("user_allow_other") {
                "; allow it by the line `user_allow_other` in /etc/fuse.conf"
            } else if said.contains("not permitted") {
                "; mounting needs CAP_SYS_ADMIN here: in a container add that capability and the device /dev/fuse"
            } else {
                ""
            };
            Err(MountError::Machine { why: format!("{}{hint}", said.trim()) })
        }
    }
}

/// Unmounts `mountpoint`, lazily.
pub(crate) fn unmount(mountpoint: &Path) -> io::Result<()> {
    let output = Command::new(HELPER).args(["-u", "-z", "--"]).arg(mountpoint).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The descriptor that comes over `socket`; none if the other end closes it first.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().next())
}
