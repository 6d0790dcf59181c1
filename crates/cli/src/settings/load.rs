//! The order of sources: defaults, file, environment, flags.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::table::{Key, Settings};
use super::value::Raw;
use super::{check, environment, file};
use crate::failure::Failure;

/// Where settings come from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The file that the user named; it must exist.
    pub(crate) config: Option<PathBuf>,
    /// Files to look for otherwise, in order: the first that exists is read, alone.
    pub(crate) search: Vec<PathBuf>,
    /// The environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Flags.
    pub(crate) flags: Vec<(&'static Key, Raw)>,
}

/// Settings and where they came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
}

/// The largest settings file that is read: a table of fewer than 60 keys fits a thousand times.
const FILE_MAX: u64 = 1 << 20;

impl Sources {
    /// The sources of this process.
    pub(crate) fn of_process(config: Option<PathBuf>, flags: Vec<(&'static Key, Raw)>) -> Self {
        Self {
            config: config
                .or_else(|| std::env::var_os("FOREBAY_CONFIG").filter(|path| !path.is_empty()).map(Into::into)),
            search: vec!["forebay.toml".into(), "/etc/forebay/forebay.toml".into()],
            environment: std::env::vars_os().collect(),
            flags,
        }
    }

    /// Reads all sources, the later over the earlier, and checks the result.
    pub(crate) fn load(self) -> Result<Loaded, Failure> {
        let mut settings = Settings::default();
        let file = self.read_file()?;
        if let Some((path, text)) = &file {
            let at = |why: String| Failure::usage(format!("{}: {why}", path.display()));
            for (key, raw) in file::parse(text).map_err(at)? {
                settings.put(key, &raw).map_err(|why| at(format!("{}: {why}", key.name)))?;
            }
        }
        for (key, variable, raw) in environment::parse(self.environment.into_iter()).map_err(Failure::usage)? {
            settings.put(key, &raw).map_err(|why| Failure::usage(format!("{variable}: {why}")))?;
        }
        for (key, raw) in &self.flags {
            settings.put(key, raw).map_err(|why| Failure::usage(format!("{}: {why}", key.name)))?;
        }
        check::check(&settings).map_err(Failure::usage)?;
        Ok(Loaded { settings, file: file.map(|(path, _)| path) })
    }

    fn read_file(&self) -> Result<Option<(PathBuf, String)>, Failure> {
        let (paths, must): (&[PathBuf], bool) = match &self.config {
            Some(path) => (std::slice::from_ref(path), true),
            None => (&self.search, false),
        };
        for path in paths {
            match read_bounded(path) {
                Ok(text) => return Ok(Some((path.clone(), text))),
                Err(error) if error.kind() == ErrorKind::NotFound && !must => {}
                Err(error) => {
                    return Err(Failure::usage(format!("cannot read the settings file {}: {error}", path.display())));
                }
            }
        }
        Ok(None)
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("it has more than {FILE_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{KEYS, MountKind};

    fn key(name: &str) -> &'static Key {
        KEYS.iter().find(|key| key.name == name).unwrap()
    }

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forebay.toml");
        std::fs::write(&path, file).unwrap();
        let sources = Sources {
            config: Some(path),
            search: Vec::new(),
            environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            flags: flags.iter().map(|(name, value)| (key(name), Raw::Text((*value).to_owned()))).collect(),
        };
        match sources.load() {
            Ok(loaded) => Ok(loaded.settings),
            Err(Failure::Usage(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_later_source_wins() {
        let file = "[origin]\ndeadline = \"1s\"\nmax_requests = 7\nregion = \"a\"\n[mount]\nkind = \"streams\"\n";
        let environment = [("FOREBAY_ORIGIN_DEADLINE", "2s"), ("FOREBAY_ORIGIN_MAX_REQUESTS", "8")];
        let settings = load(file, &environment, &[("origin.deadline", "3s")]).unwrap();
        assert_eq!(settings.origin.deadline, Duration::from_secs(3));
        assert_eq!(settings.origin.max_requests.0, 8);
        assert_eq!(settings.origin.region.as_deref(), Some("a"));
        assert_eq!(settings.mount.kind, MountKind::Streams);
    }

    #[test]
    fn caches_of_a_later_source_replace_the_earlier() {
        let settings = load("cache = [\"/a:1GB\"]", &[("FOREBAY_CACHE", "/b:1GB,/c:2GB")], &[]).unwrap();
        let directories: Vec<_> = settings.process.cache.iter().map(|cache| cache.directory.clone()).collect();
        assert_eq!(directories, [PathBuf::from("/b"), PathBuf::from("/c")]);
    }

    #[test]
    fn an_empty_variable_takes_a_setting_back() {
        let settings = load("[origin]\nregion = \"a\"", &[("FOREBAY_ORIGIN_REGION", "")], &[]).unwrap();
        assert_eq!(settings.origin.region, None);
    }

    #[test]
    fn errors_name_the_place_and_the_input() {
        let error = load("[mount]\nkind = \"fils\"", &[], &[]).unwrap_err();
        assert!(error.contains("forebay.toml: mount.kind: \"fils\" is not valid: expected `files`"), "{error}");
        let error = load("", &[("FOREBAY_MOUNT_KIND", "fils")], &[]).unwrap_err();
        assert!(error.starts_with("FOREBAY_MOUNT_KIND: \"fils\""), "{error}");
        let error = load("[mount]\nfile_mode = 444", &[], &[]).unwrap_err();
        assert!(error.contains("mount.file_mode: 444 needs quotes"), "{error}");
    }

    #[test]
    fn a_named_file_must_exist_and_a_searched_one_need_not() {
        let sources = |config: Option<&str>| Sources {
            config: config.map(Into::into),
            search: vec!["/absent/forebay.toml".into()],
            environment: Vec::new(),
            flags: Vec::new(),
        };
        assert!(sources(None).load().unwrap().file.is_none());
        assert!(
            matches!(sources(Some("/absent/x.toml")).load(), Err(Failure::Usage(why)) if why.contains("/absent/x.toml"))
        );
    }
}
