//! The functions of a template: Go's own, and those that Docker's tools add.

use std::cmp::Ordering;
use std::fmt::Write as _;

use builder_core::nearest::nearest;
use serde_json::Value;

use super::Problem;
use super::print::{json, text};

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// More than this is no column: nobody pads to it.
const MAX_WIDTH: usize = 10_000;

/// Whether a function is there.
pub(super) fn check(name: &str) -> Result<(), Problem> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    let help = match nearest(name, NAMES.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are {}; fields begin with a dot", NAMES.join(", ")),
    };
    Err(Problem::new(format!("there is no function `{name}`"), help))
}

/// What counts as true: nothing empty, no zero.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    let expected = match name {
        "index" => return index(arguments),
        "slice" => return slice(arguments),
        "printf" => return printf(arguments).map(Value::from),
        "and" | "or" => "VALUE…",
        "not" | "json" => "VALUE",
        "eq" => "VALUE VALUE…",
        "ne" | "lt" | "le" | "gt" | "ge" => "VALUE VALUE",
        "len" => "LIST",
        "join" => "LIST TEXT",
        "split" => "TEXT TEXT",
        "truncate" => "TEXT NUMBER",
        "pad" => "TEXT NUMBER NUMBER",
        _ => "TEXT",
    };
    let found = logic(name, arguments).or_else(|| words(name, arguments));
    found.ok_or_else(|| {
        Problem::new(
            format!("`{name}` can't take what it is given"),
            format!("it is written `{name} {expected}`"),
        )
    })
}

/// What compares and decides.
fn logic(name: &str, arguments: &[Value]) -> Option<Value> {
    Some(match (name, arguments) {
        ("and", [.., last]) => arguments
            .iter()
            .find(|one| !is_true(one))
            .unwrap_or(last)
            .clone(),
        ("or", [.., last]) => arguments
            .iter()
            .find(|one| is_true(one))
            .unwrap_or(last)
            .clone(),
        ("not", [one]) => Value::Bool(!is_true(one)),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            Value::Bool(rest.iter().any(|one| same(first, one)))
        }
        ("ne" | "lt" | "le" | "gt" | "ge", _) => return compared(name, arguments),
        ("len", [Value::String(text)]) => text.len().into(),
        ("len", [Value::Array(items)]) => items.len().into(),
        ("len", [Value::Object(map)]) => map.len().into(),
        ("len", [Value::Null]) => 0.into(),
        _ => return None,
    })
}

/// What makes texts.
fn words(name: &str, arguments: &[Value]) -> Option<Value> {
    let shown = |one: &Value| match one {
        Value::String(_) | Value::Number(_) | Value::Null => Some(text(one)),
        _ => None,
    };
    Some(match (name, arguments) {
        ("json", [one]) => json(one).into(),
        ("join", [Value::Array(items), Value::String(by)]) => {
            let items: Vec<String> = items.iter().map(text).collect();
            items.join(by).into()
        }
        ("join", [Value::Null, Value::String(_)]) => "".into(),
        ("split", [Value::String(one), Value::String(by)]) => one.split(by.as_str()).collect(),
        ("lower", [one]) => shown(one)?.to_lowercase().into(),
        ("upper", [one]) => shown(one)?.to_uppercase().into(),
        ("title", [one]) => title(&shown(one)?).into(),
        ("truncate", [one, width]) => {
            let width = usize::try_from(width.as_u64()?).unwrap_or(usize::MAX);
            shown(one)?.chars().take(width).collect::<String>().into()
        }
        ("pad", _) => return pad(arguments),
        ("print", _) => arguments.iter().map(text).collect::<String>().into(),
        ("println", _) => {
            let words: Vec<String> = arguments.iter().map(text).collect();
            format!("{}\n", words.join(" ")).into()
        }
        _ => return None,
    })
}

fn same(one: &Value, other: &Value) -> bool {
    one == other || order(one, other) == Some(Ordering::Equal)
}

fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        _ => None,
    }
}

fn compared(name: &str, arguments: &[Value]) -> Option<Value> {
    let [one, other] = arguments else {
        return None;
    };
    if name == "ne" {
        return Some(Value::Bool(!same(one, other)));
    }
    let order = order(one, other)?;
    Some(Value::Bool(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

/// `index VALUE KEY…`: what a map lacks is empty, what a list lacks is an error.
fn index(arguments: &[Value]) -> Result<Value, Problem> {
    let Some((first, keys)) = arguments.split_first() else {
        return Err(Problem::new(
            "`index` has nothing to look into",
            "write `index .List 0` or `index .Map \"key\"`",
        ));
    };
    let mut here = first.clone();
    for key in keys {
        here = match (&here, key) {
            (Value::Object(map), Value::String(key)) => {
                map.get(key).cloned().unwrap_or_else(|| "".into())
            }
            (Value::Null, Value::String(_)) => "".into(),
            (Value::Array(items), Value::Number(number)) => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                let found = at.and_then(|at| items.get(at)).cloned();
                found.ok_or_else(|| {
                    Problem::new(
                        format!("a list of {} has nothing at {number}", items.len()),
                        "the first is 0; ask with `len` or `if` before",
                    )
                })?
            }
            (_, key) => {
                return Err(Problem::new(
                    format!("`index` can't look for `{}` there", text(key)),
                    "a list is asked with a number, a map with a text",
                ));
            }
        };
    }
    Ok(here)
}

/// `slice VALUE FROM TO`.
fn slice(arguments: &[Value]) -> Result<Value, Problem> {
    let number = |at: usize| {
        let given = arguments.get(at)?.as_u64();
        Some(usize::try_from(given.unwrap_or(u64::MAX)).unwrap_or(usize::MAX))
    };
    let outside = |from: usize, to: usize| {
        Problem::new(
            format!("`slice` from {from} to {to} is outside"),
            "ask with `len` before, or use `truncate`",
        )
    };
    match arguments.first() {
        Some(Value::String(one)) => {
            let (from, to) = (number(1).unwrap_or(0), number(2).unwrap_or(one.len()));
            let part = one.get(from..to);
            part.map(Value::from).ok_or_else(|| outside(from, to))
        }
        Some(Value::Array(items)) => {
            let (from, to) = (number(1).unwrap_or(0), number(2).unwrap_or(items.len()));
            let part = items.get(from..to).map(<[Value]>::to_vec);
            part.map(Value::from).ok_or_else(|| outside(from, to))
        }
        _ => Err(Problem::new(
            "`slice` can't take what it is given",
            "it is written `slice TEXT FROM TO`",
        )),
    }
}

fn title(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut begins = true;
    for letter in words.chars() {
        if begins {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
        begins = letter.is_whitespace();
    }
    out
}

fn pad(arguments: &[Value]) -> Option<Value> {
    let [Value::String(one), before, after] = arguments else {
        return None;
    };
    let spaces = |number: &Value| {
        let width = usize::try_from(number.as_u64()?).ok()?;
        Some(" ".repeat(width.min(MAX_WIDTH)))
    };
    Some(format!("{}{one}{}", spaces(before)?, spaces(after)?).into())
}

/// `%s`, `%v`, `%d`, `%q`, `%t`, with a width and `-`, and `%%`.
fn printf(arguments: &[Value]) -> Result<String, Problem> {
    let help =
        "it is written `printf \"%s %d\" .Name .Number`, with %s, %v, %d, %q, %t and a width";
    let Some((Value::String(format), values)) = arguments.split_first() else {
        return Err(Problem::new("`printf` has no format", help));
    };
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let left = letters.next_if_eq(&'-').is_some();
        let mut width = 0_usize;
        while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
            width = (width * 10 + digit as usize).min(MAX_WIDTH);
            letters.next();
        }
        let verb = letters.next();
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let mut next = || {
            let problem = || {
                Problem::new(
                    "`printf` has more verbs than arguments: one lacks its argument",
                    help,
                )
            };
            values.next().ok_or_else(problem)
        };
        let shown = match verb {
            Some('s' | 'v' | 'd' | 't') => text(next()?),
            Some('q') => Value::from(text(next()?)).to_string(),
            _ => return Err(Problem::new("`printf` has a verb that is not here", help)),
        };
        // Writing to a string can't fail.
        if left {
            let _ = write!(out, "{shown:<width$}");
        } else {
            let _ = write!(out, "{shown:>width$}");
        }
    }
    Ok(out)
}
