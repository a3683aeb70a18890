//! Why a step is executed again, in words.

use builder_core::event::{FileChange, Reason};
use serde_json::{Value, json};

/// The reasons as one line. `steps` comes last, and only where there is nothing better to say.
pub(crate) fn text(reasons: &[Reason]) -> String {
    let below = |reason: &Reason| matches!(reason, Reason::Part { name, .. } if name == "steps");
    let mut shown: Vec<String> = reasons
        .iter()
        .filter(|reason| !below(reason))
        .map(one)
        .collect();
    if shown.is_empty() {
        shown = reasons.iter().map(one).collect();
    }
    shown.join(", ")
}

/// One reason in words.
pub(crate) fn one(reason: &Reason) -> String {
    match reason {
        Reason::New => "nothing like it was executed before".to_owned(),
        Reason::File { path, change } => {
            let how = match change {
                FileChange::Added => "is new",
                FileChange::Removed => "is gone",
                FileChange::Content => "has other content",
                FileChange::Mode => "has other permissions",
                FileChange::Other => "has another owner or type",
            };
            format!("`{path}` {how}")
        }
        Reason::Part { name, before, now } => part(name, before.as_deref(), now.as_deref()),
    }
}

fn part(name: &str, before: Option<&str>, now: Option<&str>) -> String {
    match name {
        "base" => return "the base is another one".to_owned(),
        "steps" => return "an earlier step has another result".to_owned(),
        "command" => return "the command is another one".to_owned(),
        "env" => return "the variables are in another order".to_owned(),
        "files" => return "the files are other ones".to_owned(),
        "gone" => return "its layer is no longer in the store".to_owned(),
        _ => {}
    }
    if let Some(mount) = name.strip_suffix(" files") {
        return format!("the files of {mount} are other ones");
    }
    if let Some(variable) = name.strip_prefix("env ") {
        return match (before, now) {
            (None, _) => format!("the variable `{variable}` is new"),
            (_, None) => format!("the variable `{variable}` is gone"),
            _ => format!("the variable `{variable}` has another value"),
        };
    }
    match (before, now) {
        (Some(before), Some(now)) if before.len() + now.len() < 80 => {
            format!("{name} was `{before}` and is `{now}`")
        }
        (None, Some(now)) if now.len() < 80 => format!("{name} is new: `{now}`"),
        (None, _) => format!("{name} is new"),
        (_, None) => format!("{name} is gone"),
        _ => format!("{name} is another one"),
    }
}

/// One reason as JSON.
pub(crate) fn value(reason: &Reason) -> Value {
    match reason {
        Reason::New => json!({ "reason": "new" }),
        Reason::File { path, change } => {
            let change = match change {
                FileChange::Added => "added",
                FileChange::Removed => "removed",
                FileChange::Content => "content",
                FileChange::Mode => "mode",
                FileChange::Other => "other",
            };
            json!({ "reason": "file", "path": path, "change": change })
        }
        Reason::Part { name, before, now } => {
            json!({ "reason": "part", "part": name, "before": before, "now": now })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_earlier_steps_is_not_told_beside_a_cause() {
        let part = |name: &str| Reason::Part {
            name: name.to_owned(),
            before: Some("a".to_owned()),
            now: Some("b".to_owned()),
        };
        let file = Reason::File {
            path: "src/main.c".to_owned(),
            change: FileChange::Content,
        };
        assert_eq!(
            text(&[file, part("steps")]),
            "`src/main.c` has other content"
        );
        assert_eq!(text(&[part("steps")]), "an earlier step has another result");
        assert_eq!(text(&[part("env A")]), "the variable `A` has another value");
        assert_eq!(text(&[part("--chown")]), "--chown was `a` and is `b`");
    }
}
