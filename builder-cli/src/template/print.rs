//! Values as text: as Go prints them, and as JSON.

use serde_json::Value;

/// As Go's `%v` does: lists in brackets, maps with `map[`, nothing as `<no value>`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", text(value)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// As Go's encoder writes it: `<`, `>` and `&` escaped.
pub(super) fn json(value: &Value) -> String {
    let mut out = String::new();
    for letter in value.to_string().chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            other => out.push(other),
        }
    }
    out
}
