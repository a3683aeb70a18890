//! Hosts that the user named as insecure.
//!
//! The rules are Docker's: a name with or without a port, an address, or a network in CIDR form, which is asked with the
//! addresses of the name. Of such a host certificates are not checked, and plain HTTP is spoken where TLS isn't.

use std::collections::BTreeSet;

use crate::http::Transport;
use crate::http::proxy::{holds, split};

/// What was named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insecure<'a>(pub(crate) &'a BTreeSet<String>);

impl Insecure<'_> {
    /// Whether a host, with its port where it is not the scheme's own, was named. Only a network makes it ask for the
    /// addresses of a name.
    pub(crate) fn contains(self, authority: &str, transport: &dyn Transport) -> bool {
        let authority = authority.to_ascii_lowercase();
        let (host, port) = split(&authority);
        let named = self.0.iter().any(|rule| {
            let rule = rule.to_ascii_lowercase();
            let rule = rule
                .split_once("://")
                .map_or(rule.as_str(), |(_, rest)| rest);
            let rule = rule.trim_end_matches('/');
            if rule.contains('/') {
                return false;
            }
            let (name, wanted) = match rule.parse::<std::net::Ipv6Addr>() {
                Ok(_) => (rule, None),
                Err(_) => split(rule),
            };
            name == host
                && wanted.is_none_or(|wanted| match port {
                    Some(port) => port == wanted,
                    None => matches!(wanted, "443" | "80"),
                })
        });
        let networks: Vec<&String> = self.0.iter().filter(|rule| is_network(rule)).collect();
        named
            || !networks.is_empty()
                && transport
                    .addresses(host)
                    .into_iter()
                    .any(|address| networks.iter().any(|network| holds(network, address)))
    }
}

/// Whether a rule is `ADDRESS/BITS`.
fn is_network(rule: &str) -> bool {
    rule.split_once('/')
        .is_some_and(|(address, _)| address.parse::<std::net::IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Error, Request, Response};

    /// Knows one name.
    struct Names;

    impl Transport for Names {
        fn send(&self, request: &Request) -> Result<Response, Error> {
            Err(Error::BadUrl {
                url: request.url.clone(),
            })
        }

        fn addresses(&self, host: &str) -> Vec<std::net::IpAddr> {
            let host = if host == "lan.example" {
                "10.1.2.3"
            } else {
                host
            };
            host.parse().into_iter().collect()
        }
    }

    #[test]
    fn names_addresses_and_networks() {
        for (rule, authority, expected) in [
            ("r.example", "r.example", true),
            ("r.example", "r.example:5000", true),
            ("R.example", "r.Example:5000", true),
            ("r.example:5000", "r.example:5000", true),
            ("r.example:5000", "r.example", false),
            ("r.example:443", "r.example", true),
            ("http://r.example:5000", "r.example:5000", true),
            ("https://r.example/", "r.example", true),
            ("example", "r.example", false),
            ("10.0.0.0/8", "10.9.8.7:5000", true),
            ("10.0.0.0/8", "lan.example:5000", true),
            ("192.168.0.0/16", "lan.example", false),
            ("10.0.0.0/8", "other.example", false),
            ("fd00::/8", "[fd12::1]:5000", true),
            ("fd12::1", "[fd12::1]:5000", true),
            ("[fd12::1]:5000", "[fd12::1]:5000", true),
            ("[fd12::1]:5000", "[fd12::1]:5001", false),
            ("0.0.0.0/0", "10.9.8.7", true),
        ] {
            let rules = BTreeSet::from([rule.to_owned()]);
            let found = Insecure(&rules).contains(authority, &Names);
            assert_eq!(found, expected, "{rule} {authority}");
        }
    }
}
