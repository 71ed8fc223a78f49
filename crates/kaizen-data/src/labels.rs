//! Labels as they were known at a cut-off.

use arrow::array::{Array, BooleanArray, RecordBatch, TimestampNanosecondArray};
use kaizen_core::{Context, ErrorKind, Result};
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

/// The labels of a source by entity.
#[derive(Debug)]
pub(crate) struct LabelIndex {
    key_types: KeyTypes,
    entities: Entities,
    /// The rows of entity `e` are `rows[starts[e]..starts[e + 1]]`, in the source's order.
    starts: Vec<u32>,
    rows: Vec<u32>,
    known_at: TimestampNanosecondArray,
    labels: BooleanArray,
}

impl LabelIndex {
    /// Orders the [columns] of a label view by entity.
    pub(crate) fn new(view: &LabelView, source: &RecordBatch) -> Result<Self> {
        let count = u32::try_from(source.num_rows()).context(ErrorKind::Limit, "over 2^32 rows")?;
        let key_types = KeyTypes::of(source, view.keys())?;
        let mut entities = Entities::default();
        let entity = entities.number(&key_types.encode(source)?);
        let known_at = instants(source, view.known_at())?;
        let labels = flags(source, view.label())?;
        let mut starts = vec![0; entities.len() + 1];
        for number in entity.iter().flatten() {
            starts[*number as usize + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        // A stable sort keeps the source's order within an entity.
        let mut rows: Vec<u32> = (0..count).filter(|row| entity[*row as usize].is_some()).collect();
        rows.sort_by_key(|row| entity[*row as usize]);
        Ok(Self { key_types, entities, starts, rows, known_at, labels })
    }

    /// What is known by a cut-off, in nanoseconds UTC, of the label of each row's entity.
    ///
    /// Of several labels of one entity the one that became known last counts, of several of these
    /// the last in the source. A label without a known-at time is never known.
    pub(crate) fn known_by(&self, rows: &RecordBatch, cutoff: i64) -> Result<Vec<Told>> {
        let told = |entity: Option<u32>| {
            let Some(entity) = entity.map(|entity| entity as usize) else { return Told::default() };
            let own = &self.rows[self.starts[entity] as usize..self.starts[entity + 1] as usize];
            let mut told = Told::default();
            for row in own.iter().map(|row| *row as usize) {
                if self.known_at.is_null(row) || self.known_at.value(row) > cutoff {
                    continue;
                }
                let known = self.known_at.value(row);
                let label = self.labels.is_valid(row).then(|| self.labels.value(row));
                if label.is_some() {
                    told.first = Some(told.first.map_or(known, |first| first.min(known)));
                }
                if told.last.is_none_or(|(last, _)| known >= last) {
                    told.last = Some((known, label));
                }
            }
            told
        };
        let asked = self.entities.find(&self.key_types.encode(rows)?);
        Ok(asked.into_iter().map(told).collect())
    }
}

/// What is known of the label of one entity.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// When a label first became known.
    first: Option<i64>,
    /// When the last row became known, with its label.
    last: Option<(i64, Option<bool>)>,
}

impl Told {
    /// With what became known later.
    pub(crate) fn then(self, later: Self) -> Self {
        Self { first: self.first.or(later.first), last: later.last.or(self.last) }
    }

    /// The label as of the cut-off, unless it is younger than `maturity` nanoseconds.
    pub(crate) fn label(&self, cutoff: i64, maturity: u64) -> Option<bool> {
        let age = u64::try_from(cutoff.saturating_sub(self.first?)).ok()?;
        self.last.and_then(|(_, label)| label).filter(|_| age >= maturity)
    }
}
