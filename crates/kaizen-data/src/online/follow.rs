//! Views that follow a log of rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use kaizen_core::{Error, Result, Timestamp, async_trait, compute};
use kaizen_table::{FeatureView, Source};

use super::materialize::Plan;
use super::space::{Progress, Space};
use super::{Online, Writer};
use crate::keys::KeyTypes;
use crate::source::push::PushSource;
use crate::within::Within;

/// A source whose rows have offsets, in the order in which they came. Rows are only added at the
/// end; some may go, and their offsets then stay as gaps.
#[async_trait]
pub trait RowLog: Source {
    /// Some rows from an offset on, with the offsets that they span; at least one if there is one,
    /// with these columns. What follows is read from the end of the span.
    async fn read_from(&self, offset: u64, columns: &[&str]) -> Result<(Range<u64>, RecordBatch)>;
}

#[async_trait]
impl RowLog for PushSource {
    async fn read_from(&self, offset: u64, columns: &[&str]) -> Result<(Range<u64>, RecordBatch)> {
        let pushed = Self::read_from(self, offset, columns).await?;
        Ok((pushed.offsets, pushed.rows))
    }
}

impl Online {
    /// Takes the rows that were added to a log since the last call into a view, in any order of
    /// their times, and gives how many that were. Afterwards questions at `now`, less
    /// [what is kept](Self::keep_seconds), or later are answered.
    ///
    /// Each part of the log is merged in one write, together with the offset after it: a call that
    /// was cut off is taken up where it was, and no row is taken twice. Rows that no such question
    /// can need are dropped. A view is either followed or
    /// [materialised](Self::materialize): to do both is [`ErrorKind::Conflict`](kaizen_core::ErrorKind).
    pub async fn follow(
        &self,
        view: &FeatureView,
        log: &dyn RowLog,
        now: Timestamp,
    ) -> Result<u64> {
        let place = || format!("view `{}`, source `{}`", view.name(), log.name());
        if log.name() != view.source() {
            let wanted = view.source();
            return Err(Error::invalid(format!("{}: it reads `{wanted}`", place())));
        }
        let writer = self.writer().await;
        self.follow_on(&writer, view, log, now.nanos()?).await.within(place())
    }

    async fn follow_on(
        &self,
        writer: &Writer,
        view: &FeatureView,
        log: &dyn RowLog,
        now: i64,
    ) -> Result<u64> {
        let space = Space::of(view)?;
        let mut done = self.progress(&space).await?;
        if done.is_none() {
            // What was left of a definition that was dropped.
            self.drop_space(writer, space.name()).await?;
        }
        if done.as_ref().is_some_and(|done| done.offset.is_none()) {
            return Err(Error::conflict("it is materialised, not followed"));
        }
        let from = now.saturating_sub(i64::from(self.keep_seconds) * 1_000_000_000);
        let columns = view.source_columns();
        let mut taken = 0;
        loop {
            let offset = done.as_ref().and_then(|done| done.offset).unwrap_or(0);
            let (offsets, rows) = log.read_from(offset, &columns).await?;
            let key_types = KeyTypes::of(&rows, view.keys())?.names();
            if done.as_ref().is_some_and(|done| done.key_types != key_types) {
                return Err(Error::conflict("the types of its key columns have changed"));
            }
            // The last part is empty, and says that all before is in.
            let last = offsets.is_empty();
            let before = done.as_ref().map_or(i64::MIN, |done| done.until);
            if last && done.is_some() && before >= now {
                return Ok(taken);
            }
            let count = rows.num_rows() as u64;
            let after = Progress {
                until: if last { before.max(now) } else { before },
                from: done.as_ref().map_or(i64::MIN, |done| done.from).max(from),
                rows: done.as_ref().map_or(0, |done| done.rows) + count,
                forgotten: done.as_ref().is_some_and(|done| done.forgotten),
                removals: done.as_ref().map_or(0, |done| done.removals),
                offset: Some(if last { offset } else { offsets.end }),
                keys: view.keys().to_vec(),
                key_types,
            };
            let (definition, progress) = (view.clone(), after.clone());
            let planned = compute(move || {
                let (plan, chunk) = Plan::of_log(&definition, rows, progress)?;
                Ok((Arc::new(plan), chunk))
            });
            let (plan, chunk) = planned.await?;
            self.write(writer, &plan, &space, done.as_ref(), chunk).await?;
            taken += count;
            if last {
                return Ok(taken);
            }
            done = Some(after);
        }
    }
}
