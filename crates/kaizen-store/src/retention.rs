//! How long entries are kept.

use kaizen_core::{AuditLog, Error, Result, Timestamp};

use crate::tiles::WIDTH;

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
        let keep_from = now.plus_seconds(-(DAY * i64::from(self.days)));
        let size = log.size().await?;
        let mut report =
            LogRetentionReport { size, oldest: None, keep_from, expired: 0, bundles: 0 };
        while report.expired < size {
            let next = report.expired..size.min(report.expired + STEP);
            let length = next.end - next.start;
            let entries = log.read(next).await?;
            if let (None, Some(first)) = (report.oldest, entries.first()) {
                report.oldest = Some(first.at);
            }
            let old = entries.iter().take_while(|entry| entry.at < keep_from).count() as u64;
            report.expired += old;
            if old < length {
                break;
            }
        }
        report.bundles = report.expired / WIDTH;
        Ok(report)
    }
}

/// How old a log is, and what of it need not be kept any longer. Nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRetentionReport {
    /// How many entries the log has.
    pub size: u64,
    /// The instant of the first entry.
    pub oldest: Option<Timestamp>,
    /// Entries from this instant on are to be kept.
    pub keep_from: Timestamp,
    /// So many entries at the beginning are all older.
    pub expired: u64,
    /// They fill so many bundles, which are what could be moved to cold storage: the hashes above
    /// them stay, and so do all proofs of later entries.
    pub bundles: u64,
}
