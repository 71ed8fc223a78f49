//! Which rows a later question can still need: what a walk over spans of time carries along.

use kaizen_table::{FeatureView, Value};
use rayon::prelude::*;

use super::timeline::{PARALLEL_FROM, Timelines};

/// The rows that a question at `from` or later can still need, for its answer or for the count of
/// how it was answered: ascending, in the source's order. `timelines` are those of the view.
///
/// Of each entity these are the latest row that is known at `from`, all that become known later,
/// and those that are young enough for a window. The latest is kept even where it is older than
/// the TTL, because a question that has only such a row has expired and is not unknown.
pub(crate) fn needed(view: &FeatureView, timelines: &Timelines, from: i64) -> Vec<u32> {
    let windows = view.features().iter().filter_map(|feature| match &feature.value {
        Value::Window(window) => Some(window.begins_after(from)),
        Value::Column(_) => None,
    });
    // `None` without a window; else the instant after which rows count, if there is one.
    let begin: Option<Option<i64>> = windows.min();
    let inside = |event: i64| match begin {
        None => false,
        Some(begin) => begin.is_none_or(|begin| event > begin),
    };
    let of_entity = |entity: usize| {
        let range = timelines.positions(Some(entity as u32));
        let seen = range.start + timelines.seen(range.clone(), from);
        let latest = seen.checked_sub(1).filter(|last| *last >= range.start);
        let latest = latest.map(|last| timelines.latest_position(last));
        let before = (range.start..seen).filter(move |position| {
            Some(*position) == latest || inside(timelines.event(*position))
        });
        before.chain(seen..range.end).map(|position| timelines.row(position) as u32)
    };
    let entities = (0..timelines.entities()).into_par_iter().with_min_len(PARALLEL_FROM);
    let mut rows: Vec<u32> = entities.flat_map_iter(of_entity).collect();
    rows.par_sort_unstable();
    rows
}
