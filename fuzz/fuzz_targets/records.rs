//! Records of a cache of another machine, and entries of one's own.

#![no_main]

use builder_core::cache::Entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = serde_json::from_slice(data) {
        builder_core::cache::shared::fuzz_records(&value);
    }
    if let Ok(entry) = serde_json::from_slice::<Entry>(data) {
        entry.key.digest();
    }
});
