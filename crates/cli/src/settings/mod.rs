//! Settings of a process: one table, read from `forebay.toml`, then `FOREBAY_*`, then flags; the later wins.
//!
//! Always true here: an unknown key is refused with the nearest known one, a wrong value is refused with its place and
//! what was expected, and a [`Settings`] that came through [`Sources::load`] has passed [`check::check`].
//!
//! Not here: facts of a cluster, which live in the registry.

mod cache;
mod check;
mod environment;
mod file;
mod flags;
mod load;
mod nearest;
#[cfg(test)]
mod reference;
mod table;
mod value;

pub(crate) use cache::CacheSpec;
pub(crate) use environment::NODE_VARIABLE;
pub(crate) use flags::{DoctorFlags, UpFlags};
pub(crate) use load::Sources;
pub(crate) use table::{MountSettings, Settings};
pub(crate) use value::{CredentialsName, Endpoint, LogFilter, LogFormat, MountKind, OriginText, Value};
#[cfg(test)]
pub(crate) use {
    table::{Flag, KEYS},
    value::Raw,
};
