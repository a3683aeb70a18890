//! Questions about a Dockerfile that are answered without a build, and without asking anyone.

use crate::build::images::Images;
use crate::build::planning;
use crate::build::request::BuildRequest;
use crate::diagnostic::Diagnostic;
use crate::error::Result;
use crate::plan::outline::{Outline, Target};
use crate::store::Store;

/// Every problem of a Dockerfile, errors and warnings, in the order of the file; of all stages unless a target is
/// named. A base image that isn't in the store is taken for an empty one: its own errors come with the build.
///
/// # Errors
/// A context or an ignore file that can't be read.
pub fn check(store: &Store, request: &BuildRequest) -> Result<Vec<Diagnostic>> {
    let mut images = Images::new(store, &request.named_contexts);
    let context = planning::open_context(store, request)?;
    Ok(planning::check(request, &mut images, context.as_ref()))
}

/// What the target takes from outside. A base image that isn't in the store is taken for an empty one.
///
/// # Errors
/// Every problem of the Dockerfile at once.
pub fn outline(store: &Store, request: &BuildRequest) -> Result<Outline> {
    let mut images = Images::new(store, &request.named_contexts);
    planning::outline(request, &mut images)
}

/// The stages that may be built.
///
/// # Errors
/// Every problem of the Dockerfile's text at once.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>> {
    planning::targets(request)
}
