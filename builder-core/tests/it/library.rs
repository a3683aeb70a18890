//! The library in another program: no environment, no terminal, no global state.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::thread;

use builder_core::ErrorKind;
use builder_core::build::Built;
use builder_core::event::{Event, Recorder, Silent};
use builder_core::timestamp::Timestamp;
use tempfile::TempDir;
use test_support::tarball::Image;
use test_support::world::set_mtime;

use crate::example::build_image;

const NOW: i64 = 1_700_000_000;

/// A context whose image says in which build it was made.
fn context(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = "FROM scratch\nARG VERSION=1\nENV V=$VERSION\nCOPY name /\nCOPY many /many\n";
    std::fs::write(folder.path().join("Dockerfile"), file).unwrap();
    std::fs::write(folder.path().join("name"), name).unwrap();
    std::fs::create_dir(folder.path().join("many")).unwrap();
    for number in 0..50_u32 {
        let path = folder.path().join(format!("many/{number}"));
        std::fs::write(&path, number.to_string().repeat(5000)).unwrap();
        set_mtime(&path, NOW);
    }
    for path in ["many", "name"] {
        set_mtime(&folder.path().join(path), NOW);
    }
    folder
}

fn build(context: &Path, store: &Path, output: &Path) -> Built {
    build_image(
        context,
        store,
        output,
        Timestamp::from_seconds(NOW),
        &Silent,
    )
    .unwrap()
}

#[test]
fn the_example_builds_an_image() {
    let (context, store) = (context("one"), tempfile::tempdir().unwrap());
    let output = store.path().join("image.tar");
    let built = build(context.path(), &store.path().join("store"), &output);
    let image = Image::open(&output);
    assert_eq!(image.digest, built.digest.to_string());
    assert_eq!(
        image.manifest["config"]["digest"],
        built.image_id.to_string()
    );
    assert_eq!(image.text("/name"), "one");
    assert!(image.config["config"]["Env"].to_string().contains("V=2"));
    assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        built.layer_bytes,
        image
            .blobs
            .iter()
            .map(|blob| blob.len() as u64)
            .sum::<u64>()
    );
}

#[test]
fn builds_at_once_in_one_process_do_not_disturb_each_other() {
    let store = tempfile::tempdir().unwrap();
    let names = ["one", "two", "three"];
    let together = thread::scope(|scope| {
        let store = store.path();
        let builds = names.map(|name| {
            scope.spawn(move || {
                build(
                    context(name).path(),
                    &store.join("store"),
                    &store.join(name),
                )
                .digest
            })
        });
        builds.map(|build| build.join().unwrap())
    });
    for (name, digest) in names.into_iter().zip(together) {
        let alone = tempfile::tempdir().unwrap();
        let again = build(
            context(name).path(),
            &alone.path().join("store"),
            &alone.path().join("image.tar"),
        );
        assert_eq!(again.digest, digest);
        assert_eq!(Image::open(&store.path().join(name)).text("/name"), name);
    }
}

#[test]
fn what_happens_is_told_in_order() {
    let (context, folder, events) = (
        context("one"),
        tempfile::tempdir().unwrap(),
        Recorder::default(),
    );
    let output = folder.path().join("image.tar");
    let now = Timestamp::from_seconds(NOW);
    let built = build_image(
        context.path(),
        &folder.path().join("store"),
        &output,
        now,
        &events,
    )
    .unwrap();
    let mut told: Vec<String> = Vec::new();
    for event in events.events() {
        match event {
            Event::Planned { steps, stages, .. } => told.push(format!("planned {steps} {stages}")),
            Event::StageStarted { stage, base } => told.push(format!("stage {stage} {base}")),
            Event::StepStarted { id, .. } => told.push(format!("start {}", id.0)),
            Event::StepFinished {
                id, layer_bytes, ..
            } => told.push(format!("end {} {}", id.0, layer_bytes.is_some())),
            Event::ImageWritten { digest, .. } => assert_eq!(digest, built.digest),
            Event::OutputWritten { kind, .. } => told.push(format!("output {kind}")),
            _ => {}
        }
    }
    let wanted = "planned 4 1, stage 0 scratch, start 1, end 1 false, start 2, end 2 false, start 3, end 3 true, start 4, end 4 true, output oci";
    assert_eq!(told.join(", "), wanted);
}

#[test]
fn an_error_is_a_value_with_a_kind() {
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::from_seconds(NOW);
    for (file, kind) in [
        ("FROM scratch\nCOPY nothing /\n", ErrorKind::Context),
        ("FRMO scratch\n", ErrorKind::Dockerfile),
        ("FROM nowhere\n", ErrorKind::BaseImage),
    ] {
        std::fs::write(folder.path().join("Dockerfile"), file).unwrap();
        let output = folder.path().join("image.tar");
        let error = build_image(
            folder.path(),
            &folder.path().join("store"),
            &output,
            now,
            &Silent,
        )
        .unwrap_err();
        assert_eq!(error.kind(), kind, "{file}");
        assert!(!output.exists());
    }
}
