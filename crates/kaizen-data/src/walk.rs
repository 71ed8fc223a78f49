//! Sources that are larger than memory, walked span by span.
//!
//! The spans of a source's event time are read one after the other. The rows of a span, with those
//! carried from the spans before, answer the questions whose instant lies in it; then only those
//! rows are carried on that a later question can need. So what is in memory at once is one span,
//! and of each entity its latest row, those not known yet, and those young enough for a window.
//!
//! The answers are those of all rows at once. Rows of the same event time lie in the same span, in
//! the source's order, so ties fall the same way; and carried rows stand before those of their
//! span, in the source's order among themselves.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{concat, concat_batches, take, take_record_batch};
use kaizen_core::record::Coverage;
use kaizen_core::{Context, Error, ErrorKind, Result, compute};
use kaizen_table::{During, FeatureView, instants};

use crate::look_up::{Answered, add, answer};
use crate::parquet_file::project;
use crate::point_in_time::{Index, Ordering, nanos};
use crate::reading::{Reading, once};

/// Rows that ask, in the order of their instants.
#[derive(Debug)]
pub(crate) struct Asked {
    rows: RecordBatch,
    time: String,
    at: TimestampNanosecondArray,
    /// The rows ascending by instant.
    order: Vec<u32>,
    /// How many of them were answered.
    done: usize,
}

impl Asked {
    /// The rows of a spine, as of the instants in the column `time`.
    pub(crate) fn new(rows: &RecordBatch, time: &str) -> Result<Self> {
        let at = instants(rows, time)?;
        if let Some(row) = (0..at.len()).find(|row| at.is_null(*row)) {
            return Err(Error::invalid(format!("column `{time}`: row {row} has no instant")));
        }
        let count = u32::try_from(at.len()).context(ErrorKind::Limit, "over 2^32 rows ask")?;
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_by_key(|row| at.value(*row as usize));
        Ok(Self { rows: rows.clone(), time: time.to_owned(), at, order, done: 0 })
    }

    fn at(&self, place: usize) -> Option<i64> {
        self.order.get(place).map(|row| self.at.value(*row as usize))
    }

    /// The first and the last instant.
    fn bounds(&self) -> Option<(i64, i64)> {
        self.at(0).zip(self.at(self.order.len().wrapping_sub(1)))
    }

    /// The instant of the next row.
    fn next(&self) -> Option<i64> {
        self.at(self.done)
    }

    /// Takes the rows whose instants are before `end`; all that are left if it is `i64::MAX`.
    fn before(&mut self, end: i64) -> Result<RecordBatch> {
        let left = &self.order[self.done..];
        let count = match end {
            i64::MAX => left.len(),
            _ => left.partition_point(|row| self.at.value(*row as usize) < end),
        };
        let rows = UInt32Array::from(left[..count].to_vec());
        self.done += count;
        take_record_batch(&self.rows, &rows).context(ErrorKind::Internal, "rows that ask")
    }

    /// For each row in its own order, where its answer is.
    fn places(&self) -> UInt32Array {
        let mut places = vec![0; self.order.len()];
        for (place, row) in self.order.iter().enumerate() {
            places[*row as usize] = place as u32;
        }
        places.into()
    }
}

/// Views whose rows stand in the same order, and what is carried for them.
#[derive(Debug)]
struct Group {
    /// The places of the views.
    views: Vec<usize>,
    carried: Option<RecordBatch>,
}

/// One walk through a source for views that agree in their event time.
#[derive(Debug)]
pub(crate) struct Walk {
    views: Vec<FeatureView>,
    groups: Vec<Group>,
    asked: Asked,
    /// The answers to the rows that were answered, by view.
    parts: Vec<Vec<Vec<ArrayRef>>>,
    coverage: Vec<Coverage>,
}

impl Walk {
    /// A walk for these views of one source, all of the same event time.
    pub(crate) fn new(views: Vec<FeatureView>, asked: Asked) -> Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for (place, view) in views.iter().enumerate() {
            let agrees = |group: &&mut Group| {
                let first = &views[group.views[0]];
                (first.keys(), first.known()) == (view.keys(), view.known())
            };
            match groups.iter_mut().find(agrees) {
                Some(group) => group.views.push(place),
                None => groups.push(Group { views: vec![place], carried: None }),
            }
        }
        let parts = views.iter().map(|_| Vec::new()).collect();
        let coverage = vec![Coverage::default(); views.len()];
        Ok(Self { views, groups, asked, parts, coverage })
    }

    /// Goes through the spans, and gives each view's answers in the order of the rows that ask.
    ///
    /// Spans are not read that lie before what any view looks back to, or after every question;
    /// at least one is read.
    pub(crate) async fn through(
        mut self,
        reading: &mut Reading<'_>,
        source: &str,
        event_time: &str,
        spans: &[Range<i64>],
    ) -> Result<Vec<Answered>> {
        let columns: Vec<String> = once(self.views.iter().flat_map(|view| view.source_columns()))
            .into_iter()
            .map(str::to_owned)
            .collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        for span in self.needed_spans(spans) {
            let during = During { column: event_time, span: span.clone() };
            let rows = reading.read(source, &columns, Some(during)).await?;
            tracing::debug!(
                source,
                start = span.start,
                end = span.end,
                rows = rows.num_rows(),
                "span"
            );
            let end = span.end;
            self = compute(move || {
                self.pass(rows, end)?;
                Ok(self)
            })
            .await?;
        }
        compute(move || self.answers()).await
    }

    fn needed_spans(&self, spans: &[Range<i64>]) -> Vec<Range<i64>> {
        let Some((first, last)) = self.asked.bounds() else {
            return spans.iter().take(1).cloned().collect();
        };
        let horizons = self.views.iter().map(FeatureView::horizon_seconds);
        let horizon: Option<Vec<u32>> = horizons.collect();
        let horizon = horizon.and_then(|horizons| horizons.into_iter().max()).map(nanos);
        let since = horizon.map_or(i64::MIN, |horizon| first.saturating_sub_unsigned(horizon));
        let needed =
            |span: &&Range<i64>| (span.end > since || span.end == i64::MAX) && span.start <= last;
        spans.iter().filter(needed).cloned().collect()
    }

    /// Answers what lies in a span, of which these are the rows and this is the end.
    fn pass(&mut self, span: RecordBatch, end: i64) -> Result<()> {
        let asked = self.asked.before(end)?;
        let from = self.asked.next();
        let time = &self.asked.time;
        for group in &mut self.groups {
            let views = group.views.iter().map(|place| &self.views[*place]);
            let columns = once(views.flat_map(FeatureView::source_columns));
            let own = project(&span, &columns)?;
            let rows = match group.carried.take() {
                None => own,
                Some(carried) => concat_batches(carried.schema_ref(), [&carried, &own])
                    .context(ErrorKind::Invalid, "its columns differ from span to span")?,
            };
            let ordering = Arc::new(Ordering::new(&self.views[group.views[0]], &rows)?);
            let mut needed = Vec::new();
            for place in &group.views {
                let view = &self.views[*place];
                let index = Index::over(view, Arc::clone(&ordering), &rows)?;
                let (columns, coverage) = answer(&index, view, &asked, time)?;
                self.parts[*place].push(columns);
                add(&mut self.coverage[*place], coverage);
                if let Some(from) = from {
                    needed = union(needed, index.needed(from));
                }
            }
            if from.is_some() {
                let needed = UInt32Array::from(needed);
                let carried = take_record_batch(&rows, &needed)
                    .context(ErrorKind::Internal, "rows to carry along")?;
                group.carried = Some(carried);
            }
        }
        Ok(())
    }

    fn answers(self) -> Result<Vec<Answered>> {
        let places = self.asked.places();
        let in_order = |parts: &Vec<Vec<ArrayRef>>, feature: usize| {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part[feature].as_ref()).collect();
            concat(&parts).and_then(|all| take(&all, &places, None))
        };
        let answered = |((view, parts), coverage): ((&FeatureView, &Vec<_>), &Coverage)| {
            let columns = (0..view.features().len()).map(|feature| in_order(parts, feature));
            let columns = columns.collect::<Result<_, _>>();
            Ok((columns.context(ErrorKind::Internal, "answers in order")?, *coverage))
        };
        self.views.iter().zip(&self.parts).zip(&self.coverage).map(answered).collect()
    }
}

/// Both, ascending and each once.
fn union(mut left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    if left.is_empty() {
        return right;
    }
    left.extend(right);
    left.sort_unstable();
    left.dedup();
    left
}
