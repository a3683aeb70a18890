//! A program that embeds the library and executes RUN: it is its own sandbox helper, and so it has a `main` of its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
use std::collections::BTreeMap;

use builder_core::ErrorKind;
use builder_core::build::build;
use builder_core::build::request::{BuildRequest, ContextSource, NamedContext};
use builder_core::event::{Event, Recorder};
use builder_core::interrupt::Interrupt;
use builder_core::source::SourceFile;
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;
use test_support::{busybox, tools};

fn main() {
    builder_core::sandbox::enter_if_asked();
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let Some(program) = tools::require("busybox") else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("base");
    busybox::base(&base, &program, busybox::MORE);
    let store = Store::open(&home.path().join("store")).unwrap();
    let request = || {
        let text = "FROM base\nRUN echo from a library > /said && cat /said\n";
        let dockerfile = SourceFile::new("Dockerfile", text);
        let mut request = BuildRequest::new(
            dockerfile,
            ContextSource::Empty { modified: None },
            Timestamp::default(),
        );
        request.named_contexts =
            BTreeMap::from([("base".to_owned(), NamedContext::Directory(base.clone()))]);
        request
    };

    // Without a helper RUN is refused, with the remedy.
    let (events, interrupt) = (Recorder::default(), Interrupt::default());
    let error = build(&store, request(), &events, &interrupt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Run);
    assert!(error.help().unwrap().contains("enter_if_asked"));

    // A program that is no helper is found out.
    let mut wrong = request();
    wrong.run.sandbox_program = Some("/bin/true".into());
    let error = build(&store, wrong, &events, &interrupt).unwrap_err();
    assert!(error.message().contains("/bin/true"), "{error:?}");

    let mut right = request();
    right.run.sandbox_program = Some(std::env::current_exe().unwrap());
    let built = build(&store, right, &events, &interrupt).unwrap();
    assert!(store.contains(&built.digest).unwrap());
    let printed = events.events().into_iter().filter_map(|event| match event {
        Event::StepOutput { bytes, .. } => Some(bytes),
        _ => None,
    });
    assert_eq!(printed.collect::<Vec<_>>().concat(), b"from a library\n");
}
