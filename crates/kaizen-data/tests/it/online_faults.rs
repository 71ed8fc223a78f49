//! Writes that are cut off anywhere and taken up again leave the same bytes as others.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use kaizen_core::{ErrorKind, Silent};
use kaizen_data::{MemoryOnlineStore, MemorySource, Online, RedbOnlineStore};
use kaizen_table::{FeatureView, OnlineStore};
use kaizen_testkit::online_store::same;

use crate::cases::instants;
use crate::online::{Failing, S, second, view};

/// Many entities, some with events at the same instant.
fn source() -> MemorySource {
    let rows = 0..500_i64;
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(rows.clone().map(|row| row * 7 % 31).collect::<Int64Array>())),
        ("event_time", instants(rows.clone().map(|row| Some(row / 3 * S)).collect())),
        ("x", Arc::new(rows.map(|row| row as f64).collect::<Float64Array>())),
    ];
    MemorySource::new("s", RecordBatch::try_from_iter(columns).unwrap())
}

async fn whole(view: &FeatureView) -> MemoryOnlineStore {
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>).rows_per_write(20);
    online.materialize(view, &source(), second(160), &Silent).await.unwrap();
    drop(online);
    Arc::into_inner(store).unwrap()
}

#[tokio::test]
async fn a_materialisation_that_fails_at_any_write_ends_with_the_same_bytes() {
    let whole = whole(&view()).await;
    for writes in 0..20 {
        let store = Arc::new(Failing::after(writes));
        let open = || Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>).rows_per_write(20);
        let error = open().materialize(&view(), &source(), second(160), &Silent).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable, "{writes}");
        store.repair();
        open().materialize(&view(), &source(), second(160), &Silent).await.unwrap();
        same(&whole, &store.store).await;
        same(&store.store, &whole).await;
    }
}

/// The program goes away between two writes: its future is dropped where it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_materialisation_that_is_dropped_anywhere_ends_with_the_same_bytes() {
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    let whole = whole(&view()).await;
    for polls in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("online.redb");
        let store = Arc::new(RedbOnlineStore::open(&path).await.unwrap());
        let online = Online::new(store).rows_per_write(20);
        let (view, source) = (view(), source());
        let mut work = Box::pin(online.materialize(&view, &source, second(160), &Silent));
        let mut left = polls;
        poll_fn(|context| {
            left -= 1;
            match work.as_mut().poll(context) {
                Poll::Pending if left > 0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        drop(work);
        // A write that is under way ends by itself; the next waits for it.
        online.materialize(&view, &source, second(160), &Silent).await.unwrap();
        drop(online);
        let store = RedbOnlineStore::open(&path).await;
        let store = store.unwrap();
        same(&whole, &store).await;
        same(&store, &whole).await;
    }
}
