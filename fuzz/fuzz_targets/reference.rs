//! Names of images, platforms, digests, durations, ports and times: what parses has a form that parses again.

#![no_main]

use builder_core::digest::Digest;
use builder_core::dockerfile::duration;
use builder_core::plan::{ports, reference_text};
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::timestamp::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let full = reference.to_string();
        assert_eq!(full.parse::<Reference>().as_ref(), Ok(&reference), "{full}");
        assert_eq!(reference.familiar().parse(), Ok(reference.clone()));
        reference.last_component();
    }
    let _ = reference_text::problem(text);
    let _ = reference_text::familiar(text);
    let _ = text.parse::<Platform>();
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
    if let Ok(duration) = duration::parse(text) {
        let printed = duration::print(duration);
        assert!(duration::parse(&printed).is_ok(), "{printed}");
    }
    let _ = ports::parse(text);
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        let _ = time.to_rfc3339();
    }
});
