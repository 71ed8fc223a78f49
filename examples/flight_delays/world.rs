//! The year 2013 as the replay sees it: every request, what was known at it, and what came of it.

use std::ops::Range;
use std::sync::Arc;

use kaizen::arrow::array::{Array, BooleanArray};
use kaizen::data::MemorySource;
use kaizen::prelude::*;
use kaizen::table::{RecordBatch, blocks, instants};

use super::question::{self, TIME, days};

/// The sources, and per flight, in the order of its request, what the replay needs of it.
pub struct World {
    pub sources: Vec<Arc<dyn Source>>,
    pub requests: Arc<dyn Source>,
    pub features: Arc<FeatureStore>,
    /// The requests with every feature as of its own instant, joined offline.
    pub rows: RecordBatch,
    pub late: Vec<bool>,
    days: Vec<i64>,
    asked: Vec<i64>,
}

impl World {
    /// Reads the sources, of all days or of the first so many, and joins every feature once.
    pub async fn load(days_max: Option<u32>) -> Result<Self> {
        let (sources, requests) = question::sources(days_max).await?;
        let features = Arc::new(FeatureStore::new(sources.clone()));
        let rows = features.features(&question::service()?, &requests, TIME).await?;
        let late = kaizen::table::column(&rows, "late")?;
        let late: &BooleanArray = late
            .as_any()
            .downcast_ref()
            .ok_or_else(|| Error::invalid("column `late`: holds no booleans"))?;
        Ok(Self {
            late: late.values().iter().collect(),
            days: blocks(&requests, TIME, days())?.values().to_vec(),
            asked: instants(&requests, TIME)?.values().to_vec(),
            requests: Arc::new(MemorySource::new("requests", requests)),
            sources,
            features,
            rows,
        })
    }

    /// The first and the last day with a request.
    pub fn span(&self) -> (i64, i64) {
        (self.days.first().copied().unwrap_or(0), self.days.last().copied().unwrap_or(0))
    }

    /// The day of a request.
    pub fn day(&self, row: usize) -> i64 {
        self.days[row]
    }

    /// The requests made on a day; requests are ordered by their instant.
    pub fn on(&self, day: i64) -> Range<usize> {
        let first = self.days.partition_point(|d| *d < day);
        first..self.days.partition_point(|d| *d <= day)
    }

    /// A range of requests in batches of six hours, with the start of each.
    pub fn batches(&self, rows: Range<usize>) -> Vec<(Timestamp, Range<usize>)> {
        const BATCH: i64 = 6 * 3_600_000_000_000;
        let mut batches: Vec<(Timestamp, Range<usize>)> = Vec::new();
        for row in rows {
            let start = Timestamp::from_nanos(self.asked[row] / BATCH * BATCH);
            match batches.last_mut() {
                Some((at, range)) if *at == start => range.end = row + 1,
                _ => batches.push((start, row..row + 1)),
            }
        }
        batches
    }
}
