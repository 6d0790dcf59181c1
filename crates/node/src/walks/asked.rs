//! What walks are told, and what they ask for.

use std::sync::Arc;
use std::time::Instant;

use forebay_model::{Content, FileEntry};

use super::recent::Place;
use super::walk::WalkId;
use crate::source::Source;

/// A read of a file from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadOf<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) content: &'a Content,
    pub(crate) whence: Whence,
    /// Requests to the source that nobody waits for yet and that could begin now.
    pub(crate) room: usize,
}

/// Where the bytes of a read come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    /// They are here.
    Here,
    /// They are on their way.
    Arriving,
    /// They have to be asked for.
    Origin,
}

/// What a read leads to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whether the read was to be expected.
    pub(crate) is_foreseen: bool,
    /// The walk that it belongs to, and how many tasks more should fetch for it.
    pub(crate) walk: Option<(WalkId, usize)>,
    /// Names to be fetched from the catalog.
    pub(crate) load: Option<Load>,
    /// Bytes that were fetched ahead and are read now.
    pub(crate) used_bytes: u64,
    /// Bytes that were fetched ahead and are gone, or not expected to be read any more.
    pub(crate) unused_bytes: u64,
}

/// Names that are needed from the catalog.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) source: Arc<Source>,
    /// The directory, as a prefix of keys.
    pub(crate) prefix: Box<str>,
    pub(crate) from: LoadFrom,
    /// The directory's id.
    pub(super) directory: u64,
}

/// Which names.
#[derive(Clone, Debug)]
pub(crate) enum LoadFrom {
    /// A stretch that begins with the directory if this file is near its start and that is not known yet, else with this file.
    Around { file: Arc<str>, is_start_known: bool },
    /// All of the directory, in the order of their numbers; none if they are too many.
    Numbers,
    /// Those that follow in a stretch, after this name.
    After { stretch: u64, name: Box<str> },
}

/// Names from the catalog.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) files: Vec<Arc<FileEntry>>,
    pub(crate) is_from_start: bool,
    /// The last name looked at.
    pub(crate) last: Box<str>,
    pub(crate) more: bool,
    pub(crate) until: Option<Instant>,
}

/// What to fetch next for a walk.
#[derive(Debug)]
pub(crate) enum Next {
    File {
        source: Arc<Source>,
        file: Arc<FileEntry>,
        place: NextPlace,
    },
    /// Nothing, until these names are known.
    Load(Load),
    Nothing,
}

/// The place of a file to fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextPlace(pub(super) Place);
