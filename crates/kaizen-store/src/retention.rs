//! How long entries are kept.

mod prune;

use std::ops::Range;

use kaizen_core::{AuditLog, Error, Result, Timestamp};

use crate::tiles::WIDTH;

pub use prune::LogPruned;

/// A day in seconds.
const DAY: i64 = 86_400;
/// The least time for which the logs of an AI system are to be kept: six months (Articles 19 and
/// 26(6) of Regulation (EU) 2024/1689), of at most 184 days.
const LEAST_DAYS: u32 = 184;
/// 13 months, so that a year can be compared with the one before.
const DEFAULT_DAYS: u32 = 396;
/// So many entries are read at a time.
const STEP: u64 = 4 * WIDTH;

/// For how long entries of an audit log are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRetention {
    days: u32,
}

impl Default for LogRetention {
    /// 396 days.
    fn default() -> Self {
        Self { days: DEFAULT_DAYS }
    }
}

impl LogRetention {
    /// So many days.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`](kaizen_core::ErrorKind::Refused) if it is less than 184 days, which
    /// is six months.
    pub fn days(days: u32) -> Result<Self> {
        if days < LEAST_DAYS {
            let message = format!("retention of {days} days: at least {LEAST_DAYS} are to be kept");
            return Err(Error::refused(message));
        }
        Ok(Self { days })
    }

    /// Looks at the beginning of a log, up to the first entry that is to be kept.
    ///
    /// # Errors
    ///
    /// Those of the log.
    pub async fn report(&self, log: &dyn AuditLog, now: Timestamp) -> Result<LogRetentionReport> {
        let (keep_from, size) = (self.keep_from(now), log.size().await?);
        let (oldest, expired) = expired(log, log.first().await?..size, keep_from).await?;
        Ok(LogRetentionReport { size, oldest, keep_from, expired, bundles: expired / WIDTH })
    }

    fn keep_from(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(-(DAY * i64::from(self.days)))
    }
}

/// The instant of the first of these entries, and the first that is not older than that.
async fn expired(
    log: &dyn AuditLog,
    entries: Range<u64>,
    keep_from: Timestamp,
) -> Result<(Option<Timestamp>, u64)> {
    let (mut oldest, mut expired) = (None, entries.start);
    while expired < entries.end {
        let next = expired..entries.end.min(expired + STEP);
        let length = next.end - next.start;
        let entries = log.read(next).await?;
        oldest = oldest.or(entries.first().map(|entry| entry.at));
        let old = entries.iter().take_while(|entry| entry.at < keep_from).count() as u64;
        expired += old;
        if old < length {
            break;
        }
    }
    Ok((oldest, expired))
}

/// How old a log is, and what of it need not be kept any longer. Nothing is removed:
/// [`LogRetention::prune`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRetentionReport {
    /// How many entries the log has.
    pub size: u64,
    /// The instant of the first entry that was not pruned.
    pub oldest: Option<Timestamp>,
    /// Entries from this instant on are to be kept.
    pub keep_from: Timestamp,
    /// So many entries at the beginning are all older, pruned ones among them.
    pub expired: u64,
    /// They fill so many bundles.
    pub bundles: u64,
}
