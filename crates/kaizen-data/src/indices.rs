//! The indices of a feature store: in memory between calls, and the orders of rows in files between
//! programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use kaizen_core::{Context, Digest, ErrorKind, Result, compute};
use kaizen_table::FeatureView;

use crate::FeatureStore;
use crate::blocking::blocking;
use crate::kept::Since;
use crate::point_in_time::{Index, Ordering};
use crate::whole_file::{clear_unfinished, clear_unfinished_in, sync_folder};

/// An index that is used again is packed if that costs at most so many bytes.
const MAX_PACKED_BYTES: u64 = 128 << 20;

impl FeatureStore {
    /// Keeps the orders of sources' rows in this folder too, which is made if it is not there: one
    /// file for each source, keys, event time and known-at time. Another program that opens the
    /// same folder need not sort again.
    ///
    /// A file is used if it was made of the very data that the source now has, and replaced
    /// otherwise. A folder that cannot be read or written costs time and a warning in the log, and
    /// no answer. Sources that are [walked](Self::rows_in_memory) have no order of all their rows.
    #[must_use]
    pub fn keep_indices_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.indices_in = Some(folder.into());
        self
    }

    /// The index of a view over its source's rows, which have this digest and were read later than
    /// `since`: packed from the second time on, if that costs little.
    pub(crate) async fn index(
        &self,
        view: &FeatureView,
        source: &RecordBatch,
        digest: Digest,
        since: &Since,
    ) -> Result<Arc<Index>> {
        let id = view.digest()?;
        if let Some(index) = self.indices.get(&id, &digest) {
            if index.is_packed() || index.packed_bytes() > MAX_PACKED_BYTES {
                return Ok(index);
            }
            let packed = compute(move || Ok(Index::clone(&index).packed())).await?;
            let packed = Arc::new(packed);
            self.indices.keep(since, id, digest, Arc::clone(&packed));
            return Ok(packed);
        }
        let ordering = self.ordering(view, source, digest, since).await?;
        let (view, source) = (view.clone(), source.clone());
        let index = compute(move || Index::over(&view, ordering, &source)).await?;
        let index = Arc::new(index);
        self.indices.keep(since, id, digest, Arc::clone(&index));
        Ok(index)
    }

    /// Lets go of every index, in memory and in files: they hold the keys of the rows that they were
    /// made of. Calls that have read such rows already keep none either.
    pub(crate) async fn forget_indices(&self) -> Result<()> {
        self.erasures.count();
        self.indices.clear();
        self.orderings.clear();
        self.labels.clear();
        match self.indices_in.clone() {
            Some(folder) => {
                let erasures = self.erasures.clone();
                blocking(move || erasures.with_files(|| remove_orders(&folder))).await
            }
            None => Ok(()),
        }
    }

    async fn ordering(
        &self,
        view: &FeatureView,
        source: &RecordBatch,
        digest: Digest,
        since: &Since,
    ) -> Result<Arc<Ordering>> {
        let id = Ordering::definition(view)?;
        if let Some(ordering) = self.orderings.get(&id, &digest) {
            return Ok(ordering);
        }
        let path =
            self.indices_in.as_ref().map(|folder| folder.join(format!("{}.order", id.hex())));
        let loaded = match path.clone() {
            Some(path) => {
                let view = view.clone();
                blocking(move || Ok(Ordering::load(&path, &view, &digest))).await?
            }
            None => None,
        };
        let rows = source.num_rows() as u64;
        let ordering = match loaded.filter(|loaded| loaded.rows() == rows) {
            Some(ordering) => Arc::new(ordering),
            None => {
                let (view, source) = (view.clone(), source.clone());
                let ordering = Arc::new(compute(move || Ordering::new(&view, &source)).await?);
                if let Some(path) = path {
                    let (made, since) = (Arc::clone(&ordering), since.clone());
                    blocking(move || {
                        if let Err(error) = since.save(|| save(&made, &path, &digest)) {
                            tracing::warn!(%error, "an order of rows is not kept in a file");
                        }
                        Ok(())
                    })
                    .await?;
                }
                ordering
            }
        };
        self.orderings.keep(since, id, digest, Arc::clone(&ordering));
        Ok(ordering)
    }
}

/// Removes every file that is an order of rows, or was to become one.
fn remove_orders(folder: &Path) -> Result<()> {
    let message = || format!("folder `{}`", folder.display());
    let files = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        files => files.context(ErrorKind::Unavailable, message())?,
    };
    for file in files {
        let path = file.context(ErrorKind::Unavailable, message())?.path();
        if path.file_name().and_then(OsStr::to_str).is_some_and(is_order) {
            let message = || format!("order of rows in `{}`", path.display());
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.context(ErrorKind::Unavailable, message())?,
            }
        }
    }
    clear_unfinished_in(folder, is_order).context(ErrorKind::Unavailable, message())?;
    sync_folder(folder).context(ErrorKind::Unavailable, message())
}

fn is_order(name: &str) -> bool {
    name.ends_with(".order")
}

/// Saves an order, and clears away what is left of savings of it that were cut off.
fn save(ordering: &Ordering, path: &Path, digest: &Digest) -> Result<()> {
    if let Some(folder) = path.parent() {
        let message = || format!("folder `{}`", folder.display());
        std::fs::create_dir_all(folder).context(ErrorKind::Unavailable, message())?;
        clear_unfinished(path).context(ErrorKind::Unavailable, message())?;
    }
    ordering.save(path, digest)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, TimestampNanosecondArray,
    };
    use arrow::datatypes::SchemaRef;
    use kaizen_core::{DataType, Timestamp, async_trait};
    use kaizen_table::{FeatureService, LabelView, Query, Scan, Source};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::MemorySource;

    fn at(at: Vec<i64>) -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from(at).with_timezone("UTC"))
    }

    /// Rows that were read are handed on when it is allowed.
    #[derive(Debug)]
    struct SlowSource {
        rows: MemorySource,
        read: Semaphore,
        allowed: Semaphore,
    }

    #[async_trait]
    impl Source for SlowSource {
        fn name(&self) -> &str {
            self.rows.name()
        }

        async fn schema(&self) -> Result<SchemaRef> {
            self.rows.schema().await
        }

        async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
            let scan = self.rows.scan(query).await;
            self.read.add_permits(1);
            self.allowed.acquire().await.unwrap().forget();
            scan
        }
    }

    #[tokio::test]
    async fn a_call_that_has_read_erased_rows_keeps_no_index_of_them() {
        let columns: [(&str, ArrayRef); 3] = [
            ("k", Arc::new(Int64Array::from(vec![1, 2]))),
            ("event_time", at(vec![1, 2])),
            ("late", Arc::new(BooleanArray::from(vec![true, false]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let (read, allowed) = (Semaphore::new(0), Semaphore::new(0));
        let rows = MemorySource::new("s", rows);
        let source = Arc::new(SlowSource { rows, read, allowed });
        let folder = tempfile::tempdir().unwrap();
        let store = FeatureStore::new(vec![source.clone()]).keep_indices_in(folder.path());
        let view = FeatureView::builder("v").source("s").key("k").column("late", DataType::Bool);
        let view = view.build().unwrap();
        let labels = LabelView::new("l", "s", vec!["k".to_owned()], "late", "event_time").unwrap();
        let service = FeatureService::new("service", 1, vec![], vec![view.clone()]).unwrap();
        let asked: [(&str, ArrayRef); 2] =
            [("k", Arc::new(Int64Array::from(vec![1, 2]))), ("at", at(vec![9, 9]))];
        let asked = RecordBatch::try_from_iter(asked).unwrap();
        let kept = || {
            let orders = std::fs::read_dir(folder.path()).unwrap().count();
            let order = store.orderings.of(&Ordering::definition(&view).unwrap()).is_some();
            let index = store.indices.of(&view.digest().unwrap()).is_some();
            (index, order, orders, store.labels.of(&labels.digest().unwrap()).is_some())
        };
        let cutoff = Timestamp::from_nanos(9);
        for erased in [true, false] {
            let call = async {
                store.features(&service, &asked, "at").await.unwrap();
                store.labels(&labels, &asked, cutoff).await.unwrap();
            };
            let erasure = async {
                for _ in 0..2 {
                    source.read.acquire().await.unwrap().forget();
                    if erased {
                        store.forget_indices().await.unwrap();
                    }
                    source.allowed.add_permits(1);
                }
            };
            tokio::join!(call, erasure);
            let expected = if erased { (false, false, 0, false) } else { (true, true, 1, true) };
            assert_eq!(kept(), expected);
        }
    }

    #[tokio::test]
    async fn an_index_that_is_used_again_is_packed_and_answers_the_same() {
        let columns: [(&str, ArrayRef); 3] = [
            ("k", Arc::new(Int64Array::from(vec![3, 1, 2, 1]))),
            ("event_time", at(vec![5, 9, 5, 2])),
            ("x", Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-0.0), Some(7.0)]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let questions: [(&str, ArrayRef); 2] = [
            ("k", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 1]))),
            ("at", at(vec![8, 8, 8, 8, 9])),
        ];
        let questions = RecordBatch::try_from_iter(questions).unwrap();
        let store = FeatureStore::new(vec![Arc::new(MemorySource::new("s", rows))]);
        let view = FeatureView::builder("v").source("s").key("k").column("x", DataType::Float64);
        let view = view.build().unwrap();
        let id = view.digest().unwrap();
        let service = FeatureService::new("service", 1, vec![], vec![view]).unwrap();
        let mut first = None;
        for (time, packed) in [false, true, true].into_iter().enumerate() {
            let found = store.features(&service, &questions, "at").await.unwrap();
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found);
            let (_, index) = store.indices.of(&id).unwrap();
            assert_eq!(index.is_packed(), packed, "use {time}");
            assert_eq!(index.packed_bytes(), 5 * 16, "a number and a word of bits");
        }
    }
}
