//! Flags that set settings: built from the table, so that a flag, its help and its setting cannot part.

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::table::{Flag, KEYS, Key};
use super::value::Raw;

/// The settings that were given as flags of `up`: every one that has a flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpFlags(Vec<(&'static Key, Raw)>);

/// The settings that were given as flags of `doctor`: those that it checks.
#[derive(Clone, Debug, Default)]
pub(crate) struct DoctorFlags(Vec<(&'static Key, Raw)>);

/// What `doctor` checks.
const DOCTOR_KEYS: [&str; 8] = [
    "source.origin",
    "cache",
    "mount.dir",
    "origin.endpoint",
    "origin.region",
    "origin.path_style",
    "origin.credentials",
    "origin.requester_pays",
];

impl UpFlags {
    /// The settings, in the table's order.
    pub(crate) fn into_values(self) -> Vec<(&'static Key, Raw)> {
        self.0
    }
}

impl DoctorFlags {
    /// The settings, in the table's order.
    pub(crate) fn into_values(self) -> Vec<(&'static Key, Raw)> {
        self.0
    }
}

fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
}

fn of_doctor() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| DOCTOR_KEYS.contains(&key.name))
}

/// The argument of `key`; none if it has no flag.
fn argument(key: &'static Key) -> Option<Arg> {
    let parser = ValueParser::from(move |text: &str| (key.check)(&item(key, text)).map(|()| text.to_owned()));
    let arg = Arg::new(key.name).help(help(key)).help_heading(heading(key));
    Some(match key.flag {
        Flag::Absent => return None,
        Flag::Value(flag, name) => {
            let arg = arg.long(flag).value_name(name).value_parser(parser);
            if key.default.is_empty() { arg } else { arg.default_value(key.default) }
        }
        Flag::Repeated(flag, name) => arg.long(flag).value_name(name).value_parser(parser).action(ArgAction::Append),
        Flag::Switch(flag) => arg.long(flag).action(ArgAction::SetTrue),
        Flag::Positional(name) => arg.value_name(name).value_parser(parser).help_heading(None::<&str>),
    })
}

/// One occurrence of the flag of `key`: an item where the flag is repeated, so that a comma in it is a comma.
fn item(key: &Key, text: &str) -> Raw {
    match key.flag {
        Flag::Repeated(..) => Raw::List(vec![text.to_owned()]),
        _ => Raw::Text(text.to_owned()),
    }
}

/// The first paragraph of the comment, without its full stop.
fn help(key: &Key) -> String {
    let first: Vec<&str> = key.doc.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect();
    first.join(" ").trim_end_matches('.').to_owned()
}

fn heading(key: &Key) -> &'static str {
    match key.name.split_once('.') {
        Some(("mount", _)) => "Mount",
        Some(("source" | "origin", _)) => "Origin",
        _ => "Process",
    }
}

fn values(keys: impl Iterator<Item = &'static Key>, matches: &ArgMatches) -> Vec<(&'static Key, Raw)> {
    let mut values = Vec::new();
    for key in keys.filter(|key| key.flag != Flag::Absent) {
        if matches.value_source(key.name) != Some(ValueSource::CommandLine) {
            continue;
        }
        let raw = match key.flag {
            Flag::Absent => continue,
            Flag::Switch(_) => Raw::Text("yes".to_owned()),
            Flag::Value(..) | Flag::Positional(_) => {
                Raw::Text(matches.get_one::<String>(key.name).cloned().unwrap_or_default())
            }
            Flag::Repeated(..) => {
                Raw::List(matches.get_many::<String>(key.name).into_iter().flatten().cloned().collect())
            }
        };
        values.push((key, raw));
    }
    values
}

macro_rules! flags_of {
    ($type:ident, $keys:ident) => {
        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
                Ok(Self(values($keys(), matches)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                self.0 = values($keys(), matches);
                Ok(())
            }
        }

        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                command.args($keys().filter_map(argument))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }
    };
}

flags_of!(UpFlags, all);
flags_of!(DoctorFlags, of_doctor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_doctor_checks_has_flags() {
        assert_eq!(of_doctor().count(), DOCTOR_KEYS.len());
        assert!(of_doctor().all(|key| key.flag != Flag::Absent));
    }

    #[test]
    fn helps_are_one_sentence() {
        for key in KEYS.iter().filter(|key| key.flag != Flag::Absent) {
            let help = help(key);
            assert!(help.len() <= 140, "{}: {help}", key.name);
        }
    }
}
