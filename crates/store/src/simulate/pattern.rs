//! Generated accesses, the same for the same seed: the ways in which jobs read.

use forebay_model::{ContentId, PAGE};

use super::Access;

/// Size of a small object: that of an image.
const OBJECT: u64 = 112 << 10;
/// Files of a model, and how often it is loaded.
const MODEL_FILES: u64 = 6;
const MODEL_LOADS: u64 = 4;
/// Group of the second job of a mix.
const OTHER: u64 = 1;

/// A way of reading. Data sets are twice the cache, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Everything once an epoch, in a new order each time.
    ShuffledEpochs,
    /// Everything once an epoch, in the same order.
    SequentialEpochs,
    /// Object k with a probability of k^-0.6, over ten times the cache.
    Zipf60,
    /// The same of k^-0.8.
    Zipf80,
    /// The same of 1/k.
    Zipf100,
    /// Large files, read whole and in order, by waves; a new model takes the place of the last one.
    ModelLoading,
    /// Two jobs at different places of one data set, each in its own shuffled order.
    TwoJobs,
    /// Shuffled epochs of one job between reads by zipf 0.8 of another.
    Mix,
    /// Each read of any object, drawn with replacement.
    Replacement,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ShuffledEpochs,
        Self::SequentialEpochs,
        Self::Zipf60,
        Self::Zipf80,
        Self::Zipf100,
        Self::ModelLoading,
        Self::TwoJobs,
        Self::Mix,
        Self::Replacement,
    ];

    /// Epochs of those patterns that have them.
    pub const EPOCHS: usize = 10;

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShuffledEpochs => "shuffled epochs",
            Self::SequentialEpochs => "sequential epochs",
            Self::Zipf60 => "zipf 0.6",
            Self::Zipf80 => "zipf 0.8",
            Self::Zipf100 => "zipf 1.0",
            Self::ModelLoading => "model loading",
            Self::TwoJobs => "two jobs",
            Self::Mix => "epochs + zipf",
            Self::Replacement => "with replacement",
        }
    }

    /// Its accesses, for a cache of `cache` bytes.
    pub fn accesses(self, cache: u64, seed: u64) -> Vec<Access> {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let objects = (2 * cache / OBJECT).max(1);
        let reads = objects * Self::EPOCHS as u64;
        match self {
            Self::ShuffledEpochs => epochs(objects, random),
            Self::SequentialEpochs => (0..reads).map(|n| small(0, n % objects)).collect(),
            Self::Zipf60 => zipf(0.6, 0, 5 * objects, reads, random),
            Self::Zipf80 => zipf(0.8, 0, 5 * objects, reads, random),
            Self::Zipf100 => zipf(1.0, 0, 5 * objects, reads, random),
            Self::ModelLoading => models(cache),
            Self::TwoJobs => {
                let (first, second) = (epochs(objects, random), epochs(objects, random));
                // The second is half an epoch behind.
                let behind = objects as usize / 2;
                let late = std::iter::repeat_n(None, behind).chain(second.into_iter().map(Some));
                let first = first.into_iter().map(Some).chain(std::iter::repeat_n(None, behind));
                first.zip(late).flat_map(|(first, second)| first.into_iter().chain(second)).collect()
            }
            Self::Mix => {
                let zipf = zipf(0.8, OTHER, objects, reads, random);
                epochs(objects, random).into_iter().zip(zipf).flat_map(|(a, b)| [a, b]).collect()
            }
            Self::Replacement => (0..reads).map(|_| small(0, random.below(objects))).collect(),
        }
    }
}

fn small(group: u64, number: u64) -> Access {
    let id = ContentId::from_u128(u128::from(group) << 64 | u128::from(number));
    Access { id, size: OBJECT, group, offset: 0, len: OBJECT }
}

fn epochs(objects: u64, random: &mut Random) -> Vec<Access> {
    let mut order: Vec<u64> = (0..objects).collect();
    let mut accesses = Vec::new();
    for _ in 0..Pattern::EPOCHS {
        // Fisher and Yates.
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at as u64 + 1) as usize);
        }
        accesses.extend(order.iter().map(|number| small(0, *number)));
    }
    accesses
}

fn zipf(skew: f64, group: u64, objects: u64, reads: u64, random: &mut Random) -> Vec<Access> {
    let mut sum = 0.0;
    let upto: Vec<f64> = (1..=objects)
        .map(|rank| {
            sum += (rank as f64).powf(-skew);
            sum
        })
        .collect();
    let draw = |_| {
        let at = random.unit() * sum;
        small(group, (upto.partition_point(|upto| *upto < at) as u64).min(objects - 1))
    };
    (0..reads).map(draw).collect()
}

/// Models of half the cache, six in turn: each is loaded four times, then the next; then all again.
fn models(cache: u64) -> Vec<Access> {
    let size = (cache / 2 / MODEL_FILES / PAGE).max(2) * PAGE;
    let mut accesses = Vec::new();
    for model in (0..6u64).chain(0..6) {
        for _ in 0..MODEL_LOADS {
            for file in 0..MODEL_FILES {
                let id = ContentId::from_u128(u128::from(model * MODEL_FILES + file) + (1 << 100));
                let read = |page: u64| Access { id, size, group: model + 2, offset: page * PAGE, len: PAGE };
                accesses.extend((0..size / PAGE).map(read));
            }
        }
    }
    accesses
}

/// Marsaglia's xorshift64, multiplied (Vigna).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
