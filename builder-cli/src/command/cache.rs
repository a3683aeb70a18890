//! `rbuild cache ls`, `rbuild prune`, and what happens after each build: the store stays below a bound.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use builder_core::cache::inventory::{Item, ItemKind, list};
use builder_core::cache::prune::{PruneOptions, prune};
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

use super::{open_store, print};
use crate::environment::Environment;
use crate::flags::StoreFlags;
use crate::flags::cache::PruneFlags;
use crate::render::size;

/// After a build the store is brought below the larger of this and a tenth of the disk: 10 GB.
const BOUND: u64 = 10_000_000_000;

/// Prints a line for each thing that may be deleted: kind, size, age, name; the most recently used last.
pub(crate) fn ls(flags: &StoreFlags, environment: &Environment) -> Result<()> {
    let store = open_store(flags, environment)?;
    let items = list(&store)?;
    print(&table(&items, environment))
}

/// Deletes what the flags say.
pub(crate) fn run(flags: &PruneFlags, environment: &Environment) -> Result<()> {
    let store = open_store(&flags.store, environment)?;
    let now = time(environment);
    let mut options = PruneOptions {
        all: flags.all,
        dry_run: flags.dry_run,
        keep: flags.keep_storage.as_deref().map(bytes).transpose()?,
        until: None,
    };
    for filter in &flags.filter {
        let Some(age) = filter.strip_prefix("until=") else {
            return Err(usage(format!("--filter `{filter}` is unknown"))
                .with_help("write `until=24h`: what was not used for so long is deleted"));
        };
        options.until = Some(
            now.checked_sub(duration(age)?)
                .unwrap_or(SystemTime::UNIX_EPOCH),
        );
    }
    if !options.all && options.keep.is_none() && options.until.is_none() {
        options.keep = Some(bound(&store));
    }
    let gone = prune(&store, &options, false)?;
    let total: u64 = gone.iter().map(|item| item.bytes).sum();
    let verb = if flags.dry_run { "would free" } else { "freed" };
    let text = table(&gone, environment);
    print(&format!("{text}{verb} {}\n", size(total)))
}

/// Brings the store below its bound, unless somebody uses it.
pub(crate) fn after_build(store: &Store) {
    let options = PruneOptions {
        keep: Some(bound(store)),
        ..PruneOptions::default()
    };
    // The build is done: what can't be deleted now is deleted after the next one.
    let _ = prune(store, &options, false);
}

fn bound(store: &Store) -> u64 {
    let disk = rustix::fs::statvfs(store.root()).map_or(0, |disk| disk.f_blocks * disk.f_frsize);
    BOUND.max(disk / 10)
}

fn time(environment: &Environment) -> SystemTime {
    let seconds = u64::try_from(environment.now.seconds).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A line an item; all notes together are one line.
fn table(items: &[Item], environment: &Environment) -> String {
    let mut text = String::new();
    let (notes, items): (Vec<&Item>, Vec<&Item>) =
        items.iter().partition(|item| item.kind == ItemKind::Note);
    if !notes.is_empty() {
        let bytes = size(notes.iter().map(|note| note.bytes).sum());
        let what = format!("{} lists and indexes", notes.len());
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:<6}{bytes:>10}  {:>9}  {what}", "notes", "");
    }
    for item in items {
        let age = time(environment)
            .duration_since(item.used)
            .unwrap_or_default();
        let (kind, bytes, age) = (item.kind.word(), size(item.bytes), ago(age));
        let name: String = item
            .name
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(80)
            .collect();
        let _ = writeln!(text, "{kind:<6}{bytes:>10}  {age:>9}  {name}");
    }
    text
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// A size such as `500MB`, `2GiB` or `1000`.
fn bytes(text: &str) -> Result<u64> {
    let split = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => f64::NAN,
    };
    let value = number.trim().parse::<f64>().unwrap_or(f64::NAN) * factor;
    if !value.is_finite() || value < 0.0 {
        return Err(usage(format!("`{text}` is no size")).with_help("write `500MB` or `2GiB`"));
    }
    #[expect(
        clippy::cast_sign_loss,
        reason = "it is finite and not negative, and a size that is too large is as good as the largest"
    )]
    Ok(value as u64)
}

/// An age such as `90s`, `30m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration> {
    let wrong = || usage(format!("`{text}` is no age")).with_help("write `30m`, `24h` or `7d`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_read() {
        for (text, expected) in [
            ("10", Some(10)),
            ("1.5kb", Some(1500)),
            ("2GiB", Some(2 << 30)),
            ("-1", None),
            ("x", None),
            ("1x", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("90s", Some(90)),
            ("2d", Some(172_800)),
            ("h", None),
            ("", None),
        ] {
            let found = duration(text).ok().map(|age| age.as_secs());
            assert_eq!(found, expected, "{text}");
        }
    }
}
