//! Events as lines, for pipes and CI: each line stands alone and begins with its step.

use std::collections::BTreeMap;
use std::io::Write as _;

use annotate_snippets::Renderer;
use builder_core::event::{Event, StepId};

use super::reasons;
use super::{Render, one_line, seconds, settled, size, snippet};

/// Lines on standard error.
pub(crate) struct Plain {
    renderer: Renderer,
    steps: u32,
    /// Output that is not a whole line yet.
    partial: BTreeMap<StepId, Vec<u8>>,
}

impl Plain {
    pub(crate) fn new(renderer: Renderer) -> Self {
        Self {
            renderer,
            steps: 0,
            partial: BTreeMap::new(),
        }
    }

    fn output(&mut self, id: StepId, bytes: &[u8]) {
        let partial = self.partial.entry(id).or_default();
        partial.extend_from_slice(bytes);
        while let Some(newline) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=newline).collect();
            say(&format!(
                "[{}] {}",
                id.0,
                String::from_utf8_lossy(&line).trim_end()
            ));
        }
    }

    fn flush(&mut self, id: StepId) {
        if let Some(rest) = self.partial.remove(&id).filter(|rest| !rest.is_empty()) {
            say(&format!("[{}] {}", id.0, String::from_utf8_lossy(&rest)));
        }
    }
}

/// Prints a line. A reader that went away is no reason to stop a build.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl Render for Plain {
    fn event(&mut self, event: Event) {
        match event {
            Event::Planned { steps, .. } => self.steps = steps,
            Event::StageStarted { stage, base } => say(&format!("stage {stage} from {base}")),
            Event::StepStarted {
                id, stage, text, ..
            } => {
                say(&format!(
                    "[{}/{}] {stage}: {}",
                    id.0,
                    self.steps,
                    one_line(&text, 200)
                ));
            }
            Event::StepCached { id } => say(&format!("[{}/{}] cached", id.0, self.steps)),
            Event::StepMissed { id, reasons } => {
                let why = reasons::text(&reasons);
                say(&format!("[{}/{}] not cached: {why}", id.0, self.steps));
            }
            Event::StepOutput { id, bytes, .. } => self.output(id, &bytes),
            Event::StepFinished {
                id,
                elapsed,
                layer_bytes,
            } => {
                self.flush(id);
                if let Some(bytes) = layer_bytes {
                    say(&format!(
                        "[{}/{}] layer of {}, {}",
                        id.0,
                        self.steps,
                        size(bytes),
                        seconds(elapsed)
                    ));
                }
            }
            Event::Diagnostic { file, diagnostic } => {
                say(&format!(
                    "{}\n",
                    snippet::diagnostic(&self.renderer, &file, &diagnostic)
                ));
            }
            Event::Notice { message } => say(&message),
            Event::BlobSettled { digest, bytes, how } => say(&settled(&digest, bytes, &how)),
            Event::ImagePushed { reference, digest } => {
                say(&format!("pushed {reference} {digest}"));
            }
            Event::ImageWritten { references, digest } if references.is_empty() => {
                say(&format!("image {digest}"));
            }
            Event::ImageWritten { references, digest } => {
                say(&format!("image {} {digest}", references.join(", ")));
            }
            Event::OutputWritten {
                kind,
                destination,
                bytes,
            } => {
                say(&format!("wrote {destination} ({kind}, {})", size(bytes)));
            }
            _ => {}
        }
    }
}
