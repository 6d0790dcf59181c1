//! Records of the index log: their types and their bytes. `docs/store-format.md` has the rulers.
//!
//! Always true: a record decodes only if every byte of it, and the log's salt, are those that it was written with.

use crc_fast::{CrcAlgorithm, Digest};
use forebay_model::{BLOCKS_PER_PAGE, ContentId, PAGES_PER_EXTENT};

use crate::options::BootId;

/// Bytes before a record's payload: checksum, length, kind.
pub(crate) const FRAME: usize = 8 + 4 + 1;
/// The longest payload: all pages of an extent with their sums.
const MAX_PAYLOAD: usize = 16 + 4 + 8 + 8 + PAGES_PER_EXTENT as usize * BLOCKS_PER_PAGE * 8;
/// The longest record.
pub(crate) const MAX_RECORD: usize = FRAME + MAX_PAYLOAD;

/// One fact about a directory. The log is their sequence; the later wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Nothing before this was checked in this start of the machine.
    Boot(BootId),
    /// A pack was begun.
    Pack { pack: u32, group: u64 },
    /// A small object lies in a pack.
    Small { id: ContentId, pack: u32, offset: u32, len: u32, verified: bool },
    /// A small object is not to be found any more.
    SmallGone { id: ContentId },
    /// A pack and all in it are gone.
    PackGone { pack: u32 },
    /// A large content's file was made.
    Large { id: ContentId, size: u64, group: u64, generation: u64 },
    /// Pages of one extent lie in the content's file. `sums` are those of the resident pages' blocks, in order.
    Pages { id: ContentId, extent: u32, resident: u64, verified: u64, sums: Vec<u64> },
    /// An extent's pages are gone; the file has a new generation.
    ExtentGone { id: ContentId, extent: u32, generation: u64 },
    /// A large content and its file are gone.
    LargeGone { id: ContentId },
    /// The store was closed in order.
    Closed,
}

/// What stands at a place of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A record and its length in bytes.
    Record(Record, usize),
    /// The start of what may be a record.
    Short,
    /// No record.
    Bad(Flaw),
}

/// Why what stands at a place of the log is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It would be longer than any.
    Length,
    /// Its bytes, or the log's salt, are not those that it was written with.
    Checksum,
    /// Its kind is unknown, or has another length.
    Kind,
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Boot(_) => 1,
            Self::Pack { .. } => 2,
            Self::Small { .. } => 3,
            Self::SmallGone { .. } => 4,
            Self::PackGone { .. } => 5,
            Self::Large { .. } => 6,
            Self::Pages { .. } => 7,
            Self::ExtentGone { .. } => 8,
            Self::LargeGone { .. } => 9,
            Self::Closed => 10,
        }
    }

    /// Appends the record's bytes to `out`.
    pub(crate) fn encode(&self, salt: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME]);
        match self {
            Self::Boot(boot) => out.extend_from_slice(&boot.0),
            Self::Pack { pack, group } => {
                out.extend_from_slice(&pack.to_le_bytes());
                out.extend_from_slice(&group.to_le_bytes());
            }
            Self::Small { id, pack, offset, len, verified } => {
                put_id(out, *id);
                out.extend_from_slice(&pack.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                out.push(u8::from(*verified));
            }
            Self::SmallGone { id } | Self::LargeGone { id } => put_id(out, *id),
            Self::PackGone { pack } => out.extend_from_slice(&pack.to_le_bytes()),
            Self::Large { id, size, group, generation } => {
                put_id(out, *id);
                for field in [size, group, generation] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
            }
            Self::Pages { id, extent, resident, verified, sums } => {
                put_id(out, *id);
                out.extend_from_slice(&extent.to_le_bytes());
                out.extend_from_slice(&resident.to_le_bytes());
                out.extend_from_slice(&verified.to_le_bytes());
                for sum in sums {
                    out.extend_from_slice(&sum.to_le_bytes());
                }
            }
            Self::ExtentGone { id, extent, generation } => {
                put_id(out, *id);
                out.extend_from_slice(&extent.to_le_bytes());
                out.extend_from_slice(&generation.to_le_bytes());
            }
            Self::Closed => {}
        }
        let payload = out.len() - start - FRAME;
        debug_assert!(payload <= MAX_PAYLOAD, "no record is longer");
        out[start + 8..start + 12].copy_from_slice(&(payload as u32).to_le_bytes());
        out[start + 12] = self.kind();
        let sum = checksum(salt, &out[start + 8..]);
        out[start..start + 8].copy_from_slice(&sum.to_le_bytes());
    }

    /// What stands at the start of `bytes`.
    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Decoded {
        let Some((frame, _)) = bytes.split_first_chunk::<FRAME>() else { return Decoded::Short };
        let mut fields = Fields(&frame[..]);
        let (Some(sum), Some(payload), Some(kind)) = (fields.u64(), fields.u32(), fields.u8()) else {
            return Decoded::Short;
        };
        let payload = payload as usize;
        if payload > MAX_PAYLOAD {
            return Decoded::Bad(Flaw::Length);
        }
        let Some(body) = bytes.get(8..FRAME + payload) else { return Decoded::Short };
        if checksum(salt, body) != sum {
            return Decoded::Bad(Flaw::Checksum);
        }
        match Self::parse(kind, Fields(&body[FRAME - 8..])) {
            Some(record) => Decoded::Record(record, FRAME + payload),
            None => Decoded::Bad(Flaw::Kind),
        }
    }

    fn parse(kind: u8, mut fields: Fields<'_>) -> Option<Self> {
        let record = match kind {
            1 => Self::Boot(BootId(fields.take()?)),
            2 => Self::Pack { pack: fields.u32()?, group: fields.u64()? },
            3 => Self::Small {
                id: fields.id()?,
                pack: fields.u32()?,
                offset: fields.u32()?,
                len: fields.u32()?,
                verified: fields.u8()? == 1,
            },
            4 => Self::SmallGone { id: fields.id()? },
            5 => Self::PackGone { pack: fields.u32()? },
            6 => Self::Large { id: fields.id()?, size: fields.u64()?, group: fields.u64()?, generation: fields.u64()? },
            7 => Self::Pages {
                id: fields.id()?,
                extent: fields.u32()?,
                resident: fields.u64()?,
                verified: fields.u64()?,
                sums: std::iter::from_fn(|| fields.u64()).collect(),
            },
            8 => Self::ExtentGone { id: fields.id()?, extent: fields.u32()?, generation: fields.u64()? },
            9 => Self::LargeGone { id: fields.id()? },
            10 => Self::Closed,
            _ => return None,
        };
        fields.0.is_empty().then_some(record)
    }
}

/// CRC-64/NVME over the salt and `bytes`. The salt keeps a record of an older log, left in a reused disk block, from
/// decoding in this one.
pub(crate) fn checksum(salt: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(&salt.to_le_bytes());
    digest.update(bytes);
    digest.finalize()
}

fn put_id(out: &mut Vec<u8>, id: ContentId) {
    out.extend_from_slice(&id.as_u128().to_le_bytes());
}

/// Fields of a fixed length, in order; none once the bytes end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<ContentId> {
        self.take().map(|bytes| ContentId::from_u128(u128::from_le_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let id = ContentId::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        vec![
            Record::Boot(BootId([7; 16])),
            Record::Pack { pack: 3, group: 9 },
            Record::Small { id, pack: 3, offset: 40, len: 1 << 20, verified: true },
            Record::SmallGone { id },
            Record::PackGone { pack: 3 },
            Record::Large { id, size: u64::MAX, group: 1, generation: 2 },
            Record::Pages { id, extent: 1, resident: 0b101, verified: 1, sums: (0..32).collect() },
            Record::ExtentGone { id, extent: 1, generation: 3 },
            Record::LargeGone { id },
            Record::Closed,
        ]
    }

    #[test]
    fn records_come_back_and_only_whole() {
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(5, &mut bytes);
            assert_eq!(Record::decode(&bytes, 5), Decoded::Record(record.clone(), bytes.len()));
            assert_eq!(Record::decode(&bytes, 6), Decoded::Bad(Flaw::Checksum), "another log's record");
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..cut], 5), Decoded::Short, "{record:?} cut at {cut}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches!(Record::decode(&flipped, 5), Decoded::Record(..)), "{record:?} bit {bit}");
            }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(Record::decode(&[0; 64], 0), Decoded::Bad(Flaw::Checksum));
    }
}
