//! What a build found damaged in its store: said, and made anew by the same work done again.

use crate::event::{Event, EventSink};
use crate::store::Store;

/// So often what is damaged in the store is made anew before a build gives up.
pub(super) const MENDED: usize = 20;

/// Says what was found damaged; gives whether there was something.
pub(super) fn tell(store: &Store, events: &dyn EventSink) -> bool {
    let damage = store.take_damage();
    let any = !damage.is_empty();
    for path in damage {
        let message = format!("`{}` was damaged and is made anew", path.display());
        events.send(Event::Notice { message });
    }
    any
}
