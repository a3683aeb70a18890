//! Paths inside an image: absolute, clean, and made of bytes.
//!
//! File names on Linux are bytes, not text; a name that is not UTF-8 is legal in a context, in a tar and in an image.
//! A path here never holds `.`, `..`, an empty component, or a NUL byte, so it can't lead out of a root by its text.
//!
//! The order of paths is the order of a walk: component by component, so that a directory comes directly before
//! what is below it (`/a`, `/a/b`, `/a.txt`), and two sorted streams can be merged.

use std::cmp::Ordering;
use std::fmt;

/// As many directories a path leads through at most, and as many bytes it has. Linux knows no bound for what is made step
/// by step; here there is one, so that what each level costs has one too.
pub const DEEPEST: usize = 6_000;
/// See [`DEEPEST`].
pub const LONGEST: usize = 32 * 1024;

/// An absolute, clean path. The root prints as `/`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ImagePath {
    /// The components joined by `/`, without a leading one: empty for the root.
    relative: Vec<u8>,
}

impl ImagePath {
    /// The root directory, `/`.
    pub fn root() -> Self {
        Self::default()
    }

    /// Cleans `path` lexically, as if it stood below `/`: `..` can't leave the root, `.` and empty components vanish.
    pub fn clean(path: impl AsRef<[u8]>) -> Self {
        Self::root().join(path)
    }

    /// Cleans `path` below this one; a leading `/` starts again at the root.
    #[must_use]
    pub fn join(&self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let mut joined = if path.starts_with(b"/") {
            Self::root()
        } else {
            self.clone()
        };
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => joined = joined.parent().unwrap_or_default(),
                name => joined.push(name),
            }
        }
        joined
    }

    /// This path with one more component. `name` must be one component: not empty, `.` or `..`, and without `/`.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Self {
        let mut child = Self {
            relative: Vec::with_capacity(self.relative.len() + 1 + name.len()),
        };
        child.relative.extend_from_slice(&self.relative);
        child.push(name);
        child
    }

    /// Puts `relative`, a clean path without leading `/`, below this one.
    #[must_use]
    pub fn append(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        if !other.is_root() {
            joined.push(&other.relative);
        }
        joined
    }

    fn push(&mut self, name: &[u8]) {
        if !self.relative.is_empty() {
            self.relative.push(b'/');
        }
        self.relative.extend_from_slice(name);
    }

    /// Whether it leads through more directories, or is longer, than what is made into images.
    pub fn is_too_deep(&self) -> bool {
        let deep = self.relative.len() > DEEPEST;
        self.relative.len() > LONGEST || deep && self.components().count() > DEEPEST
    }

    /// The path for messages, of a long one its beginning.
    pub fn shortened(&self) -> String {
        const SHOWN: usize = 300;
        let whole = self.to_string();
        match whole.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &whole[..end]),
            None => whole,
        }
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.relative.is_empty()
    }

    /// The directory that holds this path; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self
            .relative
            .iter()
            .rposition(|byte| *byte == b'/')
            .unwrap_or(0);
        Some(Self {
            relative: self.relative[..end].to_vec(),
        })
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.relative
            .rsplit(|byte| *byte == b'/')
            .next()
            .filter(|name| !name.is_empty())
    }

    /// The components from the root downwards.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.relative
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// The paths of all directories above this one, from `/` downwards, without this one.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut found = Vec::new();
        let mut here = self.parent();
        while let Some(path) = here {
            here = path.parent();
            found.push(path);
        }
        found.reverse();
        found
    }

    /// The paths of the directories above this one, from the first below `known` downwards, without this one. `known` is
    /// one of them; without one, from `/` downwards.
    pub fn ancestors_below(&self, known: Option<&Self>) -> impl Iterator<Item = Self> {
        let from = known.map_or(0, |known| known.relative.len() + 1);
        let root = (known.is_none() && !self.is_root()).then(Self::root);
        let ends = (from.max(1)..self.relative.len()).filter(|at| self.relative[*at] == b'/');
        let below = ends.map(|end| Self {
            relative: self.relative[..end].to_vec(),
        });
        root.into_iter().chain(below)
    }

    /// The bytes without the leading `/`: what a tar header holds. Empty for the root.
    pub fn as_relative(&self) -> &[u8] {
        &self.relative
    }

    /// What follows `prefix`, if this path is `prefix` or lies below it.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        if prefix.is_root() {
            return Some(self.clone());
        }
        let rest = self.relative.strip_prefix(prefix.relative.as_slice())?;
        match rest {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self {
                relative: rest.to_vec(),
            }),
            _ => None,
        }
    }

    /// Whether this path is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        let rest = self.relative.strip_prefix(other.relative.as_slice());
        other.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.relative, &other.relative)
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two clean relative paths in walk order: bytewise, with `/` below every other byte.
pub fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let common = common(left, right);
    match (left.get(common), right.get(common)) {
        (None, None) => Ordering::Equal,
        (None | Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), None | Some(b'/')) => Ordering::Greater,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

/// How many bytes two texts begin with alike; long ones are compared piece by piece.
fn common(left: &[u8], right: &[u8]) -> usize {
    const PIECE: usize = 64;
    let pieces = left.chunks_exact(PIECE).zip(right.chunks_exact(PIECE));
    let start = PIECE * pieces.take_while(|(a, b)| a == b).count();
    let rest = left[start..].iter().zip(&right[start..]);
    start + rest.take_while(|(a, b)| a == b).count()
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.relative.escape_ascii_lossy())
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows bytes as text: UTF-8 as it is, other bytes and control characters as `\xNN`.
pub trait EscapeAsciiLossy {
    /// The text to show; not reversible where a name holds a backslash.
    fn escape_ascii_lossy(&self) -> String;
}

impl EscapeAsciiLossy for [u8] {
    fn escape_ascii_lossy(&self) -> String {
        use std::fmt::Write as _;
        let mut shown = String::with_capacity(self.len());
        for chunk in self.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    shown.extend(character.escape_default());
                } else {
                    shown.push(character);
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(shown, "\\x{byte:02x}");
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_below_a_root() {
        for (path, clean) in [
            ("", "/"),
            ("/", "/"),
            ("a/./b//c/", "/a/b/c"),
            ("../../x", "/x"),
            ("/a/../../b", "/b"),
            ("a/..", "/"),
        ] {
            assert_eq!(ImagePath::clean(path).to_string(), clean, "{path}");
        }
        assert_eq!(ImagePath::clean("/w").join("x/../y").to_string(), "/w/y");
        assert_eq!(ImagePath::clean("/w").join("/y").to_string(), "/y");
    }

    #[test]
    fn sorts_a_directory_directly_before_its_content() {
        let sorted = ["/", "/a", "/a/b", "/a/b/c", "/a-b", "/a.txt", "/ab"].map(ImagePath::clean);
        let mut again = sorted.to_vec();
        again.reverse();
        again.sort();
        assert_eq!(again, sorted);
    }

    #[test]
    fn knows_its_parts() {
        let path = ImagePath::clean("/a/b/c");
        assert_eq!(path.file_name(), Some(&b"c"[..]));
        assert_eq!(path.parent(), Some(ImagePath::clean("/a/b")));
        assert_eq!(path.ancestors(), ["/", "/a", "/a/b"].map(ImagePath::clean));
        assert_eq!(
            path.strip_prefix(&ImagePath::clean("/a")),
            Some(ImagePath::clean("b/c"))
        );
        assert_eq!(
            path.strip_prefix(&ImagePath::clean("/a/b/")),
            Some(ImagePath::clean("c"))
        );
        assert_eq!(
            ImagePath::clean("/ab").strip_prefix(&ImagePath::clean("/a")),
            None
        );
        assert_eq!(ImagePath::root().parent(), None);
    }

    #[test]
    fn shows_bytes_that_are_not_text() {
        assert_eq!(
            ImagePath::clean(b"a\xff\n\xc3\xa9").to_string(),
            "/a\\xff\\né"
        );
    }
}
