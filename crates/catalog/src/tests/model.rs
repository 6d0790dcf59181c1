//! The catalog against a plain model, by seed, with restarts and crashes.
//!
//! The model knows what the origin has and had: an answer must be something that was true when the catalog was told, and
//! nothing older than what it was told last of that name.

use std::collections::BTreeMap;

use forebay_model::Freshness;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const NAMES: [&str; 12] = ["a", "a-b", "a.x", "b", "bb", "c", "c-", "d", "e", "f0", "f1", "z"];

/// What the origin has under a name: nothing, an object of that version, or a directory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Has {
    Nothing,
    Object(u32),
    Directory,
}

impl Has {
    fn text(self) -> String {
        match self {
            Self::Nothing => "absent".to_owned(),
            Self::Object(version) => version.to_string(),
            Self::Directory => "directory".to_owned(),
        }
    }

    fn seen(self) -> Observed {
        match self {
            Self::Nothing => Observed::Absent,
            Self::Object(version) => file(&version.to_string()),
            Self::Directory => Observed::Directory,
        }
    }
}

struct Model {
    random: SmallRng,
    origin: BTreeMap<&'static str, Has>,
    /// All that was true of each name, the newest last.
    history: BTreeMap<&'static str, Vec<Has>>,
    /// How much of that is older than what the catalog was told last, if it must still know.
    told: BTreeMap<&'static str, usize>,
    versions: u32,
}

impl Model {
    fn name(&mut self) -> &'static str {
        NAMES[self.random.random_range(0..NAMES.len())]
    }

    fn change(&mut self) {
        let name = self.name();
        self.versions += 1;
        let has = match self.random.random_range(0..6) {
            0 => Has::Nothing,
            1 => Has::Directory,
            _ => Has::Object(self.versions),
        };
        self.origin.insert(name, has);
        self.history.get_mut(name).expect("all names are there").push(has);
    }

    fn now(&self, name: &'static str) -> usize {
        self.history[name].len() - 1
    }

    fn places(&self) -> Vec<(String, Observed)> {
        let mut places: Vec<(String, Observed)> = self
            .origin
            .iter()
            .filter(|(_, has)| **has != Has::Nothing)
            .map(|(name, has)| {
                let place = if *has == Has::Directory { format!("{name}/") } else { (*name).to_owned() };
                (place, has.seen())
            })
            .collect();
        places.sort_by(|a, b| a.0.cmp(&b.0));
        places
    }
}

/// Lists the directory range by range, with looks at single names in between. Some listings stop in the middle.
fn list(w: &World, model: &mut Model) {
    let writer = w.begin(Absence::Told);
    // What is listed now was true now; what a resumed listing has was told before.
    let gaps = writer.gaps();
    let is_from_the_first = gaps.len() == 1 && gaps[0].after.is_empty() && gaps[0].to.is_none();
    let begun: Vec<_> = NAMES.iter().map(|name| (*name, model.now(name))).collect();
    for gap in gaps {
        let mut after = gap.after.to_string();
        loop {
            if model.random.random_range(0..20) == 0 {
                return;
            }
            if model.random.random_range(0..4) == 0 {
                look(w, model);
            }
            let asked = w.catalog().begin();
            let all = model.places();
            let in_gap = |place: &String| *place > after && gap.to.as_ref().is_none_or(|to| **place <= **to);
            let part: Vec<_> =
                all.into_iter().filter(|(place, _)| in_gap(place)).take(model.random.random_range(1..5)).collect();
            let to = part.last().map(|(place, _)| place.clone());
            // A listing that came later is newer, but for names that were looked at since it was begun.
            writer.range(&asked, &after, &part).expect("it fits");
            match to {
                Some(to) => after = to,
                None => {
                    writer.covered(&asked, &after, gap.to.as_deref()).expect("it fits");
                    break;
                }
            }
        }
    }
    writer.finish().expect("it is whole");
    if is_from_the_first && w.has_listing() {
        for (name, at) in begun {
            let told = model.told.entry(name).or_insert(at);
            *told = at.max(*told);
        }
    }
}

fn look(w: &World, model: &mut Model) {
    let name = model.name();
    let has = model.origin.get(name).copied().unwrap_or(Has::Nothing);
    w.learn(&format!("/ml/d/{name}"), has.seen());
    model.told.insert(name, model.now(name));
}

fn check(w: &World, model: &Model) {
    for name in NAMES {
        let text = w.etag(&format!("/ml/d/{name}"));
        if text == "unknown" {
            continue;
        }
        // From the last that it was told on, anything that was true.
        let from = model.told.get(name).copied().unwrap_or(0);
        let allowed: Vec<String> = model.history[name][from..].iter().map(|has| has.text()).collect();
        assert!(allowed.contains(&text), "{name} is told to be {text}, not one of {allowed:?}");
    }
    // What came of a newer listing that is not whole is told of single names only.
    let Some(held) = w.held().filter(|_| !w.catalog().shelf().has_fillings()) else { return };
    let listed = all(&held, 3);
    let mut unique = listed.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), listed.len(), "{listed:?}");
    for name in NAMES {
        // Lookup and listing say the same, where both say something.
        let text = w.etag(&format!("/ml/d/{name}"));
        if text != "unknown" {
            assert_eq!(listed.iter().any(|n| n == name), text != "absent", "{name} is {text}; listed are {listed:?}");
        }
    }
}

#[test]
fn answers_are_what_was_true_since_the_catalog_was_told_last() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    for round in 0..10 {
        let random = SmallRng::seed_from_u64(seed.wrapping_add(round));
        let history = NAMES.iter().map(|n| (*n, vec![Has::Nothing])).collect();
        let mut model = Model { random, origin: BTreeMap::new(), history, told: BTreeMap::new(), versions: 0 };
        let mut w = world(Freshness::Immutable);
        for _ in 0..300 {
            match model.random.random_range(0..20) {
                0..7 => model.change(),
                7..12 => look(&w, &mut model),
                12..15 => list(&w, &mut model),
                15 => {
                    let name = model.name();
                    if w.etag(&format!("/ml/d/{name}")).parse::<u32>().is_ok() {
                        w.forget(&format!("/ml/d/{name}"));
                        assert_eq!(w.etag(&format!("/ml/d/{name}")), "unknown");
                    }
                }
                16 => w.restart(),
                17 => {
                    // What waited is lost: of what was told last nothing is promised.
                    w.crash();
                    model.told.clear();
                }
                18 => {
                    w.catalog().flush();
                    w.crash();
                }
                _ => assert!(w.catalog().flush()),
            }
            check(&w, &model);
        }
    }
}
