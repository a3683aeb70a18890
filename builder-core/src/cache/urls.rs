//! What is remembered of a URL, so that its server may say that nothing has changed.
//!
//! Follows RFC 9110, sections 8.8 and 13.1. A validator belongs to the place that sent it: behind a redirect, what
//! answers the next time may be another one, and its word is then worth nothing.

use serde::{Deserialize, Serialize};

use super::{Cache, lost};
use crate::digest::Digest;
use crate::error::Result;
use crate::http::{Response, date, for_message};

/// The folder of the cache.
const FOLDER: &str = "urls";
/// A date says which bytes were sent only if it was so old by then, in seconds: a later change within the same second
/// has the same date, and clocks of several servers differ.
const DATE_AGE: i64 = 60;

/// What a URL had, and how to ask whether it has it still. No URL is in it, and no credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlMemo {
    /// The digest of the request: the URL, and whose name it is asked in.
    pub name: Digest,
    /// What the server calls the bytes.
    pub validator: Validator,
    /// Who said so, as [`Validator::place`] gives it.
    pub place: Digest,
    /// The digest of the bytes.
    pub body: Digest,
}

/// What a server calls the bytes that it sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validator {
    /// The header `ETag`, as it came.
    Etag(String),
    /// The header `Last-Modified`, as it came, where there is no `ETag`.
    LastModified(String),
}

impl Validator {
    /// The validator of a response; none where it has none that can be relied on.
    pub fn of(response: &Response) -> Option<Self> {
        if let Some(tag) = response.header("etag").filter(|tag| is_tag(tag)) {
            return Some(Self::Etag(tag.to_owned()));
        }
        let changed = response.header("last-modified")?;
        let sent = response.header("date").and_then(date::parse)?;
        let age = sent.seconds - date::parse(changed)?.seconds;
        (age >= DATE_AGE).then(|| Self::LastModified(changed.to_owned()))
    }

    /// The header of a request that wants the bytes only if they are others.
    pub fn condition(&self) -> (&'static str, &str) {
        match self {
            Self::Etag(tag) => ("If-None-Match", tag),
            Self::LastModified(date) => ("If-Modified-Since", date),
        }
    }

    /// What tells the place that sent the validator from others: the digest of the URL that answered in the end. A tag
    /// counts whatever the query is, where downloads have signatures that differ each time; a date, which many files
    /// share, doesn't.
    pub fn place(&self, url: &str) -> Digest {
        match self {
            Self::Etag(_) => Digest::of(for_message(url).as_bytes()),
            Self::LastModified(_) => Digest::of(url.as_bytes()),
        }
    }
}

impl UrlMemo {
    /// Whether an answer "not modified" from a URL is about these bytes: it comes from the place that sent them, and
    /// names no other validator.
    pub fn is_meant(&self, response: &Response, url: &str) -> bool {
        let (header, known) = match &self.validator {
            Validator::Etag(tag) => ("etag", tag),
            Validator::LastModified(date) => ("last-modified", date),
        };
        // A server may call the same bytes weak in one answer and strong in another (RFC 9110, section 8.8.3.2).
        let plain = |text: &str| text.trim_start_matches("W/").to_owned();
        let named = response.header(header);
        self.validator.place(url) == self.place
            && named.is_none_or(|named| plain(named) == plain(known))
    }
}

/// Whether a text is an entity tag (RFC 9110, section 8.8.3): only then it can be sent back.
fn is_tag(text: &str) -> bool {
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| {
        inner
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"')
    })
}

impl Cache {
    /// What is remembered of the URL whose request has the digest `name`. Anything that isn't right is as good as
    /// nothing.
    pub fn url(&self, name: &Digest) -> Option<UrlMemo> {
        let text = std::fs::read(self.store.cache_path(FOLDER, &name.hex())).ok()?;
        let memo: UrlMemo = serde_json::from_slice(&text).ok()?;
        (memo.name == *name).then_some(memo)
    }

    /// Remembers what a URL has, in place of what it had.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_url(&self, memo: &UrlMemo) -> Result<()> {
        let text = serde_json::to_vec(memo).map_err(lost)?;
        self.write(FOLDER, &memo.name, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn response(headers: &[(&str, &str)]) -> Response {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Response {
            status: 200,
            headers: headers.iter().map(own).collect(),
            body: Box::new(std::io::empty()),
        }
    }

    fn memo(validator: Validator, url: &str) -> UrlMemo {
        UrlMemo {
            name: Digest::of(b"name"),
            place: validator.place(url),
            validator,
            body: Digest::of(b"body"),
        }
    }

    #[test]
    fn a_tag_comes_before_a_date_and_a_date_must_be_old() {
        let date = ("last-modified", OLD);
        let now = ("date", "Mon, 07 Nov 1994 08:49:37 GMT");
        let soon = ("date", "Sun, 06 Nov 1994 08:49:40 GMT");
        for (headers, expected) in [
            (&[("etag", "\"a\""), date, now][..], Some("\"a\"")),
            (&[("etag", "W/\"a\"")], Some("W/\"a\"")),
            (&[("etag", "a"), date, now], Some(OLD)),
            (&[("etag", "\"a b\"")], None),
            (&[("etag", "\"")], None),
            (&[date, now], Some(OLD)),
            (&[date, soon], None),
            (&[date], None),
            (&[("last-modified", "yesterday"), now], None),
            (&[], None),
        ] {
            let found = Validator::of(&response(headers));
            let value = found.as_ref().map(|found| found.condition().1);
            assert_eq!(value, expected, "{headers:?}");
        }
        let header = |validator: Validator| validator.condition().0;
        assert_eq!(header(Validator::Etag(String::new())), "If-None-Match");
        let date = Validator::LastModified(String::new());
        assert_eq!(header(date), "If-Modified-Since");
    }

    #[test]
    fn not_modified_counts_from_the_same_place_only() {
        let tag = || memo(Validator::Etag("\"a\"".to_owned()), "http://h/f?sig=1");
        let date = || memo(Validator::LastModified(OLD.to_owned()), "http://h/f?sig=1");
        for (memo, url, headers, expected) in [
            (tag(), "http://h/f?sig=1", &[][..], true),
            (tag(), "http://h/f?sig=2", &[("etag", "W/\"a\"")], true),
            (tag(), "http://h/f?sig=1", &[("etag", "\"b\"")], false),
            (tag(), "http://h/g?sig=1", &[], false),
            (date(), "http://h/f?sig=1", &[("last-modified", OLD)], true),
            (date(), "http://h/f?sig=2", &[], false),
            (date(), "http://h/f?sig=1", &[("last-modified", "")], false),
        ] {
            assert_eq!(memo.is_meant(&response(headers), url), expected, "{url}");
        }
    }

    #[test]
    fn a_memo_that_is_not_right_is_none() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let cache = Cache::new(&store);
        let memo = memo(Validator::Etag("\"a\"".to_owned()), "http://me:secret@h/f");
        assert!(cache.url(&memo.name).is_none());
        cache.put_url(&memo).unwrap();
        assert_eq!(cache.url(&memo.name), Some(memo.clone()));
        let path = |name: &Digest| store.cache_path(FOLDER, &name.hex());
        let text = std::fs::read_to_string(path(&memo.name)).unwrap();
        assert!(!text.contains("secret") && !text.contains("http"), "{text}");
        let other = Digest::of(b"other");
        std::fs::copy(path(&memo.name), path(&other)).unwrap();
        assert!(cache.url(&other).is_none());
        std::fs::write(path(&memo.name), "{").unwrap();
        assert!(cache.url(&memo.name).is_none());
    }
}
