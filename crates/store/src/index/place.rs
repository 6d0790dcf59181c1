//! Where a small object lies, and what is known of it, in 12 bytes.

use crate::pack::Pack;

/// Where a small object lies: 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SmallPlace {
    /// The pack's slot.
    pub(crate) pack: u32,
    /// Where its entry starts.
    pub(crate) offset: u32,
    /// From the lowest bit: length 21, heat 8, claimed 1, recorded 1, verified 1.
    len_and_more: u32,
}

impl SmallPlace {
    /// No place at all.
    pub(super) const NOWHERE: Self = Self { pack: u32::MAX, offset: 0, len_and_more: 0 };
    const VERIFIED: u32 = 1 << 31;
    /// The log says that it was verified, which counts if its pack is believed.
    const RECORDED: u32 = 1 << 30;
    const LEN: u32 = (1 << 21) - 1;
    /// It was asked for by a faster directory.
    const CLAIMED: u32 = 1 << 29;
    const HEAT_SHIFT: u32 = 21;
    const HEAT: u32 = 0xff << Self::HEAT_SHIFT;

    pub(crate) fn new(pack: u32, offset: u32, len: u32, verified: bool) -> Self {
        debug_assert!(len <= Self::LEN, "a small object is a page at most");
        Self { pack, offset, len_and_more: len & Self::LEN | if verified { Self::VERIFIED } else { 0 } }
    }

    /// As a log has it: whether `verified` counts is known when all of the log is.
    pub(crate) fn recorded(pack: u32, offset: u32, len: u32, verified: bool) -> Self {
        let mut place = Self::new(pack, offset, len, false);
        place.len_and_more |= if verified { Self::RECORDED } else { 0 };
        place
    }

    pub(crate) fn len(self) -> u32 {
        self.len_and_more & Self::LEN
    }

    pub(crate) fn is_verified(self) -> bool {
        self.len_and_more & Self::VERIFIED != 0
    }

    /// The place with what is known of its pack.
    pub(crate) fn in_pack(mut self, pack: &Pack) -> Self {
        if self.len_and_more & Self::RECORDED != 0 && pack.is_believed() {
            self.len_and_more |= Self::VERIFIED;
        }
        self
    }

    /// Whether it was read since its pack was last judged.
    pub(crate) fn is_hot(self, pack: &Pack) -> bool {
        let heat = (self.len_and_more & Self::HEAT) >> Self::HEAT_SHIFT;
        heat != 0 && heat == u32::from(pack.heat())
    }

    pub(super) fn heat(&mut self, heat: u8) {
        self.len_and_more = self.len_and_more & !Self::HEAT | u32::from(heat) << Self::HEAT_SHIFT;
    }

    pub(super) fn is_at(self, other: Self) -> bool {
        (self.pack, self.offset) == (other.pack, other.offset)
    }

    pub(super) fn set_verified(&mut self) {
        self.len_and_more |= Self::VERIFIED;
    }

    pub(super) fn is_claimed(self) -> bool {
        self.len_and_more & Self::CLAIMED != 0
    }

    /// Whether that changes anything.
    pub(super) fn set_claimed(&mut self, claimed: bool) -> bool {
        let before = self.len_and_more;
        self.len_and_more = before & !Self::CLAIMED | if claimed { Self::CLAIMED } else { 0 };
        self.len_and_more != before
    }
}
