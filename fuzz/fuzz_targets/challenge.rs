//! What a registry says in headers: challenges, and where a redirect or an upload leads.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    builder_core::registry::fuzz_challenge(text);
    let (base, location) = text.split_once('\0').unwrap_or(("http://h/x/y", text));
    builder_core::http::fuzz_url(base, location);
    builder_core::http::fuzz_url("https://u:p@h:1/x?y", text);
});
