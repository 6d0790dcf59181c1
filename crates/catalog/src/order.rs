//! The order of a listing: that of the origin's keys, where a directory's name ends in `/`.
//!
//! A place in a listing is the text of a key after the directory's prefix: `a` for an object, `a/` for a directory of that
//! name. `a-b` lies between the two, so by names alone a range of keys that was listed would be no range.

/// The longest place that a block may begin or end at: what a key of the database holds beside its id.
pub(crate) const PLACE_MAX: usize = 500;

/// The place, cut to what a block's bounds may have. No name lies between a place that is too long and its cut, for names
/// are shorter.
pub(crate) fn clamp(place: &str) -> &str {
    if place.len() <= PLACE_MAX {
        return place;
    }
    let mut end = PLACE_MAX;
    while !place.is_char_boundary(end) {
        end -= 1;
    }
    &place[..end]
}

/// The place of a directory of that name.
pub(crate) fn of_directory(name: &str) -> String {
    format!("{name}/")
}

/// The name of the entry at `place`, and whether it is a directory.
pub(crate) fn name(place: &str) -> (&str, bool) {
    match place.strip_suffix('/') {
        Some(name) => (name, true),
        None => (place, false),
    }
}

/// Whether any place that begins with `name` may lie after `place` and before that of the directory `name`.
pub(crate) fn is_before_directory(place: &str, name: &str) -> bool {
    match place.strip_prefix(name) {
        Some(rest) => rest < "/",
        None => place < name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_too_long_are_cut_at_a_character() {
        let long = format!("a{}", "é".repeat(400));
        assert_eq!(clamp(&long).len(), 499);
        assert!(long.starts_with(clamp(&long)));
        assert_eq!(clamp("a"), "a");
    }

    #[test]
    fn a_directory_comes_after_names_that_go_on_with_less_than_a_slash() {
        assert!(is_before_directory("a", "a") && is_before_directory("a-b", "a") && is_before_directory("a.x/", "a"));
        assert!(!is_before_directory("a/", "a") && !is_before_directory("a0", "a") && !is_before_directory("b", "a"));
    }
}
