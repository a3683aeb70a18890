//! EXPOSE's ports.
//!
//! Follows the Dockerfile reference, "EXPOSE", and Docker's reading of `ip:host:container` forms, of which only the
//! container's part counts.

/// What one word of EXPOSE says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Entries such as `80/tcp`, one a port.
    pub entries: Vec<String>,
    /// The protocol was not written in lower case.
    pub odd_case: bool,
    /// A host's address or port was written too.
    pub with_host: bool,
}

/// Reads one word; the error is a fragment that says what is wrong.
pub fn parse(word: &str) -> Result<Ports, String> {
    let (ports, written) = match word.split_once('/') {
        Some((ports, protocol)) => (ports, protocol),
        None => (word, "tcp"),
    };
    let protocol = if written.is_empty() {
        "tcp".to_owned()
    } else {
        written.to_ascii_lowercase()
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!(
            "`{word}` has the unknown protocol `{protocol}`; expected `tcp`, `udp` or `sctp`"
        ));
    }
    let (host, container) = match ports.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, ports),
    };
    let (first, last) = range(container)
        .ok_or_else(|| format!("`{word}` is no port; expected a number up to 65535"))?;
    if first > last {
        return Err(format!("the range `{container}` runs backwards"));
    }
    Ok(Ports {
        entries: (first..=last)
            .map(|port| format!("{port}/{protocol}"))
            .collect(),
        odd_case: written.bytes().any(|byte| byte.is_ascii_uppercase()),
        with_host: host.is_some(),
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(text).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_and_ranges() {
        for (word, entries) in [
            ("80", Some(vec!["80/tcp"])),
            ("80/UDP", Some(vec!["80/udp"])),
            ("7-9/sctp", Some(vec!["7/sctp", "8/sctp", "9/sctp"])),
            ("127.0.0.1:8443:443", Some(vec!["443/tcp"])),
            ("65536", None),
            ("9-7", None),
            ("http", None),
            ("80/icmp", None),
            ("", None),
            ("+1", None),
        ] {
            let found = parse(word).ok().map(|ports| ports.entries);
            assert_eq!(
                found,
                entries.map(|list| list.into_iter().map(str::to_owned).collect()),
                "{word}"
            );
        }
    }
}
