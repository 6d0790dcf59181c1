//! Notices: what this process tells the kernel without being asked. Both kinds of session send them over `/dev/fuse`.
//!
//! Not to be sent on a thread that takes requests: for a name the kernel takes the lock of its directory, which a request that
//! such a thread should answer may hold.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::nodeid::NodeId;

/// Codes of notices in FUSE's protocol.
const INVAL_ENTRY: i32 = 3;
/// Since protocol 7.44 (Linux 6.16).
const INC_EPOCH: i32 = 8;
/// Since protocol 7.45 (Linux 6.18).
const PRUNE: i32 = 9;
/// Ask again at the next use, but do not take the name out of the tree before. Older kernels than Linux 6.2 do that all the same.
const EXPIRE_ONLY: u32 = 1;
/// Length, code and a zero where answers have the number of a request.
const HEADER: usize = 16;
/// A name that nothing has; if something had it, it would be asked for once more.
const NO_NAME: &str = "\u{1}";

/// Sends notices.
#[derive(Clone)]
pub(crate) struct Notifier(Arc<OwnedFd>);

impl Notifier {
    pub(super) fn new(device: OwnedFd) -> Self {
        Self(Arc::new(device))
    }

    /// Makes the kernel ask again for `name` in `parent` at the next use, and drop what nobody uses below it. Requests in
    /// `parent` that are under way are waited for, so that no answer of theirs comes after it. That the kernel does not know the
    /// name is fine.
    pub(crate) fn forget_name(&self, parent: NodeId, name: &str) -> io::Result<()> {
        self.entry(parent, name, 0)
    }

    /// Makes the kernel ask again for `name` in `parent` at the next use; if it stands for the same then, nothing is dropped.
    pub(crate) fn doubt_name(&self, parent: NodeId, name: &str) -> io::Result<()> {
        self.entry(parent, name, EXPIRE_ONLY)
    }

    /// Waits until the answers to requests in the directory `node` that were under way are in the kernel's tree.
    pub(crate) fn pass_by(&self, node: NodeId) -> io::Result<()> {
        self.entry(node, NO_NAME, EXPIRE_ONLY)
    }

    /// Makes the kernel ask again for every name at its next use. False: it is too old for that.
    pub(crate) fn forget_all(&self) -> io::Result<bool> {
        match self.send(INC_EPOCH, &[]) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the kernel forget those of these nodes that nobody uses.
    pub(crate) fn prune(&self, nodes: &[NodeId]) -> io::Result<()> {
        let mut body = Vec::with_capacity(16 + 8 * nodes.len());
        // Their number, and room for what may come.
        body.extend_from_slice(&(nodes.len() as u32).to_ne_bytes());
        body.extend_from_slice(&[0; 12]);
        nodes.iter().for_each(|node| body.extend_from_slice(&node.0.to_ne_bytes()));
        self.send(PRUNE, &body)
    }

    fn entry(&self, parent: NodeId, name: &str, flags: u32) -> io::Result<()> {
        let mut body = Vec::with_capacity(16 + name.len() + 1);
        body.extend_from_slice(&parent.0.to_ne_bytes());
        body.extend_from_slice(&(name.len() as u32).to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        match self.send(INVAL_ENTRY, &body) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            sent => sent,
        }
    }

    fn send(&self, code: i32, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&code.to_ne_bytes());
        message.extend_from_slice(&0_u64.to_ne_bytes());
        message.extend_from_slice(body);
        rustix::io::write(&self.0, &message)?;
        Ok(())
    }
}
