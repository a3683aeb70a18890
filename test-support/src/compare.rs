//! The differences between an image and the answer that a reference case records.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::flatten::{Entry, Tree};
use crate::names::from_bytes;
use crate::reference::Case;
use crate::tarball::Image;
use crate::world::{MTIME, Outcome};

const CONFIG: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Shell",
    "OnBuild",
    "Healthcheck",
];

/// One line for each way in which a failed run isn't the expected error.
pub fn failure(case: &Case, outcome: &Outcome) -> Vec<String> {
    if case.expected["outcome"] != "error" {
        return vec![format!(
            "an image was expected, and the program exits {}: {}",
            outcome.status, outcome.stderr
        )];
    }
    let mut out = Vec::new();
    let line = blamed_line(&outcome.stderr);
    if let Some(wanted) = case.expected["error_line"]
        .as_u64()
        .filter(|wanted| Some(*wanted) != line)
    {
        out.push(format!(
            "line {line:?} is blamed, {wanted} expected: {}",
            outcome.stderr
        ));
    }
    if outcome.stderr.contains("panicked") || !matches!(outcome.status, 2..=8) {
        out.push(format!(
            "exit status {}: {}",
            outcome.status, outcome.stderr
        ));
    }
    out
}

/// The line after the first `Dockerfile:` of a message.
fn blamed_line(message: &str) -> Option<u64> {
    let place = message.split("--> ").nth(1)?.lines().next()?;
    place.rsplit(':').nth(1)?.trim().parse().ok()
}

/// One line for each way in which an image isn't the expected one.
pub fn image(case: &Case, image: &Image) -> Vec<String> {
    let wanted = &case.expected;
    if wanted["outcome"] != "image" {
        return vec![format!(
            "an image was made, and an error expected at line {}",
            wanted["error_line"]
        )];
    }
    let mut out = Vec::new();
    let mut differ = |what: &str, got: &Value, wanted: &Value| {
        if got != wanted {
            out.push(format!("{what}: {got}, expected {wanted}"));
        }
    };
    for key in CONFIG {
        differ(
            &format!("config.{key}"),
            full(&image.config["config"][key]),
            full(&wanted["config"][key]),
        );
    }
    differ(
        "author",
        full(&image.config["author"]),
        full(&wanted["config"]["author"]),
    );
    if wanted["platform"].is_object() {
        let platform = ["os", "architecture", "variant"]
            .into_iter()
            .filter(|key| image.config[*key].is_string());
        let platform: Map<String, Value> = platform
            .map(|key| (key.to_owned(), image.config[key].clone()))
            .collect();
        differ("platform", &Value::Object(platform), &wanted["platform"]);
    }
    if wanted["created"].is_string() {
        differ("created", &image.config["created"], &wanted["created"]);
    }
    match image.flatten() {
        Err(problem) => out.push(problem),
        Ok((files, empty)) => {
            // A case about RUN tells nothing of its base: one layer, and what is in it.
            let below = usize::from(case.needs_run());
            let layers = wanted["layers"].as_u64().unwrap_or(0)
                - wanted["empty_layers"].as_u64().unwrap_or(0);
            differ(
                "layers with entries",
                &json!((image.layers.len() - empty - below) as u64),
                &json!(layers),
            );
            let mut got = entries(files, case.is_about_times());
            let mut base = Tree::default();
            for layer in &image.layers[..below] {
                if let Err(problem) = base.apply(layer) {
                    out.push(problem);
                }
            }
            let base = entries(base.files(), case.is_about_times());
            got.retain(|entry| !base.contains(entry));
            out.extend(compare_entries(
                &got,
                wanted["entries"].as_array().map_or(&[], Vec::as_slice),
            ));
        }
    }
    out
}

/// An absent value and an empty one are the same.
fn full(value: &Value) -> &Value {
    let empty = match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(table) => table.is_empty(),
        _ => false,
    };
    if empty { &Value::Null } else { value }
}

/// The tree in the shape of the recorded answers. Times after [`MTIME`] are the build's own and are left out; so is a
/// directory's [`MTIME`], which the oracle doesn't always keep.
fn entries(files: BTreeMap<Vec<u8>, Entry>, times: bool) -> Vec<Value> {
    let mut out = Vec::new();
    for (path, entry) in files {
        if path == b"/" && (entry.implicit || (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0)) {
            continue;
        }
        let mut value = json!({ "path": from_bytes(&path), "type": entry.kind, "uid": entry.uid, "gid": entry.gid });
        match entry.kind {
            "symlink" => value["link"] = from_bytes(&entry.link).into(),
            _ => value["mode"] = format!("{:04o}", entry.mode).into(),
        }
        if entry.kind == "file" {
            value["size"] = entry.size.into();
            value["sha256"] = entry.sha256.into();
        }
        if let Some((major, minor)) = entry.device {
            value["dev"] = json!([major, minor]);
        }
        if let Some(first) = entry.hardlink_of {
            value["hardlink_of"] = from_bytes(&first).into();
        }
        if !entry.xattrs.is_empty() {
            let xattrs: Map<String, Value> = entry
                .xattrs
                .iter()
                .map(|(name, value)| (name.clone(), from_bytes(value).into()))
                .collect();
            value["xattrs"] = Value::Object(xattrs);
        }
        if times && (entry.mtime < MTIME || entry.kind != "dir" && entry.mtime == MTIME) {
            value["mtime"] = entry.mtime.into();
        }
        out.push(value);
    }
    out
}

fn compare_entries(got: &[Value], wanted: &[Value]) -> Vec<String> {
    let by_path = |list: &[Value]| -> BTreeMap<String, Value> {
        list.iter()
            .map(|entry| {
                (
                    entry["path"].as_str().unwrap_or_default().to_owned(),
                    entry.clone(),
                )
            })
            .collect()
    };
    let (got, wanted) = (by_path(got), by_path(wanted));
    let mut out = Vec::new();
    for path in got.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
        match (got.get(path), wanted.get(path)) {
            (None, _) => out.push(format!("{path}: missing")),
            (_, None) => out.push(format!("{path}: not expected")),
            (Some(got), Some(wanted)) => {
                let keys = |value: &Value| {
                    value
                        .as_object()
                        .map(|table| table.keys().cloned().collect::<Vec<_>>())
                };
                let all: BTreeSet<String> = [keys(got), keys(wanted)]
                    .into_iter()
                    .flatten()
                    .flatten()
                    .collect();
                for key in all.into_iter().filter(|key| got[key] != wanted[key]) {
                    if key != "mtime" || !wanted[&key].is_null() {
                        out.push(format!(
                            "{path}: {key} {}, expected {}",
                            got[&key], wanted[&key]
                        ));
                    }
                }
            }
        }
    }
    out
}
