//! ADD of URLs and git repositories: what is elsewhere is asked what it is, and fetched only where its bytes are needed.
//!
//! A server that says that nothing has changed, or the id of a commit, tells which files arrive. The digest of their
//! list is remembered beside it, as for files of layers, and with it the step's key is known. What is fetched after all
//! may be another thing by then: the layer is kept under the key of what came.

use std::cell::Cell;

use crate::build::arrival::Arrival;
use crate::build::caching::{Asked, Caching, Made};
use crate::build::commit;
use crate::build::copy::{self, CopyInput, Ground, Landing, place};
use crate::build::download::{Download, Visit};
use crate::build::git::GitSource;
use crate::build::keys::{Reader, quoted};
use crate::build::layer::LayerMaker;
use crate::build::remote::{Remote, check, file_name};
use crate::cache::Key;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::http::without_user;
use crate::layer::Layer as NewLayer;
use crate::oci::Descriptor;
use crate::plan::step::{CopySource, CopyStep, Spanned};

/// An ADD of nothing but what is elsewhere.
pub(crate) struct Addition<'s, 'a, 'm> {
    /// The step in its build.
    pub(crate) asked: &'s Asked<'s>,
    /// What it needs of the build.
    pub(crate) input: &'s CopyInput<'a>,
    /// Where it arrives, and how.
    pub(crate) landing: &'s Landing<'s>,
    /// The same of the stage.
    pub(crate) ground: &'s Ground<'s>,
    /// Reads what has arrived.
    pub(crate) reader: &'s Reader<'s, 'm>,
    /// Begins its layer, with the layer of the step that is most like it.
    pub(crate) maker: &'s dyn Fn(Option<&Descriptor>) -> Result<LayerMaker<'m>>,
}

/// A source, as far as it is known.
enum Known<'s> {
    /// A URL that was not changed: the digest of its bytes.
    Unchanged(&'s Spanned<String>, Digest),
    /// A URL that was downloaded.
    Downloaded(&'s Spanned<String>, Download),
    /// A repository, and its commit if it is known; it isn't checked out.
    Repository(&'s Spanned<String>, Option<String>),
}

/// What has arrived, and the key of its selection.
type Arrived<'a> = (Vec<Arrival<'a>>, Key);

/// Whether all sources of a step are elsewhere.
pub(crate) fn is_all_elsewhere(step: &CopyStep) -> bool {
    !step.sources.is_empty() && step.sources.iter().all(is_elsewhere)
}

/// Whether a source is elsewhere.
pub(crate) fn is_elsewhere(source: &CopySource) -> bool {
    matches!(source, CopySource::Url(_) | CopySource::Git(_))
}

impl<'a> Addition<'_, 'a, '_> {
    /// The layer of the step, whose key lacks its files.
    ///
    /// # Errors
    /// Those of the sources, of the step, and of the store.
    pub(crate) fn layer(&self, mut key: Key) -> Result<Made> {
        let caching = self.asked.shared.caching;
        let sources = self.input.step.sources.iter();
        let known = sources
            .map(|source| self.ask(source))
            .collect::<Result<Vec<_>>>()?;
        let selection = self.selection(&known);
        let files = match &selection {
            Some(selection) => self.recall(caching, selection)?,
            None => None,
        };
        let Some(files) = files else {
            let arrived = self.fetch(known)?;
            return self.add(key, arrived);
        };
        let (as_it_was, other) = (key.clone(), Cell::new(None));
        key.set("files", files.to_string());
        let made = caching.through(self.asked, &key, |previous| {
            let (arrivals, found) = self.fetch(known)?;
            if selection.as_ref() != Some(&found) {
                other.set(Some((arrivals, found)));
                return Err(Error::new(ErrorKind::Internal, "a source has changed"));
            }
            self.execute(arrivals, previous)
        });
        match other.take() {
            // It was changed after it was asked: what came is what the key must be about.
            Some(arrived) => self.add(as_it_was, arrived),
            None => made,
        }
    }

    /// The layer of what has arrived.
    fn add(&self, mut key: Key, (arrivals, selection): Arrived<'a>) -> Result<Made> {
        let caching = self.asked.shared.caching;
        let files = self.reader.arrivals(&arrivals)?;
        key.set("files", files.to_string());
        if self.is_shared() {
            caching.put_selection(&selection, files)?;
        } else {
            caching.cache.put_selection(&selection, &files)?;
        }
        caching.through(self.asked, &key, |previous| {
            self.execute(arrivals, previous)
        })
    }

    fn execute(
        &self,
        arrivals: Vec<Arrival<'_>>,
        previous: Option<&Descriptor>,
    ) -> Result<NewLayer> {
        let maker = (self.maker)(previous)?;
        copy::execute(self.landing, self.ground, arrivals, maker)
    }

    /// Whether another machine could use what a selection holds: a commit is the same everywhere, but what a URL had
    /// is remembered here alone.
    fn is_shared(&self) -> bool {
        let mut sources = self.input.step.sources.iter();
        sources.all(|source| matches!(source, CopySource::Git(_)))
    }

    /// What a selection is known to hold; nothing where nothing is to be looked up.
    fn recall(&self, caching: &Caching<'_>, selection: &Key) -> Result<Option<Digest>> {
        if caching.is_off(self.asked.stage) {
            return Ok(None);
        }
        if self.is_shared() {
            return caching.selection(self.asked.stage, selection);
        }
        Ok(caching.cache.selection(selection))
    }

    /// Asks what a source is.
    fn ask<'s>(&self, source: &'s CopySource) -> Result<Known<'s>> {
        let (step, remote, file) = (self.input.step, self.input.remote, self.input.file);
        let again = !self.asked.shared.caching.is_off(self.asked.stage);
        match source {
            CopySource::Url(url) => {
                let visit = || {
                    let visit = remote.visit(&url.value, again)?;
                    // Before anything is looked up: no result stands for bytes that are to be refused.
                    let digest = match &visit {
                        Visit::Unchanged(digest) => *digest,
                        Visit::Downloaded(download) => download.digest,
                    };
                    check(step, &without_user(&url.value), digest)?;
                    Ok(visit)
                };
                Ok(match visit().map_err(place(file, url.span))? {
                    Visit::Unchanged(digest) => Known::Unchanged(url, digest),
                    Visit::Downloaded(download) => Known::Downloaded(url, download),
                })
            }
            CopySource::Git(url) if again => {
                let find = || {
                    let (source, place) = (
                        Remote::repository(step, url)?,
                        remote.store.temporary_directory()?,
                    );
                    let found = commit::find(&source, &place, remote.git, remote.interrupt)?;
                    self.confirmed(&source, found)
                };
                let commit = find().map_err(place(file, url.span))?;
                Ok(Known::Repository(url, commit))
            }
            CopySource::Git(url) => Ok(Known::Repository(url, None)),
            CopySource::Path(_) | CopySource::Heredoc { .. } => Err(not_elsewhere()),
        }
    }

    /// A commit that a repository was found to name, if that is so: where `--checksum` names it, nobody has asked, and
    /// the reference may be one that never was there. What it once named is believed: the commit is what is wanted.
    fn confirmed(&self, source: &GitSource, commit: Option<String>) -> Result<Option<String>> {
        let Some(fact) = commit
            .as_deref()
            .and_then(|commit| commit::naming(source, commit))
        else {
            return Ok(commit);
        };
        let caching = self.asked.shared.caching;
        let known = caching.selection(self.asked.stage, &fact)?.is_some();
        let assumed = source.commit == commit;
        if !known && !assumed {
            caching.put_selection(&fact, fact.digest())?;
        }
        Ok(commit.filter(|_| known || !assumed))
    }

    /// The key of what the sources hold; none where one of them doesn't say.
    fn selection(&self, known: &[Known<'_>]) -> Option<Key> {
        let step = self.input.step;
        let mut parts = Vec::with_capacity(known.len());
        for one in known {
            parts.push(match one {
                Known::Unchanged(url, digest) => of_url(step, url, *digest),
                Known::Downloaded(url, download) => of_url(step, url, download.digest),
                Known::Repository(url, commit) => {
                    let source = Remote::repository(step, url).ok()?;
                    commit::selection(&source, commit.as_deref()?)
                }
            });
        }
        Some(key(step, &parts))
    }

    /// Fetches what isn't here.
    fn fetch(&self, known: Vec<Known<'_>>) -> Result<Arrived<'a>> {
        let (step, remote, file) = (self.input.step, self.input.remote, self.input.file);
        let (mut arrivals, mut parts) = (Vec::new(), Vec::new());
        for one in known {
            let (span, fetched) = match one {
                Known::Unchanged(url, _) => (url.span, self.download(url)),
                Known::Downloaded(url, download) => {
                    let part = of_url(step, url, download.digest);
                    let arrival = remote.downloaded(step, url, download);
                    (url.span, arrival.map(|arrival| (arrival, part)))
                }
                Known::Repository(url, _) => {
                    let check_out = || {
                        let source = Remote::repository(step, url)?;
                        let (arrival, commit) = remote.checked_out(step, &source)?;
                        if let Some(fact) = commit::naming(&source, &commit) {
                            self.asked
                                .shared
                                .caching
                                .put_selection(&fact, fact.digest())?;
                        }
                        Ok((arrival, commit::selection(&source, &commit)))
                    };
                    (url.span, check_out())
                }
            };
            let (arrival, part) = fetched.map_err(place(file, span))?;
            arrivals.push(arrival);
            parts.push(part);
        }
        Ok((arrivals, key(step, &parts)))
    }

    /// Downloads what was not changed.
    fn download(&self, url: &Spanned<String>) -> Result<(Arrival<'a>, String)> {
        let (step, remote) = (self.input.step, self.input.remote);
        let Visit::Downloaded(download) = remote.visit(&url.value, false)? else {
            return Err(Error::new(ErrorKind::Internal, "a download is missing"));
        };
        let part = of_url(step, url, download.digest);
        Ok((remote.downloaded(step, url, download)?, part))
    }
}

/// What of a URL arrives: its bytes, under a name or taken apart. Without a name, they can't go into a directory.
fn of_url(step: &CopyStep, url: &Spanned<String>, digest: Digest) -> String {
    let name = file_name(&url.value).escape_ascii().to_string();
    let unpack = step.unpack == Some(true);
    let nameless = name.is_empty() && step.destination.directory;
    format!("url {digest} \"{name}\" unpack {unpack} nameless {nameless}")
}

fn key(step: &CopyStep, parts: &[String]) -> Key {
    let mut key = Key::default();
    key.set("elsewhere", parts.join("\n"));
    let exclude: Vec<String> = step.exclude.iter().map(|one| quoted(&one.value)).collect();
    if !exclude.is_empty() {
        key.set("exclude", exclude.join(" "));
    }
    key
}

fn not_elsewhere() -> Error {
    Error::new(ErrorKind::Internal, "a source is in the build context")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::{CopyFrom, Destination};
    use crate::source::Span;

    #[test]
    fn the_texts_of_keys_stay() {
        let span = Span::default();
        let spanned = |value: &str| Spanned {
            value: value.to_owned(),
            span,
        };
        let mut step = CopyStep {
            add: true,
            from: CopyFrom::Context,
            sources: Vec::new(),
            destination: Destination {
                path: "/t".to_owned(),
                directory: true,
                span,
            },
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: None,
            unpack: None,
        };
        let digest = Digest::of(b"a");
        let text = |step: &CopyStep, url: &str| of_url(step, &spanned(url), digest);
        for (url, expected) in [
            ("http://h/a", "\"a\" unpack false nameless false"),
            (
                "http://h/a%22%20b",
                "\"a\\\" b\" unpack false nameless false",
            ),
            ("http://h/", "\"\" unpack false nameless true"),
        ] {
            assert_eq!(text(&step, url), format!("url {digest} {expected}"));
        }
        (step.unpack, step.destination.directory) = (Some(true), false);
        let expected = format!("url {digest} \"\" unpack true nameless false");
        assert_eq!(text(&step, "http://h/"), expected);
        let parts = ["a".to_owned(), "b".to_owned()];
        let plain = key(&step, &parts);
        step.exclude = vec![spanned("a b")];
        let excluding = key(&step, &parts);
        assert_eq!(plain.parts()["elsewhere"], "a\nb");
        assert_eq!(excluding.parts()["exclude"], "\"a b\"");
        assert_eq!(excluding.differences(&plain), ["exclude"]);
    }
}
