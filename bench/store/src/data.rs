//! The data sets: what the n-th object is, under which id, and its bytes.
//!
//! Always true: the same number has the same bytes on every side and in every process, so that each side is proved against them.

use bytes::Bytes;
use forebay_model::{ByteRange, ContentId, EXTENT, PAGE, PageIndex};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Bytes from which all objects are cut. More than the caches of a processor hold, so that making an object costs memory reads,
/// as it does for bytes that came from an origin.
const POOL: usize = 64 << 20;
/// Objects begin at multiples of this in the pool: prime, so that neighbours differ.
const STRIDE: u64 = 65_537;
/// Size of the objects of [`Shape::Objects`].
const OBJECT: u64 = 112 << 10;
/// Sizes of the objects of [`Shape::Tiny`].
const TINY: std::ops::RangeInclusive<u64> = 100..=500;

/// What the objects of a data set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Whole objects of 112 KiB, as images of a data set.
    Objects,
    /// Pages of 1 MiB of contents of 64 MiB.
    Pages,
    /// Whole objects of 100 to 500 bytes.
    Tiny,
}

/// Makes the objects of one data set.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    shape: Shape,
    pool: Bytes,
}

/// Where an object lies in the store's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: ContentId,
    pub(crate) size: u64,
    pub(crate) page: PageIndex,
    pub(crate) range: ByteRange,
}

impl Data {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut pool = vec![0; POOL];
        SmallRng::seed_from_u64(1).fill(&mut pool[..]);
        Self { shape, pool: pool.into() }
    }

    /// Bytes of the n-th object.
    pub(crate) fn len(&self, n: u64) -> u64 {
        match self.shape {
            Shape::Objects => OBJECT,
            Shape::Pages => PAGE,
            Shape::Tiny => TINY.start() + spread(n) as u64 % (TINY.end() - TINY.start() + 1),
        }
    }

    /// How many objects of equal length make up so many bytes.
    pub(crate) fn count_of(&self, bytes: u64) -> u64 {
        bytes / self.len(0)
    }

    /// The longest object.
    pub(crate) fn len_max(&self) -> usize {
        match self.shape {
            Shape::Objects => OBJECT as usize,
            Shape::Pages => PAGE as usize,
            Shape::Tiny => *TINY.end() as usize,
        }
    }

    /// The n-th object's bytes.
    pub(crate) fn bytes(&self, n: u64) -> Bytes {
        let len = self.len(n) as usize;
        let from = (n.wrapping_mul(STRIDE) % (POOL - len) as u64) as usize;
        self.pool.slice(from..from + len)
    }

    /// The n-th object as the store knows it.
    pub(crate) fn place(&self, n: u64) -> Place {
        let per_content = EXTENT / PAGE;
        match self.shape {
            Shape::Pages => {
                let page = PageIndex((n % per_content) as u32);
                let id = ContentId::from_u128(spread(n / per_content));
                Place { id, size: EXTENT, page, range: ByteRange::at(page.start(), PAGE, EXTENT) }
            }
            Shape::Objects | Shape::Tiny => {
                let size = self.len(n);
                let id = ContentId::from_u128(spread(n));
                Place { id, size, page: PageIndex(0), range: ByteRange::new(0, size) }
            }
        }
    }

    /// The n-th object's key for those who know keys only.
    pub(crate) fn key(&self, n: u64) -> u128 {
        spread(n)
    }
}

/// Numbers spread as ids of the catalog are.
fn spread(n: u64) -> u128 {
    u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}
