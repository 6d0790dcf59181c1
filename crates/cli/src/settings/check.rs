//! What settings must be together, beyond what each must be alone.

use forebay_model::{ByteSize, PAGE};

use super::table::Settings;

/// The least memory for bytes on their way: a few reads of several pages each, at the same time.
const BUDGET_MIN: u64 = 16 << 20;
/// The least write queue: one extent's worth of half-filled pages would stall below it.
const WRITE_QUEUE_MIN: u64 = 4 * PAGE;
/// Slower than a page a second a cache is never read to its end.
const SCRUB_RATE_MIN: u64 = PAGE;
/// The most that the kernel is let read ahead.
const KERNEL_READ_AHEAD_MAX: u64 = 256 << 20;

/// Refuses settings that contradict each other or cannot work. The error is a sentence that names the keys.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    let caches = &settings.process.cache;
    for (index, cache) in caches.iter().enumerate() {
        if caches[..index].iter().any(|other| other.directory == cache.directory) {
            return Err(format!("cache: {} is given twice", cache.directory.display()));
        }
        if let Some(mount) = &settings.mount.dir
            && (cache.directory.starts_with(mount) || mount.starts_with(&cache.directory))
        {
            let (cache, mount) = (cache.directory.display(), mount.display());
            return Err(format!(
                "mount.dir: {mount} and the cache {cache} lie in each other: choose another directory"
            ));
        }
    }
    at_least("memory.budget", settings.memory.budget, BUDGET_MIN)?;
    at_least("store.write_queue", Some(settings.store.write_queue), WRITE_QUEUE_MIN)?;
    at_least("store.scrub_rate", Some(settings.store.scrub_rate), SCRUB_RATE_MIN)?;
    at_least("read_ahead.max", Some(settings.read_ahead.max), PAGE)?;
    if settings.mount.read_ahead.0 > KERNEL_READ_AHEAD_MAX {
        let most = ByteSize(KERNEL_READ_AHEAD_MAX);
        return Err(format!("mount.read_ahead: {} is above the most, {most}", settings.mount.read_ahead));
    }
    if settings.origin.deadline.is_zero() {
        return Err("origin.deadline: with no time at all every request would fail".to_owned());
    }
    if settings.origin.injected_latency >= settings.origin.deadline {
        return Err("origin.injected_latency: it must be below origin.deadline, or every request would fail".to_owned());
    }
    Ok(())
}

fn at_least(name: &str, value: Option<ByteSize>, least: u64) -> Result<(), String> {
    match value {
        Some(value) if value.0 < least => {
            Err(format!("{name}: {value} is too small: give at least {} MiB", least >> 20))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::settings::{KEYS, Raw};

    fn check_error(values: &[(&str, &str)], part: &str) {
        let mut settings = Settings::default();
        for (name, value) in values {
            let key = KEYS.iter().find(|key| key.name == *name).unwrap();
            settings.put(key, &Raw::Text((*value).to_owned())).unwrap();
        }
        let error = check(&settings).expect_err(part);
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(check(&Settings::default()), Ok(()));
        check_error(&[("cache", "/a:1GB,/a:2GB")], "/a is given twice");
        check_error(&[("cache", "/m/c:1GB"), ("mount.dir", "/m")], "lie in each other");
        check_error(&[("cache", "/c:1GB"), ("mount.dir", "/c/m")], "lie in each other");
        check_error(&[("memory.budget", "1MiB")], "memory.budget");
        check_error(&[("store.write_queue", "1")], "store.write_queue");
        check_error(&[("origin.deadline", "0s")], "origin.deadline");
        check_error(&[("origin.injected_latency", "30s")], "origin.injected_latency");
    }
}
