//! The indices of a feature store: in memory between calls, and the orders of rows in files between
//! programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use kaizen_core::{Context, Digest, ErrorKind, Result, compute};
use kaizen_table::FeatureView;

use crate::FeatureStore;
use crate::blocking::blocking;
use crate::point_in_time::{Index, Ordering};
use crate::whole_file::{is_unfinished, sync_folder};

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

    /// The index of a view over its source's rows, which have this digest: packed from the second
    /// time on, if that costs little.
    pub(crate) async fn index(
        &self,
        view: &FeatureView,
        source: &RecordBatch,
        digest: Digest,
    ) -> Result<Arc<Index>> {
        let id = view.digest()?;
        if let Some(index) = self.indices.get(&id, &digest) {
            if index.is_packed() || index.packed_bytes() > MAX_PACKED_BYTES {
                return Ok(index);
            }
            let packed = compute(move || Ok(Index::clone(&index).packed())).await?;
            let packed = Arc::new(packed);
            self.indices.keep(id, digest, Arc::clone(&packed));
            return Ok(packed);
        }
        let ordering = self.ordering(view, source, digest).await?;
        let (view, source) = (view.clone(), source.clone());
        let index = compute(move || Index::over(&view, ordering, &source)).await?;
        let index = Arc::new(index);
        self.indices.keep(id, digest, Arc::clone(&index));
        Ok(index)
    }

    /// Lets go of every index, in memory and in files: they hold the keys of the rows that they were
    /// made of.
    pub(crate) async fn forget_indices(&self) -> Result<()> {
        self.indices.clear();
        self.orderings.clear();
        self.labels.clear();
        match self.indices_in.clone() {
            Some(folder) => blocking(move || remove_orders(&folder)).await,
            None => Ok(()),
        }
    }

    async fn ordering(
        &self,
        view: &FeatureView,
        source: &RecordBatch,
        digest: Digest,
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
                    let made = Arc::clone(&ordering);
                    blocking(move || {
                        if let Err(error) = save(&made, &path, &digest) {
                            tracing::warn!(%error, "an order of rows is not kept in a file");
                        }
                        Ok(())
                    })
                    .await?;
                }
                ordering
            }
        };
        self.orderings.keep(id, digest, Arc::clone(&ordering));
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
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".order") || (name.contains(".order.") && is_unfinished(&name)) {
            let message = || format!("order of rows in `{}`", path.display());
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.context(ErrorKind::Unavailable, message())?,
            }
        }
    }
    sync_folder(folder).context(ErrorKind::Unavailable, message())
}

fn save(ordering: &Ordering, path: &Path, digest: &Digest) -> Result<()> {
    if let Some(folder) = path.parent() {
        let message = || format!("folder `{}`", folder.display());
        std::fs::create_dir_all(folder).context(ErrorKind::Unavailable, message())?;
    }
    ordering.save(path, digest)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampNanosecondArray};
    use kaizen_core::DataType;
    use kaizen_table::FeatureService;

    use super::*;
    use crate::MemorySource;

    #[tokio::test]
    async fn an_index_that_is_used_again_is_packed_and_answers_the_same() {
        let at = |at: Vec<i64>| Arc::new(TimestampNanosecondArray::from(at).with_timezone("UTC"));
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
