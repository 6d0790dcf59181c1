//! Key sets that are computed, not kept: the key of each index, in the order of the keys' bytes.

use std::fmt::Write as _;

/// Keys of one directory of a tree.
const TREE_DIRECTORY: u64 = 1_000;
/// Classes of the picture set.
const CLASSES: u64 = 1_000;
/// Letters of the `unicode` names, ascending.
const LETTERS: [&str; 10] = ["a", "m&m", "z", "ä", "é", "я", "क", "日", "본", "🦀"];
/// What 99% of the `skewed` names start with.
const LONG: &str = "crawl-2024-06-01T00:00:00Z/part-0000-of-0001-run-000000-shard-";

/// How the names look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// One directory: `00001234.jpg`.
    Numbers,
    /// One directory: 32 hexadecimal digits that look random, evenly spread.
    Hashes,
    /// One directory: `n01440764_00012.JPEG`, a thousand classes.
    Pictures,
    /// The same with a directory a class: `n01440764/n01440764_00012.JPEG`.
    Imagenet,
    /// One directory: 99% of the names share a prefix of 63 bytes, the rest lie before and behind. The slash that is in the
    /// prefix is written as `_`.
    Skewed,
    /// One directory: names of letters of one to four bytes, and of `&`.
    Unicode,
    /// A thousand files a directory: `d000012/f000345.bin`.
    Tree,
}

/// `count` keys of a shape, each after `root`.
#[derive(Clone, Debug)]
pub struct Keys {
    shape: Shape,
    count: u64,
    root: String,
}

impl Keys {
    /// `root` is empty or ends in `/`.
    pub fn new(shape: Shape, count: u64, root: &str) -> Self {
        Self { shape, count, root: root.to_owned() }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What all start with.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Puts key number `index` (below the count) into `key`.
    pub fn write(&self, index: u64, key: &mut String) {
        key.clear();
        key.push_str(&self.root);
        let per_class = self.count.div_ceil(CLASSES).max(1);
        match self.shape {
            Shape::Numbers => {
                decimal(key, index, 8);
                key.push_str(".jpg");
            }
            Shape::Hashes => {
                // Each index has a stretch of the first 64 bits to itself: ascending, and spread as by chance.
                let stretch = u64::MAX / self.count;
                let noise = mix(index);
                hexadecimal(key, index * stretch + noise % stretch);
                hexadecimal(key, mix(noise));
            }
            Shape::Pictures => picture(key, index / per_class, index % per_class),
            Shape::Imagenet => {
                key.push('n');
                decimal(key, class_number(index / per_class), 8);
                key.push('/');
                picture(key, index / per_class, index % per_class);
            }
            Shape::Skewed => {
                let head = self.count / 200;
                let name = match index {
                    _ if index < head => "archive-",
                    _ if index >= self.count - head => "manifest-",
                    _ => LONG,
                };
                key.extend(name.chars().map(|c| if c == '/' { '_' } else { c }));
                decimal(key, index, 8);
                key.push_str(".tar");
            }
            Shape::Unicode => {
                let mut left = index;
                let mut letters = [""; 8];
                for letter in letters.iter_mut().rev() {
                    *letter = LETTERS[(left % LETTERS.len() as u64) as usize];
                    left /= LETTERS.len() as u64;
                }
                // Of equal bytes no letter is the beginning of another, so the order of numbers is that of names.
                key.extend(letters);
            }
            Shape::Tree => {
                key.push('d');
                decimal(key, index / TREE_DIRECTORY, 6);
                key.push_str("/f");
                decimal(key, index % TREE_DIRECTORY, 6);
                key.push_str(".bin");
            }
        }
    }

    /// The first index whose key is above `bound`; the count if there is none.
    pub fn after(&self, bound: &str) -> u64 {
        self.first(|key| key > bound)
    }

    /// The first index whose key neither is below `prefix` nor starts with it.
    pub fn past(&self, prefix: &str) -> u64 {
        self.first(|key| key > prefix && !key.starts_with(prefix))
    }

    /// The first index whose key is `key` or above.
    pub fn from(&self, key: &str) -> u64 {
        self.first(|other| other >= key)
    }

    fn first(&self, is_past: impl Fn(&str) -> bool) -> u64 {
        let (mut low, mut high, mut key) = (0, self.count, String::new());
        while low < high {
            let middle = low + (high - low) / 2;
            self.write(middle, &mut key);
            if is_past(&key) { high = middle } else { low = middle + 1 }
        }
        low
    }
}

/// Size of object number `index`.
pub(crate) fn size_of(index: u64) -> u64 {
    100_000 + mix(index) % 20_000
}

/// Puts the 32 hexadecimal digits of the etag of object number `index` into `text`.
pub(crate) fn write_etag(index: u64, text: &mut String) {
    let noise = mix(index ^ 0x5bd1_e995);
    hexadecimal(text, noise);
    hexadecimal(text, mix(noise));
}

fn class_number(class: u64) -> u64 {
    1_440_764 + class * 13_643
}

fn picture(key: &mut String, class: u64, number: u64) {
    key.push('n');
    decimal(key, class_number(class), 8);
    key.push('_');
    decimal(key, number, 6);
    key.push_str(".JPEG");
}

fn decimal(text: &mut String, number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let (mut at, mut left) = (digits.len(), number);
    while left > 0 || at > digits.len() - width {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    // Digits are ASCII: this never fails, and costs no formatting machinery.
    match std::str::from_utf8(&digits[at..]) {
        Ok(digits) => text.push_str(digits),
        Err(_) => _ = write!(text, "{number:0width$}"),
    }
}

fn hexadecimal(text: &mut String, number: u64) {
    text.extend((0..16).rev().map(|nibble| char::from(b"0123456789abcdef"[(number >> (nibble * 4)) as usize & 15])));
}

/// The finaliser of SplitMix64: a fixed number that looks random.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn keys_ascend_and_are_found_again() {
        for shape in Shape::value_variants() {
            let keys = Keys::new(*shape, 12_345, "data/");
            let (mut before, mut key) = (String::new(), String::new());
            for index in 0..keys.count() {
                keys.write(index, &mut key);
                assert!(key > before, "{shape:?}: {key} after {before}");
                if index % 97 == 0 {
                    assert_eq!((keys.after(&key), keys.from(&key)), (index + 1, index), "{shape:?}: {key}");
                    assert_eq!(keys.after(&before), index);
                }
                before.clone_from(&key);
            }
            assert_eq!(keys.after("e"), keys.count());
            assert_eq!((keys.after(""), keys.past("data/")), (0, keys.count()));
        }
    }
}
