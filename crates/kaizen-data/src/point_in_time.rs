//! The point-in-time join: features as they were known at each row's own instant.
//!
//! The rule, for a row that asks about an entity as of `t`:
//!
//! * A source's row is *known at* the later of its event time and, if the view declares one, its
//!   known-at column; or a declared time after its event. It is *seen* if it is known at `t` or
//!   before. A missing known-at time counts as the event time. A row without an event time, or
//!   with a missing key, is never seen.
//! * A column feature takes the seen row with the latest event time; of several the one with the
//!   latest known-at column (a missing one wins no tie), and of these the last in the source. If
//!   that row is older than the TTL the feature is missing; an age of exactly the TTL still counts.
//!   A missing value in the row stays missing.
//! * A window feature aggregates the seen rows whose event time lies in `(t - seconds, t]`. Missing
//!   values do not count; a count of none is 0, a sum or mean of none is missing. Sums are exact
//!   before they are rounded once, so no order of rows changes their bits.
//! * Every row gets one answer, in the order of the rows. Instants are compared as instants,
//!   to the nanosecond; naive timestamps are refused.
//!
//! [`Index`] answers it with one binary search per row: the rows of each entity are sorted by the
//! instant from which they are known, and carry the running maximum of (event, known, order).

mod layout;
mod timeline;
mod window;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{FeatureView, Value, arrow_type, instants};
use rayon::prelude::*;

use crate::keys::{Entities, KeyTypes};
use crate::within::Within;

pub(crate) use layout::Layout;
pub(crate) use timeline::{Moment, PARALLEL_FROM, Probe, Timelines, nanos};

/// The rows of a view's source, ordered so that any question is one binary search.
#[derive(Debug)]
pub struct Index {
    view: FeatureView,
    layout: Layout,
    key_types: KeyTypes,
    entities: Entities,
    timelines: Timelines,
    values: Vec<ArrayRef>,
}

impl Index {
    /// Orders a source's rows, of which it needs the view's
    /// [source columns](FeatureView::source_columns).
    pub fn new(view: &FeatureView, source: &RecordBatch) -> Result<Self> {
        let place = format!("view `{}`, source `{}`", view.name(), view.source());
        Self::build(view, source).within(place)
    }

    fn build(view: &FeatureView, source: &RecordBatch) -> Result<Self> {
        let rows = source.num_rows();
        if rows >= u32::MAX as usize {
            return Err(Error::new(ErrorKind::Limit, format!("{rows} rows, over 2^32 - 2")));
        }
        let layout = Layout::of(view);
        let key_types = KeyTypes::of(source, view.keys())?;
        let keys = key_types.encode(source)?;
        let mut entities = Entities::default();
        let mut entity = entities.number(&keys);
        let moments = moments(view, source)?;
        let without_key = entity.iter().filter(|entity| entity.is_none()).count();
        let mut without_event = 0;
        for (entity, moment) in entity.iter_mut().zip(&moments) {
            if moment.is_none() {
                *entity = None;
                without_event += 1;
            }
        }
        let place = Moment { event: 0, known: None, known_at: 0 };
        let moments: Vec<Moment> = moments.into_iter().map(|m| m.unwrap_or(place)).collect();
        let timelines = Timelines::new(&entity, entities.len(), &moments);
        let values = layout.values(source)?;
        let (view_name, entities_found) = (view.name(), entities.len());
        tracing::debug!(view_name, rows, entities_found, without_key, without_event, "indexed");
        Ok(Self { view: view.clone(), layout, key_types, entities, timelines, values })
    }

    /// The view's features for each row, as of the instant in the column `time`: one column per
    /// feature, one row per row.
    pub fn features(&self, rows: &RecordBatch, time: &str) -> Result<RecordBatch> {
        let columns = self.look_up(rows, time).within(format!("view `{}`", self.view.name()))?;
        table(self.view.features().iter().map(|feature| &feature.field), columns, rows.num_rows())
    }

    pub(crate) fn look_up(&self, rows: &RecordBatch, time: &str) -> Result<Vec<ArrayRef>> {
        let keys = self.key_types.encode(rows)?;
        let probes = probes(self.entities.find(&keys), rows, time)?;
        answer(&self.view, &self.layout, &self.timelines, &self.values, &probes)
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

/// The questions that rows ask, at the instants in their column `time`.
pub(crate) fn probes(
    entity: Vec<Option<u32>>,
    rows: &RecordBatch,
    time: &str,
) -> Result<Vec<Probe>> {
    let at = instants(rows, time)?;
    if let Some(row) = (0..at.len()).find(|row| at.is_null(*row)) {
        return Err(Error::invalid(format!("column `{time}`: row {row} has no instant")));
    }
    let probe = |(entity, at): (Option<u32>, &i64)| Probe { entity, at: *at };
    Ok(entity.into_iter().zip(at.values()).map(probe).collect())
}

/// The features of a view for each probe: a column per feature, with an element per probe.
/// `values` are the slots of the layout, with an element per row of the timelines.
///
/// Offline and online features both come from here.
pub(crate) fn answer(
    view: &FeatureView,
    layout: &Layout,
    timelines: &Timelines,
    values: &[ArrayRef],
    probes: &[Probe],
) -> Result<Vec<ArrayRef>> {
    let ttl = view.ttl_seconds().map(nanos);
    let latest = |probe: &Probe| timelines.latest(*probe, ttl);
    let latest: Vec<Option<u32>> = match probes.len() < PARALLEL_FROM {
        true => probes.iter().map(latest).collect(),
        false => probes.par_iter().map(latest).collect(),
    };
    let latest = UInt32Array::from(latest);
    let mut windows = window::columns(view, layout, timelines, values, probes)?;
    let mut columns = Vec::with_capacity(view.features().len());
    for (place, feature) in view.features().iter().enumerate() {
        let name = &feature.field.name;
        columns.push(match &feature.value {
            Value::Column(_) => take(&values[layout.slot(place)], &latest, None)
                .context(ErrorKind::Internal, format!("feature `{name}`"))?,
            Value::Window(_) => windows
                .remove(&place)
                .context(ErrorKind::Internal, format!("feature `{name}`: no window"))?,
        });
    }
    Ok(columns)
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
