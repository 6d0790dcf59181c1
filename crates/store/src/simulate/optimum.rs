//! What an offline optimum reaches: Belady's MIN with the right to keep nothing, over single pages and small objects.
//!
//! If all pieces are of one size this is exact: no policy hits more pieces, whatever it evicts by. If sizes differ it is
//! the same rule (what is needed farthest in the future goes, until the rest fits), which is a good schedule and no bound.

use std::collections::{BTreeSet, HashMap};

use super::{Access, Outcome, Piece, next_uses, pieces_of};

/// What farthest next use reaches on `accesses` in a cache of `quota` bytes that starts empty.
pub fn optimum(accesses: &[Access], quota: u64) -> Outcome {
    // For each piece of each access in order: when it is used next.
    let all: Vec<(Piece, u64)> = accesses.iter().flat_map(pieces_of).collect();
    let pieces: Vec<Piece> = all.iter().map(|(piece, _)| *piece).collect();
    let next = next_uses(&pieces);
    // What is kept, by its next use: (next use, place in `all`); no two have the same pair.
    let mut kept: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut used = 0;
    let (mut outcome, mut at) = (Outcome::default(), 0);
    let mut last: HashMap<Piece, usize> = HashMap::new();
    for access in accesses {
        let mut pieces = Vec::new();
        for (piece, len) in pieces_of(access) {
            let here = last.insert(piece, at).is_some_and(|before| kept.remove(&(at as u64, before)));
            if !here {
                used += len;
                outcome.filled_bytes += len;
            }
            kept.insert((next[at], at));
            while used > quota {
                let Some((_, farthest)) = kept.pop_last() else { break };
                used -= all[farthest].1;
                if farthest == at {
                    // It was never written.
                    outcome.filled_bytes -= if here { 0 } else { len };
                }
            }
            pieces.push((len, here));
            at += 1;
        }
        outcome.add(&pieces);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use forebay_model::ContentId;
    use proptest::prelude::*;

    use super::*;

    fn reads(ids: &[u8]) -> Vec<Access> {
        let read = |id: &u8| Access { id: ContentId::from_u128((*id).into()), size: 1, group: 0, offset: 0, len: 1 };
        ids.iter().map(read).collect()
    }

    /// The most hits of all ways to keep `room` pieces, tried one by one.
    fn most(ids: &[u8], kept: &[u8], room: usize) -> u64 {
        let Some((id, rest)) = ids.split_first() else { return 0 };
        if kept.contains(id) {
            return 1 + most(rest, kept, room);
        }
        let mut best = most(rest, kept, room);
        if kept.len() < room {
            let mut more = kept.to_vec();
            more.push(*id);
            best = best.max(most(rest, &more, room));
        }
        for at in 0..kept.len() {
            let mut other = kept.to_vec();
            other[at] = *id;
            best = best.max(most(rest, &other, room));
        }
        best
    }

    proptest! {
        #[test]
        fn no_choice_of_what_to_keep_does_better(ids in proptest::collection::vec(0u8..5, 0..9), room in 1usize..4) {
            prop_assert_eq!(optimum(&reads(&ids), room as u64).hits, most(&ids, &[], room));
        }
    }
}
