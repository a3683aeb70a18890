//! The stages of a build, several at once: each begins when the stages that it needs are done.
//!
//! Which stage ends first changes no byte: a stage knows nothing of its neighbours but the results that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::build::caching::Made;
use crate::build::images::{self, Found, Images};
use crate::build::stage::{self, Shared};
use crate::build::step;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::image::{Image, Layer};
use crate::plan::PlannedStage;
use crate::plan::step::{CopyFrom, StageBase};

/// What the workers share.
struct Board {
    /// The places in the plan of the stages that need a stage, by its index.
    needed_by: BTreeMap<usize, Vec<usize>>,
    state: Mutex<State>,
    /// Told whenever a stage ends.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Stages whose needs are done and that nobody has begun, by their place in the plan.
    ready: BTreeSet<usize>,
    /// How many needs of each stage are not done, by its place in the plan.
    missing: Vec<usize>,
    /// How many stages nobody has begun.
    waiting: usize,
    /// How many stages that were not begun need a result, by the index of its stage.
    uses: BTreeMap<usize, usize>,
    /// Bases that were found, by the index of their stage.
    bases: BTreeMap<usize, Found>,
    /// Results, by the index of their stage.
    done: BTreeMap<usize, Image>,
    /// Stages whose result nobody asked for.
    unknown: BTreeSet<usize>,
    /// Failures, by the index of their stage.
    failed: BTreeMap<usize, Error>,
}

/// Executes the stages of the plan, at most `jobs` at once, and gives the target's image; none where the question is only
/// what would be executed. When one fails, the others are stopped.
///
/// # Errors
/// That of the first stage in the order of the file that failed by itself.
pub(crate) fn execute(
    shared: &Shared<'_>,
    bases: BTreeMap<usize, Found>,
    images: &Mutex<Images<'_>>,
    jobs: usize,
) -> Result<Option<Image>> {
    let stages = &shared.plan.stages;
    let stop = shared.interrupt.part();
    let shared = &Shared {
        interrupt: &stop,
        ..*shared
    };
    let board = Board::new(stages, bases);
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, stages.len().max(1)) {
            // Where no more threads can be started, fewer stages are built at once.
            let thread = std::thread::Builder::new();
            let _ = thread.spawn_scoped(scope, || work(shared, &board, images));
        }
        work(shared, &board, images);
    });
    let mut state = board.lock();
    if let Some(error) = first_failure(std::mem::take(&mut state.failed)) {
        return Err(error);
    }
    let mut target = state.done.remove(&shared.plan.target);
    if let Some(image) = &mut target {
        let told = std::mem::take(&mut image.config.history);
        image.config = shared.plan.config.clone();
        image.config.history = told;
    }
    match target {
        None if !shared.only_asks => {
            Err(Error::new(ErrorKind::Internal, "the target was not built"))
        }
        image => Ok(image),
    }
}

/// The failure to tell of: one that isn't the echo of another.
fn first_failure(failed: BTreeMap<usize, Error>) -> Option<Error> {
    let mut failed: Vec<Error> = failed.into_values().collect();
    let own = |error: &Error| error.kind() != ErrorKind::Interrupted;
    let at = failed.iter().position(own).unwrap_or(0);
    (at < failed.len()).then(|| failed.swap_remove(at))
}

impl Board {
    fn new(stages: &[PlannedStage], bases: BTreeMap<usize, Found>) -> Self {
        let mut needed_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut state = State {
            waiting: stages.len(),
            bases,
            ..State::default()
        };
        for (place, stage) in stages.iter().enumerate() {
            let needs = stage.needs();
            state.missing.push(needs.len());
            if needs.is_empty() {
                state.ready.insert(place);
            }
            for index in needs {
                needed_by.entry(index).or_default().push(place);
                *state.uses.entry(index).or_default() += 1;
            }
        }
        Self {
            needed_by,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds one stage after the other until none is left, or one has failed.
fn work(shared: &Shared<'_>, board: &Board, images: &Mutex<Images<'_>>) {
    while let Some((planned, found, done)) = next(shared, board) {
        // A bug in one stage is an error of the build, as any other failure.
        let built = || build(shared, planned, found, images, done);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(built));
        let result = result.unwrap_or_else(|_| {
            let message = format!("stage `{}` ended in the middle", stage::name(planned));
            Err(Error::new(ErrorKind::Internal, message))
        });
        let mut guard = board.lock();
        let state = &mut *guard;
        if result.is_ok() {
            for place in board.needed_by.get(&planned.index).into_iter().flatten() {
                state.missing[*place] -= 1;
                if state.missing[*place] == 0 {
                    state.ready.insert(*place);
                }
            }
        }
        match result {
            Ok(Some(image)) => {
                state.done.insert(planned.index, image);
            }
            Ok(None) => {
                state.unknown.insert(planned.index);
            }
            Err(error) => {
                state.failed.insert(planned.index, error);
                shared.interrupt.set();
            }
        }
        drop(guard);
        board.changed.notify_all();
    }
}

/// A stage to build, what was found as its base, and the results that it needs.
type Task<'p> = (&'p PlannedStage, Option<Found>, BTreeMap<usize, Image>);

/// Waits for a stage whose needs are done; none where there is nothing left to begin.
fn next<'p>(shared: &Shared<'p>, board: &Board) -> Option<Task<'p>> {
    let mut state = board.lock();
    loop {
        if state.waiting == 0 || !state.failed.is_empty() {
            return None;
        }
        if let Some(place) = state.ready.pop_first() {
            state.waiting -= 1;
            let planned = &shared.plan.stages[place];
            let done = planned.needs().into_iter();
            let done = done.filter_map(|index| Some((index, state.take(index)?)));
            let done = done.collect();
            return Some((planned, state.bases.remove(&planned.index), done));
        }
        state = board
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

impl State {
    /// A result, for one of the stages that need it. Nothing is kept for nobody: of a thousand stages one on the other, each
    /// holds what all below it hold.
    fn take(&mut self, index: usize) -> Option<Image> {
        let left = self.uses.entry(index).or_default();
        *left = left.saturating_sub(1);
        match left {
            0 => self.done.remove(&index),
            _ => self.done.get(&index).cloned(),
        }
    }
}

fn of_layer(layer: Layer) -> Image {
    Image {
        layers: vec![layer],
        ..Image::default()
    }
}

/// Builds one stage; none where it would have to be, and nobody asked for that.
fn build(
    shared: &Shared<'_>,
    planned: &PlannedStage,
    found: Option<Found>,
    images: &Mutex<Images<'_>>,
    mut done: BTreeMap<usize, Image>,
) -> Result<Option<Image>> {
    shared.interrupt.check()?;
    let base = match (&planned.base, found) {
        (StageBase::Stage(index), _) if !done.contains_key(index) => return Ok(None),
        (StageBase::Stage(index), _) => {
            let copies = planned.steps.iter().any(|step| {
                let mut sources = step.step.sources();
                sources.any(|from| *from == CopyFrom::Stage(*index))
            });
            let base = if copies {
                done.get(index).cloned()
            } else {
                done.remove(index)
            };
            base.unwrap_or_default()
        }
        (_, Some(Found::Image(base))) => base.image,
        (StageBase::Named(name), Some(Found::Directory(path))) => {
            let directory = images::open_named(name, &path)?;
            match step::layer_of(shared, planned, &directory, Some(path))? {
                Made::Layer(layer) => of_layer(layer),
                _ => return Ok(None),
            }
        }
        (_, Some(Found::Fetched(tree))) => match step::layer_of(shared, planned, &*tree, None)? {
            Made::Layer(layer) => of_layer(layer),
            _ => return Ok(None),
        },
        _ => Image::default(),
    };
    let (stage, text) = (stage::name(planned), stage::base_text(planned));
    shared
        .events
        .send(Event::StageStarted { stage, base: text });
    stage::execute(shared, planned, base, images, &done)
}
