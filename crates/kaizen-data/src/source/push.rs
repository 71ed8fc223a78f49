//! A source to which rows are pushed.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use kaizen_core::{Result, async_trait};
use kaizen_table::{Query, Scan, Source, SourceFile};

use crate::ServedSink;
use crate::blocking::blocking;
use crate::source::parts::{Parts, Pushed};
use crate::source::selection::Selection;
use crate::source::spans::spans;
use crate::within::Within;

/// An append-only table: rows are pushed at its end, and each has an offset, from 0 on.
///
/// In a folder it is durable: when [`push`](Self::push) returns, its rows are on disk, in a Parquet
/// file that was written under another name, synced and then renamed. Whatever happens, the folder
/// holds whole pushes and nothing else. The files are named by the offsets in them,
/// `FIRST-END.parquet`. One program has the folder open at a time.
///
/// Many small pushes make many small files, which [`compact`](Self::compact) joins. Offsets never
/// change: not by that, and not when entities are forgotten, whose offsets remain as gaps.
///
/// ```
/// use std::sync::Arc;
///
/// use kaizen_data::PushSource;
/// use kaizen_table::RecordBatch;
/// use kaizen_table::arrow::array::{ArrayRef, Int64Array};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kaizen_core::Result<()> {
/// let rows = |values: Vec<i64>| {
///     RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
/// };
/// let source = PushSource::in_memory("events", rows(vec![]).schema())?;
/// assert_eq!(source.push(&rows(vec![10, 11])).await?, 0..2);
/// assert_eq!(source.push(&rows(vec![12])).await?, 2..3);
///
/// let pushed = source.read_from(1, &["x"]).await?;
/// assert_eq!(pushed.offsets, 1..3);
/// assert_eq!(pushed.rows, rows(vec![11, 12]));
/// assert!(source.read_from(pushed.offsets.end, &["x"]).await?.offsets.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PushSource {
    name: String,
    parts: Arc<Parts>,
}

impl PushSource {
    /// Opens the folder, and makes it if it is not there. Views know the source by `name`.
    ///
    /// [`ErrorKind::Conflict`] if the folder is open already. The last file is read:
    /// [`ErrorKind::Invalid`] if it has other columns, [`ErrorKind::Corrupt`] if it is damaged or if
    /// a file before it is missing. Other files are read when their rows are, and what is wrong with
    /// one is said then. A last file that somebody removed is not missed: its offsets are given
    /// again.
    ///
    /// [`ErrorKind::Conflict`]: kaizen_core::ErrorKind::Conflict
    /// [`ErrorKind::Corrupt`]: kaizen_core::ErrorKind::Corrupt
    /// [`ErrorKind::Invalid`]: kaizen_core::ErrorKind::Invalid
    pub async fn open(
        name: impl Into<String>,
        folder: impl AsRef<Path>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let (name, folder) = (name.into(), folder.as_ref().to_owned());
        let place = format!("source `{name}`");
        let parts = blocking(move || Parts::open(folder, &schema)).await.within(place)?;
        Ok(Self { name, parts: Arc::new(parts) })
    }

    /// A source that is lost with the program.
    pub fn in_memory(name: impl Into<String>, schema: SchemaRef) -> Result<Self> {
        let name = name.into();
        let parts = Parts::in_memory(&schema).within(format!("source `{name}`"))?;
        Ok(Self { name, parts: Arc::new(parts) })
    }

    /// Adds rows at the end and gives their offsets. Their columns are the source's, in any order;
    /// one that is missing, too many, or of another type is
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid), by name.
    ///
    /// If it fails, nothing was pushed. If the disk then also fails to remove what was written, no
    /// more can be pushed, and nothing be forgotten, until [`compact`](Self::compact) or
    /// [`forget`](Source::forget) has removed it; if the source is opened again before, the rows
    /// may be there.
    pub async fn push(&self, rows: &RecordBatch) -> Result<Range<u64>> {
        let rows = rows.clone();
        self.run(move |parts| parts.push(&rows)).await
    }

    /// Names what was pushed here among all that was ever pushed anywhere: it is given when the
    /// source is made, kept in its folder, and lost with a source in memory.
    pub fn identity(&self) -> &str {
        self.parts.identity()
    }

    /// The offset that the next row will have: how many were ever pushed.
    pub fn rows(&self) -> u64 {
        self.parts.end()
    }

    /// Reads these columns from an offset on: some of the rows, about 65,536 or one file of them at
    /// most. Those that follow are read from the end of the offsets that were given, which are none
    /// only at the end of what was pushed; where all rows were forgotten there are offsets without
    /// rows.
    pub async fn read_from(&self, offset: u64, columns: &[&str]) -> Result<Pushed> {
        let selection = Selection::columns(columns);
        self.run(move |parts| parts.read_from(offset, &selection)).await
    }

    /// Joins small files to larger ones and says how many files are fewer. Offsets stay.
    pub async fn compact(&self) -> Result<u64> {
        self.run(Parts::compact).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Parts) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let parts = Arc::clone(&self.parts);
        blocking(move || work(&parts)).await.within(format!("source `{}`", self.name))
    }
}

/// What is served can be pushed here; the source's columns are then those of what is served.
#[async_trait]
impl ServedSink for PushSource {
    async fn log(&self, rows: &RecordBatch) -> Result<()> {
        self.push(rows).await.map(drop)
    }
}

#[async_trait]
impl Source for PushSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn schema(&self) -> Result<SchemaRef> {
        Ok(self.parts.schema())
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        let selection = Selection::of(query);
        let pinned: Option<Vec<SourceFile>> = query.files.map(<[_]>::to_vec);
        self.run(move |parts| parts.scan(&selection, pinned.as_deref())).await
    }

    async fn spans(&self, time: &str, rows: u64) -> Result<Vec<Range<i64>>> {
        let time = time.to_owned();
        self.run(move |parts| Ok(spans(&parts.stretches(&time)?, rows))).await
    }

    async fn forget(&self, entities: &RecordBatch) -> Result<u64> {
        let entities = entities.clone();
        self.run(move |parts| parts.forget(&entities)).await
    }
}
