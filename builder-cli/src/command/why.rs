//! `rbuild why`: which steps a build would execute, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use builder_core::event::{Event, EventSink, Reason, StepId};
use builder_core::interrupt::Interrupt;
use builder_core::{Result, build};

use super::{prepare, print};
use crate::environment::Environment;
use crate::flags::BuildFlags;
use crate::render::{one_line, reasons};

/// What was heard of one step.
#[derive(Default)]
struct Heard {
    stage: String,
    text: String,
    verdict: Option<Verdict>,
}

enum Verdict {
    Cached,
    Missed(Vec<Reason>),
}

/// Listens to what would happen.
#[derive(Default)]
struct Listener(Mutex<BTreeMap<StepId, Heard>>);

impl EventSink for Listener {
    fn send(&self, event: Event) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepStarted {
                id, stage, text, ..
            } => {
                let step = heard.entry(id).or_default();
                (step.stage, step.text) = (stage, text);
            }
            Event::StepCached { id } => {
                heard.entry(id).or_default().verdict = Some(Verdict::Cached);
            }
            Event::StepMissed { id, reasons } => {
                heard.entry(id).or_default().verdict = Some(Verdict::Missed(reasons));
            }
            _ => {}
        }
    }
}

/// Prints the steps that would be executed, with the reasons; executes and writes nothing.
pub(crate) fn run(
    flags: &BuildFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    let (store, request) = prepare(flags, environment, interrupt)?;
    let listener = Listener::default();
    build::why(&store, &request, &listener, interrupt)?;
    let heard = listener
        .0
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let (mut text, mut cached, mut missed) = (String::new(), 0, 0);
    for (id, step) in &heard {
        match &step.verdict {
            Some(Verdict::Cached) => cached += 1,
            Some(Verdict::Missed(reasons)) => {
                missed += 1;
                // Writing to a string can't fail.
                let _ = writeln!(
                    text,
                    "[{}] {}: {}",
                    id.0,
                    step.stage,
                    one_line(&step.text, 100)
                );
                for reason in reasons {
                    let _ = writeln!(text, "    {}", reasons::one(reason));
                }
            }
            None => {}
        }
    }
    let verdict = if missed == 0 {
        format!("all {cached} steps that make layers are cached\n")
    } else {
        "what comes after these steps depends on their results\n".to_owned()
    };
    print(&format!("{text}{verdict}"))
}
