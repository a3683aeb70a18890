//! The expansion of words: never a panic, with either escape character, in words and in heredocs.

#![no_main]

use builder_core::dockerfile::expand::Expander;
use builder_core::dockerfile::word::Word;
use builder_core::source::Span;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if text.len() > 4096 {
        return;
    }
    let lookup = |name: &str| match name {
        "A" => Some("a/b.c*d?e".to_owned()),
        "B" => Some(String::new()),
        "C" => Some("\u{fc}ml\u{e4}ut${A}".to_owned()),
        _ => None,
    };
    let span = Span::new(0, text.len());
    for escape in ['\\', '`'] {
        let expander = Expander {
            escape,
            lookup: &lookup,
        };
        let word = Word {
            text: text.to_owned(),
            span,
        };
        let _ = expander.word(&word);
        let _ = expander.heredoc(text, span);
    }
});
