//! From a view's source to the rows that are kept online.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use kaizen_core::{Bytes, Context, ErrorKind, Result};
use kaizen_table::{FeatureView, OnlineEntry};

use super::ahead::check_key_types;
use super::merge::merged;
use super::past::{Past, hashes};
use super::space::{Progress, Space};
use super::tail::{Rows, Stored};
use crate::keys::{Entities, KeyTypes};
use crate::point_in_time::{Layout, Moment, moments};

/// What has to be written to bring a view forward.
#[derive(Debug)]
pub(crate) struct Plan {
    view: FeatureView,
    layout: Layout,
    key_types: KeyTypes,
    source: RecordBatch,
    moments: Vec<Option<Moment>>,
    /// The hash of each row of the source; none of a log.
    hashes: Vec<u128>,
    /// Rows of the source to write, ascending by the instant from which they are known.
    pending: Vec<u32>,
    /// What was in before.
    past: Past,
    until: i64,
    /// How long before the last materialisation a question may lie, in nanoseconds.
    keep: i64,
    /// No question before this instant can be answered already.
    floor: i64,
    /// How many writes have removed entities before.
    removals: u64,
}

/// One write: rows that become known up to an instant.
#[derive(Debug)]
pub(crate) struct Chunk {
    rows: Vec<u32>,
    /// The keys of the entities that these rows belong to.
    pub(crate) keys: Vec<Bytes>,
    entity: Vec<u32>,
    /// How far the view goes then.
    pub(crate) after: Progress,
}

impl Chunk {
    /// How many rows of the source it holds.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }
}

impl Plan {
    /// Of a piece of the source the rows that became known after `done` and until `until`, behind
    /// what is `past`; questions up to `keep` nanoseconds earlier shall still be answered.
    pub(crate) fn new(
        view: &FeatureView,
        source: RecordBatch,
        (done, past): (Option<&Progress>, Past),
        until: i64,
        keep: i64,
    ) -> Result<Self> {
        let key_types = KeyTypes::of(&source, view.keys())?;
        check_key_types(&key_types, done.map(|done| done.key_types.as_slice()))?;
        let moments = moments(view, &source)?;
        let hashes = hashes(view, &key_types, &source, &moments)?;
        let known_at = |row: u32| moments[row as usize].map(|moment| moment.known_at);
        let rows = u32::try_from(source.num_rows()).context(ErrorKind::Limit, "over 2^32 rows")?;
        let from = done.map(|done| done.until);
        let inside = |at: i64| at <= until && from.is_none_or(|from| at > from);
        let mut pending: Vec<u32> =
            (0..rows).filter(|row| known_at(*row).is_some_and(inside)).collect();
        pending.sort_by_key(|row| known_at(*row));
        let (view, layout) = (view.clone(), Layout::of(view));
        let floor = done.map_or(i64::MIN, |done| done.from);
        let removals = done.map_or(0, |done| done.removals);
        Ok(Self {
            view,
            layout,
            key_types,
            source,
            moments,
            hashes,
            pending,
            past,
            until,
            keep,
            floor,
            removals,
        })
    }

    /// The one write that merges all rows of a part of a log; afterwards the view goes as far as
    /// `after` says.
    pub(crate) fn of_log(
        view: &FeatureView,
        source: RecordBatch,
        after: Progress,
    ) -> Result<(Self, Chunk)> {
        let key_types = KeyTypes::of(&source, view.keys())?;
        let moments = moments(view, &source)?;
        let pending: Vec<u32> =
            (0_u32..).zip(&moments).filter_map(|(row, moment)| moment.map(|_| row)).collect();
        let (view, layout) = (view.clone(), Layout::of(view));
        let (until, floor, removals) = (after.until, after.from, after.removals);
        let (past, keep) = (after.past(), 0);
        let plan = Self {
            view,
            layout,
            key_types,
            source,
            moments,
            hashes: Vec::new(),
            pending,
            past,
            until,
            keep,
            floor,
            removals,
        };
        let mut chunk = plan.chunk(&plan.pending, until, past)?;
        chunk.after = after;
        Ok((plan, chunk))
    }

    /// The view that it brings forward.
    pub(crate) fn view(&self) -> &FeatureView {
        &self.view
    }

    /// How many rows are to be written.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The writes, in order, each of `size` rows or a few more: rows that became known at the same
    /// instant stay together.
    ///
    /// If this is the last piece, there is at least one, which says how far the view goes. Else the
    /// last rows are given back, to stand before those of the next piece: so writes are the same
    /// whatever the pieces.
    pub(crate) fn chunks(
        &self,
        size: usize,
        last: bool,
    ) -> Result<(Vec<Chunk>, Option<RecordBatch>)> {
        let known_at = |row: &u32| self.moments[*row as usize].map(|moment| moment.known_at);
        let mut chunks = Vec::new();
        let mut rest = self.pending.as_slice();
        let mut past = self.past;
        loop {
            let mut count = rest.len().min(size);
            let at = count.checked_sub(1).and_then(|last| known_at(&rest[last]));
            count += rest[count..].iter().take_while(|row| known_at(row) == at).count();
            let (rows, tail) = rest.split_at(count);
            if tail.is_empty() && !last {
                let mut rows = rows.to_vec();
                rows.sort_unstable();
                return Ok((chunks, Some(self.taken(&rows)?)));
            }
            rows.iter().for_each(|row| past.add(self.hashes[*row as usize]));
            let until = match (tail.is_empty(), at) {
                (false, Some(at)) => at,
                _ => self.until,
            };
            chunks.push(self.chunk(rows, until, past)?);
            if tail.is_empty() {
                return Ok((chunks, None));
            }
            rest = tail;
        }
    }

    fn chunk(&self, rows: &[u32], until: i64, past: Past) -> Result<Chunk> {
        // The same order whatever the pieces; the source's order decides between equals.
        let mut rows = rows.to_vec();
        let times =
            |row: u32| self.moments[row as usize].map(|moment| (moment.event, moment.known));
        rows.sort_unstable_by_key(|row| (times(*row), *row));
        let encoded = self.key_types.encode(&self.taken(&rows)?)?;
        let mut entities = Entities::default();
        let numbers = entities.number(&encoded);
        let mut keys = vec![Bytes::new(); entities.len()];
        let (mut kept, mut entity) = (Vec::new(), Vec::new());
        for (place, number) in numbers.into_iter().enumerate() {
            if let (Some(number), Some(key)) = (number, encoded.get(place)) {
                if keys[number as usize].is_empty() {
                    keys[number as usize] = Space::entity_key(key);
                }
                kept.push(rows[place]);
                entity.push(number);
            }
        }
        let from = until.saturating_sub(self.keep).max(self.floor);
        let after = Progress {
            source: self.view.source().to_owned(),
            until,
            from,
            rows: past.rows,
            sum: past.sum,
            forgotten: false,
            removals: self.removals,
            offset: None,
            log: None,
            keys: self.view.keys().to_vec(),
            key_types: self.key_types.names(),
        };
        Ok(Chunk { rows: kept, keys, entity, after })
    }

    /// The entries to write for a chunk, given what is kept of its entities now.
    pub(crate) fn entries(
        &self,
        space: &Space,
        chunk: &Chunk,
        tails: &[Option<Bytes>],
    ) -> Result<Vec<OnlineEntry>> {
        let stored = Stored::decode(&self.layout, tails)?;
        let moments = chunk.rows.iter().filter_map(|row| self.moments[*row as usize]);
        let moments: Vec<Moment> = moments.collect();
        let more = Rows {
            entity: chunk.entity.clone(),
            event: moments.iter().map(|moment| moment.event).collect(),
            known: moments.iter().map(|moment| moment.known).collect(),
            values: self.layout.values(&self.taken(&chunk.rows)?)?,
        };
        let values = merged(&self.view, &self.layout, stored, more, chunk.after.from)?;
        let keyed = chunk.keys.iter().zip(values);
        let mut entries: Vec<OnlineEntry> =
            keyed.map(|(key, value)| space.entry(key.clone(), value)).collect();
        entries.push(space.entry(Space::progress_key(), chunk.after.to_bytes()?));
        Ok(entries)
    }

    fn taken(&self, rows: &[u32]) -> Result<RecordBatch> {
        let rows = UInt32Array::from(rows.to_vec());
        let column = |values: &ArrayRef| take(values, &rows, None);
        let columns = self.source.columns().iter().map(column).collect::<Result<_, _>>();
        let columns = columns.context(ErrorKind::Internal, "rows to materialise")?;
        RecordBatch::try_new(Arc::clone(self.source.schema_ref()), columns)
            .context(ErrorKind::Internal, "rows to materialise")
    }
}
