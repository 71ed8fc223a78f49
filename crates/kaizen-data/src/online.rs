//! Features online: the newest rows of every entity, by key, under the same rule as offline.

mod ahead;
mod answer;
mod definitions;
mod erasure;
mod export;
mod follow;
mod latest;
mod materialize;
mod memory;
mod merge;
mod open;
mod past;
mod prepared;
mod redb;
#[cfg(feature = "redis")]
mod redis;
mod snapshot;
mod space;
mod stretch;
mod tail;
mod tile;
mod tiled;

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::{Context, Error, ErrorKind, Progress, Result, Timestamp, compute};
use kaizen_table::{FeatureService, FeatureView, Functions, OnlineEntry, OnlineStore, Source};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::feature_store::ROWS_IN_MEMORY;
use crate::served::ServedLog;
use crate::within::Within;
use ahead::{Ahead, joined};
use materialize::{Chunk, Plan};
use prepared::PreparedViews;
use space::Space;

pub use answer::{Answer, Status, ViewAnswer};
pub use follow::RowLog;
pub use memory::MemoryOnlineStore;
pub use open::open_online;
pub use redb::RedbOnlineStore;
#[cfg(feature = "redis")]
pub use redis::RedisOnlineStore;
pub use snapshot::SnapshotOnlineStore;

/// Who holds it writes.
type Writer = Arc<OwnedMutexGuard<()>>;

/// Feature views kept in an [`OnlineStore`], answered by the same rule as offline and with the same
/// bits.
///
/// Of each entity, [`materialize`](Self::materialize) keeps the rows that a question at that
/// instant (or [so much earlier](Self::keep_seconds)) or later can still need: the latest for
/// column features, those of the longest window for window features. What may be seen of them is decided at reading, at each request's own instant.
///
/// A view has one writer at a time; within one `Online`, calls wait for each other.
#[derive(Debug)]
pub struct Online {
    store: Arc<dyn OnlineStore>,
    rows_per_write: usize,
    keep_seconds: u32,
    rows_in_memory: u64,
    check_past: bool,
    writing: Arc<Mutex<()>>,
    functions: Functions,
    prepared: PreparedViews,
    /// By the name and version of a service.
    served: BTreeMap<(String, u32), Arc<ServedLog>>,
}

impl Online {
    /// Features in this store.
    pub fn new(store: Arc<dyn OnlineStore>) -> Self {
        Self {
            store,
            rows_per_write: 100_000,
            keep_seconds: 0,
            rows_in_memory: ROWS_IN_MEMORY,
            check_past: false,
            writing: Arc::default(),
            functions: Functions::default(),
            prepared: PreparedViews::default(),
            served: BTreeMap::new(),
        }
    }

    /// Logs what is served of this service, each row with its features, for the
    /// [skew check](crate::skew).
    #[must_use]
    pub fn log_served_to(mut self, service: &FeatureService, log: Arc<ServedLog>) -> Self {
        self.served.insert((service.name().to_owned(), service.version()), log);
        self
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

    /// Has about this many rows of a source in memory at once, at least one; 20,000,000 unless set.
    ///
    /// A source that has more, and can tell [spans](Source::spans) of its rows, is read span by
    /// span. What is written is the same. If a column says when rows became known, and those that
    /// became known since are more than this, up to 32 KB are held besides for each span.
    #[must_use]
    pub fn rows_in_memory(mut self, rows: u64) -> Self {
        self.rows_in_memory = rows.max(1);
        self
    }

    /// Reads and checks the past of every source, also where a
    /// [materialisation](Self::materialize) could do without, and where it has nothing to write.
    #[must_use]
    pub fn check_past(mut self) -> Self {
        self.check_past = true;
        self
    }

    /// Computes on-demand features by these functions; none unless set.
    #[must_use]
    pub fn with_functions(mut self, functions: Functions) -> Self {
        self.functions = functions;
        self
    }

    /// Brings a view forward: writes the rows of its source that became known after the last call
    /// and until `until`. Gives how many rows that were.
    ///
    /// Rows are written in the order in which they became known, each write with the instant up to
    /// which the view then goes: a call that was cut off is taken up where it was, and one that is
    /// made again writes nothing.
    ///
    /// The source may grow, but only by rows that become known later than `until`; what was known
    /// before must stay as it is. Of this past a sum of hashes is kept, which does not depend on the
    /// order of rows. It is compared whenever the past is read, and if rows have come, gone or
    /// changed in their keys, times or values, that is
    /// [`ErrorKind::Conflict`](kaizen_core::ErrorKind) and nothing is written. The past is read, all
    /// of it,
    /// * if a column says when rows became known: then any row may be one that became known since;
    /// * if entities were [forgotten](Self::forget) since the last call: it is then taken as it is;
    /// * if it is [asked for](Self::check_past).
    ///
    /// If rows are known as they happen, or a fixed time later, only those are read else that can
    /// have become known since the last call, and the past is not looked at: a row that arrives
    /// late is then not found.
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
        self.bring_forward(view, source, until.nanos()?, progress).await.within(place())
    }

    async fn bring_forward(
        &self,
        view: &FeatureView,
        source: &dyn Source,
        until: i64,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let writer = self.writer().await;
        let space = Space::of(view)?;
        let mut done = self.progress(&space).await?;
        if done.as_ref().is_some_and(|done| done.offset.is_some()) {
            return Err(Error::conflict("it is followed, not materialised"));
        }
        let size = (self.rows_in_memory, self.check_past);
        if let Some(done) = done.as_ref().filter(|done| done.until >= until) {
            if self.check_past {
                Ahead::of(view, source, Some(done), done.until, size).await?;
            }
            return Ok(0);
        }
        let mut ahead = Ahead::of(view, source, done.as_ref(), until, size).await?;
        let keep = i64::from(self.keep_seconds) * 1_000_000_000;
        if done.is_none() {
            // What was left of a definition that was dropped.
            self.drop_space(&writer, space.name()).await?;
        }
        let task = format!("materialise {}", view.name());
        let (mut written, mut past, mut rest) = (0, ahead.past, None);
        let in_one = ahead.left() == 1;
        while let Some(rows) = ahead.next().await? {
            let (definition, size, last) = (view.clone(), self.rows_per_write, ahead.left() == 0);
            let (from, before) = (done.clone(), rest.take());
            let plan = compute(move || {
                let rows = match before {
                    Some(before) => joined(&[before, rows])?,
                    None => rows,
                };
                let plan = Plan::new(&definition, rows, (from.as_ref(), past), until, keep)?;
                let (chunks, rest) = plan.chunks(size, last)?;
                Ok((Arc::new(plan), chunks, rest))
            });
            let (plan, chunks, after) = plan.await?;
            rest = after;
            let total = in_one.then_some(plan.pending() as u64);
            for chunk in chunks {
                let rows = chunk.rows() as u64;
                let after = chunk.after.clone();
                self.write(&writer, &plan, &space, done.as_ref(), chunk).await?;
                past = after.past();
                done = Some(after);
                written += rows;
                progress.report(&task, written, total);
            }
        }
        Ok(written)
    }

    /// Merges a chunk into what is kept of its entities, in one write, if the view goes as far as
    /// `before` says.
    async fn write(
        &self,
        writer: &Writer,
        plan: &Arc<Plan>,
        space: &Space,
        before: Option<&space::Progress>,
        chunk: Chunk,
    ) -> Result<()> {
        let mut keys = chunk.keys.clone();
        keys.push(Space::progress_key());
        let mut tails = self.store.get(space.name(), &keys).await?;
        let found = tails.pop().flatten();
        let found = found.map(|bytes| space::Progress::parse(&bytes)).transpose()?;
        if found.as_ref() != before {
            return Err(Error::conflict("another program writes the view at the same time"));
        }
        let (plan, space) = (Arc::clone(plan), space.clone());
        let entries = compute(move || {
            let tails =
                tails.into_iter().map(|tail| space.rows(tail)).collect::<Result<Vec<_>>>()?;
            let mut entries = plan.entries(&space, &chunk, &tails)?;
            entries.push(definitions::latest(plan.view())?);
            Ok(entries)
        });
        self.put(writer, entries.await?).await
    }

    /// Waits until nobody else writes through this `Online`.
    async fn writer(&self) -> Writer {
        Arc::new(Arc::clone(&self.writing).lock_owned().await)
    }

    /// Writes. A write that was begun goes on when the caller goes away, and others wait for it:
    /// it would else be there after theirs.
    async fn put(&self, writer: &Writer, entries: Vec<OnlineEntry>) -> Result<()> {
        let (store, writer) = (Arc::clone(&self.store), Arc::clone(writer));
        let put = async move {
            let written = store.put(entries).await;
            drop(writer);
            written
        };
        tokio::spawn(put).await.context(ErrorKind::Internal, "a write online")?
    }

    /// How far a view is materialised: every row that was known at this instant is in. `None` if it
    /// never was.
    pub async fn materialized_until(&self, view: &FeatureView) -> Result<Option<Timestamp>> {
        let progress = self.progress(&Space::of(view)?).await?;
        Ok(progress.map(|progress| progress.instant()))
    }

    async fn progress(&self, space: &Space) -> Result<Option<space::Progress>> {
        self.progress_in(space.name()).await
    }

    /// How far the view of this space goes. `None` if nothing of the space is ever read: it is
    /// half dropped, or laid out otherwise than this program does.
    async fn progress_in(&self, space: &str) -> Result<Option<space::Progress>> {
        if !Space::is_known(space) {
            return Ok(None);
        }
        let mut found = self.store.get(space, &[Space::progress_key()]).await?;
        found.pop().flatten().map(|bytes| space::Progress::parse(&bytes)).transpose()
    }
}
