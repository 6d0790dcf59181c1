//! Sources that come and go while the node runs.

use forebay_model::{Entry, FaultKind, Freshness, Setting, SourceChange, SourceSpec, TimestampNs};
use forebay_route::Service;

use crate::common::{Setup, World, context, node, path, world};

fn spec(at: &str, origin: &str) -> SourceSpec {
    SourceSpec::new(path(at), origin.to_owned(), TimestampNs(9))
}

async fn names(world: &World, at: &str) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), String::new());
    // Parts of two, so that every seam between them is passed.
    loop {
        let page = world.node.list(&context(), &path(at), &after, 2).await.expect(at);
        assert!(page.entries.len() <= 2);
        names.extend(page.entries.iter().map(|entry| entry.name.to_string()));
        match names.last().filter(|_| page.more) {
            Some(last) => after = last.clone(),
            None => return names,
        }
    }
}

#[tokio::test]
async fn a_source_is_shown_at_once_and_gone_at_once() {
    let world = world(&Setup::default());
    world.cloud.put("a", "in the root");
    world.cloud.put("deep/b", "deeper");
    let fault = world.node.lookup(&context(), &path("/two/b")).await.expect_err("no such source yet");
    assert_eq!(fault.kind, FaultKind::NotFound);
    let info = world.node.add_source(&context(), spec("/two", "s3://c/deep/")).await.expect("it is added");
    assert_eq!((info.problem, info.spec.priority), (None, 100));
    assert_eq!(names(&world, "/").await, ["ml", "two"]);
    let content = world.content("/two/b").await;
    assert_eq!(world.read(&content, 0, 6).await.expect("it is read"), b"deeper");
    let all = world.node.sources(&context()).await.expect("they are told");
    assert_eq!(all.iter().map(|info| info.spec.path.as_str()).collect::<Vec<_>>(), ["/ml", "/two"]);
    world.node.remove_source(&context(), &path("/two")).await.expect("it is removed");
    assert_eq!(names(&world, "/").await, ["ml"]);
    let fault = world.node.lookup(&context(), &path("/two/b")).await.expect_err("it is gone");
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert!(world.read(&content, 0, 6).await.is_err(), "what was open is not read from elsewhere");
    for refused in [
        world.node.remove_source(&context(), &path("/two")).await,
        world.node.set_source(&context(), &path("/two"), SourceChange::default()).await,
    ] {
        assert_eq!(refused.expect_err("there is none").kind, FaultKind::NotFound);
    }
}

#[tokio::test]
async fn the_longest_path_wins_and_its_way_is_there() {
    let world = world(&Setup::default());
    for key in ["x/a", "x/n/own", "x/z", "y", "other/one"] {
        world.cloud.put(key, key.to_owned());
    }
    // Known before, and to be forgotten.
    assert_eq!(names(&world, "/ml/x").await, ["a", "n", "z"]);
    assert_eq!(names(&world, "/ml/x/n").await, ["own"]);
    world.content("/ml/x/n/own").await;
    world.node.add_source(&context(), spec("/ml/x/n", "s3://c/other/")).await.expect("it is added");
    world.node.add_source(&context(), spec("/ml/p/q/r", "s3://c/other/")).await.expect("it is added");
    world.node.add_source(&context(), spec("/ml/y", "s3://c/other/")).await.expect("it is added");
    assert_eq!(names(&world, "/ml/x").await, ["a", "n", "z"]);
    assert_eq!(names(&world, "/ml/x/n").await, ["one"]);
    assert_eq!(names(&world, "/ml").await, ["other", "p", "x", "y"]);
    assert_eq!((names(&world, "/ml/p").await, names(&world, "/ml/p/q").await), (vec!["q".into()], vec!["r".into()]));
    for directory in ["/ml/p", "/ml/p/q", "/ml/p/q/r", "/ml/y"] {
        let found = world.node.lookup(&context(), &path(directory)).await.expect(directory);
        assert!(matches!(found.entry, Entry::Directory(_)), "{directory}");
    }
    assert!(world.node.lookup(&context(), &path("/ml/x/n/own")).await.is_err(), "it is hidden");
    let content = world.content("/ml/p/q/r/one").await;
    assert_eq!(world.read(&content, 0, 9).await.expect("it is read"), b"other/one");
    world.node.remove_source(&context(), &path("/ml/x/n")).await.expect("it is removed");
    assert_eq!(names(&world, "/ml/x/n").await, ["own"]);
}

#[tokio::test]
async fn sources_and_names_that_share_a_beginning_are_each_listed_once() {
    let world = world(&Setup::default());
    for key in ["d/a", "d/a-b/x", "d/a.c", "d/a0", "d/n", "d/n-x/y", "d/n0", "d/z/1"] {
        world.cloud.put(key, "x");
    }
    for at in ["/ml/d/a-a", "/ml/d/n", "/ml/d/z", "/ml/d/z-"] {
        world.node.add_source(&context(), spec(at, "s3://c/d/")).await.expect("it is added");
    }
    let mut listed = names(&world, "/ml/d").await;
    listed.sort();
    assert_eq!(listed, ["a", "a-a", "a-b", "a.c", "a0", "n", "n-x", "n0", "z", "z-"]);
}

#[tokio::test]
async fn sources_outlive_the_process_and_one_that_cannot_be_opened_leaves_the_others_alone() {
    let setup = Setup::default();
    let world = world(&setup);
    world.cloud.put("a", "a");
    world.node.add_source(&context(), spec("/two", "s3://c")).await.expect("it is added");
    let change =
        SourceChange { freshness: Some(Freshness::Check), priority: Some(Setting::To(7)), ..SourceChange::default() };
    world.node.set_source(&context(), &path("/two"), change).await.expect("it is changed");
    for (at, origin) in [("/two", "s3://d"), ("/", "s3://d"), ("/three", "ftp://d")] {
        let fault = world.node.add_source(&context(), spec(at, origin)).await.expect_err(at);
        assert_eq!(fault.kind, FaultKind::Invalid, "{at}");
    }
    let World { store, node: first, cloud, directory, .. } = world;
    first.close().expect("it closes");
    drop((first, store));
    let again = node(&setup, &cloud, &directory);
    let all = again.sources(&context()).await.expect("they are told");
    assert_eq!((all[1].spec.freshness, all[1].spec.priority, &all[1].problem), (Freshness::Check, 7, &None));
    again.lookup(&context(), &path("/two/a")).await.expect("it is as it was");
    again.close().expect("it closes");
    drop(again);

    let registry = directory.path().join("registry.json");
    let text = std::fs::read_to_string(&registry).expect("the registry");
    std::fs::write(&registry, text.replace("s3://c", "ftp://c")).expect("it is written");
    let again = node(&setup, &cloud, &directory);
    let all = again.sources(&context()).await.expect("they are told");
    assert!(all[1].problem.as_deref().is_some_and(|why| why.contains("ftp://c")), "{all:?}");
    let fault = again.lookup(&context(), &path("/two/a")).await.expect_err("it cannot be opened");
    assert!(fault.message.contains("not in the cloud"), "{fault}");
    again.lookup(&context(), &path("/ml/a")).await.expect("the other is as it was");
}

#[tokio::test]
async fn an_origin_that_does_not_answer_is_added_with_its_problem() {
    let world = world(&Setup::default());
    *world.cloud.fault.lock() = Some(FaultKind::Unavailable);
    let info = world.node.add_source(&context(), spec("/two", "s3://c")).await.expect("it is added");
    assert!(info.problem.is_some_and(|why| why.contains("fails as it was told")));
    *world.cloud.fault.lock() = None;
    let info =
        world.node.set_source(&context(), &path("/two"), SourceChange::default()).await.expect("it is asked anew");
    assert_eq!(info.problem, None);
}
