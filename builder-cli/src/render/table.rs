//! Rows for people and for scripts: a table, JSON, or a template a row.

use builder_core::timestamp::Timestamp;
use builder_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::template::Template;

/// Between two columns.
const GAP: usize = 3;
/// A column is at least so wide, as in Docker's tables.
const MIN_WIDTH: usize = 10;

/// Rows as `--format` says. Without it, or with `table`, they are the table of `default`, a template with tabs between
/// its columns; `headers` has a title for each field.
///
/// # Errors
/// A template that is none.
pub(crate) fn rows(
    format: Option<&str>,
    default: &str,
    headers: &Value,
    rows: &[Value],
) -> Result<String> {
    let format = format.unwrap_or("table").trim();
    if format == "json" || format == "{{json .}}" {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        return Ok(lined(&lines));
    }
    if format.is_empty() {
        let error = Error::new(ErrorKind::Usage, "--format is empty");
        return Err(error.with_help("write `json`, `table` or a template, `{{.ID}}`"));
    }
    // A shell leaves `\t` as it is typed.
    let text = |text: &str| text.trim().replace("\\t", "\t").replace("\\n", "\n");
    let Some(template) = format.strip_prefix("table") else {
        let template = Template::parse(&text(format))?;
        let lines: Vec<String> = rows
            .iter()
            .map(|row| template.render(row))
            .collect::<Result<_>>()?;
        return Ok(lined(&lines));
    };
    let template = text(template);
    let template = if template.is_empty() {
        default
    } else {
        template.as_str()
    };
    let template = Template::parse(template)?;
    let mut lines = vec![template.render(headers)?];
    for row in rows {
        lines.push(template.render(row)?);
    }
    Ok(aligned(&lines))
}

fn lined(lines: &[String]) -> String {
    let mut out = lines.join("\n");
    if !lines.is_empty() {
        out.push('\n');
    }
    out
}

/// Lines with tabs as columns; the last one is as wide as it is.
fn aligned(lines: &[String]) -> String {
    let cells: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &cells {
        for (column, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
            if widths.len() <= column {
                widths.resize(column + 1, MIN_WIDTH);
            }
            widths[column] = widths[column].max(cell.chars().count() + GAP);
        }
    }
    let mut out = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < row.len() {
                let used = cell.chars().count();
                line.extend(std::iter::repeat_n(' ', widths[column] - used));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A size as Docker's tables have it: decimal units, three digits that count.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut amount = bytes as f64;
    let mut unit = 0;
    // What would be rounded up to a thousand belongs to the next unit.
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let decimals = match amount {
        amount if unit == 0 || amount >= 99.95 => 0,
        amount if amount >= 9.995 => 1,
        _ => 2,
    };
    let number = format!("{amount:.decimals$}");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", UNITS[unit])
}

/// How long ago something was, as Docker says it.
pub(crate) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else {
        return "N/A".to_owned();
    };
    let seconds = now.seconds.saturating_sub(then.seconds).max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let text = match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    };
    format!("{text} ago")
}

/// A time as Docker's tables have it.
pub(crate) fn at(time: Option<Timestamp>) -> String {
    let Some(time) = time else {
        return "N/A".to_owned();
    };
    let text = Timestamp::from_seconds(time.seconds).to_rfc3339();
    format!("{} +0000 UTC", text.replace('T', " ").trim_end_matches('Z'))
}

/// An object of titles.
pub(crate) fn titles(pairs: &[(&str, &str)]) -> Value {
    let mut titles = json!({});
    for (field, title) in pairs {
        titles[*field] = Value::from(*title);
    }
    titles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_those_of_docker() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (77_840_000, "77.8MB"),
            (999_999, "1MB"),
            (1_117_000_000, "1.12GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        for (seconds, shown) in [
            (0, "Less than a second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (3599, "59 minutes ago"),
            (3600, "About an hour ago"),
            (86_400, "24 hours ago"),
            (3 * 86_400, "3 days ago"),
            (20 * 86_400, "2 weeks ago"),
            (100 * 86_400, "3 months ago"),
            (900 * 86_400, "2 years ago"),
            (-5, "Less than a second ago"),
        ] {
            let then = Some(Timestamp::from_seconds(1_000_000_000 - seconds));
            let now = Timestamp::from_seconds(1_000_000_000);
            assert_eq!(ago(then, now), shown);
        }
        assert_eq!(
            at(Some(Timestamp::from_seconds(0))),
            "1970-01-01 00:00:00 +0000 UTC"
        );
    }

    #[test]
    fn columns_stand_below_each_other() {
        let titles = titles(&[("A", "FIRST"), ("B", "SECOND")]);
        let data = [
            json!({"A": "x", "B": "1"}),
            json!({"A": "longer than ten", "B": "2"}),
        ];
        let made = rows(None, "{{.A}}\t{{.B}}", &titles, &data).unwrap();
        assert_eq!(
            made,
            "FIRST             SECOND\nx                 1\nlonger than ten   2\n"
        );
        let made = rows(Some("table {{.B}}\\t{{.A}}"), "", &titles, &data).unwrap();
        assert_eq!(
            made,
            "SECOND    FIRST\n1         x\n2         longer than ten\n"
        );
        let made = rows(Some("{{.B}}"), "", &titles, &data).unwrap();
        assert_eq!(made, "1\n2\n");
        assert_eq!(
            rows(Some("json"), "", &titles, &data)
                .unwrap()
                .lines()
                .count(),
            2
        );
    }
}
