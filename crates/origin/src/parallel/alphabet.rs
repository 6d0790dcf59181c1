//! The letters that names are made of, as far as seen: what makes a number of a name.

/// Positions that are told apart, in characters behind the prefix; later ones are taken alike.
const POSITIONS: usize = 96;
/// Letters above ASCII that are kept; a name with others counts by its neighbours among these.
const WIDE_MAX: usize = 1_024;

const DIGIT: u8 = 1;
const UPPER: u8 = 2;
const LOWER: u8 = 4;
const OTHER: u8 = 8;
const WIDE: u8 = 16;
/// Sets of classes.
const SETS: usize = 32;

/// Letters seen, by class, and which classes were seen at which position.
#[derive(Clone, Debug)]
pub(crate) struct Alphabet {
    /// Bytes of the prefix that all keys share.
    base: usize,
    /// Letters seen of each set of classes, ascending. Digits are all there from the start.
    sets: Vec<Vec<char>>,
    classes: [u8; POSITIONS],
}

fn class_of(letter: char) -> u8 {
    match letter {
        '0'..='9' => DIGIT,
        'A'..='Z' => UPPER,
        'a'..='z' => LOWER,
        letter if letter.is_ascii() => OTHER,
        _ => WIDE,
    }
}

impl Alphabet {
    /// For keys that all begin with the same `base` bytes.
    pub(crate) fn new(base: usize) -> Self {
        let digits: Vec<char> = ('0'..='9').collect();
        let sets = (0..SETS).map(|set| if set as u8 & DIGIT == 0 { Vec::new() } else { digits.clone() }).collect();
        Self { base, sets, classes: [0; POSITIONS] }
    }

    /// Learns the letters of `key`.
    pub(crate) fn see(&mut self, key: &str) {
        for (position, letter) in key.get(self.base..).unwrap_or_default().chars().enumerate() {
            let class = class_of(letter);
            self.classes[position.min(POSITIONS - 1)] |= class;
            let own = &self.sets[class as usize];
            if own.binary_search(&letter).is_ok() || (class == WIDE && own.len() >= WIDE_MAX) {
                continue;
            }
            for (_, set) in self.sets.iter_mut().enumerate().filter(|(set, _)| *set as u8 & class != 0) {
                if let Err(place) = set.binary_search(&letter) {
                    set.insert(place, letter);
                }
            }
        }
    }

    /// Letters that may stand at byte `at` of `key`, the number `position` behind it, if `letters` stand there in keys.
    pub(crate) fn letters(&self, position: usize, also: impl IntoIterator<Item = char>) -> &[char] {
        let classes = also.into_iter().fold(self.classes[position.min(POSITIONS - 1)], |set, c| set | class_of(c));
        &self.sets[classes as usize]
    }

    /// A letter that is above all seen: `~` if that is one, which no server takes offence at.
    pub(crate) fn top(&self) -> char {
        let is_below = |set: u8| self.sets[set as usize].last().is_none_or(|letter| *letter < '~');
        if is_below(OTHER) && is_below(WIDE) { '~' } else { char::MAX }
    }

    /// Bytes of the prefix that all keys share.
    pub(crate) fn base(&self) -> usize {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_known_by_class_and_position() {
        let mut alphabet = Alphabet::new(2);
        alphabet.see("p/n01.é");
        assert_eq!(alphabet.letters(0, []), ['n']);
        assert_eq!(alphabet.letters(1, []).len(), 10);
        assert_eq!(alphabet.letters(4, []), ['é']);
        assert_eq!(alphabet.letters(0, ['.']), ['.', 'n']);
        assert!(alphabet.letters(90, []).is_empty());
        assert_eq!(alphabet.top(), char::MAX);
        let mut plain = Alphabet::new(0);
        plain.see("abc");
        assert_eq!(plain.top(), '~');
        plain.see("x~");
        assert_eq!(plain.top(), char::MAX);
    }
}
