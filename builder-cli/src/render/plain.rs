//! Events as lines, for pipes and CI: each line stands alone and begins with its step.

use std::io::Write as _;

use annotate_snippets::Renderer;
use builder_core::event::{Event, StepId};

use super::lines::Lines;
use super::{Render, one_line, reasons, seconds, settled, size, snippet, text};

/// Lines on standard error.
pub(crate) struct Plain {
    renderer: Renderer,
    steps: u32,
    /// Output that is not a whole line yet.
    partial: Lines,
}

impl Plain {
    pub(crate) fn new(renderer: Renderer) -> Self {
        Self {
            renderer,
            steps: 0,
            partial: Lines::default(),
        }
    }

    fn output(&mut self, id: StepId, bytes: &[u8]) {
        self.partial.push(id, bytes, |line| {
            say_clean(&format!("[{}] {}", id.0, text::shown_bytes(line)));
        });
    }

    fn flush(&mut self, id: StepId) {
        if let Some(rest) = self.partial.finish(id) {
            say_clean(&format!("[{}] {}", id.0, text::shown_bytes(&rest)));
        }
    }
}

/// Prints a text of which a part may be anybody's.
fn say(line: &str) {
    say_clean(&text::shown(line));
}

/// Prints a line. A reader that went away is no reason to stop a build.
fn say_clean(line: &str) {
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
