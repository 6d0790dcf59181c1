//! What is told of a directory that is looked at.

use std::fmt;

use forebay_model::ContentId;

use crate::group::Group;
use crate::log::LOG;
use crate::options::BootId;

/// The index log.
#[derive(Clone, Debug, Default)]
pub struct LogReport {
    /// Version of the directory's format. None: the log has no header that says it.
    pub format: Option<u32>,
    /// Its length.
    pub bytes: u64,
    /// Records that are read.
    pub records: u64,
    /// What is cut off when a store opens.
    pub cut: Option<Finding>,
    /// The start of the machine that wrote it last. None: no `Boot` names one.
    pub boot: Option<BootId>,
    /// The store was closed in order.
    pub is_closed: bool,
    /// A store that opens in this start of the machine believes what the log says is verified.
    pub is_believed: bool,
}

/// How a content is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// In a pack.
    Small,
    /// In a file of its own.
    Large,
}

/// A content of which something is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Which.
    pub id: ContentId,
    /// How it is kept.
    pub kind: Kind,
    /// Its size.
    pub size: u64,
    /// Bytes of it that are here.
    pub bytes_resident: u64,
    /// Pages that are here.
    pub pages: u32,
    /// Extents of which pages are here; a small object has none.
    pub extents: u32,
    /// Its group.
    pub group: Group,
    /// What is here is given to readers without being compared with its sums.
    pub is_verified: bool,
    /// The file that it lies in.
    pub file: String,
}

/// A pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackReport {
    /// Its file.
    pub file: String,
    /// The group of all its objects.
    pub group: Group,
    /// Length of the file; 0 if it is missing.
    pub bytes: u64,
    /// Entries that the log knows.
    pub entries: u64,
    /// Their bytes.
    pub bytes_live: u64,
    /// Bytes of the file that no entry takes.
    pub bytes_dead: u64,
    /// Entries that would be dropped.
    pub entries_lost: u64,
}

/// Something that is not whole, or that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, from the directory.
    pub file: String,
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Whose bytes they are, if they are one content's.
    pub content: Option<ContentId>,
    /// What is wrong.
    pub flaw: Flaw,
    /// What becomes of it.
    pub fate: Fate,
    /// What is lost with it.
    pub lost: Lost,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The log has no header of this format.
    LogHeader,
    /// The log ends within a record.
    Torn,
    /// A record of the log says that it is longer than any can be.
    RecordLength,
    /// A record of the log is not as it was written.
    RecordChecksum,
    /// A record of the log is of no known kind.
    RecordKind,
    /// No record names the file.
    Stray,
    /// The file is not there.
    Missing,
    /// The file ends before.
    Short,
    /// The header of a pack's entry is not as it was written, or is another's.
    EntryHeader,
    /// A block is not as it was written.
    Data,
    /// The file cannot be read.
    Unreadable(String),
}

/// What becomes of something at the next start of a store, in this start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is cut off when the store opens.
    Cut,
    /// The file is removed soon after.
    Removed,
    /// Whoever reads it first finds it absent, and it is fetched anew.
    Dropped,
    /// The log is believed: it is given to readers until the scrub has come to it, or the machine is started anew.
    Served,
}

/// What a finding costs, once it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// Nothing that anyone could read.
    Nothing,
    /// What the log says from there on.
    Records,
    /// A small object.
    Object,
    /// A page.
    Page,
    /// All pages of this extent; where the kernel grants no write lease, of the content.
    Extent(u32),
    /// A large content.
    Content,
    /// So many small objects.
    Pack(u64),
}

/// Something that [`Offline::check`](super::Offline::check) came to.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A pack was looked at.
    Pack(&'a PackReport),
    /// A large content was looked at.
    Large(&'a Content),
    /// Something is wrong.
    Finding(&'a Finding),
    /// So many bytes more were read.
    Read(u64),
}

/// What a directory came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Contents that the next start knows.
    pub contents: u64,
    /// Bytes of them that are here, as the log says.
    pub bytes_resident: u64,
    /// Length of all packs.
    pub bytes_packs: u64,
    /// Bytes of them that no entry takes.
    pub bytes_dead: u64,
    /// Bytes that were compared with their sums.
    pub bytes_compared: u64,
    /// Things that are wrong.
    pub findings: u64,
    /// Contents of which something would be dropped.
    pub contents_lost: u64,
    /// Their bytes that would be.
    pub bytes_lost: u64,
    /// Damaged bytes that readers would be given.
    pub bytes_served: u64,
    /// Bytes of files that no record names.
    pub bytes_stray: u64,
}

impl Summary {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings == 0
    }
}

impl Finding {
    /// Something in the log.
    pub(super) fn of_log(offset: u64, bytes: u64, flaw: Flaw) -> Self {
        Self { file: LOG.to_owned(), offset, bytes, content: None, flaw, fate: Fate::Cut, lost: Lost::Records }
    }
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

impl Flaw {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LogHeader => "log_header",
            Self::Torn => "torn",
            Self::RecordLength => "record_length",
            Self::RecordChecksum => "record_checksum",
            Self::RecordKind => "record_kind",
            Self::Stray => "stray",
            Self::Missing => "missing",
            Self::Short => "short",
            Self::EntryHeader => "entry_header",
            Self::Data => "data",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogHeader => "no header of this format",
            Self::Torn => "a record is cut off",
            Self::RecordLength => "a record is longer than any can be",
            Self::RecordChecksum => "a record's checksum is wrong",
            Self::RecordKind => "a record is of no known kind",
            Self::Stray => "no record names the file",
            Self::Missing => "the file is missing",
            Self::Short => "the file ends before",
            Self::EntryHeader => "an entry's header is wrong",
            Self::Data => "a block's checksum is wrong",
            Self::Unreadable(error) => return write!(f, "it cannot be read: {error}"),
        })
    }
}

impl Fate {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Removed => "removed",
            Self::Dropped => "dropped",
            Self::Served => "served",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "cut off at the next start",
            Self::Removed => "removed soon after the next start",
            Self::Dropped => "dropped when it is first read",
            Self::Served => "given to readers until it is scrubbed or the machine is started anew",
        })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Records => f.write_str("what the log says from there on"),
            Self::Object => f.write_str("the object"),
            Self::Page => f.write_str("the page"),
            Self::Extent(extent) => write!(f, "extent {extent}"),
            Self::Content => f.write_str("all of the content"),
            Self::Pack(1) => f.write_str("1 object"),
            Self::Pack(objects) => write!(f, "{objects} objects"),
        }
    }
}
