//! Pages of a listing from any point on, in the order of the keys' bytes: what listing in parallel stands on.
//!
//! OpenDAL builds, signs and sends the requests and follows the tokens. The pages themselves are read here (`crate::list_xml`,
//! `crate::list_json`), past OpenDAL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use opendal::options;
use opendal::raw::OpList;
use opendal::raw::oio::{self, ListDyn};
use parking_lot::Mutex;

use crate::error::{OriginError, OriginErrorKind};
use crate::explain::Failure;
use crate::list_page::ListPage;
use crate::listing::{BATCH, Listed};
use crate::metrics::Op;
use crate::remote::{Mishap, Remote, Try};
use crate::transport::{PageSlot, into_slot};

/// A page, its entries in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Listed>,
    /// Whether there is nothing behind it.
    pub(crate) is_last: bool,
    /// Whether the server's own order was ascending, objects and prefixes each for itself.
    pub(crate) is_ordered: bool,
    /// Whether it had to be asked for more than once: the server may have too much to do.
    pub(crate) was_asked_again: bool,
}

/// Where pages come from.
pub(crate) trait Pager: Send + Sync + 'static {
    /// The pages of what is after `after`, or of all if that is empty.
    type Pages: Send + 'static;

    fn pages(&self, after: &Arc<str>) -> Self::Pages;

    /// The next page of `pages`. An entry at or before `after` may be on the first.
    fn next(&self, pages: Self::Pages) -> impl Future<Output = Result<(Page, Self::Pages), OriginError>> + Send;
}

/// The pages of one prefix of a store.
pub(crate) struct RemotePager {
    remote: Arc<Remote>,
    prefix: Arc<str>,
}

/// A way through the pages of a store.
pub(crate) struct RemotePages {
    after: Arc<str>,
    /// None before the first page, and where the next page must be asked for by key.
    lister: Option<oio::Lister>,
    /// Prefixes of the page before that wait for the objects before them.
    held: Vec<Listed>,
}

impl RemotePager {
    pub(crate) fn new(remote: Arc<Remote>, prefix: &str) -> Self {
        Self { remote, prefix: prefix.into() }
    }

    /// What is given out of a page: sorted, without the prefix itself. And what is held back for the next page: some servers send
    /// all prefixes with each page, so that those behind its last object say nothing of what lies between.
    fn page(&self, read: ListPage, after: &str, held: Vec<Listed>) -> Result<(Page, Vec<Listed>), Mishap> {
        let ListPage { objects: mut entries, mut prefixes, is_truncated, .. } = read;
        let is_sorted = |entries: &[Listed]| entries.is_sorted_by(|a, b| a.key() < b.key());
        let is_ordered = is_sorted(&entries) && is_sorted(&prefixes);
        if !held.is_empty() {
            prefixes.extend(held);
            prefixes.sort_by(|a, b| a.key().cmp(b.key()));
            prefixes.dedup_by(|a, b| a.key() == b.key());
        }
        // The object that stands for the prefix, or that the page begins at, is not given out: there would be nothing left.
        let given_out = |key: &str| key > after && key != &*self.prefix;
        let held = match entries.iter().rev().map(Listed::key).find(|key| given_out(key)) {
            Some(last) if is_truncated && is_ordered => {
                prefixes.split_off(prefixes.partition_point(|prefix| prefix.key() <= last))
            }
            _ => Vec::new(),
        };
        let is_mixed = !prefixes.is_empty();
        entries.extend(prefixes);
        if is_mixed || !is_ordered {
            // Objects and prefixes come apart, each in order.
            entries.sort_by(|a, b| a.key().cmp(b.key()));
            entries.dedup_by(|a, b| a.key() == b.key());
        }
        if let Some(stranger) = entries.iter().find(|entry| !entry.key().starts_with(&*self.prefix)) {
            let what = format!("the server listed {:?}, which is not below the prefix", stranger.key());
            return Err(Mishap::Judged(Failure::last(OriginErrorKind::Unsupported, what)));
        }
        if entries.first().is_some_and(|entry| entry.key() == &*self.prefix) {
            // The object that stands for the prefix.
            entries.remove(0);
        }
        Ok((Page { entries, is_last: !is_truncated, is_ordered, was_asked_again: false }, held))
    }
}

impl Pager for RemotePager {
    type Pages = RemotePages;

    fn pages(&self, after: &Arc<str>) -> RemotePages {
        RemotePages { after: Arc::clone(after), lister: None, held: Vec::new() }
    }

    async fn next(&self, pages: RemotePages) -> Result<(Page, RemotePages), OriginError> {
        let (remote, after) = (&self.remote, pages.after);
        let deadline = Instant::now() + remote.settings.deadline;
        // Whatever fails, the next try begins anew behind the last key: a token may be what is wrong.
        let (way, tries) = (Mutex::new((pages.lister, pages.held)), AtomicU32::new(0));
        let call = |attempt: Try| {
            tries.fetch_add(1, Ordering::Relaxed);
            let (lister, held) = std::mem::take(&mut *way.lock());
            let (after, prefix) = (Arc::clone(&after), Arc::clone(&self.prefix));
            async move {
                let mut lister = match lister {
                    Some(lister) => lister,
                    None => {
                        let start_after = (!after.is_empty()).then(|| after.to_string());
                        let options = options::ListOptions { limit: Some(BATCH), start_after, ..Default::default() };
                        attempt.service.list_dyn(&attempt.context, &prefix, OpList::from(options))?
                    }
                };
                let slot =
                    Arc::new(Mutex::new(PageSlot { allows_unproved: remote.settings.allow_unproved, page: None }));
                into_slot(Arc::clone(&slot), lister.next_dyn()).await?;
                let read = slot.lock().page.take();
                let read = read.ok_or_else(|| Mishap::Judged(Failure::again("the answer is no listing")))?;
                // Without a token the next page is asked for by key.
                let lister = read.token.is_some().then_some(lister);
                let (page, held) = self.page(read, &after, held)?;
                Ok((page, held, lister))
            }
        };
        let patience = remote.settings.stall.max(remote.settings.deadline / 2);
        let ((mut page, held, lister), _turn) =
            remote.call(Op::List, &self.prefix, deadline, Some(patience), call).await?;
        page.was_asked_again = tries.into_inner() > 1;
        let after = page.entries.last().map_or(after, |entry| entry.key().into());
        // By key the server sends them again.
        let held = if lister.is_some() { held } else { Vec::new() };
        Ok((page, RemotePages { after, lister, held }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ObjectMeta, OriginSettings};
    use forebay_model::{TimestampNs, Version};

    fn object(key: &str) -> Listed {
        let meta = ObjectMeta { size: 1, mtime: TimestampNs(1), version: Version::Id("1".into()) };
        Listed::Object { key: key.into(), meta }
    }

    fn prefix(key: &str) -> Listed {
        Listed::Prefix { key: key.into() }
    }

    #[tokio::test]
    async fn a_prefix_behind_the_last_object_of_a_page_waits_for_the_next() {
        let settings = OriginSettings::new("s3://b".parse().expect("an address"));
        let resolved = settings.resolve(&|_| None).expect("resolves");
        let remote = Remote::new(settings, resolved, crate::OriginMetrics::default()).expect("opens");
        let pager = RemotePager::new(Arc::new(remote), "d/");
        let check = |objects: &[&str],
                     prefixes: &[&str],
                     more: bool,
                     after: &str,
                     held: &[&str],
                     given: &[&str],
                     left: &[&str]| {
            let read = ListPage {
                objects: objects.iter().map(|key| object(key)).collect(),
                prefixes: prefixes.iter().map(|key| prefix(key)).collect(),
                is_truncated: more,
                token: more.then(|| "t".to_owned()),
            };
            let held = held.iter().map(|key| prefix(key)).collect();
            let Ok((page, held)) = pager.page(read, after, held) else { panic!("{objects:?} {prefixes:?}") };
            assert_eq!(page.entries.iter().map(Listed::key).collect::<Vec<_>>(), given);
            assert_eq!(held.iter().map(Listed::key).collect::<Vec<_>>(), left);
        };
        // A server that sends all prefixes with each page.
        check(&["d/1", "d/2"], &["d/s/"], true, "", &[], &["d/1", "d/2"], &["d/s/"]);
        check(&["d/3", "d/4"], &["d/s/"], true, "d/2", &["d/s/"], &["d/3", "d/4"], &["d/s/"]);
        check(&["d/t"], &["d/s/"], false, "d/4", &["d/s/"], &["d/s/", "d/t"], &[]);
        // One that sends each where it belongs.
        check(&["d/1"], &["d/2/", "d/3/"], true, "", &[], &["d/1"], &["d/2/", "d/3/"]);
        check(&[], &["d/4/"], true, "d/1", &["d/2/", "d/3/"], &["d/2/", "d/3/", "d/4/"], &[]);
        // Objects that are not given out hold nothing back.
        check(&["d/"], &["d/2/"], true, "", &[], &["d/2/"], &[]);
        check(&["d/1"], &["d/2/"], true, "d/1", &[], &["d/1", "d/2/"], &[]);
    }
}
