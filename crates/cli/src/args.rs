//! The command line: commands, arguments and help. Flags that set settings are made in `settings/flags.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use forebay_model::{ByteSize, Freshness, NsPath, Setting};

use crate::failure::Failure;
use crate::settings::{CredentialsName, DoctorFlags, LogFilter, UpFlags, Value};

const EXAMPLES: &str = "\
Examples:
  forebay up s3://ml/imagenet/ --mount /data --cache /nvme/forebay:800GB
  forebay doctor s3://ml/imagenet/ --cache /nvme/forebay:800GB
  forebay ls -l /imagenet/train
  forebay cp -r /imagenet/val ./val
  forebay status --json

Settings: forebay.toml, then FOREBAY_*, then flags; the later wins.
Exit codes: 0 done, 1 failed, 2 wrong usage.";

const UP_EXAMPLES: &str = "\
Examples:
  # A bucket as a directory, with a cache of 800 GB on a local disk:
  forebay up s3://ml/imagenet/ --mount /data --cache /nvme/forebay:800GB

  # An S3 server of your own, objects that never change, two disks:
  forebay up s3://ml --endpoint http://10.0.0.5:9000 --freshness immutable \\
      --mount /data --cache /nvme0:80% --cache /nvme1:80%

  # A shared directory behind a cache in memory:
  forebay up file:///mnt/nfs/train --mount /data --cache /dev/shm/forebay:16GiB

It runs until SIGTERM or SIGINT, then unmounts and ends within 10 s.";

const SOURCE_EXAMPLES: &str = "\
Examples:
  forebay source add /imagenet s3://ml/imagenet/ --freshness immutable --quota 500GB
  forebay source add /shared/raw file:///mnt/nfs/raw
  forebay source set /imagenet --priority 200 --quota default
  forebay source list
  forebay source remove /shared/raw

Credentials are named, never given: `--credentials NAME` is a profile of the files that the process
reads (~/.aws/config and ~/.aws/credentials of its user).";

const REFRESH_EXAMPLES: &str = "\
What is forgotten is asked of the origin when it is next looked at, by commands and in the mount.
Cached bytes stay: of an object that has not changed nothing is fetched again. Files that are open
keep their version.

Examples:
  forebay refresh /imagenet/train/labels.csv
  forebay refresh /imagenet/train
  forebay refresh /imagenet --recursive";

const TRACE_HELP: &str = "\
A trace holds what reached the process: content ids, sizes and ranges, no names. What the kernel
answers by itself does not reach it: repeated reads of a mount of kind `files`, and reads of a
file that it was given whole (kind `streams`; its first open counts as one read of all of it).

Examples:
  forebay trace start /var/tmp/reads.jsonl
  forebay trace stop
  forebay bench eviction --trace /var/tmp/reads.jsonl --cache 800GB --plot reads.svg";

const BENCH_MOUNT_HELP: &str = "\
Where PATH can be written, a data set is made in it and removed afterwards. Where not (a mount of
Forebay), files that lie there are taken, found by a walk of at most 200,000 names.

Cold rows come first, each with files of its own: the first read in this run, after the page cache
was dropped (as root; this slows other programs on the machine for a moment). What the mount itself
had cached before stays cached: the table says what `cold` meant. Hot rows are read again and again.

Examples:
  forebay bench mount /data --native /var/tmp
  forebay bench mount /mnt/any --files 5000 --size 64KiB --large 1GiB --threads 8
  forebay bench mount /data --seconds 20 --json";

/// A cache between object stores and GPU programs.
///
/// Keeps what programs read from S3, GCS, Azure Blob, OSS, COS, HDFS, HTTP or a shared directory on the disks and in the
/// memory of this machine, and shows it as files.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    after_help = EXAMPLES,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print JSON: one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    /// Process to ask: a socket's path or HOST:PORT [env: FOREBAY_NODE; default: this machine's]
    #[arg(long, value_name = "ADDR", global = true, help_heading = "Global options")]
    pub(crate) node: Option<String>,

    /// Log more: -v debug, -vv trace
    #[arg(short, action = clap::ArgAction::Count, global = true, help_heading = "Global options")]
    verbose: u8,

    /// What to log to standard error: a level or directives [env: FOREBAY_LOG]
    #[arg(long, value_name = "LEVEL", global = true, help_heading = "Global options", value_parser = LogFilter::parse)]
    log: Option<LogFilter>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount an origin and serve it, until stopped
    Up(Box<UpArgs>),
    /// List directories
    Ls(LsArgs),
    /// Show what paths stand for
    Stat(PathsArgs),
    /// Write files to standard output
    Cat(PathsArgs),
    /// Copy a file or a directory to this machine
    Cp(CpArgs),
    /// Forget what is known of paths, so that changes at the origin are seen at once
    Refresh(RefreshArgs),
    /// Show what the running process does
    Status,
    /// Check this machine and an origin, and say what to do
    Doctor(Box<DoctorArgs>),
    /// Show origins at paths of the running process, and change their rules
    Source(SourceArgs),
    /// Measure without a running process
    Bench(BenchArgs),
    /// Record what the running process is asked to read
    Trace(TraceArgs),
    /// Look at a cache directory without a running process, and change nothing
    Store(StoreArgs),
}

/// Arguments of `source`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true, after_help = SOURCE_EXAMPLES)]
pub(crate) struct SourceArgs {
    #[command(subcommand)]
    pub(crate) command: SourceCommand,
}

/// What is done with sources.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Show an origin at a path, from now on and after every start
    #[command(after_help = SOURCE_EXAMPLES)]
    Add(SourceAddArgs),
    /// List the sources
    List,
    /// Show all that is known of sources
    Show(SourcePaths),
    /// Change the rules of a source
    Set(SourceSetArgs),
    /// Take a source away, and let go of what is cached of it; its origin is not touched
    Remove(SourcePaths),
}

/// Sources by their paths.
#[derive(Debug, Args)]
pub(crate) struct SourcePaths {
    /// Paths of sources
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<NsPath>,
}

/// Arguments of `source add`.
#[derive(Debug, Args)]
pub(crate) struct SourceAddArgs {
    /// Where it is shown; it may lie inside another source, and then hides what that has there
    #[arg(value_name = "PATH")]
    pub(crate) path: NsPath,

    /// URL of the origin, such as s3://bucket/prefix/
    // Read by the command: clap would repeat a wrong one, which may hold a secret.
    #[arg(value_name = "ORIGIN")]
    pub(crate) origin: String,

    #[command(flatten)]
    pub(crate) rules: SourceRules,
}

/// Arguments of `source set`.
#[derive(Debug, Args)]
pub(crate) struct SourceSetArgs {
    /// Path of the source
    #[arg(value_name = "PATH")]
    pub(crate) path: NsPath,

    #[command(flatten)]
    pub(crate) rules: SourceRules,
}

/// Rules of a source. A value of `default` takes back what was given.
#[derive(Debug, Args)]
pub(crate) struct SourceRules {
    /// For how long what was seen may be used: immutable, ttl=60s, check [default: ttl=60s]
    #[arg(long, value_name = "RULE")]
    pub(crate) freshness: Option<Freshness>,

    /// Where the origin answers [default: AWS_ENDPOINT_URL of the process, else the public service]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// Region of the origin [default: AWS_REGION of the process, else us-east-1]
    #[arg(long, value_name = "REGION", value_parser = given::<String>)]
    pub(crate) region: Option<Setting<String>>,

    /// Whether the bucket stands in the path of requests: yes or no [default: yes with an endpoint]
    #[arg(long, value_name = "YES|NO", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = yes_or_no)]
    pub(crate) path_style: Option<Setting<bool>>,

    /// Name of the credentials: standard, anonymous or a profile of the process's credential files
    #[arg(long, value_name = "NAME", value_parser = given::<CredentialsName>)]
    pub(crate) credentials: Option<Setting<CredentialsName>>,

    /// The most that it takes of the caches, such as 100GB [default: as much as there is]
    #[arg(long, value_name = "SIZE", value_parser = given::<ByteSize>)]
    pub(crate) quota: Option<Setting<ByteSize>>,

    /// Sources of lower priority are evicted first, and never evict higher ones: 0 to 255 [default: 100]
    #[arg(long, value_name = "N", value_parser = priority)]
    pub(crate) priority: Option<Setting<u8>>,

    /// Nothing is ever written to it through Forebay: yes or no
    #[arg(long, value_name = "YES|NO", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = switch)]
    pub(crate) read_only: Option<bool>,
}

/// Arguments of `store`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What is to be known of a cache directory.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of it and say what is damaged, and what the next start will drop
    Check(StoreDirectory),
    /// List what lies there: one content a line
    Ls(StoreDirectory),
    /// Show how much lies there, by kind and by group
    Stat(StoreDirectory),
}

/// The cache directory of a command of `store`.
#[derive(Debug, Args)]
pub(crate) struct StoreDirectory {
    /// A directory that was given to `up --cache`
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Simulate the store's eviction: hit rate of each policy beside the offline optimum
    Eviction(EvictionArgs),
    /// Measure a directory, mounted or plain: files/s, MB/s, IOPS, stat/s, list/s, time to first byte
    #[command(after_help = BENCH_MOUNT_HELP)]
    Mount(BenchMountArgs),
}

/// Arguments of `bench mount`.
#[derive(Debug, Args)]
pub(crate) struct BenchMountArgs {
    /// The directory: a mount of Forebay or of anything else, or a plain one
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    /// Measure the same data below this plain directory too, in turns, and print the ratio
    #[arg(long, value_name = "DIR")]
    pub(crate) native: Option<PathBuf>,

    /// Small files to make, or to take of those that are there
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) files: u32,

    /// Size of the small files that are made
    #[arg(long, value_name = "SIZE", default_value = "112KiB", value_parser = size)]
    pub(crate) size: ByteSize,

    /// Size of each of the three large files that are made, or how much is read of those that are there
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = size)]
    pub(crate) large: ByteSize,

    /// Readers at one time in the rows with more than one
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,

    /// Time for measuring; making, copying and removing the data come on top, each at most as long again or a minute
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) seconds: u32,

    /// Take the files that are there, though the directory can be written
    #[arg(long)]
    pub(crate) existing: bool,
}

/// Arguments of `bench eviction`.
#[derive(Debug, Args)]
pub(crate) struct EvictionArgs {
    /// Replay what `forebay trace` has recorded at several cache sizes: its first 4 million reads (1 GB of memory)
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// With --trace: the size of the disk, which is 1 x [default: half of the bytes that the trace names]
    #[arg(long, value_name = "SIZE", requires = "trace", value_parser = size)]
    pub(crate) cache: Option<ByteSize>,

    /// Draw the hit rates to this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}

/// Arguments of `trace`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true, after_help = TRACE_HELP)]
pub(crate) struct TraceArgs {
    #[command(subcommand)]
    pub(crate) command: TraceCommand,
}

/// What is done with a trace.
#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Begin to record reads in a new file, which the process writes
    #[command(after_help = TRACE_HELP)]
    Start(TraceStartArgs),
    /// End the trace and say what it holds
    Stop(TraceStopArgs),
}

/// Arguments of `trace start`.
#[derive(Debug, Args)]
pub(crate) struct TraceStartArgs {
    /// File to make on the process's machine
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The most that the file may take; the trace ends by itself there. 512 MiB are about 4 million reads
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size)]
    pub(crate) limit: ByteSize,
}

/// Arguments of `trace stop`.
#[derive(Debug, Args)]
pub(crate) struct TraceStopArgs {
    /// File that the trace must be written to
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) flags: UpFlags,

    /// Settings file [env: FOREBAY_CONFIG; default: ./forebay.toml, else /etc/forebay/forebay.toml]
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub(crate) config: Option<PathBuf>,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Directories or files of the namespace
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) paths: Vec<NsPath>,

    /// One line each with size and time of change
    #[arg(short)]
    pub(crate) long: bool,
}

/// Arguments of `stat` and `cat`.
#[derive(Debug, Args)]
pub(crate) struct PathsArgs {
    /// Paths of the namespace
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<NsPath>,
}

/// Arguments of `refresh`.
#[derive(Debug, Args)]
#[command(after_help = REFRESH_EXAMPLES)]
pub(crate) struct RefreshArgs {
    /// Paths of the namespace: what stands there, and of a directory its listing and the names in it
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<NsPath>,

    /// With all that lies below them
    #[arg(long)]
    pub(crate) recursive: bool,
}

/// Arguments of `cp`.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// File or directory of the namespace
    #[arg(value_name = "PATH")]
    pub(crate) path: NsPath,

    /// Where to put it: a new name, or a directory that exists
    #[arg(value_name = "LOCAL")]
    pub(crate) local: PathBuf,

    /// Copy a directory with everything in it
    #[arg(short)]
    pub(crate) recursive: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) flags: DoctorFlags,

    /// Settings file [env: FOREBAY_CONFIG; default: ./forebay.toml, else /etc/forebay/forebay.toml]
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub(crate) config: Option<PathBuf>,
}

impl Global {
    /// What to log: `--log`, else `-v`, else `FOREBAY_LOG`, else `default`.
    pub(crate) fn filter(&self, default: &str) -> Result<LogFilter, Failure> {
        if let Some(filter) = &self.log {
            return Ok(filter.clone());
        }
        let text = match (self.verbose, std::env::var("FOREBAY_LOG")) {
            (0, Ok(text)) if !text.is_empty() => {
                return LogFilter::parse(&text).map_err(|why| Failure::usage(format!("FOREBAY_LOG: {why}")));
            }
            // Directives are for our own crates: the libraries' traces would bury them.
            (0, _) => default,
            (1, _) => "info,forebay=debug",
            _ => "debug,forebay=trace",
        };
        LogFilter::parse(text).map_err(Failure::usage)
    }
}

/// Reads a value, or `default`.
fn given<T: Value>(text: &str) -> Result<Setting<T>, String> {
    if text == "default" { Ok(Setting::Default) } else { T::parse(text).map(Setting::To) }
}

fn priority(text: &str) -> Result<Setting<u8>, String> {
    match text {
        "default" => Ok(Setting::Default),
        _ => text.parse().map(Setting::To).map_err(|_| format!("{text:?}: a number from 0 to 255 is expected")),
    }
}

fn yes_or_no(text: &str) -> Result<Setting<bool>, String> {
    if text == "default" { Ok(Setting::Default) } else { switch(text).map(Setting::To) }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("{text:?}: `yes` or `no` is expected")),
    }
}

/// Reads a size.
fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|error: forebay_model::QuantityParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::settings::{Flag, KEYS};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn up_has_every_flag_of_the_table_and_no_other_setting() {
        let command = Cli::command();
        let up = command.find_subcommand("up").expect("a command");
        for key in KEYS {
            let argument = up.get_arguments().find(|argument| argument.get_id() == key.name);
            let expected = match key.flag {
                Flag::Absent => None,
                Flag::Value(flag, _) | Flag::Repeated(flag, _) | Flag::Switch(flag) => Some(Some(flag)),
                Flag::Positional(_) => Some(None),
            };
            assert_eq!(argument.map(clap::Arg::get_long), expected, "{}", key.name);
        }
    }
}
