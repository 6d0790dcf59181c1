//! Messages between processes. `wire` frames and carries them; their fields are agreed on here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteRange, Content, ContentId, Fault, Found, ListedEntry, NsPath, ObjectEvent, Principal, Refreshed, Snapshot,
    SourceChange, SourceInfo, SourceSpec,
};

/// What is asked of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub principal: Principal,
    /// Time left to answer, in milliseconds; the node gives up after it.
    pub deadline_ms: u32,
    /// What is asked.
    pub body: Body,
}

/// The kinds of request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// What a path stands for.
    Lookup {
        /// The path.
        path: NsPath,
    },
    /// Names of a directory, in the order of keys: a directory stands where its name with a `/` does.
    List {
        /// The directory.
        path: NsPath,
        /// Only names after this one; empty for all.
        after: String,
        /// At most this many names; the node may send fewer.
        limit: u32,
    },
    /// Bytes of a content; the reply's payload holds exactly the range, cut at the content's end.
    Read {
        /// The content, as a lookup gave it.
        content: Content,
        /// The bytes wanted, at most 8 MiB.
        range: ByteRange,
    },
    /// What the node is doing, as JSON for people and programs.
    Status,
    /// Begin to record what the node is asked to read.
    TraceStart {
        /// The file that the node makes and writes: an absolute path of its machine, where nothing is yet.
        file: String,
        /// The most bytes that the file may take; the trace ends by itself there.
        limit: u64,
    },
    /// End the trace.
    TraceStop {
        /// The file that it must be written to, if that is to be checked.
        file: Option<String>,
    },
    /// The sources, by path.
    Sources,
    /// Show an origin at a path where no source is.
    SourceAdd(SourceSpec),
    /// Change the rules of a source.
    SourceSet {
        /// Its path.
        path: NsPath,
        /// What changes.
        change: SourceChange,
    },
    /// Show the origin of a source no more, and let go of what is kept of it.
    SourceRemove {
        /// Its path.
        path: NsPath,
    },
    /// Begin to write down the versions of a source, or look how far that is.
    Snapshot {
        /// The path of the source.
        path: NsPath,
        /// The name of the snapshot.
        name: String,
        /// The address of the file. None: a place in the source's origin.
        to: Option<String>,
    },
    /// How far a snapshot is that was begun.
    SnapshotState {
        /// Its name.
        name: String,
    },
    /// Forget what is known of a path.
    Refresh {
        /// The path.
        path: NsPath,
        /// With all below it; else, of a directory, with the names in it.
        recursive: bool,
    },
    /// Forget what is outdated by what happened at a source's origin.
    Events {
        /// The source's path.
        source: NsPath,
        /// What happened.
        events: Vec<ObjectEvent>,
    },
}

/// A node's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The answer, or why there is none.
    pub result: Result<ReplyBody, Fault>,
}

/// The kinds of answer, one for each kind of request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplyBody {
    /// To `Lookup`.
    Found(Found),
    /// To `List`.
    Listed(ListedPage),
    /// To `Read`: the bytes are the payload.
    Bytes {
        /// The content that they belong to.
        content: ContentId,
    },
    /// To `Status`: a JSON document, described in `docs/admin.md`.
    Status(String),
    /// To `TraceStart` and `TraceStop`.
    Trace(Trace),
    /// To `Sources`, `SourceAdd`, `SourceSet` and `SourceRemove`: the sources that were asked about.
    Sources(Vec<SourceInfo>),
    /// To `Snapshot` and `SnapshotState`.
    Snapshot(Snapshot),
    /// To `Refresh` and `Events`.
    Refreshed(Refreshed),
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPage {
    /// Names in the order of keys: a directory stands where its name with a `/` does.
    pub entries: Vec<ListedEntry>,
    /// Whether names follow after the last one.
    pub more: bool,
    /// Keys below the directory that no name can stand for (`//`, `.`, over 255 bytes).
    pub hidden: u64,
    /// For how long its holder may use it without asking again.
    pub fresh_for: Duration,
}

/// A trace: what a node is asked to read, recorded in a file (`docs/trace.md`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The file, on the node's machine.
    pub file: String,
    /// Reads that the file holds.
    pub reads: u64,
    /// Reads that could not be recorded.
    pub dropped: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether more will come.
    pub state: TraceState,
}

/// Whether a trace goes on, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceState {
    /// It goes on.
    Running,
    /// It was ended by a request, or with the process.
    Stopped,
    /// It ended by itself: the file is as long as it may be.
    Full,
    /// It ended by itself: the file cannot be written, for the reason given.
    Failed(String),
}

impl TraceState {
    /// Its name in documents.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Full => "full",
            Self::Failed(_) => "failed",
        }
    }
}
