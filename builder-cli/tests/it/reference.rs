//! Every recorded case that needs no RUN: config, layers and each entry as recorded, or the error at its line.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use test_support::compare;
use test_support::reference::{Case, cases};
use test_support::tarball::Image;
use test_support::tools::require;

use crate::readers::umoci_differences;
use crate::{testdata, world};

/// Each of so many cases is built a second time under an epoch, and has to give the same bytes.
const SAMPLE: usize = 8;

/// Differences that are known and being worked on. A case that holds again must leave the list.
const OPEN: &[&str] = &[];

#[test]
fn every_case_without_run_holds() {
    let all = cases(&testdata("reference/cases"));
    let todo: Vec<(usize, &Case)> = all
        .iter()
        .filter(|case| !case.needs_run())
        .enumerate()
        .collect();
    assert!(todo.len() > 700, "only {} cases were found", todo.len());
    let umoci = require("umoci");
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((number, case)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut found = differences(case, number % SAMPLE == 0, umoci.as_deref());
                    if OPEN.contains(&case.name.as_str()) {
                        found = if found.is_empty() {
                            vec!["holds, and is in OPEN".into()]
                        } else {
                            Vec::new()
                        };
                    }
                    let lines = found
                        .iter()
                        .map(|line| format!("{}: {}", case.name, line.trim_end()));
                    problems.lock().unwrap().extend(lines);
                }
            });
        }
    });
    let mut problems = problems.into_inner().unwrap();
    problems.sort();
    assert!(
        problems.is_empty(),
        "{} differences\n{}",
        problems.len(),
        problems.join("\n")
    );
}

fn differences(case: &Case, twice: bool, umoci: Option<&Path>) -> Vec<String> {
    let mut world = world();
    let words = case.prepare(&world.path("case"));
    let output = world.path("image.tar");
    let run = |world: &test_support::world::World, output: &Path| {
        let words = words.iter().cloned().chain([
            "-t".into(),
            "case".into(),
            "-o".into(),
            format!("type=oci,dest={}", output.display()),
        ]);
        world.run(words)
    };
    let outcome = run(&world, &output);
    if outcome.status != 0 {
        let mut found = compare::failure(case, &outcome);
        found.extend(
            output
                .exists()
                .then(|| "a failed build left an output".to_owned()),
        );
        return found;
    }
    let mut found = match Image::read(&output, case.architecture()) {
        Ok(image) => compare::image(case, &image),
        Err(problem) => vec![problem],
    };
    if let (Some(umoci), true) = (umoci, found.is_empty()) {
        found.extend(umoci_differences(&world, umoci, &output, "latest"));
    }
    if twice && found.is_empty() {
        world.set("SOURCE_DATE_EPOCH", "1800000000");
        let outputs = ["first.tar", "second.tar"].map(|name| {
            let output = world.path(name);
            world.set("RBUILD_ROOT", world.path(format!("{name}.store")));
            found.extend(
                (run(&world, &output).status != 0)
                    .then(|| "the build under an epoch fails".to_owned()),
            );
            fs::read(output).unwrap_or_default()
        });
        found.extend(
            (outputs[0] != outputs[1]).then(|| "two builds give different bytes".to_owned()),
        );
    }
    found
}
