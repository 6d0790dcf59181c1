//! Names of a directory's small files, as the catalog has them.

use std::time::{Duration, Instant};

use forebay_catalog::Paged;
use forebay_model::{Entry, ListedPage, SMALL_MAX};

use super::fetcher::Fetcher;
use crate::source::Source;
use crate::walks::Names;

impl Fetcher {
    /// The first `most` names of a directory, a prefix of keys, that come after `after`; blocks on the catalog's disk. None: the
    /// catalog does not have them, or not for long.
    pub(super) fn names_after(&self, source: &Source, prefix: &str, after: &str, most: u32) -> Option<Names> {
        let facts = &source.facts;
        let path = match prefix.strip_suffix('/') {
            Some(directory) if prefix.len() > facts.prefix.len() => facts.path_of(directory)?,
            _ => facts.path.clone(),
        };
        let now = Instant::now();
        let page: ListedPage = match self.catalog.names(facts, &path, now)?.page(after, most) {
            // What is not to be held is not to be fetched by.
            Paged::Page(page) => Some(page).filter(|page| page.fresh_for > Duration::ZERO)?,
            Paged::NotYet | Paged::Gone => return None,
        };
        Some(Names {
            until: now.checked_add(page.fresh_for),
            more: page.more,
            is_from_start: after.is_empty(),
            last: page.entries.last().map_or_else(|| after.into(), |last| last.name.as_ref().into()),
            files: page
                .entries
                .into_iter()
                .filter_map(|listed| match listed.entry {
                    Entry::File(file) => Some(file).filter(|file| (1..=SMALL_MAX).contains(&file.content.size)),
                    Entry::Directory(_) => None,
                })
                .collect(),
        })
    }
}
