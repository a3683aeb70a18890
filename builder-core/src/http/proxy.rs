//! Which proxy a request goes through: values of the variables that every tool reads, handed in.
//!
//! The rules are those that Go's tools share, because Docker's users rely on them: `NO_PROXY` is a list of host names,
//! each with all names below it, of addresses, of networks (`10.0.0.0/8`), each with an optional port; `*` is all.
//! Loopback is never sent through a proxy.

use std::net::IpAddr;

/// The proxies of the environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Who is reached without one.
    pub none: String,
}

impl std::fmt::Debug for Proxies {
    /// A proxy's URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |url: &Option<String>| url.as_deref().map(super::without_user);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("none", &self.none)
            .finish()
    }
}

impl Proxies {
    /// The proxy for a URL's scheme and authority, both in lower case.
    pub fn choose(&self, scheme: &str, authority: &str) -> Option<&str> {
        let proxy = match scheme {
            "https" => self.https.as_deref(),
            _ => self.http.as_deref(),
        };
        let (host, port) = split(authority);
        let port = port.unwrap_or(if scheme == "https" { "443" } else { "80" });
        if is_loopback(host) || self.is_excepted(host, port) {
            return None;
        }
        proxy.filter(|proxy| !proxy.is_empty())
    }

    fn is_excepted(&self, host: &str, port: &str) -> bool {
        self.none
            .split([',', ' '])
            .map(|rule| rule.trim().to_ascii_lowercase())
            .filter(|rule| !rule.is_empty())
            .any(|rule| excepts(&rule, host, port))
    }
}

fn excepts(rule: &str, host: &str, port: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if let Some((network, bits)) = rule.split_once('/') {
        return in_network(network, bits, host);
    }
    let is_address = rule.parse::<IpAddr>().is_ok();
    let (name, wanted) = if is_address {
        (rule, None)
    } else {
        split(rule)
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.strip_prefix("*.").unwrap_or(name);
    let below = name.strip_prefix('.');
    let name = below.unwrap_or(name);
    let is_below = host
        .strip_suffix(name)
        .is_some_and(|rest| rest.ends_with('.'));
    is_below && !is_address || host == name && (below.is_none() || is_address)
}

fn in_network(network: &str, bits: &str, host: &str) -> bool {
    host.parse()
        .is_ok_and(|host| holds(&format!("{network}/{bits}"), host))
}

/// Whether a network, `ADDRESS/BITS`, holds an address.
pub(crate) fn holds(network: &str, host: IpAddr) -> bool {
    let Some((network, bits)) = network.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (network, host) {
        (IpAddr::V4(network), IpAddr::V4(host)) if bits <= 32 => {
            let shift = |address: std::net::Ipv4Addr| u64::from(address.to_bits()) >> (32 - bits);
            shift(network) == shift(host)
        }
        (IpAddr::V6(network), IpAddr::V6(host)) if (1..=128).contains(&bits) => {
            network.to_bits() >> (128 - bits) == host.to_bits() >> (128 - bits)
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => bits == 0,
        _ => false,
    }
}

/// Host without brackets, and port.
pub fn split(authority: &str) -> (&str, Option<&str>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, port.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

/// Whether a host is this machine by its very name: `localhost`, `127.0.0.0/8`, `::1`.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_means_what_it_means_to_go() {
        let check = |none: &str, authority: &str, direct: bool| {
            let proxies = Proxies {
                http: None,
                https: Some("http://p:3128".to_owned()),
                none: none.to_owned(),
            };
            let found = proxies.choose("https", authority).is_none();
            assert_eq!(found, direct, "`{none}` for `{authority}`");
        };
        check("", "r.example.com", false);
        check("", "localhost:5000", true);
        check("", "[::1]:5000", true);
        check("*", "r.example.com", true);
        check("example.com", "r.example.com:5000", true);
        check("example.com", "example.com", true);
        check("example.com", "badexample.com", false);
        check(".example.com", "example.com", false);
        check(".example.com", "r.example.com", true);
        check("*.example.com", "r.example.com", true);
        check("r.example.com:5000", "r.example.com:5000", true);
        check("r.example.com:5000", "r.example.com", false);
        check("r.example.com:443", "r.example.com", true);
        check("a.b , 10.0.0.0/8", "10.2.3.4:5000", true);
        check("10.0.0.0/8", "11.2.3.4", false);
        check("10.1.2.3", "10.1.2.3:80", true);
        check("fd00::/8", "[fd12::1]:5000", true);
        check("fd00::1", "[fd00::1]", true);
    }

    #[test]
    fn each_scheme_has_its_proxy_and_no_password_is_shown() {
        let proxies = Proxies {
            http: Some("http://me:secret@p".to_owned()),
            ..Proxies::default()
        };
        assert_eq!(proxies.choose("http", "h"), Some("http://me:secret@p"));
        assert_eq!(proxies.choose("https", "h"), None);
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
