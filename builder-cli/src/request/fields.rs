//! `key=value` fields with commas between them, as Docker's flags have them.
//!
//! Commas, and quotes, are those of CSV (RFC 4180): a field in double quotes holds commas, a quote in it is written twice.

use builder_core::Result;

use super::usage;

/// Splits one line of CSV.
///
/// # Errors
/// A quote that nothing closes, or that stands in the middle of a field; `flag` names who wrote it.
pub(crate) fn split(flag: &str, spec: &str) -> Result<Vec<String>> {
    let wrong = |problem: &str| {
        usage(format!("{flag} `{spec}`: {problem}")).with_help(
            "a field with a comma in it stands in double quotes as a whole: `type=image,\"name=A,B\"`",
        )
    };
    let (mut fields, mut rest) = (Vec::new(), spec);
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, after) = match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(wrong("a quote stands in the middle of a field"));
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, after) = unquoted(quoted).ok_or_else(|| wrong("a quote is never closed"))?;
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err(wrong("something follows a closing quote")),
        }
    }
}

/// What stands up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}

/// `true`, `false`, `1`, `0`, as buildx reads them.
///
/// # Errors
/// Anything else.
pub(super) fn switch(flag: &str, key: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => {
            Err(usage(format!("{flag} {key}=`{value}` is unknown"))
                .with_help("write true or false"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_as_docker_splits_them() {
        for (spec, expected) in [
            ("a=b", &["a=b"][..]),
            ("a=b,c=d", &["a=b", "c=d"]),
            (
                r#"type=image,"name=a,b",push=true"#,
                &["type=image", "name=a,b", "push=true"],
            ),
            (r#""a=""b"",c""#, &[r#"a="b",c"#]),
            ("a,", &["a", ""]),
            (r#""""#, &[""]),
            ("", &[""]),
        ] {
            assert_eq!(split("-o", spec).unwrap(), expected, "{spec}");
        }
        for spec in [r#"a="b""#, r#""a"#, r#""a"b"#, r#""a"","#] {
            assert!(split("-o", spec).is_err(), "{spec}");
        }
    }
}
