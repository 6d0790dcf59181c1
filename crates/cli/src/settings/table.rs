//! Every setting, once: its type, its default, its flag, and when a user would change it.
//!
//! The first paragraph of a setting's comment is the help of its flag; the whole comment is its text in
//! `docs/settings.md`. A default is written as a user would write it; an empty one means "not set", and the comment says
//! what happens then. Adding a setting means adding it here, and `UPDATE=1 cargo test -p forebay`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forebay_model::{ByteSize, Capacity, Freshness};

use super::cache::CacheSpec;
use super::value::{
    Count, CredentialsName, Endpoint, Id, LogFilter, LogFormat, Mode, MountKind, Name, OriginText, Raw, Value,
};

/// What the table says about one setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name: `section.field`, or the field alone at the top level.
    pub(crate) name: &'static str,
    /// What its type expects.
    #[cfg_attr(not(test), expect(dead_code, reason = "the reference page shows it, and a test makes that page"))]
    pub(crate) expected: &'static str,
    /// Its default as a user would write it; empty where it has none.
    pub(crate) default: &'static str,
    /// Its comment, a line an item, each with the blank after `///`.
    pub(crate) doc: &'static [&'static str],
    /// The flag of `up` that sets it.
    pub(crate) flag: Flag,
    /// Whether a value can be read.
    pub(crate) check: fn(&Raw) -> Result<(), String>,
}

/// How a setting is given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Not at all.
    Absent,
    /// `--flag VALUE`.
    Value(&'static str, &'static str),
    /// `--flag VALUE`, any number of times.
    Repeated(&'static str, &'static str),
    /// `--flag`, which means yes.
    Switch(&'static str),
    /// The argument itself, without a flag.
    Positional(&'static str),
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $struct:ident, $prefix:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:literal, $flag:expr; )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub(crate) struct $struct { $( $(#[doc = $doc])+ pub(crate) $field: $type, )+ }
        )+

        /// All settings of a process.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct Settings { $( $(#[doc = $section_doc])+ pub(crate) $section: $struct, )+ }

        /// The table, in the order of the reference page.
        pub(crate) const KEYS: &[Key] = &[$($(
            Key {
                name: concat!($prefix, stringify!($field)),
                expected: <$type as Value>::EXPECTED,
                default: $default,
                doc: &[$($doc),+],
                flag: $flag,
                check: |raw| <$type as Value>::read(raw).map(drop),
            },
        )+)+];

        /// The sections: prefix of their keys, and what they hold.
        pub(crate) const SECTIONS: &[(&str, &[&str])] = &[$( ($prefix, &[$($section_doc),+]), )+];

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $section: $struct { $(
                    $field: <$type as Value>::parse($default).expect("defaults are read by a test"),
                )+ }, )+ }
            }
        }

        impl Settings {
            /// Sets the setting `key` of the table from `raw`. The error is a sentence without the key's name.
            pub(crate) fn put(&mut self, key: &Key, raw: &Raw) -> Result<(), String> {
                $($(
                    if key.name == concat!($prefix, stringify!($field)) {
                        self.$section.$field = <$type as Value>::read(raw)?;
                        return Ok(());
                    }
                )+)+
                unreachable!("{} is a key of the table", key.name)
            }
        }
    };
}

settings! {
    /// The process: where it keeps things and where it listens.
    process: ProcessSettings, "" {
        /// Directory that keeps cached bytes, and how much of it to use; repeat for several.
        ///
        /// Give the fastest local disks; a tmpfs works too and its bytes count as memory. SIZE is a size (`20GB` = 10^9,
        /// `20GiB` = 2^30) or a share of the file system (`80%`). A class may follow: `DIR:SIZE:mem`, `:ssd` or `:hdd`;
        /// without one it is found out. New data goes to the fastest class that has room, what is read twice moves up.
        /// Required.
        cache: Vec<CacheSpec> = "", Flag::Repeated("cache", "DIR:SIZE");

        /// Directory for the node's id, the registry and the catalog [default: inside the first cache].
        ///
        /// Set it when the caches are on disks that are wiped at boot.
        state: Option<PathBuf> = "", Flag::Value("state", "DIR");

        /// Address for other machines to reach this node [default: none, the Unix socket alone].
        ///
        /// Set it when another machine reads through this one.
        listen: Option<SocketAddr> = "", Flag::Value("listen", "ADDR");

        /// Address of metrics, health and status over HTTP; port 0 is a free one.
        ///
        /// Set it when two processes run on one machine, or when a scraper on another machine must reach it: then it shows
        /// names of sources and directories to whoever can connect.
        admin: SocketAddr = "127.0.0.1:7601", Flag::Value("admin", "ADDR");

        /// File with the token that senders of events must show [default: none, and no events are taken].
        ///
        /// Set it when the origin tells of changes (S3 event notifications to `POST /v1/events/SOURCE` of the admin address): they
        /// are seen at once then, however long attributes hold. The file is read at each request; it holds one line of 16 to
        /// 1,024 characters without blanks, which the sender gives as `Authorization: Bearer TOKEN`.
        events_token: Option<PathBuf> = "", Flag::Value("events-token", "FILE");

        /// Unix socket for commands [default: /run/forebay/node.sock, else $XDG_RUNTIME_DIR/forebay/node.sock].
        ///
        /// Set it when two processes run on one machine; commands then find each by `--node` or `FOREBAY_NODE`.
        socket: Option<PathBuf> = "", Flag::Value("socket", "PATH");
    }

    /// The source: which origin is shown, under which name, and how long its attributes hold.
    source: SourceSettings, "source." {
        /// What to read: s3://BUCKET/PREFIX, file:///DIR, gs://, az://, oss://, cos://, hdfs://, hf://, http(s)://.
        ///
        /// Set it in the file when `up` runs as a service without arguments.
        origin: Option<OriginText> = "", Flag::Positional("ORIGIN");

        /// Name of the source in the namespace [default: the bucket, or the last part of the path].
        ///
        /// Set it when two origins would have the same name.
        name: Option<Name> = "", Flag::Value("name", "NAME");

        /// How long attributes hold: immutable, check (ask at each open) or ttl=TIME.
        ///
        /// `immutable` when objects are never overwritten: the fastest, it never asks again. `check` when a reader must see
        /// a change at its next open, at the price of one request an open.
        freshness: Freshness = "ttl=60s", Flag::Value("freshness", "RULE");
    }

    /// The origin: how it is reached.
    origin: OriginSettings, "origin." {
        /// URL of the origin's service [default: AWS_ENDPOINT_URL, else the public one].
        ///
        /// Set it for any S3 server other than that of AWS, and for emulators.
        endpoint: Option<Endpoint> = "", Flag::Value("endpoint", "URL");

        /// Region of the bucket [default: AWS_REGION, else us-east-1].
        ///
        /// Set it when the origin answers that the region is another.
        region: Option<String> = "", Flag::Value("region", "REGION");

        /// Name the bucket in the path, not in the host [default: yes when an endpoint is given].
        ///
        /// Set it to `no` when an endpoint of your own serves buckets as host names.
        path_style: Option<bool> = "", Flag::Switch("path-style");

        /// Where credentials come from: standard, anonymous, or the name of a profile.
        ///
        /// `standard` is the environment, then the profile files, then the identity of the machine or pod. `anonymous` for
        /// public buckets.
        credentials: CredentialsName = "standard", Flag::Value("credentials", "NAME");

        /// Pay for requests and traffic where the bucket asks its reader to.
        ///
        /// Set it for requester-pays buckets; without it they answer that access is denied.
        requester_pays: bool = "no", Flag::Switch("requester-pays");

        /// How long one request may take, with its retries, before the reader gets an error.
        ///
        /// Raise it when programs would rather wait through an outage than fail; lower it when they retry by themselves.
        deadline: Duration = "30s", Flag::Absent;

        /// The most requests at the same time.
        ///
        /// Lower it when the origin throttles, raise it when it is far away and its bandwidth is not used.
        max_requests: Count<1, 1024> = "64", Flag::Absent;

        /// The most pages of one listing that are asked for at the same time.
        ///
        /// Counts within `max_requests`. A small directory takes one request whatever this says. Raise it for directories of
        /// millions of names at an origin that is far away; 1 lists page after page.
        listers: Count<1, 256> = "16", Flag::Absent;

        /// Time added before each request.
        ///
        /// For demonstrations and tests only: makes a near origin behave like a far one.
        injected_latency: Duration = "0ms", Flag::Absent;

        /// PEM file with certificates of authorities to trust besides the system's.
        ///
        /// Set it when the origin's certificate is signed by an authority of your own.
        ca_file: Option<PathBuf> = "", Flag::Absent;
    }

    /// The mount: how files are shown to programs.
    mount: MountSettings, "mount." {
        /// Directory to mount the source on; it must exist.
        ///
        /// Leave it out to serve `forebay ls`, `cat` and `cp` alone.
        dir: Option<PathBuf> = "", Flag::Value("mount", "DIR");

        /// Kind of mount: files (many files, kernel page cache) or streams (large objects, passthrough).
        ///
        /// `streams` when the data are files of 100 MB and more that are read once: they are then read at the speed of the
        /// local disk without filling memory twice. It needs CAP_SYS_ADMIN to be fast.
        kind: MountKind = "files", Flag::Value("kind", "files|streams");

        /// Threads that answer the kernel, and so reads of local disks at once [default: four for each core, 8 to 32].
        ///
        /// Raise it when many processes read hot files and cores are idle.
        threads: Option<Count<1, 64>> = "", Flag::Absent;

        /// Take requests over io_uring where the kernel has that enabled (Linux 6.14 and newer, `forebay doctor` says how).
        ///
        /// Set it to `no` if a mount behaves otherwise with it than without.
        io_uring: bool = "yes", Flag::Absent;

        /// How far the kernel reads ahead in a file.
        ///
        /// Lower it when programs read small pieces at random places of large files through a `files` mount.
        read_ahead: ByteSize = "4MiB", Flag::Absent;

        /// Let other users read the mount [default: yes when root].
        ///
        /// Set it to `yes` when the daemon and the trainer are different users; for a daemon that is not root,
        /// `/etc/fuse.conf` must have the line `user_allow_other`.
        allow_other: Option<bool> = "", Flag::Value("allow-other", "yes|no");

        /// User that owns what is shown [default: the user of this process].
        ///
        /// Set it when programs check who owns their data.
        uid: Option<Id> = "", Flag::Value("uid", "ID");

        /// Group that owns what is shown [default: the group of this process].
        ///
        /// Set it when a group of users shares the data.
        gid: Option<Id> = "", Flag::Value("gid", "ID");

        /// Permissions of files, in octal.
        ///
        /// Set it to `0440` to keep other users out, to `0555` when the origin holds programs.
        file_mode: Mode = "0444", Flag::Value("file-mode", "MODE");

        /// Permissions of directories, in octal.
        ///
        /// Set it to `0550` to keep other users out.
        dir_mode: Mode = "0555", Flag::Value("dir-mode", "MODE");

        /// Programs that may not list directories: they would list the whole bucket at your cost.
        ///
        /// Add what walks all file systems on your machines; empty it to let everything list.
        refuse_programs: Vec<String> = "updatedb,updatedb.mlocate,updatedb.plocate,tracker-miner-fs-3,baloo_file",
            Flag::Absent;
    }

    /// Memory.
    memory: MemorySettings, "memory." {
        /// Memory for bytes on their way: buffers and read-ahead [default: a quarter of the machine or cgroup, at most 160MiB].
        ///
        /// Raise it when many streams are read cold from a far origin; lower it to leave more to programs. A cache on a
        /// tmpfs is not counted here.
        budget: Option<ByteSize> = "", Flag::Absent;

        /// Memory for attributes and what is at hand of listings; all of both is on disk.
        ///
        /// Raise it when names of very many directories are used at once: a name takes about 500 bytes, a directory 500 too.
        catalog: ByteSize = "96MiB", Flag::Absent;

        /// Memory for files and directories that the kernel knows of a mount: at most 256 bytes each.
        ///
        /// Raise it when more than a million files are used again and again, for which it costs the kernel about a KiB more each.
        /// Beyond it the kernel is asked to forget those that nobody reads (Linux 6.18 and newer).
        inodes: ByteSize = "256MiB", Flag::Absent;
    }

    /// The catalog.
    catalog: CatalogSettings, "catalog." {
        /// The catalog's largest size on disk, in the state directory.
        ///
        /// Raise it when more than 150 million names are to be known at once: a name takes about 45 bytes. Beyond it the
        /// directories that were not used for longest are forgotten.
        disk: ByteSize = "8GiB", Flag::Absent;
    }

    /// Reading ahead from the origin.
    read_ahead: ReadAheadSettings, "read_ahead." {
        /// The most that is fetched ahead of one sequential reader.
        ///
        /// Raise it for few readers at a far origin, lower it for very many readers. The budget of memory stands above it.
        max: ByteSize = "64MiB", Flag::Absent;

        /// Fetch the next files of a directory while its files are read one after the other, in order or with a stride.
        ///
        /// Set it to `no` when requests or traffic are paid for and programs stop half-way through directories. In a directory of
        /// which less than half of what was fetched ahead is read, it stops by itself.
        files: bool = "yes", Flag::Absent;

        /// Fetch what is left of a directory while its small files are read in no order, as a shuffled first epoch does.
        ///
        /// Up to four files for each that was read, and only while they fit into the cache without another file going for them. Set it
        /// to `no` when requests or traffic are paid for and programs read samples of large data sets.
        directories: bool = "yes", Flag::Absent;
    }

    /// The store.
    store: StoreSettings, "store." {
        /// The most bytes that wait to be written to one cache directory.
        ///
        /// When the queue is full, bytes are given to readers and not kept. Raise it when the metrics count pages that were
        /// not kept though the disk keeps up on average. All queues together take at most half of `memory.budget`.
        write_queue: ByteSize = "32MiB", Flag::Absent;

        /// Free space that is always left on a cache's file system.
        ///
        /// Raise it when other programs write to the same disk.
        reserve: Capacity = "1%", Flag::Absent;

        /// The most files that the store holds open [default: half of what the process may open, at most 4096].
        ///
        /// Lower it when the process shares its limit of open files with others.
        max_open_files: Option<Count<16, 1_000_000>> = "", Flag::Absent;

        /// On a full cache, keep only what is asked of the origin for the second time.
        ///
        /// Set it to spare flash when most of what is read is read once in long. All else is then fetched twice.
        second_touch: bool = "no", Flag::Absent;

        /// The most bytes that are written to each cache directory in a second [default: no limit].
        ///
        /// Set it to what the disk's endurance allows. What comes faster is given to readers and not kept.
        write_rate_max: Option<ByteSize> = "", Flag::Absent;

        /// In this time all that is cached is read once and compared with its checksums; `0s` for never.
        ///
        /// Lower it for disks that you do not trust; every byte that rotted is found within it, be it read or not.
        scrub_period: Duration = "7d", Flag::Absent;

        /// Bytes a second that this may read, at most.
        ///
        /// Raise it to have large caches passed through soon after the machine was started anew: until a file was compared
        /// once, the process reads it for programs.
        scrub_rate: ByteSize = "100MB", Flag::Absent;
    }

    /// The log, written to standard error.
    log: LogSettings, "log." {
        /// What is logged: a level, or directives such as `info,forebay_origin=debug`.
        ///
        /// Set it to `debug` to see each request to the origin. `--log` and `FOREBAY_LOG` come later and win.
        level: LogFilter = "info", Flag::Absent;

        /// How lines are written: text or json.
        ///
        /// Set it to `json` when a collector reads the log.
        format: LogFormat = "text", Flag::Absent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_read_as_a_user_would_write_it() {
        let mut settings = Settings::default();
        for key in KEYS {
            settings.put(key, &Raw::Text(key.default.to_owned())).unwrap_or_else(|why| panic!("{}: {why}", key.name));
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn there_are_fewer_than_sixty_and_each_says_when_to_change_it() {
        assert!(KEYS.len() < 60, "{} settings", KEYS.len());
        for key in KEYS {
            let paragraphs = key.doc.split(|line| line.trim().is_empty()).count();
            assert!(paragraphs >= 2, "{} lacks the paragraph that says when to change it", key.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
