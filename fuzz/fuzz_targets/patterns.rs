//! Patterns of an ignore file, before a NUL, and paths that are matched with them, behind it.

#![no_main]

use builder_core::image_path::ImagePath;
use builder_core::tree::pattern::PatternList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if text.len() > 4096 {
        return;
    }
    let (patterns, paths) = text.split_once('\0').unwrap_or((text, "a/b/c"));
    let Ok(list) = PatternList::parse_file(patterns) else {
        return;
    };
    for path in paths.lines().take(20) {
        let path = ImagePath::clean(path);
        let state = list.state_of(&path);
        list.may_change_below(&state, path.as_relative());
    }
});
