//! A Dockerfile to a plan: parsing, the checks, the graph, lowering; and every place of a problem is in the file.

#![no_main]

use std::collections::BTreeMap;

use builder_core::diagnostic::Diagnostic;
use builder_core::dockerfile::lint::{self, CheckSettings};
use builder_core::dockerfile::parse::parse;
use builder_core::oci::config::ImageConfig;
use builder_core::plan::step::StageBase;
use builder_core::plan::{self, PlanOptions};
use builder_core::platform::Platform;
use builder_core::source::SourceFile;
use libfuzzer_sys::fuzz_target;

fn look_at(file: &SourceFile, problems: &[Diagnostic]) {
    for problem in problems {
        assert!(problem.span.start <= problem.span.end);
        for offset in [problem.span.start, problem.span.end] {
            assert!(offset <= file.text.len() && file.text.is_char_boundary(offset));
            file.position(offset);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if data.len() > 8192 {
        return;
    }
    let file = SourceFile::from_bytes("Dockerfile", data.to_vec());
    let (parsed, mut problems) = parse(&file);
    problems.extend(lint::check(&parsed));
    look_at(&file, &problems);
    CheckSettings::new(&parsed, None).apply(&parsed, problems);
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let mut options = PlanOptions::new(platform.clone());
    options.build_args.insert("A".into(), "x y".into());
    let (graph, problems) = plan::graph(&file, &parsed, &options);
    look_at(&file, &problems);
    let Some(graph) = graph else { return };
    let images = graph
        .stages
        .iter()
        .filter(|stage| matches!(stage.base, StageBase::Image { .. }));
    let bases: BTreeMap<usize, ImageConfig> = images
        .map(|stage| (stage.index, ImageConfig::for_platform(&platform)))
        .collect();
    let (plan, problems) = plan::lower(&file, &parsed, &graph, &bases, &options);
    look_at(&file, &problems);
    if let Some(plan) = plan {
        let _ = plan.to_string();
    }
});
