//! An index: the lines of a manifest in the order of their keys, in one file.
//!
//! ```text
//! block 0 | block 1 | ... | tail, 16 KiB: "FBAYMFST" format u32 length u32 checksum u64, JSON of the facts
//! ```
//! Always true: what is read was proved by its checksum, so that damage is an error and never an absent name; memory is the first
//! keys of some blocks, however many lines there are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use forebay_model::block_sum;
use serde::{Deserialize, Serialize};

use crate::block::{BLOCK, Unpacker};
use crate::error::ManifestError;
use crate::line::Line;
use crate::snapshot::SnapshotHeader;

const MAGIC: &[u8; 8] = b"FBAYMFST";
/// Another one makes all indexes anew.
const FORMAT: u32 = 1;
const TAIL_HEADER: usize = 8 + 4 + 4 + 8;
/// First keys that are kept in memory, at most: some 400 KiB. A block is found between two of them by halving.
const FENCES_MAX: u64 = 4_096;

/// What is known of an index as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFacts {
    /// The version of the manifest that it was made of.
    pub version: String,
    /// Objects in it.
    pub objects: u64,
    /// Bytes of those whose size is known.
    pub bytes: u64,
    /// Lines without size or proof of version: their objects are asked for by themselves.
    pub open: u64,
    /// Lines of other prefixes or buckets.
    pub elsewhere: u64,
    /// Lines of older versions and of deleted objects.
    pub superseded: u64,
    /// What it says of itself, if it is a snapshot.
    pub snapshot: Option<SnapshotHeader>,
}

/// The lines of a manifest, by key.
#[derive(Debug)]
pub struct Index {
    file: File,
    blocks: u64,
    facts: IndexFacts,
    /// The first key of every so many blocks.
    fences: Vec<Box<str>>,
    step: u64,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An object.
    Object(Line),
    /// Keys go on behind this one, which ends in `/`.
    Prefix(String),
}

impl Index {
    /// Opens the index in `path`. None: there is none, or none that can be used.
    ///
    /// # Errors
    /// `Disk` if it cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, ManifestError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ManifestError::read(&error)),
        };
        match Self::read(file) {
            Ok(index) => Ok(Some(index)),
            Err(ManifestError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index in `file`.
    pub(crate) fn read(file: File) -> Result<Self, ManifestError> {
        let length = file.metadata().map_err(|error| ManifestError::read(&error))?.len();
        if length == 0 || !length.is_multiple_of(BLOCK as u64) {
            return Err(damaged());
        }
        let blocks = length / BLOCK as u64 - 1;
        let mut tail = vec![0; BLOCK];
        file.read_exact_at(&mut tail, blocks * BLOCK as u64).map_err(|error| ManifestError::read(&error))?;
        let facts = read_tail(&tail).ok_or_else(damaged)?;
        let mut index = Self { file, blocks, facts, fences: Vec::new(), step: blocks.div_ceil(FENCES_MAX).max(1) };
        for number in (0..blocks).step_by(index.step as usize) {
            let first = index.first_key(number)?;
            index.fences.push(first.into());
        }
        Ok(index)
    }

    /// A run: an index without a tail, that is only walked through.
    pub(crate) fn of_run(file: File) -> Result<Self, ManifestError> {
        let blocks = file.metadata().map_err(|error| ManifestError::read(&error))?.len() / BLOCK as u64;
        Ok(Self { file, blocks, facts: IndexFacts::default(), fences: Vec::new(), step: 1 })
    }

    /// What is known of it as a whole.
    pub fn facts(&self) -> &IndexFacts {
        &self.facts
    }

    /// What it says of `key`.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Line>, ManifestError> {
        let mut walk = self.walk_from(key)?;
        if walk.next()? && walk.key() == key { walk.line().map(Some) } else { Ok(None) }
    }

    /// Whether any key starts with `prefix`.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn has_prefix(&self, prefix: &str) -> Result<bool, ManifestError> {
        let mut walk = self.walk_from(prefix)?;
        Ok(walk.next()? && walk.key().starts_with(prefix))
    }

    /// At most `limit` names of one level below `prefix` (empty, or ending in `/`) that stand after the key or prefix `after`
    /// (empty: from the first), in the order of keys. Fewer: there are no more. The key `prefix` itself is left out.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn level(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Place>, ManifestError> {
        let mut places = Vec::new();
        let begin = match after {
            "" => prefix.to_owned(),
            _ if after.ends_with('/') && after != prefix => past(after),
            _ => format!("{after}\0"),
        };
        let mut walk = self.walk_from(&begin)?;
        while places.len() < limit && walk.next()? {
            let Some(rest) = walk.key().strip_prefix(prefix) else { break };
            match rest.find('/') {
                _ if rest.is_empty() => {}
                Some(slash) => {
                    let directory = walk.key()[..=prefix.len() + slash].to_owned();
                    let next = past(&directory);
                    places.push(Place::Prefix(directory));
                    if !walk.skip_to(&next)? {
                        walk = self.walk_from(&next)?;
                    }
                }
                None => places.push(Place::Object(walk.line()?)),
            }
        }
        Ok(places)
    }

    /// All lines, in the order of their keys.
    pub fn walk(&self) -> Walk<'_> {
        Walk { index: self, next_block: 0, block: Unpacker::empty(), state: State::Before }
    }

    /// The lines from `key` on.
    fn walk_from(&self, key: &str) -> Result<Walk<'_>, ManifestError> {
        let fence = self.fences.partition_point(|first| **first <= *key).saturating_sub(1) as u64;
        let (mut low, mut high) = (fence * self.step, self.blocks.min((fence + 1) * self.step));
        // The last block that begins at or before the key.
        while low + 1 < high {
            let middle = low.midpoint(high);
            if *self.first_key(middle)? <= *key { low = middle } else { high = middle }
        }
        let mut walk = Walk { index: self, next_block: low, block: Unpacker::empty(), state: State::Before };
        walk.find(key)?;
        Ok(walk)
    }

    fn first_key(&self, number: u64) -> Result<String, ManifestError> {
        let mut block = self.block(number)?;
        match block.next_key() {
            Some(true) => Ok(block.key().to_owned()),
            _ => Err(damaged()),
        }
    }

    fn block(&self, number: u64) -> Result<Unpacker, ManifestError> {
        let mut bytes = vec![0; BLOCK];
        let read = self.file.read_exact_at(&mut bytes, number * BLOCK as u64);
        read.map_err(|error| ManifestError::read(&error))?;
        Unpacker::new(number, bytes).ok_or_else(damaged)
    }
}

/// Lines of an index, one after the other.
#[derive(Debug)]
pub struct Walk<'a> {
    index: &'a Index,
    next_block: u64,
    block: Unpacker,
    state: State,
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a line whose key was not read.
    Before,
    /// At a line that `next` is to give.
    Found,
    /// At a line that was given.
    At,
    /// Behind one whose facts were taken.
    Behind,
}

impl Walk<'_> {
    /// Goes to the next line. False: there is none.
    pub(crate) fn next(&mut self) -> Result<bool, ManifestError> {
        match self.state {
            State::Found => {
                self.state = State::At;
                return Ok(true);
            }
            State::At => self.block.skip().ok_or_else(damaged)?,
            State::Before | State::Behind => {}
        }
        loop {
            if self.block.next_key().ok_or_else(damaged)? {
                self.state = State::At;
                return Ok(true);
            }
            self.state = State::Before;
            if self.next_block >= self.index.blocks {
                return Ok(false);
            }
            self.block = self.index.block(self.next_block)?;
            self.next_block += 1;
        }
    }

    /// The key of the line that it is at.
    pub(crate) fn key(&self) -> &str {
        self.block.key()
    }

    /// The line that it is at, once.
    pub(crate) fn line(&mut self) -> Result<Line, ManifestError> {
        self.state = State::Behind;
        self.block.facts().ok_or_else(damaged)
    }

    /// The next line. None after the last.
    ///
    /// # Errors
    /// The index is damaged, or cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line>, ManifestError> {
        if self.next()? { self.line().map(Some) } else { Ok(None) }
    }

    /// Goes to before the first line at or after `key`.
    fn find(&mut self, key: &str) -> Result<(), ManifestError> {
        while self.next()? {
            if self.key() >= key {
                self.state = State::Found;
                break;
            }
        }
        Ok(())
    }

    /// The same within the block that it is in. False: it is not there.
    fn skip_to(&mut self, key: &str) -> Result<bool, ManifestError> {
        loop {
            if self.state == State::At {
                self.block.skip().ok_or_else(damaged)?;
            }
            self.state = State::Before;
            if !self.block.next_key().ok_or_else(damaged)? {
                return Ok(false);
            }
            if self.key() >= key {
                self.state = State::Found;
                return Ok(true);
            }
            self.state = State::At;
        }
    }
}

/// The first text behind all keys of a directory: `0` comes after `/`.
fn past(directory: &str) -> String {
    format!("{}0", &directory[..directory.len() - 1])
}

/// The last block of an index.
pub(crate) fn tail(facts: &IndexFacts) -> Result<Vec<u8>, ManifestError> {
    let text = serde_json::to_vec(facts).map_err(|error| ManifestError::Disk(error.to_string()))?;
    if TAIL_HEADER + text.len() > BLOCK {
        return Err(ManifestError::Wrong("the manifest's version or what it says of itself is too long".to_owned()));
    }
    let mut tail = Vec::with_capacity(BLOCK);
    tail.extend_from_slice(MAGIC);
    tail.extend_from_slice(&FORMAT.to_le_bytes());
    tail.extend_from_slice(&(text.len() as u32).to_le_bytes());
    tail.extend_from_slice(&block_sum(&text).0.to_le_bytes());
    tail.extend_from_slice(&text);
    tail.resize(BLOCK, 0);
    Ok(tail)
}

fn read_tail(tail: &[u8]) -> Option<IndexFacts> {
    let rest = tail.strip_prefix(MAGIC)?;
    let rest = rest.strip_prefix(&FORMAT.to_le_bytes())?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let text = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (block_sum(text).0 == u64::from_le_bytes(*sum)).then(|| serde_json::from_slice(text).ok())?
}

fn damaged() -> ManifestError {
    ManifestError::Damaged("the index of the manifest in the state directory is damaged: it is made anew".to_owned())
}
