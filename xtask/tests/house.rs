//! The house stands as ARCHITECTURE.md says: floors, owners of foreign libraries, folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The floor of each crate. A crate uses lower floors only, never a neighbour.
const FLOORS: &[(&str, u8)] = &[
    ("forebay-model", 0),
    ("forebay-store", 1),
    ("forebay-catalog", 1),
    ("forebay-origin", 1),
    ("forebay-cluster", 1),
    ("forebay-manifest", 1),
    ("forebay-wire", 1),
    ("forebay-route", 2),
    ("forebay-client", 3),
    ("forebay-node", 3),
    ("forebay-fuse", 4),
    ("forebay", 5),
];

/// Beside the house: used by nobody in it, and may use anything.
const BESIDE: &[&str] = &["forebay-bench", "forebay-listserver", "forebay-proxy", "xtask"];

/// Foreign libraries that one crate owns: no other names them.
const OWNERS: &[(&str, &str)] = &[
    ("opendal", "forebay-origin"),
    ("reqwest", "forebay-origin"),
    ("fuser", "forebay-fuse"),
    ("io-uring", "forebay-fuse"),
    ("quick-xml", "forebay-origin"),
    ("quick_cache", "forebay-catalog"),
    ("heed", "forebay-catalog"),
    ("csv", "forebay-manifest"),
    ("flate2", "forebay-manifest"),
    ("parquet", "forebay-manifest"),
    ("postcard", "forebay-wire"),
    ("axum", "forebay"),
    ("clap", "forebay"),
    ("indicatif", "forebay"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Dependencies of each crate of the workspace that users build: names, without those of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|d| d["kind"].as_str() != Some("dev")).map(|d| text(&d["name"])).collect()
    };
    metadata["packages"].as_array().expect("packages").iter().map(|p| (text(&p["name"]), normal(p))).collect()
}

#[test]
fn every_crate_has_a_floor_or_stands_beside() {
    let known: BTreeSet<String> =
        FLOORS.iter().map(|(name, _)| *name).chain(BESIDE.iter().copied()).map(str::to_owned).collect();
    assert_eq!(dependencies().into_keys().collect::<BTreeSet<_>>(), known);
}

#[test]
fn crates_use_lower_floors_only() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    for (name, uses) in dependencies() {
        let Some(floor) = floors.get(name.as_str()) else { continue };
        for used in uses {
            assert!(!BESIDE.contains(&used.as_str()), "{name} uses {used}, which stands beside the house");
            if let Some(below) = floors.get(used.as_str()) {
                assert!(below < floor, "{name} (floor {floor}) uses {used} (floor {below})");
            }
        }
    }
}

#[test]
fn a_foreign_library_has_one_owner() {
    for (name, uses) in dependencies() {
        for (library, owner) in OWNERS {
            let beside = BESIDE.contains(&name.as_str());
            assert!(!uses.contains(*library) || name == *owner || beside, "{name} names {library}, which {owner} owns");
        }
    }
}

#[test]
fn the_architecture_names_exactly_the_folders_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let crates = std::fs::read_dir(root().join("crates")).expect("crates/");
    let mut folders: BTreeSet<String> =
        crates.flatten().map(|e| format!("crates/{}", e.file_name().to_string_lossy())).collect();
    folders.insert("xtask".to_owned());
    // Leaves with a workspace of their own.
    for entry in std::fs::read_dir(root().join("bench")).expect("bench/").flatten() {
        if entry.path().join("Cargo.toml").exists() {
            folders.insert(format!("bench/{}", entry.file_name().to_string_lossy()));
        }
    }
    for folder in &folders {
        assert!(text.contains(&format!("`{folder}`")), "ARCHITECTURE.md does not name `{folder}`");
    }
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = !quoted.contains(char::is_whitespace)
            && (quoted.starts_with("bench/store")
                || quoted.starts_with("crates/")
                || quoted.starts_with("docs/")
                || quoted.starts_with("tests/"));
        assert!(!is_path || root().join(quoted).exists(), "ARCHITECTURE.md names `{quoted}`, which does not exist");
    }
}

#[test]
fn rivals_stay_out_of_the_house() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let rival = lock.lines().find(|line| line.starts_with("name = \"foyer"));
    assert!(rival.is_none(), "Cargo.lock has {rival:?}: it belongs to bench/store alone");
}

#[test]
fn every_promise_of_the_semantics_page_has_its_test() {
    let page = std::fs::read_to_string(root().join("docs/semantics.md")).expect("docs/semantics.md");
    let mut promises = 0;
    for line in page.lines() {
        let Some((_, rest)) = line.split_once("[test: `") else { continue };
        let Some((reference, _)) = rest.split_once("`]") else { panic!("a test reference is not closed: {line}") };
        let (file, name) = reference.split_once("::").unwrap_or_else(|| panic!("{reference}: expected FILE::TEST"));
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let defined = [format!("fn {name}("), format!("def {name}(")].iter().any(|text| source.contains(text));
        assert!(defined, "{file} has no test {name}");
        promises += 1;
    }
    assert!(promises > 20, "the semantics page has lost its tests: {promises}");
}
