//! Where a step's result is: here, where it can be fetched, or nowhere but in the keys of later steps.

use crate::build::caching::{Asked, Caching};
use crate::build::lending::{Lending, Loan};
use crate::build::rewrite;
use crate::build::stage::Shared;
use crate::cache::shared::{Origin, Record, StepRecord};
use crate::cache::{Blob, Entry, Key};
use crate::digest::DiffId;
use crate::error::Result;
use crate::image::{Image, Layer};
use crate::store::BlobSource as _;

impl Caching<'_> {
    /// The layer that is known under a key: one that is here, one that can be had, or, in a stage whose layers are none
    /// of the image's, what stands for it in later keys.
    pub(super) fn find(&self, asked: &Asked<'_>, key: &Key) -> Result<Option<Layer>> {
        let lending = self.lenders.lending;
        if lending.is_struck(&key.digest()) {
            return Ok(None);
        }
        let known = self.cache.get(key);
        if let Some(entry) = &known
            && let Some(layer) = self.at_hand(asked, entry)?
        {
            return Ok(Some(layer));
        }
        // The caches that the user names, and then where the store remembers layers to be.
        let own = known.map(|entry| (StepRecord { entry, index: None }, None));
        let shared = self.sharing.caches().filter_map(|cache| {
            let record = cache.step(key)?;
            Some((record, Some(cache.origin())))
        });
        let mut identity = None;
        for (record, origin) in shared.chain(own) {
            identity.get_or_insert(record.entry.identity);
            if let Some(layer) = self.lent(asked, record, origin)? {
                return Ok(Some(layer));
            }
        }
        let Some(identity) = identity.filter(|_| !self.in_image.contains(&asked.stage.index))
        else {
            return Ok(None);
        };
        let descriptor = Lending::nothing(identity);
        let mut loan = loan(asked, key, identity);
        loan.nowhere = true;
        lending.lend(descriptor.digest, loan);
        self.report_step(asked, key, identity, None);
        Ok(Some(Layer {
            descriptor,
            diff_id: identity,
            identity,
            fresh: false,
        }))
    }

    /// The layer of an entry, if a blob of it is here.
    fn at_hand(&self, asked: &Asked<'_>, entry: &Entry) -> Result<Option<Layer>> {
        let store = asked.shared.store;
        let here = |blob: &&Blob| {
            let size = store.blob_size(&blob.descriptor.digest);
            size.is_ok_and(|size| size == Some(blob.descriptor.size))
        };
        let wanted = entry.blobs.iter().find(|blob| blob.form == self.form);
        let found = match wanted.filter(here) {
            Some(blob) => layer(entry, blob),
            None => {
                let Some(other) = entry.blobs.iter().find(here) else {
                    return Ok(None);
                };
                self.rewritten(asked.shared, &entry.key, &layer(entry, other))?
            }
        };
        let blob = self.blob_of(&found);
        self.report_step(asked, &entry.key, entry.identity, Some(blob));
        Ok(Some(found))
    }

    /// The layer of an entry whose blobs are elsewhere: in a shared cache, or where the store remembers them to be.
    fn lent(
        &self,
        asked: &Asked<'_>,
        record: StepRecord,
        origin: Option<Origin>,
    ) -> Result<Option<Layer>> {
        let (store, StepRecord { entry, index }) = (asked.shared.store, record);
        let shared = origin.is_some();
        let known = |blob: &&Blob| {
            shared
                || (self.lenders.registry.is_some()
                    && !store
                        .origins(&blob.descriptor.digest)
                        .unwrap_or_default()
                        .is_empty())
        };
        let mut blobs = entry.blobs.iter().filter(known);
        let wanted = blobs.clone().find(|blob| blob.form == self.form);
        let Some(blob) = wanted.or_else(|| blobs.next()) else {
            return Ok(None);
        };
        let mut loan = loan(asked, &entry.key, blob.diff_id);
        loan.form.clone_from(&blob.form);
        match origin {
            Some(Origin::Directory(path)) => loan.directory = Some(path),
            Some(Origin::Repository(place)) => {
                store.remember_origin(&blob.descriptor.digest, &place)?;
                loan.index = index.zip(place.parse().ok());
            }
            None => {}
        }
        if shared {
            self.cache.put_entry(&entry)?;
        }
        self.lenders.lending.lend(blob.descriptor.digest, loan);
        self.report_step(asked, &entry.key, entry.identity, Some(blob.clone()));
        Ok(Some(layer(&entry, blob)))
    }

    /// A layer as this build writes layers, made of one that was written in another way.
    fn rewritten(&self, shared: &Shared<'_>, key: &Key, other: &Layer) -> Result<Layer> {
        let made = rewrite::layer(shared, other)?;
        let mut layer = Layer::made(made.descriptor, made.diff_id);
        layer.identity = other.identity;
        self.cache.put(key, layer.identity, self.blob_of(&layer))?;
        Ok(layer)
    }

    fn blob_of(&self, layer: &Layer) -> Blob {
        Blob {
            form: self.form.clone(),
            diff_id: layer.diff_id,
            descriptor: layer.descriptor.clone(),
        }
    }

    /// Makes sure of the layers of the image that were lent: they can be had, those that are needed here are here
    /// (all of them, if `bytes` says so), and they are written as this build writes layers.
    ///
    /// # Errors
    /// A layer that can't be had any more; its key is struck off.
    pub(crate) fn settle(&self, shared: &Shared<'_>, image: &mut Image, bytes: bool) -> Result<()> {
        for layer in &mut image.layers {
            let Some(loan) = self.lenders.lending.loan(&layer.descriptor.digest) else {
                continue;
            };
            let (store, blob) = (shared.store, &layer.descriptor);
            let foreign = loan.form != self.form;
            let here = store.blob_size(&blob.digest)? == Some(blob.size);
            if !here && (bytes || foreign || loan.nowhere || loan.directory.is_some()) {
                self.lenders.fetch(store, std::slice::from_ref(blob))?;
            } else if !here {
                self.lenders.check(store, blob)?;
            }
            if foreign && let Some(entry) = self.cache.read(&loan.key) {
                *layer = self.rewritten(shared, &entry.key, layer)?;
                let entry = Entry {
                    blobs: vec![self.blob_of(layer)],
                    ..entry
                };
                let record = Record::Step(Box::new(StepRecord { entry, index: None }));
                self.report(record, true, false);
            }
        }
        Ok(())
    }

    /// Gives whether a key was struck off since this was asked last, so that another try is worth it. What was lent for
    /// such keys is lent no longer.
    pub(crate) fn begin_anew(&self) -> bool {
        self.lenders.lending.begin_anew()
    }
}

fn loan(asked: &Asked<'_>, key: &Key, diff_id: DiffId) -> Loan {
    Loan {
        key: key.digest(),
        stage: asked.stage.index,
        diff_id,
        form: String::new(),
        directory: None,
        index: None,
        nowhere: false,
    }
}

fn layer(entry: &Entry, blob: &Blob) -> Layer {
    Layer {
        descriptor: blob.descriptor.clone(),
        diff_id: blob.diff_id,
        identity: entry.identity,
        fresh: false,
    }
}
