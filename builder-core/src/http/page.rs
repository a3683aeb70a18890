//! What a server says to people: text cleaned for one line, web pages told apart and reduced to their titles.

use super::Response;

/// So much of what a server says is shown, in characters.
const MAX_SHOWN: usize = 300;

/// Text on one line, without what could move a terminal's cursor, shortened; none where nothing is left.
pub fn clean(text: &str) -> Option<String> {
    let text: String = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(4 * MAX_SHOWN)
        .collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let shown: String = words.join(" ").chars().take(MAX_SHOWN).collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

/// Whether a body is a web page, by its type or by how it begins.
pub(crate) fn is_html(response: &Response, body: &[u8]) -> bool {
    let typed = response.header("content-type").unwrap_or_default();
    let begin = String::from_utf8_lossy(&body[..body.len().min(256)]).to_ascii_lowercase();
    let begin = begin.trim_start_matches('\u{feff}').trim_start();
    let begins = ["<!doctype html", "<html"]
        .iter()
        .any(|word| begin.starts_with(word));
    let says = typed.to_ascii_lowercase().starts_with("text/html");
    begins || says && begin.starts_with('<')
}

/// The title of a web page, or its first heading.
pub(crate) fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    ["title", "h1"].iter().find_map(|tag| {
        let from = lower.find(&format!("<{tag}"))?;
        let from = from + lower[from..].find('>')? + 1;
        let to = from + lower[from..].find(&format!("</{tag}"))?;
        clean(&text[from..to])
    })
}
