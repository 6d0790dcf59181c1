//! Which pages one request to the origin fetches: runs of neighbours, up to a limit and cut at its multiples. Stores keep large
//! objects in pieces (parts of an upload, chunks) of some MiB, and a range that lies in two costs them both.

use forebay_model::PageIndex;

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
}
