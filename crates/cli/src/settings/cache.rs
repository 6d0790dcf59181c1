//! One directory that keeps pages, as users write it: `DIR:SIZE` or `DIR:SIZE:CLASS`.

use std::fmt;
use std::path::PathBuf;

use forebay_model::Capacity;
use forebay_store::Class;

use super::value::Value;

/// A directory and how much of it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheSpec {
    /// The directory. Made when it is absent.
    pub(crate) directory: PathBuf,
    /// How much of it may be used.
    pub(crate) capacity: Capacity,
    /// How fast it is. None: to be found out.
    pub(crate) class: Option<Class>,
}

impl Value for CacheSpec {
    const EXPECTED: &'static str = "`DIR:SIZE`, such as `/var/cache/forebay:20GB`, `/nvme:80%` or `/disk:2TB:hdd`";

    /// Splits at the last `:` but that before a class, for a directory's name may have one and a size has none.
    fn parse(text: &str) -> Result<Self, String> {
        let error = |why: &str| format!("{text:?}: {why}: expected {}", Self::EXPECTED);
        let classed = text.rsplit_once(':').and_then(|(rest, class)| Some((rest, Some(class.parse().ok()?))));
        let (rest, class) = classed.unwrap_or((text, None));
        let (directory, capacity) = rest.rsplit_once(':').ok_or_else(|| error("the size is missing"))?;
        if directory.is_empty() || directory.contains('\0') {
            return Err(error("the directory is missing"));
        }
        let capacity: Capacity = capacity.parse().map_err(|problem| format!("{text:?}: {problem}"))?;
        if matches!(capacity, Capacity::Bytes(size) if size.0 == 0) {
            return Err(error("a cache of size 0 keeps nothing"));
        }
        Ok(Self { directory: directory.into(), capacity, class })
    }
}

impl fmt::Display for CacheSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.directory.display(), self.capacity)?;
        self.class.map_or(Ok(()), |class| write!(f, ":{class}"))
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::ByteSize;

    use super::*;

    fn check(text: &str, directory: &str, capacity: Capacity) {
        check_classed(text, directory, capacity, None);
    }

    fn check_classed(text: &str, directory: &str, capacity: Capacity, class: Option<Class>) {
        let expected = CacheSpec { directory: directory.into(), capacity, class };
        assert_eq!(CacheSpec::parse(text), Ok(expected), "{text:?}");
    }

    #[test]
    fn a_class_may_follow() {
        check_classed("/a:20GB:hdd", "/a", Capacity::Bytes(ByteSize(20_000_000_000)), Some(Class::Hdd));
        check_classed("/a:ssd:80%:mem", "/a:ssd", Capacity::Percent(80), Some(Class::Mem));
        assert_eq!(CacheSpec::parse("/a:80%:hdd").map(|spec| spec.to_string()), Ok("/a:80%:hdd".to_owned()));
    }

    #[test]
    fn splits_at_the_last_colon() {
        check("/a:20GB", "/a", Capacity::Bytes(ByteSize(20_000_000_000)));
        check("/a:80%", "/a", Capacity::Percent(80));
        check("/a:b:1MiB", "/a:b", Capacity::Bytes(ByteSize(1 << 20)));
        check("rel dir:5", "rel dir", Capacity::Bytes(ByteSize(5)));
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, why) in [
            ("/a", "size is missing"),
            (":1GB", "directory is missing"),
            ("/a:", "is no size"),
            ("/a:ssd", "size is missing"),
            ("/a:5:tape", "\"tape\" is no size"),
            ("/a:20XB", "\"20XB\" is no size"),
            ("/a:0%", "is no share"),
            ("/a:0", "keeps nothing"),
        ] {
            let error = CacheSpec::parse(text).expect_err(text);
            assert!(error.contains(why) && error.contains(text), "{text:?}: {error}");
        }
    }
}
