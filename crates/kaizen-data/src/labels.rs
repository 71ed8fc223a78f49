//! Labels as they were known at a cut-off.

use arrow::array::{Array, BooleanArray, RecordBatch};
use kaizen_core::{Result, Timestamp};
use kaizen_table::{LabelView, instants};

use crate::keys::{Entities, KeyTypes};
use crate::typed::flags;

/// The columns of its source that a label view reads, each once.
pub(crate) fn columns(view: &LabelView) -> Vec<&str> {
    let mut columns: Vec<&str> = view.keys().iter().map(String::as_str).collect();
    for name in [view.label(), view.known_at()] {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    columns
}

/// The label of each row's entity; missing where it was not known by then.
///
/// Of several labels of one entity the one that became known last counts, of several of these the
/// last in the source. A label without a known-at time is never known.
pub(crate) fn known_by(
    view: &LabelView,
    source: &RecordBatch,
    rows: &RecordBatch,
    known_by: Timestamp,
) -> Result<BooleanArray> {
    let key_types = KeyTypes::of(source, view.keys())?;
    let mut entities = Entities::default();
    let entity = entities.number(&key_types.encode(source)?);
    let known_at = instants(source, view.known_at())?;
    let labels = flags(source, view.label())?;
    let cutoff = known_by.nanos()?;
    let mut latest: Vec<Option<(i64, usize)>> = vec![None; entities.len()];
    for (row, entity) in entity.iter().enumerate() {
        let Some(entity) = entity.filter(|_| known_at.is_valid(row)) else { continue };
        let known = (known_at.value(row), row);
        let latest = &mut latest[entity as usize];
        if known.0 <= cutoff && latest.is_none_or(|latest| latest < known) {
            *latest = Some(known);
        }
    }
    let asked = entities.find(&key_types.encode(rows)?);
    let label = |entity: Option<u32>| {
        let (_, row) = latest[entity? as usize]?;
        labels.is_valid(row).then(|| labels.value(row))
    };
    Ok(asked.into_iter().map(label).collect())
}
