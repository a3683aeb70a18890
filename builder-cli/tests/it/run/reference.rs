//! The reference cases with RUN, in each way of executing it.

use test_support::compare;
use test_support::reference::{Case, cases};
use test_support::tarball::Image;

use super::{Way, in_each_way};
use crate::testdata;

#[test]
fn every_case_with_run_holds_in_each_way() {
    let all = cases(&testdata("reference/cases"));
    let cases: Vec<&Case> = all.iter().filter(|case| case.needs_run()).collect();
    assert!(cases.len() >= 25, "only {} cases were found", cases.len());
    in_each_way(|way| {
        let world = way.world();
        let found = cases.iter().flat_map(|case| {
            let lines = differences(&world, way, case);
            lines
                .into_iter()
                .map(|line| format!("{}: {}", case.name, line.trim_end()))
        });
        found.collect()
    });
}

fn differences(world: &test_support::world::World, way: Way, case: &Case) -> Vec<String> {
    let mut words = case.prepare(&world.path(&case.name));
    let output = world.path(format!("out/{}.tar", case.name));
    words.extend(way.flags.split(' ').map(str::to_owned));
    words.extend([
        "-t".into(),
        "case".into(),
        "-o".into(),
        format!("type=oci,dest={}", output.display()),
    ]);
    let outcome = world.run(words);
    let mut found = Vec::new();
    if !outcome.stderr.contains(way.says) {
        found.push(format!(
            "it isn't said how RUN is executed: {}",
            outcome.stderr
        ));
    }
    found.extend(if outcome.status == 0 {
        match Image::read(&output, case.architecture()) {
            Ok(image) => compare::image(case, &image),
            Err(problem) => vec![problem],
        }
    } else {
        compare::failure(case, &outcome)
    });
    found
}
