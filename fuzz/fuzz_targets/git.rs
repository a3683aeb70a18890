//! URLs of git repositories.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| builder_core::build::git::fuzz_url(text));
