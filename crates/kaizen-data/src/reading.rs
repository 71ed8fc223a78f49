//! Reading sources within one call: every reading of a source sees the same data.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use kaizen_core::{Context, Digest, Error, ErrorKind, Result};
use kaizen_table::{During, Query, Scan, Source, SourceFile};

use crate::within::Within;

/// The files that were read, by source; none for a source that is not in files.
pub(crate) type Files = BTreeMap<String, Vec<SourceFile>>;

/// The readings of one call.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    sources: &'a [Arc<dyn Source>],
    /// What must be read: the digest of each source's data, and its files.
    pinned: Option<(&'a BTreeMap<String, Digest>, &'a Files)>,
    /// The digest of each source's data, as it was read.
    pub(crate) digests: BTreeMap<String, Digest>,
    /// The files of each source, as they were read.
    pub(crate) files: Files,
}

impl<'a> Reading<'a> {
    /// Reads what there is now.
    pub(crate) fn new(sources: &'a [Arc<dyn Source>]) -> Self {
        Self { sources, pinned: None, digests: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// Reads what was read before, or nothing.
    pub(crate) fn pinned(
        sources: &'a [Arc<dyn Source>],
        digests: &'a BTreeMap<String, Digest>,
        files: &'a Files,
    ) -> Self {
        Self { pinned: Some((digests, files)), ..Self::new(sources) }
    }

    /// The source of this name.
    pub(crate) fn source(&self, name: &str) -> Result<&'a dyn Source> {
        let mut found = self.sources.iter().filter(|source| source.name() == name);
        match (found.next(), found.next()) {
            (Some(source), None) => Ok(source.as_ref()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("source `{name}`: two have this name")))
            }
            _ => {
                let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
                let names = names.join(", ");
                Err(Error::not_found(format!("source `{name}`; there are: {names}")))
            }
        }
    }

    /// The spans of a source's column of instants, each of about `rows` rows at most.
    pub(crate) async fn spans(&self, name: &str, time: &str, rows: u64) -> Result<Vec<Range<i64>>> {
        let spans = self.source(name)?.spans(time, rows).await?;
        check_spans(&spans, name, time)?;
        Ok(spans)
    }

    /// These columns of the rows of a span, or of all rows. [`ErrorKind::Conflict`] if the source
    /// has changed since the last reading.
    pub(crate) async fn read(
        &mut self,
        name: &str,
        columns: &[&str],
        during: Option<During<'_>>,
    ) -> Result<RecordBatch> {
        let source = self.source(name)?;
        let files = self.pinned.and_then(|(_, files)| files.get(name));
        let files = files.filter(|files| !files.is_empty()).map(Vec::as_slice);
        let scan = source.scan(&Query { columns, during, files }).await;
        let scan = match self.pinned {
            None => scan?,
            Some((digests, _)) => {
                let as_it_was = || format!("source `{name}` cannot be read as it was");
                let scan = scan.within(as_it_was())?;
                let then = digests.get(name);
                if then.is_some_and(|then| *then != scan.digest) {
                    let message = format!("{}: its data has changed", as_it_was());
                    return Err(Error::conflict(message));
                }
                scan
            }
        };
        match self.digests.insert(name.to_owned(), scan.digest) {
            Some(before) if before != scan.digest => {
                let message = format!("source `{name}`: it changed between two reads");
                return Err(Error::conflict(message));
            }
            _ => {}
        }
        self.files.insert(name.to_owned(), scan.files.clone());
        whole(scan).within(format!("source `{name}`"))
    }
}

/// Checks that the spans that a source gives of its column `time` hold every instant once, in order.
pub(crate) fn check_spans(spans: &[Range<i64>], source: &str, time: &str) -> Result<()> {
    let ends = (spans.first().map(|span| span.start), spans.last().map(|span| span.end));
    let joined = spans.windows(2).all(|pair| pair[0].end == pair[1].start);
    let ascend = spans.iter().all(|span| span.start < span.end);
    if ends == (Some(i64::MIN), Some(i64::MAX)) && joined && ascend {
        return Ok(());
    }
    Err(Error::internal(format!(
        "source `{source}`: the spans that it gives of `{time}` do not hold every instant once"
    )))
}

/// All rows of a scan as one table.
pub(crate) fn whole(scan: Scan) -> Result<RecordBatch> {
    match scan.batches.as_slice() {
        [] => Err(Error::internal("a scan without a batch")),
        [only] => Ok(only.clone()),
        [first, ..] => concat_batches(first.schema_ref(), &scan.batches)
            .context(ErrorKind::Invalid, "its batches differ in their columns"),
    }
}

/// Each name once, in the order in which it first stands.
pub(crate) fn once<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(*name)).collect()
}
