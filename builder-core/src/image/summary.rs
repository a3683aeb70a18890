//! Which of many small layers say something about a path: a view of thousands of them asks those alone.
//!
//! A COPY makes a layer of a few records. Without a summary each question would go through all layers, and a file of
//! thousands of COPY, or of thousands of stages, would cost the square of its length.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::digest::DiffId;
use crate::image_path::ImagePath;
use crate::layer::{LayerIndex, Mark, Record};

/// Layers of more records are asked always.
const SMALL: u64 = 64;
/// No more records are held, of all layers together.
const MAX_RECORDS: usize = 200_000;

/// Numbers of layers by path, each list in order.
type Places = BTreeMap<ImagePath, Vec<usize>>;

/// The records of small layers, by path.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// The layers that it tells of, from the bottom.
    chain: Vec<DiffId>,
    records: usize,
    /// The layers that must be asked in any case.
    large: Vec<usize>,
    /// Who names a path, or hides it.
    named: Places,
    /// Who only implies a path.
    implied: Places,
    /// Who hides from the layers below what is below a path.
    hiding: Places,
    /// Who has something directly in a directory.
    children: Places,
}

impl Summary {
    /// How many layers it tells of.
    pub(super) fn len(&self) -> usize {
        self.chain.len()
    }

    /// Adds the next layer; none for an index that was not made yet.
    pub(super) fn push(&mut self, id: DiffId, index: Option<&LayerIndex>) -> crate::Result<()> {
        let number = self.chain.len();
        self.chain.push(id);
        let small = index.filter(|index| index.len() <= SMALL && self.records < MAX_RECORDS);
        let Some(index) = small else {
            self.large.push(number);
            return Ok(());
        };
        for record in index {
            self.add(number, &record?);
        }
        Ok(())
    }

    fn add(&mut self, number: usize, record: &Record) {
        self.records += 1;
        let path = &record.entry.path;
        let note = |places: &mut Places, path: &ImagePath| {
            let list = places.entry(path.clone()).or_default();
            if list.last() != Some(&number) {
                list.push(number);
            }
        };
        let of_path = if record.implicit {
            &mut self.implied
        } else {
            &mut self.named
        };
        note(of_path, path);
        if record.mark == Mark::Whiteout || record.opaque || !record.entry.is_directory() {
            note(&mut self.hiding, path);
        }
        if let Some(parent) = path.parent() {
            note(&mut self.children, &parent);
        }
    }

    /// The layers of the lowest `count` that decide what is at a path, from the top.
    pub(super) fn about(&self, count: usize, path: &ImagePath) -> Vec<usize> {
        let mut found = vec![
            last(&self.named, path, count),
            last(&self.implied, path, count),
        ];
        found.extend(
            path.ancestors()
                .iter()
                .map(|above| last(&self.hiding, above, count)),
        );
        self.in_order(count, found.into_iter().flatten().collect())
    }

    /// The layers that decide what is in a directory, from the top.
    pub(super) fn in_directory(&self, path: &ImagePath) -> Vec<usize> {
        let count = self.len();
        let mut found = self.children.get(path).cloned().unwrap_or_default();
        found.extend(last(&self.hiding, path, count));
        found.extend(
            path.ancestors()
                .iter()
                .filter_map(|above| last(&self.hiding, above, count)),
        );
        self.in_order(count, found)
    }

    fn in_order(&self, count: usize, mut found: Vec<usize>) -> Vec<usize> {
        found.extend(self.large.iter().take_while(|number| **number < count));
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.dedup();
        found
    }
}

/// The highest layer below `count` in a path's list: what lies under it is hidden by it, or says less.
fn last(places: &Places, path: &ImagePath, count: usize) -> Option<usize> {
    let list = places.get(path)?;
    let below = list.partition_point(|number| *number < count);
    list[..below].last().copied()
}

/// The summary of the stage that ended last, for the one that goes on from it.
#[derive(Debug, Default)]
pub struct Summaries(Mutex<Option<Summary>>);

impl Summaries {
    /// What is known of the lowest of some layers.
    pub(super) fn take(&self, layers: &[DiffId]) -> Summary {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = kept
            .as_ref()
            .is_some_and(|one| layers.starts_with(&one.chain));
        if fits { kept.take() } else { None }.unwrap_or_default()
    }

    pub(super) fn keep(&self, summary: Summary) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(summary);
    }
}
