//! What a materialisation reads: the rows that became known since the last one, in pieces that
//! follow each other in the order in which rows became known.
//!
//! If rows are known a fixed time after their event, a span of known-at times is one of event times,
//! and no other rows are read. Else a row of any event time may have become known since: every span
//! of the source is read once, one at a time, to find those rows and to check the past; if they are
//! more than fit in memory, it is only kept when about they became known, and their spans are read
//! again, piece by piece.

use std::collections::VecDeque;
use std::ops::Range;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use kaizen_core::{Context, Digest, Error, ErrorKind, Result, compute};
use kaizen_table::{During, FeatureView, Known, Query, Source, SourceFile};

use super::past::{Past, sift};
use super::space::Progress;
use super::stretch::{runs, stretches};
use crate::keys::KeyTypes;
use crate::point_in_time::{moments, nanos};
use crate::reading::{check_spans, whole};

/// Rows that are read, or to be read.
#[derive(Debug)]
struct Piece {
    rows: Option<RecordBatch>,
    spans: Vec<Range<i64>>,
    /// Only the rows that became known after the first of these instants, and until the second.
    known: (Option<i64>, i64),
}

/// The pieces that are still to be written.
#[derive(Debug)]
pub(crate) struct Ahead<'a> {
    view: &'a FeatureView,
    source: &'a dyn Source,
    /// The digest and the files of the source, as they were at the first reading.
    read: Option<(Digest, Vec<SourceFile>)>,
    pieces: VecDeque<Piece>,
    /// What is in already.
    pub(crate) past: Past,
}

impl<'a> Ahead<'a> {
    /// What became known after `done` and until `until`, in pieces of about `most` rows. If the
    /// past is read, it is checked.
    pub(crate) async fn of(
        view: &'a FeatureView,
        source: &'a dyn Source,
        done: Option<&Progress>,
        until: i64,
        (most, check): (u64, bool),
    ) -> Result<Self> {
        let spans = source.spans(view.event_time(), most).await?;
        check_spans(&spans, source.name(), view.event_time())?;
        let past = done.map_or(Past::default(), Progress::past);
        let mut ahead = Self { view, source, read: None, pieces: VecDeque::new(), past };
        let unknown = done.is_some_and(|done| check || done.forgotten);
        match delay(view).filter(|_| !unknown) {
            Some(delay) => {
                let from = done.map(|done| done.until);
                for span in delayed(spans, delay, from, until) {
                    ahead.push(vec![span], (from, until));
                }
            }
            None => ahead.sift(spans, done, until, most).await?,
        }
        if ahead.pieces.is_empty() {
            // No rows, but their columns.
            let none = i64::MIN..i64::MIN;
            ahead.push(vec![none], (None, until));
        }
        Ok(ahead)
    }

    fn push(&mut self, spans: Vec<Range<i64>>, known: (Option<i64>, i64)) {
        self.pieces.push_back(Piece { rows: None, spans, known });
    }

    /// How many pieces are left.
    pub(crate) fn left(&self) -> usize {
        self.pieces.len()
    }

    /// The rows of the next piece.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(piece) = self.pieces.pop_front() else { return Ok(None) };
        if let Some(rows) = piece.rows {
            return Ok(Some(rows));
        }
        let mut parts = Vec::with_capacity(piece.spans.len());
        let (after, until) = piece.known;
        for span in piece.spans {
            let rows = self.read(&span).await?;
            let view = self.view.clone();
            let pending = move || {
                let known_at = moments(&view, &rows)?;
                let known_at = known_at.iter().map(|moment| moment.map(|moment| moment.known_at));
                let inside = |at: i64| at <= until && after.is_none_or(|after| at > after);
                let known_at = (0_u32..).zip(known_at);
                let own = known_at.filter(|(_, at)| at.is_some_and(inside)).map(|(row, _)| row);
                taken(&rows, own.collect())
            };
            parts.push(compute(pending).await?);
        }
        compute(move || joined(&parts)).await.map(Some)
    }

    /// Reads every span, checks the past, and finds the pieces.
    async fn sift(
        &mut self,
        spans: Vec<Range<i64>>,
        done: Option<&Progress>,
        until: i64,
        most: u64,
    ) -> Result<()> {
        let from = done.map(|done| done.until);
        let (mut past, mut pending, mut count) = (Past::default(), Vec::new(), 0);
        let mut held: Option<Vec<RecordBatch>> = Some(Vec::new());
        for (place, span) in (0_u32..).zip(&spans) {
            let rows = self.read(span).await?;
            let (view, keep) = (self.view.clone(), held.is_some());
            let known_types = done.map(|done| done.key_types.clone());
            let sifted = compute(move || {
                let key_types = KeyTypes::of(&rows, view.keys())?;
                check_key_types(&key_types, known_types.as_deref())?;
                let moments = moments(&view, &rows)?;
                let sifted = sift(&view, &key_types, &rows, &moments, from, until)?;
                let own = || sifted.pending.iter().map(|(_, row)| *row).collect();
                let kept = keep.then(|| taken(&rows, own())).transpose()?;
                let known_at: Vec<i64> = sifted.pending.iter().map(|(at, _)| *at).collect();
                Ok((sifted.past, known_at.len() as u64, runs(place, known_at), kept))
            });
            let (own, rows, runs, kept) = sifted.await?;
            past.extend(own);
            pending.extend(runs);
            count += rows;
            held = held.zip(kept).map(|(mut held, kept)| {
                held.push(kept);
                held
            });
            if count > most && spans.len() > 1 {
                held = None;
            }
        }
        if let Some(done) = done {
            check_past(done, past)?;
        }
        self.past = past;
        if let Some(held) = held {
            let rows = compute(move || joined(&held)).await?;
            let known = (from, until);
            self.pieces.push_back(Piece { rows: Some(rows), spans: Vec::new(), known });
            return Ok(());
        }
        let mut after = from;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        for stretch in compute(move || Ok(stretches(pending, most))).await? {
            let own = stretch.spans.iter().map(|place| spans[*place as usize].clone()).collect();
            self.push(own, (after, stretch.until));
            after = Some(stretch.until);
        }
        Ok(())
    }

    /// The rows of a span, of the source as it was at the first reading.
    async fn read(&mut self, span: &Range<i64>) -> Result<RecordBatch> {
        let columns = self.view.source_columns();
        let all = *span == (i64::MIN..i64::MAX);
        let during = During { column: self.view.event_time(), span: span.clone() };
        let files = self.read.as_ref().map(|(_, files)| files.as_slice());
        let files = files.filter(|files| !files.is_empty());
        let query = Query { columns: &columns, during: (!all).then_some(during), files };
        let scan = self.source.scan(&query).await?;
        match &self.read {
            Some((digest, _)) if *digest != scan.digest => {
                return Err(Error::conflict("it changed between two reads"));
            }
            Some(_) => {}
            None => self.read = Some((scan.digest, scan.files.clone())),
        }
        whole(scan)
    }
}

/// Checks that key columns have the types that they had.
pub(crate) fn check_key_types(found: &KeyTypes, before: Option<&[String]>) -> Result<()> {
    match before {
        Some(before) if before != found.names() => {
            Err(Error::conflict("the types of its key columns have changed"))
        }
        _ => Ok(()),
    }
}

/// Checks that the rows of the past are those that are in, unless some were forgotten.
fn check_past(done: &Progress, found: Past) -> Result<()> {
    let (then, at) = (done.past(), done.instant());
    if done.forgotten || then == found {
        return Ok(());
    }
    let what = match (then.rows, found.rows) {
        (then, now) if then == now => {
            format!("some of its {then} rows that were known at {at} are no longer what they were")
        }
        (then, now) => {
            format!("of its rows {then} were known at {at} when it was materialised, now {now}")
        }
    };
    Err(Error::conflict(format!("{what}: the past has changed; materialise into a new store")))
}

/// How long after its event each row is known, in nanoseconds, if that is the same for all.
fn delay(view: &FeatureView) -> Option<i64> {
    match view.known() {
        Known::AtEvent => Some(0),
        Known::After { seconds } => i64::try_from(nanos(*seconds)).ok(),
        Known::Column(_) | Known::Backfilled { .. } => None,
    }
}

/// The parts of these spans whose rows become known after `from` and until `until`, if that is
/// `delay` after the event. Rows that become known at the same instant are in the same part.
fn delayed(spans: Vec<Range<i64>>, delay: i64, from: Option<i64>, until: i64) -> Vec<Range<i64>> {
    let start = from.and_then(|from| from.checked_sub(delay));
    let start = start.map_or(i64::MIN, |event| event.saturating_add(1));
    let end = match until {
        i64::MAX => i64::MAX,
        until => match until.checked_sub(delay) {
            Some(event) => event.saturating_add(1),
            None => return Vec::new(),
        },
    };
    let mut parts: Vec<Range<i64>> = Vec::new();
    for span in spans {
        let part = span.start.max(start)..span.end.min(end);
        if part.is_empty() && (part.end != i64::MAX || part.start != i64::MAX) {
            continue;
        }
        match parts.last_mut() {
            // What would be known after the last instant is known at it.
            Some(last) if last.end.checked_add(delay).is_none() => last.end = part.end,
            _ => parts.push(part),
        }
    }
    parts
}

fn taken(rows: &RecordBatch, own: Vec<u32>) -> Result<RecordBatch> {
    if own.len() == rows.num_rows() {
        return Ok(rows.clone());
    }
    take_record_batch(rows, &UInt32Array::from(own))
        .context(ErrorKind::Internal, "rows to materialise")
}

/// Rows one after the other.
pub(crate) fn joined(parts: &[RecordBatch]) -> Result<RecordBatch> {
    match parts {
        [] => Err(Error::internal("no span of a source")),
        [only] => Ok(only.clone()),
        [first, ..] => concat_batches(first.schema_ref(), parts)
            .context(ErrorKind::Invalid, "its columns differ from span to span"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Range<i64>> {
        vec![i64::MIN..0, 0..100, 100..i64::MAX]
    }

    #[test]
    fn of_delayed_rows_only_those_are_read_that_became_known() {
        assert_eq!(delayed(all(), 0, None, 50), [i64::MIN..0, 0..51]);
        assert_eq!(delayed(all(), 10, Some(50), 200), [41..100, 100..191]);
        assert_eq!(delayed(all(), 10, Some(-5), i64::MAX).len(), 3);
        assert_eq!(delayed(all(), 10, Some(i64::MIN), i64::MIN + 9), []);
        assert_eq!(delayed(all(), 10, Some(i64::MIN), i64::MIN + 10).len(), 1);
        let last = i64::MAX..i64::MAX;
        assert_eq!(delayed(all(), 0, Some(i64::MAX - 1), i64::MAX), [last]);
        // Everything from 0 on is known at the last instant.
        assert_eq!(delayed(all(), i64::MAX, None, i64::MAX), [i64::MIN..0, 0..i64::MAX]);
    }
}
