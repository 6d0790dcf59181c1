//! Which pages one request to the origin fetches: runs of neighbours, up to a limit and cut at its multiples. Stores keep large
//! objects in pieces (parts of an upload, chunks) of some MiB, and a range that lies in two costs them both.

use forebay_model::{PAGE, PageIndex};

/// Cuts pages, in ascending order, into runs of neighbours that cross no multiple of `max`.
pub(crate) fn runs<T>(
    pages: impl IntoIterator<Item = T>,
    page_of: impl Fn(&T) -> PageIndex,
    max: usize,
) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(run)
                if !(page_of(&page).0 as usize).is_multiple_of(max)
                    && run.last().is_some_and(|last| page_of(last).next() == page_of(&page)) =>
            {
                run.push(page);
            }
            _ => runs.push(vec![page]),
        }
    }
    runs
}

/// Where to end fetching ahead from `start` if that should reach `until`: in whole requests, so that a reader that moves by a
/// page does not fetch page by page; the end of the content counts as whole. The first are small, for a stream that has
/// just begun would wait long for a large one.
pub(crate) fn whole_requests(start: u64, until: u64, size: u64, request_max: u64) -> u64 {
    if until == size {
        return until;
    }
    let half = until.saturating_sub(start) / 2;
    let request = half.checked_ilog2().map_or(1, |bits| 1 << bits).clamp(PAGE, request_max.max(PAGE));
    until - until % request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pages: &[u32], max: usize, expected: &[&[u32]]) {
        let cut = runs(pages.iter().copied(), |p| PageIndex(*p), max);
        assert_eq!(cut, expected);
    }

    #[test]
    fn neighbours_go_together_up_to_a_multiple_of_the_limit() {
        check(&[], 4, &[]);
        check(&[3], 4, &[&[3]]);
        check(&[0, 1, 2, 3, 4, 5], 4, &[&[0, 1, 2, 3], &[4, 5]]);
        check(&[0, 2, 3, 7], 4, &[&[0], &[2, 3], &[7]]);
        check(&[1, 2, 3, 4, 5, 6, 7, 8], 4, &[&[1, 2, 3], &[4, 5, 6, 7], &[8]]);
    }

    #[test]
    fn requests_ahead_are_whole_and_grow_with_the_stream() {
        const MAX: u64 = 16 * PAGE;
        let ahead = |start, until| whole_requests(start * PAGE, until * PAGE, 1_000 * PAGE, MAX) / PAGE;
        assert_eq!(ahead(1, 2), 2);
        assert_eq!(ahead(1, 3), 3);
        assert_eq!(ahead(3, 9), 8);
        assert_eq!(ahead(8, 24), 24);
        assert_eq!(ahead(10, 47), 32);
        assert_eq!(ahead(100, 164), 160);
        assert_eq!(whole_requests(5, 11, 11, MAX), 11, "the end counts as whole");
        assert_eq!(whole_requests(7, 7, 11, MAX), 0, "nothing");
    }
}
