//! URLs: parsed once, joined, compared by who answers, and shown without what is secret in them.
//!
//! Follows RFC 3986: section 5.2 for what a relative reference means, 6.2.2 and 6.2.3 for what is equal. Servers write
//! characters into a Location that belong into none: quotes, blanks, brackets, letters beyond ASCII. They are encoded
//! as browsers do, since the server that wrote them will read them back. What is a bare CR, LF or NUL makes no URL.

use std::fmt;

/// An absolute `http` or `https` URL. A fragment is dropped when it is read: no server ever sees one.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// `http` or `https`.
    pub(super) scheme: String,
    /// `user:password`, as it was written.
    user: Option<String>,
    /// In lower case; an IPv6 address without its brackets.
    pub(super) host: String,
    /// Only where it was written and is not the scheme's own.
    port: Option<u16>,
    /// Begins with `/`; without dot segments where it came from a join.
    path: String,
    query: Option<String>,
}

impl Url {
    /// Reads an absolute URL; none where it is no `http` or `https` URL.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") || text.contains(['\r', '\n', '\0']) {
            return None;
        }
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let (host, port) = split_port(host)?;
        let port = port.filter(|port| *port != default_port(&scheme));
        let (path, query) = parts(rest);
        // A backslash behind the host is meant as a slash, as browsers take it: what prints must be read again.
        let path = match path.strip_prefix('\\') {
            Some(rest) => format!("/{rest}"),
            None if path.is_empty() => "/".to_owned(),
            None => path.to_owned(),
        };
        Some(Self {
            scheme,
            user,
            host: host.to_ascii_lowercase(),
            port,
            path: encoded(&path),
            query: query.map(encoded),
        })
    }

    /// What a reference in an answer of this URL means: an absolute URL, or one relative to this one.
    pub fn join(&self, reference: &str) -> Option<Self> {
        let reference = reference.trim_matches([' ', '\t']);
        if reference.contains(['\r', '\n', '\0']) {
            return None;
        }
        if has_scheme(reference) {
            let mut url = Self::parse(reference)?;
            url.path = without_dots(&url.path);
            return Some(url);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme));
        }
        let (path, query) = parts(reference);
        let mut url = self.clone();
        url.query = match query {
            None if path.is_empty() => self.query.clone(),
            other => other.map(encoded),
        };
        if path.starts_with('/') {
            url.path = without_dots(&encoded(path));
        } else if !path.is_empty() {
            let folder = &self.path[..=self.path.rfind('/').unwrap_or(0)];
            url.path = without_dots(&format!("{folder}{}", encoded(path)));
        }
        Some(url)
    }

    /// The port that is spoken to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or_else(|| default_port(&self.scheme))
    }

    /// Whether it is spoken to with TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme == "https"
    }

    /// Host and port as a `Host` header and `certs.d` have them: no port where it is the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Host and port, always both.
    pub fn address(&self) -> String {
        match self.port {
            Some(_) => self.authority(),
            None => format!("{}:{}", self.authority(), self.port()),
        }
    }

    /// Whether the same server answers.
    pub fn is_same_server(&self, other: &Self) -> bool {
        (&self.scheme, &self.host, self.port()) == (&other.scheme, &other.host, other.port())
    }

    /// User and password, as they were written.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What a request line has: path and query.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// This URL with another scheme, on that scheme's port where none was written.
    #[must_use]
    pub fn with_scheme(mut self, scheme: &str) -> Self {
        scheme.clone_into(&mut self.scheme);
        self.port = self.port.filter(|port| *port != default_port(scheme));
        self
    }
}

impl fmt::Display for Url {
    /// The whole URL but user and password, which go into a header or nowhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.target())
    }
}

impl fmt::Debug for Url {
    /// A query may hold a signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&for_message(&self.to_string()))
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Whether a reference begins with a scheme (section 3.1): a `://` further on may be a part of its query.
fn has_scheme(reference: &str) -> bool {
    reference.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'))
    })
}

/// Host without brackets, and port; none where one of them can't be meant.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = super::proxy::split(authority);
    let odd =
        |one: char| one.is_whitespace() || one.is_control() || "/?#@[]<>\"\\^`{|}".contains(one);
    if host.is_empty() || host.contains(odd) || !authority.starts_with('[') && host.contains(':') {
        return None;
    }
    match port {
        None | Some("") => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok()?))),
    }
}

/// Path and query of what follows the authority; the fragment is left out.
fn parts(rest: &str) -> (&str, Option<&str>) {
    let rest = rest.split('#').next().unwrap_or(rest);
    match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    }
}

/// Encodes what may not stand in a URL. A `%` stays as it is: what is encoded is not encoded again.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
        {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    out
}

/// Section 5.2.4: what `.` and `..` in a path mean.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // A path that ends with dots is a folder.
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Scheme, host and port of a URL as text: who answers. User information and a scheme's own port are left out.
pub(crate) fn authority(url: &str) -> (String, String) {
    match Url::parse(url) {
        Some(url) => (url.scheme.clone(), url.authority()),
        None => (String::new(), String::new()),
    }
}

/// A URL without user name and password, for messages.
pub fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// A URL for messages: no user information, no query, which may hold a signature or a token.
pub fn for_message(url: &str) -> String {
    let url = without_user(url);
    match url.find(['?', '#']) {
        Some(end) => url[..end].to_owned(),
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What prints is read again as the same, wherever it came from.
        #[test]
        fn a_url_prints_as_what_it_is(
            text in "(http|https)://[a-c%5C.\\\\:@\\[\\]]{1,8}[/?#a\\\\%5C.\" ]{0,12}",
            reference in "[a/?#.\\\\%5C:@\"\u{e9} ]{0,12}",
        ) {
            if let Some(url) = Url::parse(&text) {
                let bare = Url { user: None, ..url.clone() };
                proptest::prop_assert_eq!(Url::parse(&url.to_string()), Some(bare));
                if let Some(joined) = url.join(&reference) {
                    let bare = Url { user: None, ..joined.clone() };
                    proptest::prop_assert_eq!(Url::parse(&joined.to_string()), Some(bare), "{} {}", text, reference);
                }
            }
        }
    }

    #[test]
    fn references_are_resolved() {
        for (reference, expected) in [
            ("https://o.example/x", "https://o.example/x"),
            ("HTTPS://O.example:443/x#part", "https://o.example/x"),
            ("//o.example/x", "http://o.example/x"),
            ("/x", "http://h:1/x"),
            ("x", "http://h:1/a/x"),
            ("", "http://h:1/a/b?q=/z"),
            ("#part", "http://h:1/a/b?q=/z"),
            ("?y", "http://h:1/a/b?y"),
            ("./x", "http://h:1/a/x"),
            ("../x/../y", "http://h:1/y"),
            ("../../../x", "http://h:1/x"),
            ("..", "http://h:1/"),
            (".", "http://h:1/a/"),
            ("/x/./y/..", "http://h:1/x/"),
            ("//o.example", "http://o.example/"),
            (
                "/x?back=https://a.example/b",
                "http://h:1/x?back=https://a.example/b",
            ),
            ("x?back=a://b/../c", "http://h:1/a/x?back=a://b/../c"),
            (r#"/x?n="a b".tar"#, "http://h:1/x?n=%22a%20b%22.tar"),
            ("/x?n=<ä>&m=%2F%zz", "http://h:1/x?n=%3C%C3%A4%3E&m=%2F%zz"),
            (
                "https://o.example/a/../b?c/../d",
                "https://o.example/b?c/../d",
            ),
            (" /x ", "http://h:1/x"),
        ] {
            let base = Url::parse("http://h:1/a/b?q=/z").unwrap();
            let found = base.join(reference).map(|url| url.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{reference}");
        }
        let base = Url::parse("http://h/").unwrap();
        for odd in [
            "ftp://h/x",
            "http://",
            "http://h:x/",
            "/x\r\nA: b",
            "http://a b/",
        ] {
            assert_eq!(base.join(odd), None, "{odd}");
        }
    }

    #[test]
    fn servers_are_compared_by_what_answers() {
        for (one, other, expected) in [
            ("https://h/a", "https://h:443/b", true),
            ("https://H/a", "https://u:p@h/b", true),
            ("http://h", "http://h:80", true),
            ("http://h:443", "https://h", false),
            ("https://h:5000", "https://h", false),
            ("http://[::1]:80/", "http://[::1]/", true),
        ] {
            let url = |text| Url::parse(text).unwrap();
            assert_eq!(
                url(one).is_same_server(&url(other)),
                expected,
                "{one} {other}"
            );
            assert_eq!(
                authority(one) == authority(other),
                expected,
                "{one} {other}"
            );
        }
        let six = Url::parse("https://u:p@[FD00::1]:5000?x").unwrap();
        assert_eq!((six.host.as_str(), six.port()), ("fd00::1", 5000));
        assert_eq!((six.user(), six.target().as_str()), (Some("u:p"), "/?x"));
        assert_eq!(six.to_string(), "https://[fd00::1]:5000/?x");
        assert_eq!(format!("{six:?}"), "https://[fd00::1]:5000/");
        assert_eq!(six.with_scheme("http").address(), "[fd00::1]:5000");
    }

    #[test]
    fn messages_hold_no_secret() {
        assert_eq!(without_user("https://me:secret@h/x@y"), "https://h/x@y");
        assert_eq!(for_message("https://me:secret@h/x?sig=1"), "https://h/x");
    }
}
