//! Events as a live view: running steps with their bytes and rate, finished ones as lines above.

use std::collections::BTreeMap;
use std::time::Duration;

use annotate_snippets::Renderer;
use builder_core::event::{Event, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::lines::Lines;
use super::{Render, one_line, reasons, seconds, size, snippet, text};

/// How often the spinners turn.
const TICK: Duration = Duration::from_millis(100);

/// A live view on standard error.
pub(crate) struct Terminal {
    renderer: Renderer,
    bars: MultiProgress,
    steps: u32,
    running: BTreeMap<StepId, (ProgressBar, String)>,
    transfers: BTreeMap<String, ProgressBar>,
    partial: Lines,
}

impl Terminal {
    pub(crate) fn new(renderer: Renderer) -> Self {
        Self {
            renderer,
            bars: MultiProgress::new(),
            steps: 0,
            running: BTreeMap::new(),
            transfers: BTreeMap::new(),
            partial: Lines::default(),
        }
    }

    /// Shows a text of which a part may be anybody's.
    fn line(&self, line: &str) {
        let _ = self.bars.println(text::shown(line));
    }

    fn output(&mut self, id: StepId, bytes: &[u8]) {
        let bars = &self.bars;
        self.partial.push(id, bytes, |line| show(bars, id, line));
    }

    fn start(&mut self, id: StepId, stage: &str, text: &str) {
        let title = format!("[{}/{}] {stage}: {}", id.0, self.steps, one_line(text, 70));
        let title = text::shown(&title);
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {msg}  {elapsed}"));
        bar.set_message(title.clone());
        bar.enable_steady_tick(TICK);
        self.running.insert(id, (bar, title));
    }

    fn progress(&mut self, id: StepId, done_bytes: u64, files: u64) {
        if let Some((bar, title)) = self.running.get(&id) {
            bar.set_style(style(
                "{spinner} {msg}  {decimal_bytes} {decimal_bytes_per_sec}",
            ));
            bar.set_position(done_bytes);
            bar.set_message(format!("{title}  {files} files"));
        }
    }

    fn transfer(&mut self, what: &str, done: u64, total: Option<u64>) {
        let bar = self.transfers.entry(what.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(total.unwrap_or(0)));
            bar.set_style(style(
                "  {msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
            ));
            bar.set_message(text::shown(what));
            bar
        });
        bar.set_length(total.unwrap_or(done).max(done));
        bar.set_position(done);
    }

    fn finish_step(&mut self, id: StepId, elapsed: Duration, layer_bytes: Option<u64>) {
        if let Some(rest) = self.partial.finish(id) {
            show(&self.bars, id, &rest);
        }
        if let Some((bar, title)) = self.running.remove(&id) {
            bar.finish_and_clear();
            let layer = layer_bytes.map_or_else(String::new, |bytes| format!("  {}", size(bytes)));
            self.line(&format!("✓ {title}{layer}  {}", seconds(elapsed)));
        }
    }

    fn clear_transfers(&mut self) {
        for bar in std::mem::take(&mut self.transfers).into_values() {
            bar.finish_and_clear();
        }
    }
}

/// Shows a line of a command's output above the bars.
fn show(bars: &MultiProgress, id: StepId, line: &[u8]) {
    let _ = bars.println(format!("  [{}] {}", id.0, text::on_terminal(line)));
}

/// A template of indicatif's; a wrong one falls back to the plain spinner.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Render for Terminal {
    fn event(&mut self, event: Event) {
        match event {
            Event::Planned { steps, .. } => self.steps = steps,
            Event::StepStarted {
                id, stage, text, ..
            } => self.start(id, &stage, &text),
            Event::StepCached { id } => {
                if let Some((_, title)) = self.running.get_mut(&id) {
                    title.push_str("  cached");
                }
            }
            Event::StepMissed { id, reasons } => {
                let why = reasons::text(&reasons);
                self.line(&format!("  [{}] not cached: {why}", id.0));
            }
            Event::StepOutput { id, bytes, .. } => self.output(id, &bytes),
            Event::StepProgress {
                id,
                done_bytes,
                files,
            } => self.progress(id, done_bytes, files),
            Event::Transfer {
                what,
                done_bytes,
                total_bytes,
                ..
            } => self.transfer(&what, done_bytes, total_bytes),
            Event::StepFinished {
                id,
                elapsed,
                layer_bytes,
            } => self.finish_step(id, elapsed, layer_bytes),
            Event::Diagnostic { file, diagnostic } => {
                self.line(&format!(
                    "{}\n",
                    snippet::diagnostic(&self.renderer, &file, &diagnostic)
                ));
            }
            Event::Notice { message } => self.line(&message),
            Event::BlobSettled { digest, bytes, how } => {
                self.line(&super::settled(&digest, bytes, &how));
            }
            Event::ImagePushed { reference, digest } => {
                self.line(&format!("pushed {reference} {digest}"));
            }
            Event::ImageWritten { references, digest } => {
                self.line(&format!("image {} {digest}", references.join(", ")));
            }
            Event::OutputWritten {
                kind,
                destination,
                bytes,
            } => {
                self.clear_transfers();
                self.line(&format!("wrote {destination} ({kind}, {})", size(bytes)));
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.clear_transfers();
        for (bar, _) in std::mem::take(&mut self.running).into_values() {
            bar.finish_and_clear();
        }
    }
}
