//! Freshness against a plain reference of what may be seen, by seed: objects come, change and go, are looked up, listed and read
//! through a kernel in little, forgotten on request and by events, while answers are on their way and over restarts.
//!
//! Never: an answer that is older than its rule allows, or than what was forgotten; bytes of another version; a name that is
//! missing in a listing, or too many. `SEED=n` repeats a run, `STEPS=n` makes it longer.

mod kernel;
mod reference;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_model::{Content, Entry, FaultKind, Freshness, Happened, ObjectEvent};
use forebay_route::Service;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::{OPEN, Setup, World, context, path, pattern, world};
use kernel::{Answer, Kernel};
use reference::{DIRECTORIES, KEYS, PATHS, Reference, What, is_below, parent};

/// Short, so that it ends often; long beside what one step takes.
const TTL: Duration = Duration::from_millis(120);
/// What is held open.
const HELD_MAX: usize = 6;
const SIZE: usize = 20_000;

struct Held {
    content: Content,
    key: &'static str,
    version: u32,
    is_whole_here: bool,
}

struct Run {
    setup: Setup,
    freshness: Freshness,
    /// None while it is started anew.
    world: Option<World>,
    kernel: Arc<Kernel>,
    reference: Reference,
    random: SmallRng,
    version: u32,
    held: Vec<Held>,
    log: VecDeque<String>,
    seed: u64,
}

fn seed_of(key: &str, version: u32) -> u64 {
    u64::from(version) << 8 | key.len() as u64
}

fn version_of(content: &Content) -> u32 {
    match &content.version {
        forebay_model::Version::Etag(etag) => etag.trim_matches('"').parse().expect("the cloud's etags are numbers"),
        other => panic!("{other:?}"),
    }
}

impl Run {
    fn new(freshness: Freshness, seed: u64) -> Self {
        let setup = Setup { freshness, ..Setup::default() };
        let world = world(&setup);
        let kernel = Arc::new(Kernel::default());
        world.node.add_holder(kernel.clone());
        let random = SmallRng::seed_from_u64(seed);
        let (reference, held, log) = (Reference::new(), Vec::new(), VecDeque::new());
        Self { setup, freshness, world: Some(world), kernel, reference, random, version: 0, held, log, seed }
    }

    fn world(&self) -> &World {
        self.world.as_ref().expect("it runs")
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.random_range(0..all.len())]
    }

    fn note(&mut self, what: &str) {
        self.log.push_back(format!("{:.4} {what}", self.reference.at(Instant::now())));
        if self.log.len() > 60 {
            self.log.pop_front();
        }
    }

    fn fail(&self, what: &str) -> ! {
        let log: Vec<&str> = self.log.iter().map(String::as_str).collect();
        panic!("SEED={} {}: {what}\nbefore:\n{}", self.seed, self.freshness, log.join("\n"));
    }

    /// The oldest moment of which `what` may be told at `now`. None: any.
    fn oldest(&self, what: What, now: Instant) -> Option<Instant> {
        match (self.freshness, what) {
            (Freshness::Check, _) => Some(now),
            (Freshness::Ttl(ttl), _) => now.checked_sub(ttl),
            // Listings and absence end after 60 s; no run is so long.
            (Freshness::Immutable, _) => None,
        }
    }

    fn check(&self, at: &str, what: What, asked: Instant, from: &str) {
        if !self.reference.may_be(at, what, self.oldest(what, asked), Instant::now()) {
            let history = self.reference.history(at);
            let asked = self.reference.at(asked);
            self.fail(&format!("{from}: {at:?} is told to be {what:?}, asked for at {asked:.4}; it was {history}"));
        }
    }

    fn change(&mut self) -> (&'static str, Happened) {
        let key = self.pick(&KEYS);
        let cloud = self.world().cloud.clone();
        if self.random.random_range(0..5) < 2 {
            self.note(&format!("delete {key}"));
            self.reference.change(key, None, || drop(cloud.objects.lock().remove(key)));
            return (key, Happened::Removed);
        }
        self.version += 1;
        let version = self.version;
        self.note(&format!("put {key} {version}"));
        let bytes = pattern(seed_of(key, version), SIZE);
        self.reference
            .change(key, Some(version), || drop(cloud.objects.lock().insert(key.to_owned(), (bytes, version))));
        (key, Happened::Written)
    }

    /// Asks of one path what the kernel does not hold, and checks what is told.
    async fn look(&mut self, at: &str) -> Answer {
        let full = path(&format!("/ml/{at}"));
        let (turn, asked) = (self.kernel.turn(), Instant::now());
        if let Some(answer) = self.kernel.get(&full) {
            self.note(&format!("held {at} {:?}", answer.what));
            self.check(at, answer.what, asked, "the kernel");
            return answer;
        }
        let answer = match self.world().node.lookup(&context(), &full).await {
            Ok(found) => {
                let (what, content) = match &found.entry {
                    Entry::Directory(_) => (What::Directory, None),
                    Entry::File(file) => (What::File(version_of(&file.content)), Some(file.content.clone())),
                };
                Answer { what, content, until: asked + found.fresh_for }
            }
            Err(fault) if fault.kind == FaultKind::NotFound => {
                Answer { what: What::Nothing, content: None, until: asked + fault.fresh_for }
            }
            Err(fault) => self.fail(&format!("lookup of {at}: {fault}")),
        };
        self.note(&format!("look {at} {:?} for {:?}", answer.what, answer.until.duration_since(asked)));
        self.check(at, answer.what, asked, "a lookup");
        self.kernel.hold(&full, &answer, turn);
        answer
    }

    /// Looks a path up name by name, as a kernel does.
    async fn walk(&mut self, at: &'static str) -> Option<Answer> {
        let ends = at.match_indices('/').map(|(end, _)| end).chain([at.len()]);
        let mut last = None;
        for end in ends {
            let answer = self.look(&at[..end]).await;
            let is_directory = answer.what == What::Directory;
            last = (end == at.len()).then_some(answer);
            if !is_directory {
                break;
            }
        }
        last
    }

    async fn list(&mut self, directory: &'static str) {
        let (full, asked) = (path(format!("/ml/{directory}").trim_end_matches('/')), Instant::now());
        let limit = self.random.random_range(1..6);
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = match self.world().node.list(&context(), &full, &after, limit).await {
                Ok(page) => page,
                Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::NotADirectory) => {
                    self.note(&format!("list {directory}: {:?}", fault.kind));
                    let now = Instant::now();
                    let may_be = |what| self.reference.may_be(directory, what, self.oldest(what, asked), now);
                    let is_other = may_be(What::Nothing) || (1..=self.version).any(|nth| may_be(What::File(nth)));
                    if !is_other {
                        self.fail(&format!("{directory} is not listed: {}", self.reference.history(directory)));
                    }
                    return;
                }
                Err(fault) => self.fail(&format!("list of {directory}: {fault}")),
            };
            for listed in page.entries {
                let what = match &listed.entry {
                    Entry::Directory(_) => What::Directory,
                    Entry::File(file) => What::File(version_of(&file.content)),
                };
                names.push((listed.name.to_string(), what));
            }
            match names.last().filter(|_| page.more) {
                Some((last, _)) => after = last.clone(),
                None => break,
            }
        }
        self.note(&format!("list {directory} by {limit}: {names:?}"));
        self.check(directory, What::Directory, asked, "a listing of itself");
        for at in PATHS.into_iter().filter(|at| parent(at) == directory) {
            let name = at.rsplit('/').next().unwrap_or_default();
            let mut told = names.iter().filter(|(known, _)| known == name).map(|(_, what)| *what);
            self.check(at, told.next().unwrap_or(What::Nothing), asked, "a listing");
            if told.next().is_some() {
                self.fail(&format!("{at} is listed twice"));
            }
        }
        if let Some((other, _)) =
            names.iter().find(|(name, _)| !PATHS.iter().any(|at| at.rsplit('/').next() == Some(name)))
        {
            self.fail(&format!("{other} is listed, which never was"));
        }
    }

    async fn open(&mut self) {
        let key = self.pick(&KEYS);
        let Some(Answer { what: What::File(version), content: Some(content), .. }) = self.walk(key).await else {
            return;
        };
        if self.held.len() == HELD_MAX {
            let nth = self.random.random_range(0..HELD_MAX);
            self.held.swap_remove(nth);
        }
        self.held.push(Held { content, key, version, is_whole_here: false });
    }

    async fn read(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let nth = self.random.random_range(0..self.held.len());
        let start = self.random.random_range(0..2) * self.random.random_range(0..SIZE as u64);
        let Held { content, key, version, is_whole_here } = &self.held[nth];
        let (key, version, is_whole_here, content) = (*key, *version, *is_whole_here, content.clone());
        let answer = self.world().read(&content, start, SIZE as u64).await;
        self.note(&format!(
            "read {key} {version} from {start}: {:?}",
            answer.as_ref().map(Vec::len).map_err(|f| f.kind)
        ));
        match answer {
            Ok(bytes) => {
                if bytes != pattern(seed_of(key, version), SIZE)[start as usize..] {
                    self.fail(&format!("{key} {version}: other bytes"));
                }
                self.held[nth].is_whole_here = true;
            }
            Err(fault) if fault.kind == FaultKind::Changed => {
                let is_current = self.reference.is(key) == What::File(version);
                if is_current || is_whole_here {
                    self.fail(&format!(
                        "{key} {version} is told to have changed: current {is_current}, here {is_whole_here}"
                    ));
                }
                self.held.swap_remove(nth);
            }
            Err(fault) => self.fail(&format!("read of {key}: {fault}")),
        }
    }

    async fn refresh(&mut self, at: &'static str, is_tree: bool) {
        let begun = Instant::now();
        self.note(&format!("refresh {at:?}, all below: {is_tree}"));
        let full = path(format!("/ml/{at}").trim_end_matches('/'));
        if let Err(fault) = self.world().node.refresh(&context(), &full, is_tree).await {
            self.fail(&format!("refresh: {fault}"));
        }
        for known in PATHS {
            if known == at || (is_below(known, at) && (is_tree || parent(known) == at)) {
                self.reference.raise(known, begun);
            }
        }
        // What leads to it is there, and nobody may be told otherwise.
        let mut above = parent(at);
        while !above.is_empty() && self.reference.is(at) != What::Nothing {
            self.reference.raise(above, begun);
            above = parent(above);
        }
    }

    /// The origin tells of what happened, maybe much later.
    async fn event(&mut self, key: &'static str, what: Happened) {
        let begun = Instant::now();
        self.note(&format!("event {key} {what:?}"));
        let event = ObjectEvent { bucket: Some("b".to_owned()), key: key.to_owned(), what };
        if let Err(fault) = self.world().node.events(&context(), &path("/ml"), vec![event]).await {
            self.fail(&format!("events: {fault}"));
        }
        let covered = |known: &str| known == key || (what == Happened::Moved && is_below(known, key));
        PATHS.into_iter().filter(|known| covered(known)).for_each(|known| self.reference.raise(known, begun));
        // What leads to it: came into being with it, or has gone with the last in it.
        let mut above = parent(key);
        while !above.is_empty() {
            let is_there = self.reference.is(above) == What::Directory;
            let is_told = if what == Happened::Removed { !is_there } else { self.reference.is(key) != What::Nothing };
            if what == Happened::Removed && is_there {
                break;
            }
            if is_told {
                self.reference.raise(above, begun);
            }
            above = parent(above);
        }
    }

    /// An answer is on its way while its object changes and that is told.
    async fn race(&mut self) {
        let cloud = self.world().cloud.clone();
        let shut = cloud.gate.acquire_many(OPEN as u32).await.expect("it is never closed");
        let (key, node) = (self.pick(&KEYS), self.world().node.clone());
        let counts = || cloud.stats.load(Ordering::Relaxed) + cloud.lists.load(Ordering::Relaxed);
        let (before, is_list) = (counts(), self.random.random_bool(0.5));
        let at = if is_list {
            path(format!("/ml/{}", parent(key)).trim_end_matches('/'))
        } else {
            path(&format!("/ml/{key}"))
        };
        self.note(&format!("on its way: {at}, a listing: {is_list}"));
        let on_its_way = tokio::spawn(async move {
            match is_list {
                true => node.list(&context(), &at, "", 100).await.map(drop),
                false => node.lookup(&context(), &at).await.map(drop),
            }
        });
        while counts() == before && !on_its_way.is_finished() {
            tokio::task::yield_now().await;
        }
        self.version += 1;
        let version = (self.random.random_range(0..3) > 0).then_some(self.version);
        self.note(&format!("change {key} to {version:?}"));
        self.reference.change(key, version, || {
            let mut objects = cloud.objects.lock();
            match version {
                Some(version) => drop(objects.insert(key.to_owned(), (pattern(seed_of(key, version), SIZE), version))),
                None => drop(objects.remove(key)),
            }
        });
        match self.random.random_range(0..4) {
            0 => self.refresh(key, false).await,
            1 => {
                let above = DIRECTORIES.into_iter().find(|directory| *directory == parent(key)).unwrap_or_default();
                self.refresh(above, true).await;
            }
            _ => self.event(key, if version.is_some() { Happened::Written } else { Happened::Removed }).await,
        }
        // Who asks now does not join who asked before.
        let (asked, node, at) = (Instant::now(), self.world().node.clone(), path(&format!("/ml/{key}")));
        let later = tokio::spawn(async move { node.lookup(&context(), &at).await });
        tokio::task::yield_now().await;
        drop(shut);
        let what = match later.await.expect("no panic") {
            Ok(found) => match &found.entry {
                Entry::Directory(_) => What::Directory,
                Entry::File(file) => What::File(version_of(&file.content)),
            },
            Err(fault) if fault.kind == FaultKind::NotFound => What::Nothing,
            Err(fault) => self.fail(&format!("a later lookup: {fault}")),
        };
        self.check(key, what, asked, "a lookup while an older one was on its way");
        if let Err(fault) = on_its_way.await.expect("no panic")
            && !matches!(fault.kind, FaultKind::NotFound | FaultKind::NotADirectory)
        {
            self.fail(&format!("what was on its way: {fault}"));
        }
        self.walk(key).await;
        let directory = DIRECTORIES.into_iter().find(|directory| *directory == parent(key)).unwrap_or_default();
        self.list(directory).await;
    }

    async fn restart(&mut self) {
        self.note("restart");
        let world = self.world.take().expect("it runs");
        let world = world.restarted(&self.setup).await;
        // Its mount has gone with it.
        self.kernel.forget_all();
        world.node.add_holder(self.kernel.clone());
        self.world = Some(world);
    }

    async fn step(&mut self) {
        match self.random.random_range(0..1000) {
            0..200 => drop(self.change()),
            200..300 => {
                let (key, what) = self.change();
                self.event(key, what).await;
            }
            300..320 => {
                // Late, or said again.
                let (key, what) = (self.pick(&KEYS), self.pick(&[Happened::Written, Happened::Removed]));
                let is_so = (self.reference.is(key) == What::Nothing) == (what == Happened::Removed);
                if is_so {
                    self.event(key, what).await;
                }
            }
            320..330 => {
                let key = self.pick(&DIRECTORIES[1..]);
                self.event(key, Happened::Moved).await;
            }
            330..380 => {
                let (at, is_tree) = (self.pick(&PATHS), self.random.random_bool(0.3));
                self.refresh(at, is_tree).await;
            }
            380..390 => {
                let is_tree = self.random.random_bool(0.5);
                self.refresh("", is_tree).await;
            }
            390..640 => {
                let at = self.pick(&PATHS);
                self.walk(at).await;
            }
            640..740 => {
                let directory = self.pick(&DIRECTORIES);
                self.list(directory).await;
            }
            740..800 => self.open().await,
            800..900 => self.read().await,
            900..940 => self.race().await,
            // Out of memory.
            940..960 => self.kernel.forget_all(),
            960..995 => {
                let time = self.random.random_range(0..TTL.as_millis() as u64);
                tokio::time::sleep(Duration::from_millis(time / 4)).await;
            }
            _ => self.restart().await,
        }
    }
}

async fn run(freshness: Freshness, seed: u64, steps: u32) {
    println!("SEED={seed} {freshness}");
    let mut run = Run::new(freshness, seed);
    for _ in 0..steps {
        run.step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_that_is_older_than_allowed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or_else(rand::random);
    let steps = number("STEPS").map_or(3_000, |steps| steps as u32);
    let kinds = [Freshness::Ttl(TTL), Freshness::Immutable, Freshness::Check];
    futures_util::future::join_all(kinds.map(|freshness| run(freshness, seed, steps))).await;
}
