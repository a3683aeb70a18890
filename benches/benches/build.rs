//! Reading Dockerfiles, matching patterns, walking, and a whole build.

use std::fmt::Write as _;
use std::path::Path;

use benches::small_files;
use builder_core::build::build;
use builder_core::build::request::{BuildRequest, ContextSource};
use builder_core::digest::Digest;
use builder_core::dockerfile::expand::Expander;
use builder_core::dockerfile::parse::parse;
use builder_core::event::Silent;
use builder_core::image_path::ImagePath;
use builder_core::interrupt::Interrupt;
use builder_core::source::{SourceFile, Span};
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;
use builder_core::tree::Tree;
use builder_core::tree::directory::Directory;
use builder_core::tree::pattern::PatternList;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A Dockerfile of about a thousand instructions.
fn dockerfile() -> SourceFile {
    let mut text = String::from("FROM scratch AS base\n");
    for number in 0..250 {
        let _ = write!(
            text,
            "ARG A{number}=x\nENV E{number}=${{A{number}:-y}} \\\n    F{number}=\"a b\"\nCOPY --chown=1:2 a{number} /b/\nLABEL l{number}=$E{number}\n"
        );
    }
    SourceFile::new("Dockerfile", text)
}

fn language(criterion: &mut Criterion) {
    let file = dockerfile();
    let mut group = criterion.benchmark_group("language");
    group.throughput(Throughput::Bytes(file.text.len() as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| parse(&file)));
    group.finish();
    criterion.bench_function("expand", |bencher| {
        let lookup = |name: &str| (name == "a").then(|| "value/of/a".to_owned());
        let expander = Expander {
            escape: '\\',
            lookup: &lookup,
        };
        let body = "x-${a#*/}-${b:-$a}-${a//\\//_} and $a again\n".repeat(100);
        let span = Span::new(0, body.len());
        bencher.iter(|| expander.heredoc(&body, span).is_ok());
    });
}

fn patterns(criterion: &mut Criterion) {
    let list = PatternList::parse_file("*\n!src/**\n**/*.o\n!src/keep.o\ntarget\n.git\n");
    let Ok(list) = list else { return };
    let paths: Vec<ImagePath> = (0..1000)
        .map(|number| ImagePath::clean(format!("src/d{}/f{number}.o", number % 40)))
        .collect();
    criterion.bench_function("ignore matching, 1000 paths", |bencher| {
        bencher.iter(|| {
            paths
                .iter()
                .filter(|path| list.state_of(path).matched)
                .count()
        });
    });
}

fn count(tree: &dyn Tree, path: &ImagePath) -> usize {
    let Ok(listing) = tree.list(path) else {
        return 0;
    };
    listing
        .flatten()
        .map(|node| {
            1 + if node.entry.is_directory() {
                count(tree, &node.entry.path)
            } else {
                0
            }
        })
        .sum()
}

fn files(criterion: &mut Criterion) {
    let Ok(home) = tempfile::tempdir() else {
        return;
    };
    let context = home.path().join("context");
    if small_files(&context, 2_000, None).is_err() {
        return;
    }
    criterion.bench_function("walk, 2000 files", |bencher| {
        bencher.iter(|| {
            Directory::open(&context, "bench")
                .map(|tree| count(&tree, &ImagePath::root()))
                .ok()
        });
    });
    criterion.bench_function("whole build, 2000 files", |bencher| {
        bencher.iter(|| whole_build(home.path(), &context));
    });
}

fn whole_build(home: &Path, context: &Path) -> Option<Digest> {
    let store = Store::open(&home.join("store")).ok()?;
    let dockerfile = SourceFile::new("Dockerfile", "FROM scratch\nCOPY . /\n");
    let context = ContextSource::Directory {
        path: context.to_owned(),
        ignore_files: Vec::new(),
    };
    let mut request = BuildRequest::new(dockerfile, context, Timestamp::from_seconds(0));
    request.threads = 2;
    let built = build(&store, request, &Silent, &Interrupt::default()).ok()?;
    Some(built.digest)
}

criterion_group!(all, language, patterns, files);
criterion_main!(all);
