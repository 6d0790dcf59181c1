//! Making, ending and finding dead mounts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_client::Client;
use forebay_fuse::{Kind, Mount, MountError, MountOptions, Passthrough};
use forebay_model::NsPath;

use crate::service::Fake;
use crate::support::{Fixture, errno, options, pread, runtime};

/// Tells a copy of this program to mount on a directory and wait to be killed.
const CHILD: &str = "FOREBAY_TEST_MOUNT_AND_WAIT";

fn start(options: &MountOptions, runtime: &tokio::runtime::Runtime) -> Result<Mount, MountError> {
    let fake = Fake::new();
    fake.put("/f", "fresh");
    Mount::start(options, Client::new(fake, Duration::from_secs(30)), runtime.handle().clone())
}

#[test]
fn child_that_mounts_and_waits() {
    // What the next test runs in a process of its own; nothing by itself.
    if let Ok(directory) = std::env::var(CHILD) {
        let runtime = runtime();
        let mut options = crate::support::options(&directory, NsPath::root());
        options.kind = Kind::Streams;
        options.fs_name = r"odd, name\".to_owned();
        let mount = start(&options, &runtime).unwrap();
        let contents = fs::read_to_string(Path::new(&directory).join("f")).unwrap();
        println!("\nmounted, {contents}, active: {}", mount.passthrough() == Passthrough::Active);
        loop {
            std::thread::park();
        }
    }
}

/// The process that `command` starts, which has mounted on `place` and said so.
fn start_child(mut command: Command, place: &Path, says: &str) -> Child {
    command.args(["--exact", "life::child_that_mounts_and_waits", "--nocapture"]).env(CHILD, place);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == says), "the child did not say: {says}");
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_user_without_rights_mounts_by_fusermount_and_reads_without_passthrough() {
    assert!(
        Command::new("fusermount3").arg("-V").output().is_ok_and(|output| output.status.success()),
        "this test needs fusermount3: install fuse3"
    );
    const NOBODY: u32 = 65_534;
    // `/dev/fuse` for everybody, as distributions have it, in a mount namespace that ends with the child.
    const SCRIPT: &str = "mknod -m 666 $0/fuse c 10 229 && mount --bind $0/fuse /dev/fuse && \
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let (place, device) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT]).arg(device.path()).arg(std::env::current_exe().unwrap());
    kill(start_child(command, place.path(), "mounted, fresh, active: false"));
}

#[test]
fn dead_mounts_of_killed_processes_are_cleared() {
    let place = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let command = Command::new(std::env::current_exe().unwrap());
        kill(start_child(command, place.path(), "mounted, fresh, active: true"));
        // Not a stat: the kernel holds the attributes of a dead mount's root. Requests that come while the kernel is still
        // ending the connection and its queues fail too, with other errors (ECONNABORTED, ECANCELED).
        let until = Instant::now() + Duration::from_secs(10);
        while errno(fs::read_dir(place.path())) != libc::ENOTCONN {
            assert!(Instant::now() < until, "the connection of a killed process does not end");
            std::thread::yield_now();
        }
    }
    let runtime = runtime();
    let mount = start(&options(place.path(), NsPath::root()), &runtime).unwrap();
    assert_eq!(fs::read_to_string(place.path().join("f")).unwrap(), "fresh");
    mount.stop(Duration::from_secs(5)).unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left mounted");
}

#[test]
fn what_is_no_directory_or_already_ours_is_refused() {
    let runtime = runtime();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let why = |path: &std::path::Path| {
        start(&options(path, NsPath::root()), &runtime).expect_err("it is refused").to_string()
    };
    assert!(why(&file).contains("not a directory"), "{}", why(&file));
    assert!(why(&place.path().join("none")).contains("make the directory first"));
    let mount = start(&options(place.path(), NsPath::root()), &runtime).unwrap();
    assert!(why(place.path()).contains("another forebay"), "{}", why(place.path()));
    mount.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_stop_with_requests_that_hang_ends_within_the_grace() {
    let mut fixture = Fixture::new(Fake::new());
    fixture.fake.put("/f", vec![1; 100_000]);
    let path = fixture.path("f");
    let idle = File::open(&path).unwrap();
    fixture.fake.at_hand.store(false, Ordering::Relaxed);
    fixture.fake.hang.store(true, Ordering::Relaxed);
    let reader = std::thread::spawn(move || errno(fs::read(path)));
    runtime().block_on(fixture.fake.hung.notified());

    let grace = Duration::from_secs(1);
    let start = Instant::now();
    fixture.mount.take().unwrap().stop(grace).unwrap();
    assert!(start.elapsed() < grace + Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(start.elapsed() >= grace, "a request under way has the grace to end");
    // A read that the kernel tries again finds the connection gone.
    assert!([libc::EIO, libc::ECONNABORTED, libc::ENOTCONN].contains(&reader.join().unwrap()));
    assert!(pread(&idle, 0, 10).is_err(), "what is still open fails");
    assert_eq!(fs::read_dir(&fixture.directory).unwrap().count(), 0, "nothing is left mounted");
}

#[test]
fn a_stop_with_open_files_but_no_requests_ends_at_once() {
    let mut fixture = Fixture::new(Fake::new());
    fixture.fake.put("/f", "x");
    let _idle = File::open(fixture.path("f")).unwrap();
    let start = Instant::now();
    fixture.mount.take().unwrap().stop(Duration::from_secs(60)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_stop_breaks_off_no_other_mount() {
    // The kernel gives the number of a mount that is gone to the next one.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..25 {
                    let mut fixture = Fixture::new(Fake::new());
                    fixture.fake.put("/f", "x");
                    assert_eq!(fs::read_to_string(fixture.path("f")).unwrap(), "x", "round {n}");
                    fixture.mount.take().unwrap().stop(Duration::from_secs(5)).unwrap();
                }
            });
        }
    });
}

#[test]
fn an_umount_from_outside_is_noticed() {
    let fixture = Fixture::new(Fake::new());
    assert!(!fixture.mount().is_unmounted());
    assert!(Command::new("umount").arg(&fixture.directory).status().unwrap().success());
    let unmounted = async { tokio::time::timeout(Duration::from_secs(10), fixture.mount().unmounted()).await };
    runtime().block_on(unmounted).expect("the end of the mount is noticed");
    assert!(fixture.mount().is_unmounted());
}

#[test]
fn a_request_that_never_ends_fails_by_the_limit() {
    let fixture = Fixture::with(Fake::new(), |options| options.request_limit = Duration::from_millis(300));
    fixture.fake.put("/f", "x");
    fixture.fake.at_hand.store(false, Ordering::Relaxed);
    fixture.fake.hang.store(true, Ordering::Relaxed);
    assert_eq!(errno(fs::read(fixture.path("f"))), libc::ETIMEDOUT);
}

#[test]
fn a_mount_shows_a_path_below_the_root_of_the_namespace() {
    let fixture = Fixture::with(Fake::new(), |options| options.root = "/a/b".parse().unwrap());
    fixture.fake.put("/a/b/c/f", "deep");
    assert_eq!(fs::read_to_string(fixture.path("c/f")).unwrap(), "deep");
    fixture.fake.put("/a/b/c/f", "changed");
    fixture.mount().invalidator().path_changed(&"/a/b/c/f".parse().unwrap());
    let end = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(fixture.path("c/f")).unwrap() != "changed" {
        assert!(Instant::now() < end, "the name stays outdated");
        std::thread::yield_now();
    }
}
