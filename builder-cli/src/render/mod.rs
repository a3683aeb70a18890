//! How a build is shown: one channel, one thread, one order.

mod json;
mod lines;
mod plain;
pub(crate) mod reasons;
pub(crate) mod snippet;
pub(crate) mod table;
mod terminal;
pub(crate) mod text;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use builder_core::digest::Digest;
use builder_core::event::{Event, EventSink, Settled};

use crate::environment::Environment;
use crate::flags::Progress;

/// So many events may wait to be shown: who prints faster than a terminal reads waits for it, and fills no memory.
const WAITING: usize = 1024;

/// Takes what happens and shows it.
trait Render: Send {
    /// Shows one event.
    fn event(&mut self, event: Event);

    /// Ends the display; nothing comes after.
    fn finish(&mut self) {}
}

/// The running display.
pub(crate) struct Display {
    sender: SyncSender<Event>,
    thread: Option<JoinHandle<()>>,
}

/// The end of the channel that a build writes to.
pub(crate) struct Sink(SyncSender<Event>);

impl EventSink for Sink {
    fn send(&self, event: Event) {
        // The thread ends only when all senders are gone; if it died, the build still goes on.
        let _ = self.0.send(event);
    }
}

impl Display {
    /// Starts the display that `progress` asks for.
    pub(crate) fn start(progress: Progress, quiet: bool, environment: &Environment) -> Self {
        let renderer = snippet::renderer(environment.colour());
        let mut render: Box<dyn Render> = match progress {
            _ if quiet => Box::new(Quiet),
            Progress::Quiet => Box::new(Quiet),
            Progress::Json => Box::new(json::Json),
            Progress::Tty => Box::new(terminal::Terminal::new(renderer)),
            Progress::Auto if environment.terminal => Box::new(terminal::Terminal::new(renderer)),
            Progress::Auto | Progress::Plain => Box::new(plain::Plain::new(renderer)),
        };
        let (sender, receiver): (SyncSender<Event>, Receiver<Event>) = sync_channel(WAITING);
        let show = move || {
            for event in receiver {
                render.event(event);
            }
            render.finish();
        };
        // Where no thread can be started, nothing is shown, and the build says itself what it lacks.
        let thread = std::thread::Builder::new().spawn(show).ok();
        Self { sender, thread }
    }

    /// A sink for a build.
    pub(crate) fn sink(&self) -> Sink {
        Sink(self.sender.clone())
    }

    /// Shows what is left and ends. All sinks must be gone.
    pub(crate) fn finish(self) {
        drop(self.sender);
        let _ = self.thread.map(JoinHandle::join);
    }
}

/// Shows nothing; the error that ends a build is printed by the command itself.
struct Quiet;

impl Render for Quiet {
    fn event(&mut self, _event: Event) {}
}

/// A size as people read it: decimal units, three digits.
pub(crate) fn size(bytes: u64) -> String {
    let mut units = ["kB", "MB", "GB"].into_iter();
    let (mut amount, mut unit) = (bytes, None);
    let mut tenths = 0;
    while amount >= 1000 {
        let Some(next) = units.next() else { break };
        tenths = amount % 1000 / 100;
        amount /= 1000;
        unit = Some(next);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) if amount < 100 => format!("{amount}.{tenths} {unit}"),
        Some(unit) => format!("{amount} {unit}"),
    }
}

/// A duration as people read it.
pub(crate) fn seconds(elapsed: std::time::Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

/// The first line of an instruction, cut to a length that fits beside its number.
pub(crate) fn one_line(text: &str, room: usize) -> String {
    let text = text.strip_suffix(" # buildkit").unwrap_or(text);
    let line: String = text
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(room + 1)
        .collect();
    if line.chars().count() > room || text.lines().count() > 1 {
        let kept: String = line.chars().take(room.saturating_sub(1)).collect();
        return format!("{kept}…");
    }
    line
}

/// What became of a blob, as one line.
pub(crate) fn settled(digest: &Digest, bytes: u64, how: &Settled) -> String {
    let (digest, bytes) = (digest.short(), size(bytes));
    match how {
        Settled::Exists => format!("{digest}: Layer already exists"),
        Settled::Mounted { from } => format!("{digest}: Mounted from {from}"),
        Settled::Pushed => format!("{digest}: Pushed ({bytes})"),
        Settled::Pulled => format!("{digest}: Pulled ({bytes})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (123_456, "123 kB"),
            (99_949_999, "99.9 MB"),
            (5_000_000_000_000, "5000 GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn long_instructions_are_cut() {
        assert_eq!(one_line("COPY a b # buildkit", 80), "COPY a b");
        assert_eq!(one_line("RUN a\nb", 80), "RUN a…");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
