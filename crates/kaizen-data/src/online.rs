//! Features online: the newest rows of every entity, by key, under the same rule as offline.

mod materialize;
mod memory;
mod redb;
mod space;
mod tail;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{ArrayRef, RecordBatch};
use kaizen_core::{Bytes, Context, Error, ErrorKind, Progress, Result, Timestamp, compute};
use kaizen_table::{FeatureService, FeatureView, OnlineStore, Source};
use tokio::sync::Mutex;

use crate::feature_store::{check_request, extended, whole};
use crate::keys::{Entities, KeyTypes};
use crate::point_in_time::{Layout, Moment, Timelines, answer, probes};
use crate::within::Within;
use materialize::Plan;
use space::Space;
use tail::Rows;

pub use memory::MemoryOnlineStore;
pub use redb::RedbOnlineStore;

/// Up to this many bytes of rows are decoded where they are; more on the thread pool for maths.
const INLINE_BYTES: usize = 1 << 20;

/// Feature views kept in an [`OnlineStore`], answered by the same rule as offline and with the same
/// bits.
///
/// Of each entity, [`materialize`](Self::materialize) keeps the rows that a question at that
/// instant (or [so much earlier](Self::keep_seconds)) or later can still need: the latest for column features, those of the longest window for
/// window features. What may be seen of them is decided at reading, at each request's own instant.
///
/// A view has one writer at a time; within one `Online`, calls wait for each other.
#[derive(Debug)]
pub struct Online {
    store: Arc<dyn OnlineStore>,
    rows_per_write: usize,
    keep_seconds: u32,
    writing: Mutex<()>,
    /// The types of keys by space. They never change within one.
    key_types: RwLock<BTreeMap<String, KeyTypes>>,
}

impl Online {
    /// Features in this store.
    pub fn new(store: Arc<dyn OnlineStore>) -> Self {
        let rows_per_write = 100_000;
        let (writing, key_types) = (Mutex::default(), RwLock::default());
        Self { store, rows_per_write, keep_seconds: 0, writing, key_types }
    }

    /// Keeps what questions need that lie up to this long before the last materialisation, such as
    /// those that were under way meanwhile; 0 unless set.
    #[must_use]
    pub fn keep_seconds(mut self, seconds: u32) -> Self {
        self.keep_seconds = seconds;
        self
    }

    /// Writes about this many rows of a source at once, at least one; 100,000 unless set.
    #[must_use]
    pub fn rows_per_write(mut self, rows: usize) -> Self {
        self.rows_per_write = rows.max(1);
        self
    }

    /// Brings a view forward: writes the rows of its source that became known after the last call
    /// and until `until`. Gives how many rows that were.
    ///
    /// Rows are written in the order in which they became known, each write with the instant up to
    /// which the view then goes: a call that was cut off is taken up where it was, and one that is
    /// made again writes nothing. The source may grow, but only by rows that become known later
    /// than `until`: if rows that were known before have come or gone, that is
    /// [`ErrorKind::Conflict`] and nothing is written.
    pub async fn materialize(
        &self,
        view: &FeatureView,
        source: &dyn Source,
        until: Timestamp,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let place = || format!("view `{}`, source `{}`", view.name(), source.name());
        if source.name() != view.source() {
            let wanted = view.source();
            return Err(Error::invalid(format!("{}: it reads `{wanted}`", place())));
        }
        let _one_writer = self.writing.lock().await;
        let space = Space::of(view)?;
        let done = self.progress(&space).await.within(place())?;
        let until = until.nanos()?;
        if done.as_ref().is_some_and(|done| done.until >= until) {
            return Ok(0);
        }
        let rows = whole(source.read(&view.source_columns()).await?).within(place())?;
        let (definition, size) = (view.clone(), self.rows_per_write);
        let keep = i64::from(self.keep_seconds) * 1_000_000_000;
        let plan = compute(move || {
            let plan = Plan::new(&definition, rows, done.as_ref(), until, keep)?;
            let chunks = plan.chunks(size)?;
            Ok((Arc::new(plan), chunks))
        });
        let (plan, chunks) = plan.await.within(place())?;
        let task = format!("materialise {}", view.name());
        let (mut written, total) = (0, plan.pending() as u64);
        for chunk in chunks {
            let tails = self.store.get(space.name(), &chunk.keys).await?;
            let rows = chunk.rows() as u64;
            let (plan, space) = (Arc::clone(&plan), space.clone());
            let entries = compute(move || plan.entries(&space, &chunk, &tails));
            self.store.put(entries.await.within(place())?).await?;
            written += rows;
            progress.report(&task, written, Some(total));
        }
        Ok(written)
    }

    /// How far a view is materialised: every row that was known at this instant is in. `None` if it
    /// never was.
    pub async fn materialized_until(&self, view: &FeatureView) -> Result<Option<Timestamp>> {
        let progress = self.progress(&Space::of(view)?).await?;
        Ok(progress.map(|progress| progress.instant()))
    }

    /// The features of each row of the request, as of the instant in its column `time`: the
    /// request's columns and then those that were looked up, one row per row, in its order.
    ///
    /// An entity that is not there has missing features and counts of 0. A view that was never
    /// materialised with this definition is [`ErrorKind::NotFound`]; an instant before the one
    /// until which it is materialised, less [what is kept](Self::keep_seconds), is
    /// [`ErrorKind::Invalid`], because rows that it would need may be gone.
    pub async fn features(
        &self,
        service: &FeatureService,
        request: &RecordBatch,
        time: &str,
    ) -> Result<RecordBatch> {
        check_request(service, request)?;
        let mut columns = Vec::new();
        for view in service.views() {
            let found = self.look_up(view, request, time).await;
            columns.extend(found.within(format!("view `{}`", view.name()))?);
        }
        extended(service, request, columns)
    }

    async fn look_up(
        &self,
        view: &FeatureView,
        request: &RecordBatch,
        time: &str,
    ) -> Result<Vec<ArrayRef>> {
        let space = Space::of(view)?;
        let encoded = self.key_types(&space, view).await?.encode(request)?;
        let mut entities = Entities::default();
        let entity = entities.number(&encoded);
        // Entities in the order of their numbers, and how far the view goes, in one read.
        let mut keys = vec![Bytes::new(); entities.len()];
        for (row, number) in entity.iter().enumerate() {
            if let (Some(number), Some(key)) = (number, encoded.get(row)) {
                keys[*number as usize] = Space::entity_key(key);
            }
        }
        keys.push(Space::progress_key());
        let mut tails = self.store.get(space.name(), &keys).await?;
        let progress = tails.pop().flatten().context(ErrorKind::NotFound, never())?;
        let progress = space::Progress::parse(&progress)?;
        let probes = probes(entity, request, time)?;
        if let Some(row) = probes.iter().position(|probe| probe.at < progress.from) {
            let at = Timestamp::from_nanos(probes[row].at);
            let from = Timestamp::from_nanos(progress.from);
            return Err(Error::invalid(format!(
                "row {row} asks as of {at}, but what was needed before {from} may be gone online; \
                 ask the feature store"
            )));
        }
        let bytes: usize = tails.iter().flatten().map(Bytes::len).sum();
        let view = view.clone();
        let work = move || {
            let layout = Layout::of(&view);
            let rows = Rows::decode(&layout, &tails)?;
            let entity: Vec<Option<u32>> = rows.entity.iter().copied().map(Some).collect();
            let moment =
                |(event, known): (&i64, &Option<i64>)| Moment::new(view.known(), *event, *known);
            let moments: Vec<Moment> = rows.event.iter().zip(&rows.known).map(moment).collect();
            let timelines = Timelines::new(&entity, tails.len(), &moments);
            Ok(answer(&view, &layout, &timelines, &rows.values, &probes)?.columns)
        };
        if bytes <= INLINE_BYTES { work() } else { compute(work).await }
    }

    async fn key_types(&self, space: &Space, view: &FeatureView) -> Result<KeyTypes> {
        if let Some(held) = self.held_key_types(space) {
            return Ok(held);
        }
        let progress = self.progress(space).await?.context(ErrorKind::NotFound, never())?;
        let types = progress.key_types(view)?;
        let mut held = self.key_types.write().unwrap_or_else(PoisonError::into_inner);
        held.insert(space.name().to_owned(), types.clone());
        Ok(types)
    }

    fn held_key_types(&self, space: &Space) -> Option<KeyTypes> {
        let held = self.key_types.read().unwrap_or_else(PoisonError::into_inner);
        held.get(space.name()).cloned()
    }

    async fn progress(&self, space: &Space) -> Result<Option<space::Progress>> {
        let mut found = self.store.get(space.name(), &[Space::progress_key()]).await?;
        found.pop().flatten().map(|bytes| space::Progress::parse(&bytes)).transpose()
    }
}

fn never() -> &'static str {
    "this definition was never materialised online"
}
