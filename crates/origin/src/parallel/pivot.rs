//! Where to cut a range: a guess from keys. A bad guess costs a request, never an entry.
//!
//! Names are taken for numbers: behind what the last key seen and the range's end have in common, each letter is a digit in
//! the alphabet seen. Where names share a long beginning, that would halve the wrong thing a hundred times, so first it is
//! found out where they branch: the beginning itself is halved.

use super::alphabet::Alphabet;

/// Letters behind the common beginning that count: 18 letters of a radix of 10 are more than a double tells apart.
const DEPTH: usize = 18;
/// A pivot need not be nearer to the middle than this part of the range.
const NEAR: f64 = 1.0 / 32.0;

/// What is known of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// First key of the last page.
    pub(crate) first: &'a str,
    /// Last key seen.
    pub(crate) last: &'a str,
    /// The end, itself in the range.
    pub(crate) until: Option<&'a str>,
    /// Bytes of the last key of which it is not known whether others begin differently.
    pub(crate) path: usize,
}

/// Keys as numbers from 0 to 1, by the letters behind what they have in common.
struct Scale<'a> {
    /// Bytes in common.
    at: usize,
    letters: Vec<&'a [char]>,
}

/// Bytes that `a` and `b` have in common, whole letters.
pub(crate) fn common(a: &str, b: &str) -> usize {
    let equal = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    a.floor_char_boundary(equal)
}

/// Pages that are left in the range, if keys are spread evenly. Infinite if nothing is known of it.
pub(crate) fn pages_left(known: &Known<'_>, alphabet: &Alphabet) -> f64 {
    let scale = Scale::new(known, alphabet);
    let last = scale.number(known.last);
    let left = known.until.map_or(1.0, |until| scale.number(until)) - last;
    let page = last - scale.number(known.first);
    if left <= 0.0 {
        0.0
    } else if page <= 0.0 {
        f64::INFINITY
    } else {
        left / page
    }
}

/// A string in the range, above the last key seen and below the end: what is after it is cut off. None: there is no good one.
pub(crate) fn pivot(known: &Known<'_>, alphabet: &Alphabet) -> Option<String> {
    let shared = known.until.map_or(alphabet.base(), |until| common(known.last, until)).max(alphabet.base());
    let mut node = match branch(known.last, shared, known.path) {
        Some(beginning) => beginning.to_owned(),
        None => middle(known, alphabet)?,
    };
    node.push(alphabet.top());
    let fits = |node: &str| node > known.last && known.until.is_none_or(|until| node < until);
    if fits(&node) {
        return Some(node);
    }
    // A letter that was not seen before.
    node.pop();
    node.push(char::MAX);
    fits(&node).then_some(node)
}

/// A beginning of `last` that is longer than `shared` bytes, half-way to `path` bytes. None: they are a letter apart.
fn branch(last: &str, shared: usize, path: usize) -> Option<&str> {
    let letter = last.get(shared..)?.chars().next()?.len_utf8();
    if path <= shared + letter {
        return None;
    }
    let half = last.floor_char_boundary(shared + (path - shared).div_ceil(2)).max(shared + letter);
    Some(&last[..half])
}

/// The beginning of the keys in the middle of the range.
fn middle(known: &Known<'_>, alphabet: &Alphabet) -> Option<String> {
    let scale = Scale::new(known, alphabet);
    let (low, high) = (scale.number(known.last), known.until.map_or(1.0, |until| scale.number(until)));
    let mut node = known.last[..scale.at].to_owned();
    let (mut target, mut unit) = (low + (high - low) / 2.0, 1.0);
    for letters in &scale.letters {
        if letters.is_empty() {
            break;
        }
        let radix = letters.len() as f64;
        let digit = ((target * radix) as usize).min(letters.len() - 1);
        node.push(letters[digit]);
        target = target * radix - digit as f64;
        unit /= radix;
        if unit < (high - low) * NEAR {
            break;
        }
    }
    (node.len() > scale.at).then_some(node)
}

impl<'a> Scale<'a> {
    fn new(known: &Known<'_>, alphabet: &'a Alphabet) -> Self {
        let at = known.until.map_or(alphabet.base(), |until| common(known.last, until)).max(alphabet.base());
        let position = known.last.get(alphabet.base()..at).map_or(0, |passed| passed.chars().count());
        // The first letter tells the two ends apart: both are digits of it, seen there or not.
        let mut end = known.until.and_then(|until| until.get(at..)?.chars().next());
        end = end.filter(|letter| *letter != alphabet.top() && *letter != char::MAX);
        let begin = known.last.get(at..).and_then(|rest| rest.chars().next());
        let letters = (0..DEPTH).map(|depth| {
            let ends = if depth == 0 { [begin, end] } else { [None, None] };
            alphabet.letters(position + depth, ends.into_iter().flatten())
        });
        Self { at, letters: letters.collect() }
    }

    fn number(&self, key: &str) -> f64 {
        let (mut number, mut unit) = (0.0, 1.0);
        let rest = key.get(self.at..).unwrap_or_default();
        for (letter, letters) in rest.chars().zip(&self.letters) {
            if letters.is_empty() {
                break;
            }
            let rank = letters.partition_point(|other| *other < letter);
            unit /= letters.len() as f64;
            number += rank as f64 * unit;
            if letters.get(rank) != Some(&letter) {
                break;
            }
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[&str], until: Option<&str>, path: usize, expected: Option<&str>) {
        let mut alphabet = Alphabet::new(2);
        keys.iter().for_each(|key| alphabet.see(key));
        let known = Known { first: keys[0], last: keys[keys.len() - 1], until, path };
        let found = pivot(&known, &alphabet);
        assert_eq!(found.as_deref(), expected, "{keys:?} {until:?}");
        if let Some(found) = found {
            assert!(*found > *known.last && until.is_none_or(|until| &*found < until), "{found}");
        }
    }

    #[test]
    fn the_middle_is_that_of_numbers() {
        check(&["p/0500", "p/1000"], None, 0, Some("p/55~"));
        check(&["p/0500", "p/1000"], Some("p/3~"), 0, Some("p/250~"));
        check(&["p/0500", "p/0999"], Some("p/1~"), 0, Some("p/149~"));
        check(&["p/n0", "p/n1"], Some("p/n~"), 0, Some("p/n5~"));
    }

    #[test]
    fn a_long_beginning_is_halved_first() {
        check(&["p/run-0000", "p/run-0009"], None, 9, Some("p/run-~"));
        check(&["p/run-0000", "p/run-0009"], Some("p/run-~"), 9, Some("p/run-00~"));
        check(&["p/é-日本0", "p/é-日本9"], None, 11, Some("p/é-\u{10ffff}"));
    }

    #[test]
    fn where_nothing_fits_there_is_no_pivot() {
        check(&["p/a", "p/b"], Some("p/b\u{1}"), 0, None);
        check(&["p/\u{10ffff}"], None, 0, Some("p/\u{10ffff}\u{10ffff}"));
    }

    #[test]
    fn pages_left_are_those_of_numbers() {
        let mut alphabet = Alphabet::new(0);
        alphabet.see("0123");
        let left = |first, last, until| pages_left(&Known { first, last, until, path: 0 }, &alphabet);
        assert!((left("0000", "0100", None) - 99.0).abs() < 0.01);
        assert!((left("0000", "0100", Some("0300")) - 2.0).abs() < 0.01);
        assert!(left("0000", "0000", Some("0300")).is_infinite());
        assert_eq!(left("0000", "0300", Some("0300")), 0.0);
    }
}
