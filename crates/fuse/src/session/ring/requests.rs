//! What a request asks of the handler.

use super::abi::{OpenIn, ReadIn, ReleaseIn, StatfsOut, opcode};
use super::answers::{AttributesAnswer, BytesAnswer, EntryAnswer, NamesAnswer, OpenAnswer, OpenDirectoryAnswer};
use super::slot::Slot;
use crate::errno::Errno;
use crate::nodeid::NodeId;
use crate::session::{BLOCK_SIZE, CAPACITY_BLOCKS, Caller, Handle, Handler};

/// The longest name that is looked at: four times what names may have.
const NAME_MAX: usize = 1024;

/// Has `handler` answer the request in `slot`.
pub(super) fn serve(handler: &impl Handler, slot: Slot) {
    let request = slot.request();
    let node = NodeId(request.node);
    let caller = Caller { uid: request.uid, gid: request.gid, pid: request.pid };
    match request.opcode {
        opcode::LOOKUP => {
            // The answer goes where the name lies.
            let mut copy = [0; NAME_MAX];
            let sent = slot.sent();
            let len = sent.iter().position(|byte| *byte == 0).unwrap_or(sent.len());
            let Some(name) = copy.get_mut(..len) else { return slot.fail(Errno::NAME_TOO_LONG) };
            name.copy_from_slice(&sent[..len]);
            handler.lookup(caller, node, name, EntryAnswer(slot));
        }
        opcode::GETATTR => handler.attributes(node, AttributesAnswer(slot)),
        opcode::OPEN => {
            let open: OpenIn = slot.argument();
            let to_write = open.flags as i32 & libc::O_ACCMODE != libc::O_RDONLY;
            handler.open(caller, node, to_write, OpenAnswer(slot));
        }
        opcode::RELEASE => {
            handler.release(node);
            slot.send(0);
        }
        opcode::READ => {
            let read: ReadIn = slot.argument();
            handler.read(caller, node, read.offset, read.size, BytesAnswer(slot));
        }
        opcode::OPENDIR => handler.open_directory(caller, node, OpenDirectoryAnswer(slot)),
        opcode::RELEASEDIR => {
            let release: ReleaseIn = slot.argument();
            handler.release_directory(Handle(release.handle));
            slot.send(0);
        }
        opcode::READDIR | opcode::READDIRPLUS => {
            let read: ReadIn = slot.argument();
            let with_attributes = request.opcode == opcode::READDIRPLUS;
            let answer = NamesAnswer::new(slot, read.size, with_attributes);
            handler.list(caller, node, Handle(read.handle), read.offset, with_attributes, answer);
        }
        opcode::STATFS => slot.send_message(&StatfsOut {
            blocks: CAPACITY_BLOCKS,
            blocks_free: CAPACITY_BLOCKS,
            blocks_available: CAPACITY_BLOCKS,
            files: CAPACITY_BLOCKS,
            files_free: CAPACITY_BLOCKS,
            block_size: BLOCK_SIZE,
            name_max: forebay_model::NAME_MAX as u32,
            fragment_size: BLOCK_SIZE,
            padding: 0,
            spare: [0; 6],
        }),
        other => {
            let (op, errno) = refusal(other);
            handler.refused(op, errno);
            slot.fail(errno);
        }
    }
}

/// The name of a request that is refused without looking at it, and why.
fn refusal(opcode: u32) -> (&'static str, Errno) {
    match opcode {
        opcode::ACCESS => ("access", Errno::NOT_HERE),
        opcode::FLUSH => ("flush", Errno::NOT_HERE),
        opcode::FSYNC => ("fsync", Errno::NOT_HERE),
        opcode::FSYNCDIR => ("fsyncdir", Errno::NOT_HERE),
        opcode::GETXATTR => ("getxattr", Errno::NOT_HERE),
        opcode::LISTXATTR => ("listxattr", Errno::NOT_HERE),
        opcode::LSEEK => ("lseek", Errno::NOT_HERE),
        opcode::IOCTL => ("ioctl", Errno::NO_TTY),
        opcode::READLINK => ("readlink", Errno::INVALID),
        opcode::SETATTR => ("setattr", Errno::READ_ONLY),
        opcode::MKNOD => ("mknod", Errno::READ_ONLY),
        opcode::MKDIR => ("mkdir", Errno::READ_ONLY),
        opcode::UNLINK => ("unlink", Errno::READ_ONLY),
        opcode::RMDIR => ("rmdir", Errno::READ_ONLY),
        opcode::SYMLINK => ("symlink", Errno::READ_ONLY),
        opcode::RENAME | opcode::RENAME2 => ("rename", Errno::READ_ONLY),
        opcode::LINK => ("link", Errno::READ_ONLY),
        opcode::CREATE | opcode::TMPFILE => ("create", Errno::READ_ONLY),
        opcode::WRITE => ("write", Errno::READ_ONLY),
        opcode::FALLOCATE => ("fallocate", Errno::READ_ONLY),
        opcode::COPY_FILE_RANGE => ("copy_file_range", Errno::READ_ONLY),
        opcode::SETXATTR => ("setxattr", Errno::READ_ONLY),
        opcode::REMOVEXATTR => ("removexattr", Errno::READ_ONLY),
        _ => ("other", Errno::NOT_HERE),
    }
}
