//! One part of what was pushed: a file named by the offsets in it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use kaizen_core::{Digest, Result};
use parquet::file::metadata::KeyValue;

use crate::parquet_file::to_parquet_with;
use crate::source::folder::Folder;
use crate::source::spans::Stretch;

/// A part of so many rows is joined with no other, and no part of more is made by joining.
const MAX_JOINED_ROWS: u64 = 1 << 20;

/// Under this key a part's footer says which offsets it has, if some are gaps: `0-5,7-9`.
pub(super) const OFFSETS: &str = "kaizen.offsets";

#[derive(Clone, Debug)]
pub(super) struct Part {
    /// From its first row's offset to the next part's.
    pub(super) offsets: Range<u64>,
    /// The rows and their offsets, if they are in memory.
    pub(super) rows: Option<(Vec<Range<u64>>, RecordBatch)>,
    pub(super) known: Arc<Mutex<Known>>,
}

/// What was found out about a part.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) digest: Option<Digest>,
    /// By column of instants; `None` if no row has one.
    pub(super) stretches: BTreeMap<String, Option<Stretch>>,
}

impl Part {
    pub(super) fn name(&self) -> String {
        format!("{:020}-{:020}.parquet", self.offsets.start, self.offsets.end)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (first, end) = name.strip_suffix(".parquet")?.split_once('-')?;
        let part = Self::new(first.parse().ok()?..end.parse().ok()?, None);
        (part.name() == name && !part.offsets.is_empty()).then_some(part)
    }

    pub(super) fn new(offsets: Range<u64>, rows: Option<(Vec<Range<u64>>, RecordBatch)>) -> Self {
        Self { offsets, rows, known: Arc::default() }
    }

    /// With all of its offsets.
    pub(super) fn in_memory(offsets: Range<u64>, rows: RecordBatch) -> Self {
        let present = Vec::from([offsets.clone()]);
        Self::new(offsets, Some((present, rows)))
    }

    pub(super) fn len(&self) -> u64 {
        self.offsets.end - self.offsets.start
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn write(
    folder: &Folder,
    part: &Part,
    rows: &RecordBatch,
    present: &[Range<u64>],
) -> Result<()> {
    let gaps = present.len() > 1 || present.first().is_some_and(|range| *range != part.offsets);
    let gaps = gaps || rows.num_rows() == 0;
    let text = || {
        let ranges = present.iter().map(|range| format!("{}-{}", range.start, range.end));
        ranges.collect::<Vec<_>>().join(",")
    };
    let notes = gaps.then(|| KeyValue::new(OFFSETS.to_owned(), text()));
    let bytes = to_parquet_with(rows, notes.into_iter().collect())?;
    folder.write(&part.name(), &bytes)?;
    part.known().digest = Some(Digest::of(&bytes));
    Ok(())
}

/// How many offsets of a range are before this one.
pub(super) fn passed(range: &Range<u64>, offset: u64) -> u64 {
    offset.clamp(range.start, range.end) - range.start
}

/// Ascending ranges, those that touch made one.
pub(super) fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

pub(super) fn parse_ranges(text: &str, within: &Range<u64>) -> Option<Vec<Range<u64>>> {
    let (mut ranges, mut at) = (Vec::new(), within.start);
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (start, end) = range.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        if start < at || end <= start || end > within.end {
            return None;
        }
        ranges.push(start..end);
        at = end;
    }
    Some(ranges)
}

/// Neighbouring parts that are worth joining.
pub(super) fn groups(list: &[Part]) -> Vec<Vec<Part>> {
    let (mut groups, mut group, mut rows) = (Vec::new(), Vec::new(), 0);
    for part in list {
        let large = part.len() > MAX_JOINED_ROWS / 2;
        if large || rows + part.len() > MAX_JOINED_ROWS {
            groups.push(std::mem::take(&mut group));
            rows = 0;
        }
        if !large {
            rows += part.len();
            group.push(part.clone());
        }
    }
    groups.push(group);
    groups.retain(|group| group.len() > 1);
    groups
}
