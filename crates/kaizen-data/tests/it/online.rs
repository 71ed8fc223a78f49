//! Online equals offline, whatever the order of arrival, and nothing is half visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use kaizen_core::{
    Bytes, DataType, Error, ErrorKind, Progress, Result, Silent, Timestamp, async_trait,
};
use kaizen_data::point_in_time::Index;
use kaizen_data::{MemoryOnlineStore, MemorySource, Online, RedbOnlineStore};
use kaizen_table::{
    Aggregate, FeatureService, FeatureView, OnlineEntry, OnlinePage, OnlineStore, numbers,
    with_column,
};
use kaizen_testkit::online_store::suite;
use proptest::prelude::*;

use crate::cases::{Case, assert_same_bits, case, instants, known_by};

pub(crate) const S: i64 = 1_000_000_000;

#[tokio::test]
async fn the_memory_store_conforms() {
    suite(&MemoryOnlineStore::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redb_store_conforms_and_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("online.redb");
    suite(&RedbOnlineStore::open(&path).await.unwrap()).await;
    let store = RedbOnlineStore::open(&path).await.unwrap();
    let found = store.get("a", &[Bytes::from("2")]).await.unwrap();
    assert_eq!(found, [Some(Bytes::from("two"))]);
    let error = RedbOnlineStore::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a second writer: {error:?}");
    assert!(error.to_string().contains("online.redb"), "{error}");

    let other = folder.path().join("other");
    std::fs::write(&other, vec![b'x'; 8192]).unwrap();
    let error = RedbOnlineStore::open(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert_eq!(std::fs::read(&other).unwrap(), vec![b'x'; 8192], "it is left as it was");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Rows arrive late and out of order; the view is brought forward step by step, in writes of
    /// any size; requests ask at any instant from then on.
    #[test]
    fn online_equals_offline(
        case in case(40, 12, -12..30),
        mut steps in prop::collection::vec(-12_i64..32, 1..5),
        size in 1_usize..20,
    ) {
        steps.sort_unstable();
        runtime().block_on(equal(case, &steps, size));
    }
}

async fn equal(case: Case, steps: &[i64], size: usize) {
    let Case { view, source, spine } = case;
    let service = FeatureService::new("service", 1, vec![], vec![view.clone()]).unwrap();
    let online = Online::new(Arc::new(MemoryOnlineStore::default())).rows_per_write(size);
    for (place, step) in steps.iter().enumerate() {
        let nanos = step * S;
        let until = Timestamp::from_nanos(nanos);
        let arrived = known_by(&view, &source, nanos);
        // A source may hold rows of the future, or only what has arrived.
        let data = if place % 2 == 0 { source.clone() } else { arrived.clone() };
        let rows = MemorySource::new("s", data);
        let written = online.materialize(&view, &rows, until, &Silent).await.unwrap();
        assert!(written as usize <= arrived.num_rows());
        assert_eq!(online.materialize(&view, &rows, until, &Silent).await.unwrap(), 0, "again");
        assert_eq!(online.materialized_until(&view).await.unwrap(), Some(until));

        let at = kaizen_table::instants(&spine, "at").unwrap();
        let later = at.values().iter().map(|at| Some((*at).max(nanos))).collect();
        let asked = with_column(&spine, "at", instants(later)).unwrap();
        let index = Index::new(&view, &arrived).unwrap();
        let expected = index.features(&asked, "at").unwrap();
        let found = online.features(&service, &asked, "at").await.unwrap();
        let first = asked.num_columns();
        let looked_up: Vec<usize> = (first..found.num_columns()).collect();
        assert_same_bits(&found.project(&looked_up).unwrap(), &expected);
    }
}

/// Events of one entity each second, with a value and a key of another width than the request's.
pub(crate) fn events(count: i64) -> RecordBatch {
    let seconds = || 0..count;
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(Int32Array::from(vec![7; count as usize]))),
        ("event_time", instants(seconds().map(|s| Some(s * S)).collect())),
        ("x", Arc::new(seconds().map(|s| Some(s as f64 / 10.0)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(crate) fn view() -> FeatureView {
    FeatureView::builder("v")
        .source("s")
        .key("k")
        .column("x", DataType::Float64)
        .window("sum", Aggregate::Sum, "x", 20)
        .window("n", Aggregate::Count, "x", 20)
        .build()
        .unwrap()
}

pub(crate) fn service(view: FeatureView) -> FeatureService {
    FeatureService::new("service", 1, vec![], vec![view]).unwrap()
}

pub(crate) fn request(keys: Vec<i64>, at: i64) -> RecordBatch {
    let at = instants(vec![Some(at); keys.len()]);
    let keys: ArrayRef = Arc::new(Int64Array::from(keys));
    RecordBatch::try_from_iter([("k", keys), ("at", at)]).unwrap()
}

pub(crate) fn second(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds * S)
}

/// Fails every write from some number on.
#[derive(Debug)]
pub(crate) struct Failing {
    pub(crate) store: MemoryOnlineStore,
    left: AtomicUsize,
}

impl Failing {
    pub(crate) fn after(writes: usize) -> Self {
        Self { store: MemoryOnlineStore::default(), left: AtomicUsize::new(writes) }
    }

    pub(crate) fn repair(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
    }
}

#[async_trait]
impl OnlineStore for Failing {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.store.get(space, keys).await
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "the disk is full"));
        }
        self.left.store(left - 1, Ordering::SeqCst);
        self.store.put(entries).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        self.store.spaces().await
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        self.store.page(space, after, most).await
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Progress for Counting {
    fn report(&self, task: &str, done: u64, total: Option<u64>) {
        assert_eq!(task, "materialise v");
        assert!(total.is_some_and(|total| done <= total));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_materialisation_that_was_cut_off_goes_on_where_it_was() {
    let store = Arc::new(Failing::after(3));
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>).rows_per_write(10);
    let source = MemorySource::new("s", events(100));
    let progress = Counting::default();
    let cut = online.materialize(&view(), &source, second(99), &progress).await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::Unavailable);
    assert_eq!(progress.0.load(Ordering::SeqCst), 3);
    // Three writes of ten rows are there, and answer as of the last of them.
    assert_eq!(online.materialized_until(&view()).await.unwrap(), Some(second(29)));
    let service = service(view());
    let found = online.features(&service, &request(vec![7], 29 * S), "at").await.unwrap();
    assert_eq!(numbers(&found, "x").unwrap().value(0), 2.9);
    assert_eq!(numbers(&found, "n").unwrap().value(0), 20.0);

    store.repair();
    let written = online.materialize(&view(), &source, second(99), &Silent).await.unwrap();
    assert_eq!(written, 70);
    let found = online.features(&service, &request(vec![7, 8], 99 * S), "at").await.unwrap();
    let of = |name| numbers(&found, name).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(of("x"), [Some(9.9), None]);
    assert_eq!(of("n"), [Some(20.0), Some(0.0)]);
    assert_eq!(of("sum")[1], None);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused() {
    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    let source = MemorySource::new("s", events(50));
    let of = |view: FeatureView, at: i64| {
        let online = &online;
        async move { online.features(&service(view), &request(vec![7], at), "at").await }
    };
    assert_eq!(of(view(), 0).await.unwrap_err().kind(), ErrorKind::NotFound);
    online.materialize(&view(), &source, second(30), &Silent).await.unwrap();
    of(view(), 30 * S).await.unwrap();
    let error = of(view(), 30 * S - 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("view `v`: row 0 asks as of"), "{error}");

    // A changed definition has a space of its own.
    let longer = FeatureView::builder("v")
        .source("s")
        .key("k")
        .window("n", Aggregate::Count, "x", 40)
        .build()
        .unwrap();
    let error = of(longer.clone(), 30 * S).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    online.materialize(&longer, &source, second(30), &Silent).await.unwrap();
    let found = of(longer, 30 * S).await.unwrap();
    assert_eq!(numbers(&found, "n").unwrap().value(0), 31.0);

    // The past of a source does not change; nor do the types of its keys.
    let without = MemorySource::new("s", events(50).slice(1, 49));
    let online = online.check_past();
    let error = online.materialize(&view(), &without, second(40), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("the past has changed"), "{error}");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["7"; 50]));
    let other = MemorySource::new("s", with_column(&events(50), "k", texts).unwrap());
    let error = online.materialize(&view(), &other, second(40), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    let misnamed = MemorySource::new("t", events(50));
    let error = online.materialize(&view(), &misnamed, second(40), &Silent).await.unwrap_err();
    assert!(error.to_string().contains("it reads `s`"), "{error}");
    assert_eq!(online.materialized_until(&view()).await.unwrap(), Some(second(30)));

    // A request that brings what would be looked up.
    let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let brings = with_column(&request(vec![7], 30 * S), "x", x).unwrap();
    let error = online.features(&service(view()), &brings, "at").await.unwrap_err();
    assert!(error.to_string().contains("column `x`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_tail_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("online.redb");
    let view = FeatureView::builder("v")
        .source("s")
        .key("k")
        .window("sum", Aggregate::Sum, "x", 2_000)
        .build()
        .unwrap();
    let events = events(3_000);
    let half = events.slice(0, 1_500);
    let store = Arc::new(RedbOnlineStore::open(&path).await.unwrap());
    let first = MemorySource::new("s", half.clone());
    Online::new(store).materialize(&view, &first, second(1_499), &Silent).await.unwrap();
    let store = Arc::new(RedbOnlineStore::open(&path).await.unwrap());
    let online = Online::new(store);
    let rest = events.slice(1_500, 1_500);
    let all = concat_batches(&events.schema(), &[half, rest]).unwrap();
    let source = MemorySource::new("s", all);
    online.materialize(&view, &source, second(2_999), &Silent).await.unwrap();
    let asked = request(vec![7, 7, 7], 3_000 * S);
    let service = service(view.clone());
    let found = online.features(&service, &asked, "at").await.unwrap();
    let expected = Index::new(&view, &events).unwrap().features(&asked, "at").unwrap();
    assert_same_bits(&found.project(&[2]).unwrap(), &expected);
}
