//! The rules of the house that no compiler checks: floors, sizes, first lines, forgotten files.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// More lines than this, tests left out, and a file wants to be two.
const MAX_LINES: usize = 400;

/// Files that are longer today. One that is short enough again must leave the list.
const TOO_LONG: &[&str] = &[];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust files below a folder of the workspace: path and text.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut todo: Vec<PathBuf> = folders
        .iter()
        .map(|folder| workspace().join(folder))
        .collect();
    let mut out = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(workspace())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            out.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    out.sort();
    out
}

const EVERYTHING: [&str; 7] = [
    "builder-core/src",
    "builder-core/tests",
    "builder-core/examples",
    "builder-cli/src",
    "builder-cli/tests",
    "test-support/src",
    "benches",
];

/// What stands before the unit tests.
fn product(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

/// The rooms in the order of ARCHITECTURE.md, each with its floor.
fn floors() -> BTreeMap<String, (usize, usize)> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let table = text
        .split("## Floors")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    let mut out = BTreeMap::new();
    for (floor, row) in rows.enumerate() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let words = cells[1].split('`').skip(1).step_by(2);
        for room in words.filter(|word| !word.contains('.')) {
            let place = out.len();
            assert!(
                out.insert(room.to_owned(), (floor, place)).is_none(),
                "`{room}` stands in the table twice"
            );
        }
    }
    out
}

/// The rooms that a text names by `crate::`.
fn imports(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let words = code.split("crate::").skip(1).map(|rest| {
        assert!(
            !rest.starts_with('{') && !rest.starts_with('*'),
            "one `use crate::` a room: {}",
            rest.lines().next().unwrap_or("")
        );
        rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .next()
            .unwrap_or("")
    });
    let room = |word: &str| {
        if matches!(word, "Error" | "ErrorKind" | "Result") {
            "error".to_owned()
        } else {
            word.to_owned()
        }
    };
    words.map(room).collect()
}

#[test]
fn no_arrow_goes_up() {
    let floors = floors();
    let mut problems = Vec::new();
    for (path, text) in sources(&["builder-core/src"]) {
        let room = path["builder-core/src/".len()..]
            .split(['/', '.'])
            .next()
            .unwrap()
            .to_owned();
        if room == "lib" {
            continue;
        }
        let Some(own) = floors.get(&room) else {
            problems.push(format!(
                "{path}: the room `{room}` is not in the table of ARCHITECTURE.md"
            ));
            continue;
        };
        for used in imports(product(&text))
            .into_iter()
            .filter(|used| *used != room)
        {
            match floors.get(&used) {
                None => problems.push(format!("{path}: uses `{used}`, which is not in the table")),
                // Lower floors come first, and on one floor the earlier rooms: a circle has no such order.
                Some(other) if other >= own => problems.push(format!(
                    "{path}: `{room}` uses `{used}`, which stands above it"
                )),
                Some(_) => {}
            }
        }
    }
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    for room in floors.keys() {
        let path = workspace().join("builder-core/src").join(room);
        assert!(
            path.is_dir() || path.with_extension("rs").is_file(),
            "ARCHITECTURE.md tells of a room `{room}` that is not there"
        );
    }
}

#[test]
fn files_are_short() {
    let mut problems = Vec::new();
    for (path, text) in sources(&EVERYTHING) {
        let lines = product(&text).lines().count();
        // A file of tests alone has no product in it, and a table of cases may be long.
        let counts = !path.contains("/tests/") && !path.ends_with("tests.rs");
        if counts && (lines > MAX_LINES) != TOO_LONG.contains(&path.as_str()) {
            problems.push(format!("{path}: {lines} lines"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn each_file_says_first_what_it_is() {
    let silent = sources(&EVERYTHING)
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "));
    let silent: Vec<String> = silent.map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

/// The one folder that may talk to the kernel where no crate does: each block with its reason above it.
const UNSAFE: &str = "builder-core/src/sandbox/sys/";

#[test]
fn nothing_is_unsafe() {
    let word = ["unsafe", " "].concat();
    let is_code = |line: &str| line.contains(&word) && !line.trim_start().starts_with("//");
    for (path, text) in sources(&EVERYTHING) {
        let lines: Vec<&str> = text.lines().collect();
        let found = (0..lines.len()).filter(|&at| is_code(lines[at]));
        let found = found.filter(|&at| !path.starts_with(UNSAFE) || !has_reason(&lines[..at]));
        let found: Vec<usize> = found.map(|at| at + 1).collect();
        assert!(found.is_empty(), "{path}: lines {found:?}");
    }
}

/// Whether the comment that ends these lines, or stands in the few before, says why something is safe.
fn has_reason(lines: &[&str]) -> bool {
    let last = lines.iter().rev().take(8);
    last.into_iter().any(|line| line.contains("// SAFETY:"))
}

#[test]
fn no_test_file_is_forgotten() {
    let all = sources(&["builder-core/tests/it"]);
    let main = &all
        .iter()
        .find(|(path, _)| path.ends_with("/main.rs"))
        .unwrap()
        .1;
    for (path, _) in &all {
        let name = Path::new(path).file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "main" || main.contains(&format!("\nmod {name};\n")),
            "{path} is in no module"
        );
    }
}
