//! `forebay source`: what is shown at which path, and by which rules.

use forebay_client::Client;
use forebay_model::{ManifestInfo, Setting, SourceChange, SourceInfo, SourceSpec};
use serde_json::json;

use super::Outcomes;
use super::progress::{Meter, POLL_EVERY, Style};
use crate::args::{SourceArgs, SourceCommand, SourcePaths, SourceRules, file_address};
use crate::connect::principal;
use crate::failure::Failure;
use crate::origin::now;
use crate::output::{Output, time_text};
use crate::settings::{CredentialsName, Endpoint, OriginText, Value};

/// Does one of them.
pub(crate) async fn source(client: &Client, args: SourceArgs, output: &mut Output) -> Result<(), Failure> {
    match args.command {
        SourceCommand::List => list(client, output).await,
        SourceCommand::Show(paths) => show(client, &paths, output).await,
        SourceCommand::Add(args) => {
            let origin = OriginText::parse(&args.origin).map_err(|why| Failure::usage(format!("source add: {why}")))?;
            let spec = change(args.rules)?.applied(SourceSpec::new(args.path.clone(), origin.0, now()));
            let fault = |fault| Failure::fault(&args.path, &fault);
            let info = client.add_source(principal(), spec).await.map_err(fault)?;
            changed("added", &reading(client, info).await?, output)
        }
        SourceCommand::Set(args) => {
            let change = change(args.rules)?;
            if change.is_empty() {
                return Err(Failure::usage(format!(
                    "source set {}: name what to change, such as --quota 100GB",
                    args.path
                )));
            }
            let fault = |fault| Failure::fault(&args.path, &fault);
            let info = client.set_source(principal(), &args.path, change).await.map_err(fault)?;
            changed("changed", &reading(client, info).await?, output)
        }
        SourceCommand::Remove(SourcePaths { paths }) => {
            let mut outcomes = Outcomes::default();
            for path in &paths {
                let outcome = match client.remove_source(principal(), path).await {
                    Ok(info) => changed("removed", &SourceInfo { problem: None, ..info }, output),
                    Err(fault) => Err(Failure::fault(path, &fault)),
                };
                outcomes.note(outcome, output.is_json())?;
            }
            outcomes.end()
        }
    }
}

/// Waits until a manifest was read that is being read, and shows how far that is.
async fn reading(client: &Client, mut info: SourceInfo) -> Result<SourceInfo, Failure> {
    let mut meter = None;
    while let Some(manifest) = info.manifest.as_ref().filter(|manifest| manifest.is_reading && !manifest.is_read) {
        let meter = meter.get_or_insert_with(|| Meter::start(Style::of_process(), "lines"));
        meter.show(&format!("reading {}", manifest.address), manifest.objects);
        tokio::time::sleep(POLL_EVERY).await;
        let path = info.spec.path.clone();
        let all = client.sources(principal()).await.map_err(|fault| Failure::fault(&path, &fault))?;
        let found = all.into_iter().find(|info| info.spec.path == path);
        info = found.ok_or_else(|| Failure::failed(format!("{path} was removed meanwhile")))?;
    }
    Ok(info)
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let sources = client.sources(principal()).await.map_err(|fault| Failure::fault("source list", &fault))?;
    if output.is_json() {
        return sources.iter().try_for_each(|info| output.object(&object(info)));
    }
    if sources.is_empty() {
        return output.line("there is no source: `forebay source add PATH ORIGIN` adds one");
    }
    let width = sources.iter().map(|info| info.spec.path.as_str().chars().count()).max().unwrap_or(0);
    for info in &sources {
        let SourceSpec { path, origin, freshness, .. } = &info.spec;
        let problem = info.problem.as_deref().map_or(String::new(), |why| format!("  PROBLEM: {why}"));
        let manifest = info.manifest.as_ref().map_or(String::new(), |manifest| format!("  by {}", manifest.address));
        let (path, origin) = (output.name(path.as_str()), output.name(origin));
        output.line(format!("{path:<width$}  {origin}  {freshness}{}{problem}", output.name(&manifest)))?;
    }
    Ok(())
}

async fn show(client: &Client, SourcePaths { paths }: &SourcePaths, output: &mut Output) -> Result<(), Failure> {
    let sources = client.sources(principal()).await.map_err(|fault| Failure::fault("source show", &fault))?;
    let mut outcomes = Outcomes::default();
    for path in paths {
        let outcome = match sources.iter().find(|info| info.spec.path == *path) {
            Some(info) if output.is_json() => output.object(&object(info)),
            Some(info) => print(info, output),
            None => Err(Failure::failed(format!("there is no source at {path}: `forebay source list` names all"))),
        };
        outcomes.note(outcome, output.is_json())?;
    }
    outcomes.end()
}

fn print(info: &SourceInfo, output: &mut Output) -> Result<(), Failure> {
    let spec = &info.spec;
    let text = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    output.line(output.name(spec.path.as_str()))?;
    for (name, value) in [
        ("origin", spec.origin.clone()),
        ("freshness", spec.freshness.to_string()),
        ("proof", info.proof.clone()),
        ("endpoint", text(&spec.endpoint, "default")),
        ("region", text(&spec.region, "default")),
        ("path style", spec.path_style.map_or("default", yes_or_no).to_owned()),
        ("credentials", text(&spec.credentials, "standard")),
        ("quota", spec.quota.map_or_else(|| "none".to_owned(), |quota| quota.to_string())),
        ("priority", spec.priority.to_string()),
        ("read only", yes_or_no(spec.read_only).to_owned()),
        ("manifest", info.manifest.as_ref().map_or_else(|| "none".to_owned(), manifest_text)),
        ("added", time_text(spec.added)),
        ("problem", text(&info.problem, "none")),
    ] {
        output.line(format!("  {name:<12}{}", output.name(&value)))?;
    }
    Ok(())
}

/// Says what was done, and what is wrong with the source.
fn changed(what: &str, info: &SourceInfo, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        let mut object = object(info);
        object["event"] = json!(what);
        return output.object(&object);
    }
    let (path, origin) = (output.name(info.spec.path.as_str()), output.name(&info.spec.origin));
    output.line(format!("{path} {what}: {origin}"))?;
    if let Some(manifest) = info.manifest.as_ref().filter(|_| info.problem.is_none()) {
        output.line(format!("its manifest: {}", output.name(&manifest_text(manifest))))?;
    }
    match &info.problem {
        Some(why) => output.line(format!("its origin does not answer yet: {}", output.name(why))),
        None => Ok(()),
    }
}

fn object(SourceInfo { spec, proof, problem, manifest }: &SourceInfo) -> serde_json::Value {
    json!({
        "event": "source",
        "path": spec.path,
        "origin": spec.origin,
        "freshness": spec.freshness,
        "proof": proof,
        "endpoint": spec.endpoint,
        "region": spec.region,
        "path_style": spec.path_style,
        "credentials": spec.credentials.as_deref().unwrap_or("standard"),
        "quota_bytes": spec.quota.map(|quota| quota.0),
        "priority": spec.priority,
        "read_only": spec.read_only,
        "added": time_text(spec.added),
        "manifest": manifest.as_ref().map(|manifest| json!({
            "address": manifest.address,
            "objects": manifest.objects,
            "reading": manifest.is_reading,
            "read": manifest.is_read,
        })),
        "problem": problem,
    })
}

fn change(rules: SourceRules) -> Result<SourceChange, Failure> {
    let credentials = rules.credentials.map(|setting| match setting {
        Setting::To(CredentialsName::Standard) | Setting::Default => Setting::Default,
        Setting::To(name) => name.name().map_or(Setting::Default, Setting::To),
    });
    let endpoint = match rules.endpoint.as_deref() {
        None => None,
        Some("default") => Some(Setting::Default),
        Some(text) => {
            let read = Endpoint::parse(text).map_err(|why| Failure::usage(format!("--endpoint: {why}")))?;
            Some(Setting::To(read.0))
        }
    };
    let manifest = match rules.manifest.as_deref() {
        None => None,
        Some("default") => Some(Setting::Default),
        Some(text) => {
            Some(Setting::To(file_address(text).map_err(|why| Failure::usage(format!("--manifest: {why}")))?))
        }
    };
    Ok(SourceChange {
        freshness: rules.freshness,
        endpoint,
        region: rules.region,
        path_style: rules.path_style,
        credentials,
        quota: rules.quota,
        priority: rules.priority,
        read_only: rules.read_only,
        manifest,
    })
}

fn manifest_text(manifest: &ManifestInfo) -> String {
    let ManifestInfo { address, objects, is_reading, is_read } = manifest;
    match (is_read, is_reading) {
        (true, false) => format!("{address}, {objects} objects"),
        (true, true) => format!("{address}, {objects} objects; a new version of it is being read"),
        (false, true) => format!("{address}, is being read: {objects} lines so far"),
        (false, false) => format!("{address}, not read yet"),
    }
}

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
