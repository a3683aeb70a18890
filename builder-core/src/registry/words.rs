//! What a server says when it refuses: read from JSON, from text and from web pages, cleaned, on one line.
//!
//! Follows the OCI distribution specification, "Error Codes", and what token servers, OAuth's and others, answer.

use serde_json::Value;

use crate::http::{Response, clean, is_html, title};

/// The codes of a failed answer, and its words: `code: message` of its errors with their details, on one line.
pub(crate) fn words(response: &Response, body: &[u8]) -> (Vec<String>, Option<String>) {
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        let text = if is_html(response, body) {
            title(body).map(|title| format!("{title} (a web page)"))
        } else {
            std::str::from_utf8(body).ok().map(str::to_owned)
        };
        return (Vec::new(), text.as_deref().and_then(clean));
    };
    let errors = document["errors"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let codes = errors.iter().map(|error| text(&error["code"])).collect();
    let mut said: Vec<String> = errors.iter().map(one_error).collect();
    if said.is_empty() {
        // A token server's answer, or OAuth's.
        for key in ["error_description", "details", "message", "error"] {
            said.extend(document[key].as_str().map(str::to_owned));
        }
        said.extend(document.as_str().map(str::to_owned));
        said.truncate(1);
    }
    (codes, clean(&said.join("; ")))
}

/// `code: message (detail)`, each where it is there and says something new.
fn one_error(error: &Value) -> String {
    if let Some(text) = error.as_str() {
        return text.to_owned();
    }
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    let parts = [text("code").to_lowercase(), text("message").to_owned()];
    let said = parts.join(": ").trim_matches([':', ' ']).to_owned();
    let detail = match &error["detail"] {
        Value::String(text) => text.clone(),
        Value::Object(map) => ["message", "Message", "error", "reason"]
            .iter()
            .find_map(|key| map.get(*key)?.as_str())
            .unwrap_or_default()
            .to_owned(),
        _ => String::new(),
    };
    if detail.is_empty() || said.contains(&detail) {
        return said;
    }
    format!("{said} ({detail})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_wherever_they_stand() {
        for (typed, body, expected) in [
            (
                "application/json",
                r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
                Some("denied: no"),
            ),
            (
                "application/json",
                r#"{"errors":[{"code":"DENIED","message":"no","detail":"quota of 5 GB"}]}"#,
                Some("denied: no (quota of 5 GB)"),
            ),
            (
                "application/json",
                r#"{"errors":[{"code":"MANIFEST_INVALID","message":"invalid","detail":{"message":"index not supported"}}]}"#,
                Some("manifest_invalid: invalid (index not supported)"),
            ),
            (
                "",
                r#"{"errors":[{"status":403,"message":"Forbidden"}]}"#,
                Some("Forbidden"),
            ),
            ("", r#"{"errors":["plain words"]}"#, Some("plain words")),
            (
                "",
                r#"{"errors":[{"code":"X","message":"m","detail":[{"a":1}]}]}"#,
                Some("x: m"),
            ),
            ("", r#"{"details":"incorrect"}"#, Some("incorrect")),
            (
                "",
                r#"{"error":"invalid_grant","error_description":"too old"}"#,
                Some("too old"),
            ),
            ("", r#""just a string""#, Some("just a string")),
            (
                "text/plain",
                "Your token\n has\x1b[2J expired.\n",
                Some("Your token has [2J expired."),
            ),
            (
                "text/html",
                "<html><head><TITLE>413 Too\nLarge</TITLE></head></html>",
                Some("413 Too Large (a web page)"),
            ),
            (
                "",
                "<!DOCTYPE html><h1 class=x>Blocked</h1>",
                Some("Blocked (a web page)"),
            ),
            ("text/html", "<html></html>", None),
            ("", "", None),
            ("", "null", None),
        ] {
            let response = Response {
                status: 403,
                headers: vec![("content-type".to_owned(), typed.to_owned())],
                body: Box::new(std::io::empty()),
            };
            let found = words(&response, body.as_bytes()).1;
            assert_eq!(found.as_deref(), expected, "{body}");
        }
        assert_eq!(clean(&"x".repeat(9999)).map(|text| text.len()), Some(300));
    }
}
