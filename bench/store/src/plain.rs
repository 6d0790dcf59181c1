//! A plain file as one side: the same bytes at the same offsets, read with `pread`.

use std::fs::File;
use std::io::{BufWriter, Result, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::data::Data;
use crate::side::{Reads, wrong};

/// A name for messages.
const NAME: &str = "plain file";

/// One file that holds all objects, one after the other.
pub(crate) struct Plain {
    file: File,
    data: Data,
}

impl Plain {
    /// Writes the first `count` objects, all of one length, to `path`.
    pub(crate) fn write(path: &Path, data: &Data, count: u64) -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        (0..count).try_for_each(|n| file.write_all(&data.bytes(n)))?;
        file.flush()
    }

    pub(crate) fn open(path: &Path, data: &Data) -> Result<Self> {
        Ok(Self { file: File::open(path)?, data: data.clone() })
    }
}

impl Reads for Plain {
    fn get(&self, n: u64, buffer: &mut [u8]) -> Result<()> {
        let len = self.data.len(n);
        self.file.read_exact_at(&mut buffer[..len as usize], n * len)
    }

    fn prove(&self, n: u64, buffer: &mut [u8]) -> Result<()> {
        self.get(n, buffer)?;
        let right = self.data.bytes(n);
        if buffer[..right.len()] == right[..] { Ok(()) } else { Err(wrong(NAME, n)) }
    }
}
