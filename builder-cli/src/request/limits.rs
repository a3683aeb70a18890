//! `--shm-size` and `--ulimit`, as Docker writes them.

use builder_core::Result;
use builder_core::sandbox::spec::{Limits, Resource, ResourceLimit};

use super::usage;

/// Both flags.
pub(crate) fn limits(shm_size: Option<&str>, ulimits: &[String]) -> Result<Limits> {
    Ok(Limits {
        shm_size: shm_size
            .map(|text| memory("--shm-size", text))
            .transpose()?
            .filter(|size| *size > 0),
        resources: ulimits
            .iter()
            .map(|text| resource(text))
            .collect::<Result<_>>()?,
    })
}

/// A number of bytes; a unit is a power of 1024, whatever it is called: `64m`, `1GB`.
pub(crate) fn memory(flag: &str, text: &str) -> Result<u64> {
    let wrong = || usage(format!("{flag} `{text}` is no size")).with_help("write `64m` or `1g`");
    let lower = text.trim().to_ascii_lowercase();
    let at = lower.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = lower.split_at(at.unwrap_or(lower.len()));
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << (10 * power)).ok_or_else(wrong)
}

/// `NAME=SOFT[:HARD]`; -1 is unlimited.
fn resource(text: &str) -> Result<ResourceLimit> {
    let wrong = || {
        let names: Vec<&str> = Resource::ALL.iter().map(|(name, _)| *name).collect();
        usage(format!("--ulimit `{text}` is no limit")).with_help(format!(
            "write NAME=SOFT[:HARD], such as `nofile=1024:4096`; -1 is unlimited; names are {}",
            names.join(", ")
        ))
    };
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let mut all = Resource::ALL.iter();
    let (_, resource) = all.find(|(one, _)| *one == name).ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| wrong()),
    };
    let (soft, hard) = (value(soft)?, value(hard)?);
    let above = match (soft, hard) {
        (None, Some(_)) => true,
        (Some(soft), Some(hard)) => soft > hard,
        (_, None) => false,
    };
    if above {
        return Err(usage(format!(
            "--ulimit `{text}`: the first value is above the second"
        ))
        .with_help("the second is how far a program may raise the first"));
    }
    Ok(ResourceLimit {
        resource: *resource,
        soft,
        hard,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        for (text, expected) in [
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("1000", Some(1000)),
            ("1000b", Some(1000)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("99999999999g", None),
        ] {
            assert_eq!(memory("--shm-size", text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn limits_have_one_value_or_two() {
        for (text, expected) in [
            ("nofile=1024", Some((Some(1024), Some(1024)))),
            ("nofile=1024:4096", Some((Some(1024), Some(4096)))),
            ("core=0:-1", Some((Some(0), None))),
            ("stack=-1", Some((None, None))),
            ("nofile=2:1", None),
            ("nofile=-1:1", None),
            ("nofile", None),
            ("files=1", None),
            ("nofile=x", None),
        ] {
            let found = resource(text).ok().map(|limit| (limit.soft, limit.hard));
            assert_eq!(found, expected, "{text}");
        }
    }
}
