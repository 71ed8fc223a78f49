//! The point-in-time join: features as they were known at each row's own instant.
//!
//! The rule, for a row that asks about an entity as of `t`:
//!
//! * A source's row is *known at* the later of its event time and, if the view declares one, its
//!   known-at column; or a declared time after its event. Of a source that was loaded in bulk
//!   (`Known::Backfilled`) the column counts only in rows that came after the load. A row is *seen*
//!   if it is known at `t` or before. A missing known-at time counts as the event time. A row without an event time, or
//!   with a missing key, is never seen.
//! * A column feature takes the seen row with the latest event time; of several the one with the
//!   latest known-at column (a missing one wins no tie), and of these the last in the source. If
//!   that row is older than the TTL the feature is missing; an age of exactly the TTL still counts.
//!   A missing value in the row stays missing.
//! * A window feature aggregates the seen rows whose event time lies in `(t - seconds, t]`; with
//!   hops it begins at a whole multiple of the hop, at `t - seconds` or before. Missing values and
//!   NaN do not count; a count of none is 0, another aggregate of none is missing. Sums are exact
//!   before they are rounded once, so no order of rows changes their bits. The first and the last
//!   row are told by the order that decides which row is the latest.
//! * Every row gets one answer, in the order of the rows. Instants are compared as instants,
//!   to the nanosecond; naive timestamps are refused.
//!
//! [`Index`] answers it with one binary search per row: the rows of each entity are sorted by the
//! instant from which they are known, and carry the running maximum of (event, known, order). That
//! [`Ordering`] is shared by all views that agree in source, keys, event time and when rows become
//! known.

mod carried;
mod gather;
mod grouping;
mod layout;
mod ordering;
mod packed;
mod persisted;
mod search;
mod timeline;
mod window;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, NullArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use kaizen_core::record::Coverage;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{FeatureView, Value, arrow_type, instants};

use crate::within::Within;
use gather::Answers;
use packed::Packed;

pub use ordering::Ordering;

pub(crate) use carried::needed;
pub(crate) use layout::{Layout, Needs, Tiling};
pub(crate) use ordering::probes;
pub(crate) use timeline::{Moment, Probe, Sight, Status, Timelines, nanos};
pub(crate) use window::as_declared;

/// The rows of a view's source, ordered so that any question is one binary search.
#[derive(Clone, Debug)]
pub struct Index {
    view: FeatureView,
    layout: Layout,
    ordering: Arc<Ordering>,
    values: Vec<ArrayRef>,
    packed: Option<Arc<Packed>>,
}

impl Index {
    /// Orders a source's rows, of which it needs the view's
    /// [source columns](FeatureView::source_columns).
    pub fn new(view: &FeatureView, source: &RecordBatch) -> Result<Self> {
        let place = || format!("view `{}`, source `{}`", view.name(), view.source());
        let ordering = Ordering::build(view, source).within(place())?;
        Self::over(view, Arc::new(ordering), source)
    }

    /// Answers from rows that are ordered already: `ordering` was made of these rows, for this view
    /// or one that agrees with it.
    ///
    /// [`ErrorKind::Conflict`] if it was made for a view that differs, or of another number of rows.
    pub fn over(view: &FeatureView, ordering: Arc<Ordering>, source: &RecordBatch) -> Result<Self> {
        let place = || format!("view `{}`, source `{}`", view.name(), view.source());
        if ordering.definition != Ordering::definition(view)? {
            return Err(Error::conflict(format!("{}: rows ordered for another view", place())));
        }
        if source.num_rows() != ordering.rows as usize {
            let (found, ordered) = (source.num_rows(), ordering.rows);
            return Err(Error::conflict(format!(
                "{}: {found} rows, of which {ordered} were ordered",
                place()
            )));
        }
        let layout = Layout::of(view);
        let values = layout.values(source).within(place())?;
        Ok(Self { view: view.clone(), layout, ordering, values, packed: None })
    }

    /// The order that it answers from, for [`over`](Self::over).
    pub fn ordering(&self) -> &Arc<Ordering> {
        &self.ordering
    }

    /// Moves the values of numbers and flags into the order in which questions are answered, those
    /// of a row side by side: pays for itself where an index answers more than once or twice. The
    /// answers are the same, bit for bit.
    ///
    /// Costs the memory of these values once more: 8 bytes for each number of each row, and a bit
    /// for each flag and each value that may be missing. Text and windows stay as they are.
    #[must_use]
    pub fn packed(mut self) -> Self {
        if self.packed.is_none() {
            let packed = Packed::new(&self.packable(), &self.ordering.timelines);
            self.packed = Some(Arc::new(packed));
        }
        self
    }

    /// Whether the values are [packed](Self::packed).
    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// How many bytes [`packed`](Self::packed) costs.
    pub fn packed_bytes(&self) -> u64 {
        Packed::bytes(&self.packable(), self.ordering.timelines.rows.len())
    }

    /// The slots; those that only windows read are empty.
    fn packable(&self) -> Vec<ArrayRef> {
        let mut packable: Vec<ArrayRef> =
            self.values.iter().map(|_| Arc::new(NullArray::new(0)) as ArrayRef).collect();
        for (place, feature) in self.view.features().iter().enumerate() {
            if let Value::Column(_) = &feature.value {
                let slot = self.layout.slot(place);
                packable[slot] = Arc::clone(&self.values[slot]);
            }
        }
        packable
    }

    /// The view's features for each row, as of the instant in the column `time`: one column per
    /// feature, one row per row.
    pub fn features(&self, rows: &RecordBatch, time: &str) -> Result<RecordBatch> {
        Ok(self.features_with_coverage(rows, time)?.0)
    }

    /// [`features`](Self::features), and how the rows were answered.
    pub fn features_with_coverage(
        &self,
        rows: &RecordBatch,
        time: &str,
    ) -> Result<(RecordBatch, Coverage)> {
        let found = self.look_up(rows, time).within(format!("view `{}`", self.view.name()))?;
        let coverage = found.coverage(self.ordering.ignored());
        let fields = self.view.features().iter().map(|feature| &feature.field);
        Ok((table(fields, found.columns, rows.num_rows())?, coverage))
    }

    pub(crate) fn look_up(&self, rows: &RecordBatch, time: &str) -> Result<Answer> {
        let probes = self.ordering.probes(rows, time)?;
        let given = BTreeMap::new();
        let (values, packed) = (&self.values, self.packed.as_deref());
        answer(&self.view, &self.layout, &self.ordering.timelines, values, packed, &probes, given)
    }

    /// The rows of the source that a question at `from`, in nanoseconds UTC, or later can still need
    /// for its answer or its coverage: ascending, in the source's order. Later questions of a
    /// source of these rows alone are answered as those of all rows are; only those that nobody
    /// [can see](Ordering::ignored) are no longer counted.
    pub fn needed(&self, from: i64) -> Vec<u32> {
        needed(&self.view, &self.ordering.timelines, from)
    }
}

/// When each row of a view's source happened and became known; `None` for those that have no
/// event time.
pub(crate) fn moments(view: &FeatureView, source: &RecordBatch) -> Result<Vec<Option<Moment>>> {
    let event = instants(source, view.event_time())?;
    let known = view.known().column().map(|column| instants(source, column)).transpose()?;
    let moment = |row: usize| {
        let known = known.as_ref().filter(|known| known.is_valid(row)).map(|k| k.value(row));
        event.is_valid(row).then(|| Moment::new(view.known(), event.value(row), known))
    };
    Ok((0..source.num_rows()).map(moment).collect())
}

/// The answers to questions.
#[derive(Debug)]
pub(crate) struct Answer {
    /// A column per feature, with an element per question.
    pub(crate) columns: Vec<ArrayRef>,
    /// What each question saw.
    pub(crate) sights: Vec<Sight>,
}

impl Answer {
    /// How the questions were answered; `ignored` rows of the source can be seen by none.
    pub(crate) fn coverage(&self, ignored: u64) -> Coverage {
        let mut coverage = Coverage { ignored, ..Coverage::default() };
        for sight in &self.sights {
            match sight.status {
                Status::Found => coverage.found += 1,
                Status::Expired => coverage.expired += 1,
                Status::Unknown => coverage.unknown += 1,
            }
            coverage.hidden += u64::from(sight.hidden);
        }
        coverage
    }
}

/// Answers each probe from a view. `values` are the slots of the layout, with an element per row
/// of the timelines, and `packed` those that are packed; `given` are window features that are answered
/// already, by their place in the view.
///
/// Offline and online features both come from here.
pub(crate) fn answer(
    view: &FeatureView,
    layout: &Layout,
    timelines: &Timelines,
    values: &[ArrayRef],
    packed: Option<&Packed>,
    probes: &[Probe],
    given: BTreeMap<usize, ArrayRef>,
) -> Result<Answer> {
    // Before the rest, as it needs the most memory for a while.
    let mut windows = window::columns(view, layout, timelines, values, probes, &given)?;
    windows.extend(given);
    let sights = search::sights(timelines, probes, view.ttl_seconds().map(nanos));
    let packed = packed.map(|packed| packed.gather(&sights)).unwrap_or_default();
    let gathered = |slot: usize| packed.get(slot).and_then(Option::as_ref);
    let answers = OnceCell::new();
    let mut columns = Vec::with_capacity(view.features().len());
    for (place, feature) in view.features().iter().enumerate() {
        let name = &feature.field.name;
        columns.push(match &feature.value {
            Value::Column(_) => match gathered(layout.slot(place)) {
                Some(values) => Arc::clone(values),
                None => {
                    let answers = answers.get_or_init(|| Answers::of(&sights, timelines));
                    let values = &values[layout.slot(place)];
                    answers.gather(values).within(format!("feature `{name}`"))?
                }
            },
            Value::Window(_) => windows
                .remove(&place)
                .context(ErrorKind::Internal, format!("feature `{name}`: no window"))?,
        });
    }
    Ok(Answer { columns, sights })
}

/// A table of these columns, all of which may have missing values.
pub(crate) fn table<'a>(
    fields: impl Iterator<Item = &'a kaizen_core::Field>,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let field = |field: &kaizen_core::Field| {
        Ok(Field::new(&field.name, arrow_type(field.data_type)?, true))
    };
    let schema = Schema::new(fields.map(field).collect::<Result<Vec<_>>>()?);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
        .context(ErrorKind::Internal, "features as a table")
}
