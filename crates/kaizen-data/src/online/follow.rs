//! Views that follow a log of rows.

use std::sync::Arc;

use kaizen_core::{Error, ErrorKind, Result, Timestamp, async_trait, compute};
use kaizen_table::{FeatureView, Source};

use super::ahead::check_key_types;
use super::materialize::Plan;
use super::space::{Progress, Space};
use super::{Online, Writer};
use crate::keys::KeyTypes;
use crate::source::parts::Pushed;
use crate::source::push::PushSource;
use crate::within::Within;

/// A source whose rows have offsets, in the order in which they came. Rows are only added at the
/// end; some may go, and their offsets then stay as gaps.
#[async_trait]
pub trait RowLog: Source {
    /// Names this log among all: another log, or one that was begun anew, has another identity. It
    /// stays when the log is opened again.
    fn identity(&self) -> &str;

    /// Some rows from an offset on, with these columns, and the offsets that they span: none only
    /// at the end of the log. Where all rows of a span have gone, a span has no rows. What follows
    /// is read from the end of the span.
    async fn read_from(&self, offset: u64, columns: &[&str]) -> Result<Pushed>;
}

#[async_trait]
impl RowLog for PushSource {
    fn identity(&self) -> &str {
        self.identity()
    }

    async fn read_from(&self, offset: u64, columns: &[&str]) -> Result<Pushed> {
        Self::read_from(self, offset, columns).await
    }
}

impl Online {
    /// Takes the rows that were added to a log since the last call into a view, in any order of
    /// their times, and gives how many that were. Afterwards questions at `now`, less
    /// [what is kept](Self::keep_seconds), or later are answered.
    ///
    /// Some rows of the log at a time are merged in one write, together with the offset after them:
    /// a call that was cut off is taken up where it was, and no row is taken twice. A write is of
    /// [so many rows](Self::rows_per_write), or of fewer if the store says that they are too many.
    /// Rows that no such question can need are dropped.
    ///
    /// A view is either followed or [materialised](Self::materialize): to do both is
    /// [`ErrorKind::Conflict`]. So is a log of another [identity](RowLog::identity) than the one
    /// that was followed before, whose offsets say nothing of it.
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
        if let Some(followed) = done.as_ref().and_then(|done| done.log.as_deref())
            && followed != log.identity()
        {
            let found = log.identity();
            return Err(Error::conflict(format!(
                "it has followed another log ({followed}) than this one ({found}); follow this one \
                 in a new store"
            )));
        }
        let from = now.saturating_sub(i64::from(self.keep_seconds) * 1_000_000_000);
        let columns = view.source_columns();
        let mut taken = 0;
        loop {
            let offset = done.as_ref().and_then(|done| done.offset).unwrap_or(0);
            let pushed = log.read_from(offset, &columns).await?;
            let key_types = KeyTypes::of(&pushed.rows, view.keys())?;
            check_key_types(&key_types, done.as_ref().map(|done| done.key_types.as_slice()))?;
            // The last part is empty, and says that all before is in.
            let last = pushed.offsets.is_empty();
            let before = done.as_ref().map_or(i64::MIN, |done| done.until);
            if last && done.is_some() && before >= now {
                return Ok(taken);
            }
            taken += pushed.rows.num_rows() as u64;
            let after = Progress {
                source: log.name().to_owned(),
                until: if last { before.max(now) } else { before },
                from: done.as_ref().map_or(i64::MIN, |done| done.from).max(from),
                rows: done.as_ref().map_or(0, |done| done.rows),
                sum: 0,
                forgotten: done.as_ref().is_some_and(|done| done.forgotten),
                removals: done.as_ref().map_or(0, |done| done.removals),
                offset: Some(offset),
                log: Some(log.identity().to_owned()),
                keys: view.keys().to_vec(),
                key_types: key_types.names(),
            };
            done = Some(self.take(writer, view, &space, pushed, (done, after)).await?);
            if last {
                return Ok(taken);
            }
        }
    }

    /// Merges rows of a log into what is kept, in as many writes as it takes. `after` is how far
    /// the view goes then, but for the rows and their offsets.
    async fn take(
        &self,
        writer: &Writer,
        view: &FeatureView,
        space: &Space,
        pushed: Pushed,
        (mut before, mut after): (Option<Progress>, Progress),
    ) -> Result<Progress> {
        let (mut most, mut done) = (self.rows_per_write, 0);
        loop {
            let left = pushed.rows.num_rows() - done;
            let count = left.min(most);
            let next = Progress {
                rows: after.rows + count as u64,
                offset: Some(pushed.offset(done + count)),
                ..after.clone()
            };
            let (definition, progress) = (view.clone(), next.clone());
            let rows = pushed.rows.slice(done, count);
            let planned = compute(move || {
                let (plan, chunk) = Plan::of_log(&definition, rows, progress)?;
                Ok((Arc::new(plan), chunk))
            });
            let (plan, chunk) = planned.await?;
            match self.write(writer, &plan, space, before.as_ref(), chunk).await {
                Err(error) if error.kind() == ErrorKind::Limit && count > 1 => most = count / 2,
                Err(error) => return Err(error),
                Ok(()) if count == left => return Ok(next),
                Ok(()) => {
                    done += count;
                    after = next;
                    before = Some(after.clone());
                }
            }
        }
    }
}
