//! Tests of the catalog as a whole.

mod damage;
mod forgotten;
mod listings;
mod model;
mod restarts;
mod semantics;

use std::sync::Arc;
use std::time::Instant;

use forebay_model::{ByteSize, Entry, Found, Freshness, NsPath, OriginId, TimestampNs, Version};
use tempfile::TempDir;

use crate::{
    Absence, Catalog, CatalogOptions, Held, ListingHeld, ListingWriter, Observed, ObservedFile, Paged, SourceFacts,
};

/// A catalog in a directory of its own, and a source.
struct World {
    /// None between two lives.
    catalog: Option<Catalog>,
    source: Arc<SourceFacts>,
    disk: ByteSize,
    directory: TempDir,
}

fn world(freshness: Freshness) -> World {
    world_of(freshness, ByteSize(256 << 20))
}

fn world_of(freshness: Freshness, disk: ByteSize) -> World {
    let source = SourceFacts {
        path: "/ml".parse().expect("a path"),
        origin: OriginId { scheme: "s3".into(), endpoint: "".into(), bucket: "b".into() },
        prefix: "".into(),
        teller: None,
        freshness,
        added: TimestampNs(7),
    };
    let mut world =
        World { catalog: None, source: Arc::new(source), disk, directory: tempfile::tempdir().expect("a directory") };
    world.open();
    world
}

fn path(text: &str) -> NsPath {
    text.parse().expect("a path")
}

fn file(etag: &str) -> Observed {
    Observed::File(ObservedFile { size: 3, mtime: TimestampNs(1), version: Version::Etag(etag.into()) })
}

fn names(page: &Paged) -> Vec<String> {
    match page {
        Paged::Page(page) => page.entries.iter().map(|e| e.name.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

impl World {
    fn options(&self) -> CatalogOptions {
        CatalogOptions { directory: self.directory.path().join("catalog"), disk: self.disk, memory: ByteSize(16 << 20) }
    }

    fn open(&mut self) {
        self.catalog = Some(Catalog::open(&self.options()).expect("a catalog"));
    }

    fn catalog(&self) -> &Catalog {
        self.catalog.as_ref().expect("it is open")
    }

    /// Ends the catalog in order and opens it again.
    fn restart(&mut self) {
        if let Some(catalog) = self.catalog.take() {
            catalog.close();
        }
        self.open();
    }

    /// Ends the process in the middle of everything. What was flushed is in the kernel's hands.
    fn crash(&mut self) {
        if let Some(catalog) = self.catalog.take() {
            catalog.crash();
        }
        self.open();
    }

    fn begin(&self, absence: Absence) -> ListingWriter {
        self.catalog().begin_listing(&self.source, &path("/ml/d"), absence)
    }

    /// Writes names (with a `/` at the end: directories), in order, as a whole listing.
    fn write(&self, writer: &ListingWriter, names: &[(&str, &str)]) -> ListingHeld {
        let asked = self.catalog().begin();
        let part = part(names);
        writer.range(&asked, "", &part).expect("it fits");
        let last = part.last().map_or("", |(place, _)| place.as_str());
        writer.covered(&asked, last, None).expect("it fits");
        writer.finish().expect("it is whole")
    }

    fn list(&self, names: &[(&str, &str)]) -> ListingHeld {
        self.write(&self.begin(Absence::Told), names)
    }

    fn learn(&self, at: &str, seen: Observed) -> Held {
        self.catalog().learn(&self.source, &path(at), self.catalog().begin(), seen)
    }

    fn etag(&self, at: &str) -> String {
        self.etag_at(at, Instant::now())
    }

    fn etag_at(&self, at: &str, now: Instant) -> String {
        match self.catalog().lookup(&self.source, &path(at), now) {
            Held::Found(Found { entry: Entry::File(f), .. }) => match &f.content.version {
                Version::Etag(etag) => etag.to_string(),
                other => format!("{other:?}"),
            },
            Held::Found(_) => "directory".to_owned(),
            Held::Absent(_) => "absent".to_owned(),
            Held::Unknown => "unknown".to_owned(),
        }
    }

    fn forget(&self, at: &str) {
        match self.catalog().lookup(&self.source, &path(at), Instant::now()) {
            Held::Found(Found { entry: Entry::File(f), .. }) => {
                self.catalog().forget(&self.source, &path(at), f.content.id);
            }
            other => panic!("{at}: {other:?}"),
        }
    }

    fn held(&self) -> Option<ListingHeld> {
        self.catalog().listing(&self.source, &path("/ml/d"), Instant::now())
    }

    fn has_listing(&self) -> bool {
        self.catalog().has_listing(&self.source, &path("/ml/d"), Instant::now())
    }

    fn listed(&self) -> Vec<String> {
        let page = self.held().expect("a listing").page("", 100);
        names(&page).iter().map(|name| format!("{name}:{}", self.etag(&format!("/ml/d/{name}")))).collect()
    }
}

fn part(names: &[(&str, &str)]) -> Vec<(String, Observed)> {
    let seen = |place: &str, etag: &str| if place.ends_with('/') { Observed::Directory } else { file(etag) };
    names.iter().map(|(place, etag)| ((*place).to_owned(), seen(place, etag))).collect()
}

/// All names of a listing, read in pages of `limit`.
fn all(held: &ListingHeld, limit: u32) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let Paged::Page(page) = held.page(&after, limit) else { panic!("after {after:?}: no page") };
        all.extend(page.entries.iter().map(|e| e.name.to_string()));
        if !page.more {
            return all;
        }
        after = page.entries.last().expect("a page with more after it is not empty").name.to_string();
    }
}
