//! Checksums of 64 KiB blocks: CRC-64/NVME, the unit in which bytes are proved between disk, node and wire.
//!
//! Detects every burst of up to 64 bits; a random corruption passes with probability 2^-64.

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::geometry::BLOCK;

/// CRC-64/NVME of one block (64 KiB; the last block of a content is short).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockSum(pub u64);

/// The checksum of one block. `block` is at most 64 KiB.
pub fn block_sum(block: &[u8]) -> BlockSum {
    debug_assert!(block.len() as u64 <= BLOCK, "a block holds at most {BLOCK} bytes");
    BlockSum(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, block))
}

/// The checksums of `bytes`, which start at a block's boundary; the last block may be short.
pub fn block_sums(bytes: &[u8]) -> Vec<BlockSum> {
    bytes.chunks(BLOCK as usize).map(block_sum).collect()
}

/// Makes block checksums of bytes that arrive in chunks of any length, without putting the chunks together.
#[derive(Debug)]
pub struct BlockSummer {
    digest: Digest,
    in_block: u64,
    sums: Vec<BlockSum>,
}

impl Default for BlockSummer {
    fn default() -> Self {
        Self { digest: Digest::new(CrcAlgorithm::Crc64Nvme), in_block: 0, sums: Vec::new() }
    }
}

impl BlockSummer {
    /// Takes the next bytes, in order.
    pub fn update(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let room = (BLOCK - self.in_block) as usize;
            let (now, later) = chunk.split_at(room.min(chunk.len()));
            self.digest.update(now);
            self.in_block += now.len() as u64;
            if self.in_block == BLOCK {
                self.close_block();
            }
            chunk = later;
        }
    }

    /// The sums of all bytes taken, the last block possibly short.
    pub fn finish(mut self) -> Vec<BlockSum> {
        if self.in_block > 0 {
            self.close_block();
        }
        self.sums
    }

    fn close_block(&mut self) {
        self.sums.push(BlockSum(self.digest.finalize()));
        self.digest.reset();
        self.in_block = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_the_published_check_value() {
        // CRC-64/NVME catalogue check value of "123456789".
        assert_eq!(block_sum(b"123456789"), BlockSum(0xae8b_1486_0a79_9888));
    }

    proptest! {
        #[test]
        fn chunks_of_any_length_give_the_sums_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..200_000),
            cuts in proptest::collection::vec(1usize..70_000, 1..20),
        ) {
            let mut summer = BlockSummer::default();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                summer.update(now);
                rest = later;
            }
            prop_assert_eq!(summer.finish(), block_sums(&bytes));
        }
    }
}
