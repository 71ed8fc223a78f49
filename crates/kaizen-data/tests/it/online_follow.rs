//! Views that follow a log: any order of times, cut off anywhere, equal to offline.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use kaizen_core::{Bytes, Error, ErrorKind, Result, Silent, Timestamp, async_trait};
use kaizen_data::point_in_time::Index;
use kaizen_data::{
    MemoryOnlineStore, MemorySource, Online, PushSource, Pushed, RedbOnlineStore, RowLog,
};
use kaizen_table::{
    FeatureService, OnlineEntry, OnlinePage, OnlineStore, Query, Scan, Source, numbers, with_column,
};
use proptest::prelude::*;

use crate::cases::{Case, assert_same_bits, case, instants};
use crate::online::{Failing, S, events, request, second, service, view};

/// The first rows of a table as a log that gives so many at once.
#[derive(Debug)]
struct Log {
    source: MemorySource,
    at_once: usize,
}

impl Log {
    fn of(rows: RecordBatch, at_once: usize) -> Self {
        Self { source: MemorySource::new("s", rows), at_once }
    }
}

#[async_trait]
impl Source for Log {
    fn name(&self) -> &str {
        self.source.name()
    }

    async fn schema(&self) -> Result<SchemaRef> {
        self.source.schema().await
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        self.source.scan(query).await
    }
}

#[async_trait]
impl RowLog for Log {
    fn identity(&self) -> &str {
        "log"
    }

    async fn read_from(&self, offset: u64, columns: &[&str]) -> Result<Pushed> {
        let rows = self.scan(&Query::columns(columns)).await?.batches.remove(0);
        let start = (offset as usize).min(rows.num_rows());
        let end = (start + self.at_once).min(rows.num_rows());
        let offsets = start as u64..end as u64;
        let present = vec![offsets.clone()];
        Ok(Pushed { offsets, present, rows: rows.slice(start, end - start) })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_followed_view_equals_offline(
        case in case(40, 12, -12..30),
        mut steps in prop::collection::vec((0_usize..40, -12_i64..32), 1..5),
        at_once in 1_usize..20,
        fails in 0_usize..12,
    ) {
        steps.sort_unstable_by_key(|step| step.1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(equal(case, &steps, at_once, fails));
    }
}

async fn equal(case: Case, steps: &[(usize, i64)], at_once: usize, fails: usize) {
    let Case { view, source, spine } = case;
    let service = FeatureService::new("service", 1, vec![], vec![view.clone()]).unwrap();
    let store = Arc::new(Failing::after(fails));
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let mut pushed = 0;
    for (more, now) in steps {
        pushed = (pushed + more).min(source.num_rows());
        let rows = source.slice(0, pushed);
        let log = Log::of(rows.clone(), at_once);
        let now = Timestamp::from_nanos(now * S);
        if online.follow(&view, &log, now).await.is_err() {
            store.repair();
            online.follow(&view, &log, now).await.unwrap();
        }
        assert_eq!(online.follow(&view, &log, now).await.unwrap(), 0, "again");
        let at = kaizen_table::instants(&spine, "at").unwrap();
        let later = at.values().iter().map(|at| Some((*at).max(now.nanos().unwrap()))).collect();
        let asked = with_column(&spine, "at", instants(later)).unwrap();
        let expected = Index::new(&view, &rows).unwrap().features(&asked, "at").unwrap();
        let found = online.features(&service, &asked, "at").await.unwrap();
        let looked_up: Vec<usize> = (asked.num_columns()..found.num_columns()).collect();
        assert_same_bits(&found.project(&looked_up).unwrap(), &expected);
    }
}

#[tokio::test]
async fn a_view_is_followed_or_materialised_but_not_both() {
    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    let log = Log::of(events(50), 20);
    assert_eq!(online.follow(&view(), &log, second(10)).await.unwrap(), 50);
    assert_eq!(online.follow(&view(), &log, second(10)).await.unwrap(), 0);
    assert_eq!(online.materialized_until(&view()).await.unwrap(), Some(second(10)));
    // Rows that are known later are there, and not seen yet.
    for (at, x, n) in [(10, 1.0, 11.0), (49, 4.9, 20.0), (100, 4.9, 0.0)] {
        let found = online.features(&service(view()), &request(vec![7], at * S), "at").await;
        let found = found.unwrap();
        assert_eq!(numbers(&found, "x").unwrap().value(0), x);
        assert_eq!(numbers(&found, "n").unwrap().value(0), n);
    }
    let error = online.materialize(&view(), &log, second(60), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("view `v`, source `s`: it is followed"), "{error}");
    let error = online.follow(&view(), &Log::of(events(50).slice(0, 0), 1), second(60)).await;
    assert_eq!(error.unwrap(), 0, "time passes, no rows");

    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    online.materialize(&view(), &log, second(10), &Silent).await.unwrap();
    let error = online.follow(&view(), &log, second(60)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("it is materialised"), "{error}");
}

#[tokio::test]
async fn an_empty_log_is_a_view_that_knows_nobody() {
    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    let log = Log::of(events(50).slice(0, 0), 20);
    assert_eq!(online.follow(&view(), &log, second(10)).await.unwrap(), 0);
    let found = online.features(&service(view()), &request(vec![7], 10 * S), "at").await.unwrap();
    assert!(found.column_by_name("x").unwrap().is_null(0));
    assert_eq!(numbers(&found, "n").unwrap().value(0), 0.0);
    // A future row waits for its time, and drops nothing.
    let far = Log::of(events(2_000_000).slice(1_999_990, 10), 20);
    assert_eq!(online.follow(&view(), &far, second(11)).await.unwrap(), 10);
    let found = online.features(&service(view()), &request(vec![7], 11 * S), "at").await.unwrap();
    assert_eq!(numbers(&found, "n").unwrap().value(0), 0.0);
}

/// Rows that are pushed while the view follows, a program that is started again, files that are
/// joined, and an entity that is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pushed_source_is_followed_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let all = events(60);
    let (log, store) = (folder.path().join("log"), folder.path().join("online.redb"));
    for (part, now) in [(0, 19), (20, 39), (40, 59)] {
        let log = PushSource::open("s", &log, all.schema()).await.unwrap();
        let store = RedbOnlineStore::open(&store).await.unwrap();
        let online = Online::new(Arc::new(store));
        log.push(&all.slice(part, 10)).await.unwrap();
        assert_eq!(online.follow(&view(), &log, second(now - 10)).await.unwrap(), 10);
        log.push(&all.slice(part + 10, 10)).await.unwrap();
        log.compact().await.unwrap();
        assert_eq!(online.follow(&view(), &log, second(now)).await.unwrap(), 10);
        assert_eq!(online.follow(&view(), &log, second(now)).await.unwrap(), 0);
        let asked = request(vec![7, 8], now * S);
        let found = online.features(&service(view()), &asked, "at").await.unwrap();
        assert_eq!(numbers(&found, "x").unwrap().value(0), now as f64 / 10.0);
        assert_eq!(numbers(&found, "n").unwrap().value(0), 20.0);
        assert_eq!(numbers(&found, "n").unwrap().value(1), 0.0);
    }
    let log = PushSource::open("s", &log, all.schema()).await.unwrap();
    let online = Online::new(Arc::new(RedbOnlineStore::open(&store).await.unwrap()));
    let gone = request(vec![7], 0).project(&[0]).unwrap();
    assert_eq!(log.forget(&gone).await.unwrap(), 60);
    assert_eq!(online.forget("v", &gone).await.unwrap(), 1);
    assert_eq!(online.follow(&view(), &log, second(60)).await.unwrap(), 0);
    log.push(&all.slice(59, 1)).await.unwrap();
    assert_eq!(online.follow(&view(), &log, second(60)).await.unwrap(), 1);
    let found = online.features(&service(view()), &request(vec![7], 60 * S), "at").await.unwrap();
    assert_eq!(numbers(&found, "n").unwrap().value(0), 1.0);
}

/// A log in memory that was begun anew and filled past where it was followed to.
#[tokio::test]
async fn another_log_is_not_followed_on() {
    let all = events(60);
    let store: Arc<dyn OnlineStore> = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&store));
    let log = PushSource::in_memory("s", all.schema()).unwrap();
    log.push(&all.slice(0, 20)).await.unwrap();
    assert_eq!(online.follow(&view(), &log, second(19)).await.unwrap(), 20);
    let anew = PushSource::in_memory("s", all.schema()).unwrap();
    anew.push(&all.slice(20, 40)).await.unwrap();
    let error = online.follow(&view(), &anew, second(59)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.to_string().contains(anew.identity()), "{error}");
    log.push(&all.slice(20, 10)).await.unwrap();
    assert_eq!(online.follow(&view(), &log, second(29)).await.unwrap(), 10);
}

/// A store that takes so many entries at once.
#[derive(Debug)]
struct Narrow(MemoryOnlineStore, usize);

#[async_trait]
impl OnlineStore for Narrow {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.0.get(space, keys).await
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        if entries.len() > self.1 {
            return Err(Error::new(ErrorKind::Limit, "too much at once"));
        }
        self.0.put(entries).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        self.0.spaces().await
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        self.0.page(space, after, most).await
    }
}

#[tokio::test]
async fn a_large_part_of_a_log_is_taken_in_as_many_writes_as_it_takes() {
    let keys: ArrayRef = Arc::new((0..100).collect::<Int64Array>());
    let all = with_column(&events(100), "k", keys).unwrap();
    let log = PushSource::in_memory("s", all.schema()).unwrap();
    log.push(&all).await.unwrap();
    let gone = request((20..70).collect(), 0).project(&[0]).unwrap();
    assert_eq!(log.forget(&gone).await.unwrap(), 50);
    let pushed = log.read_from(10, &["x"]).await.unwrap();
    assert_eq!((pushed.offsets, pushed.present), (10..100, vec![10..20, 70..100]));
    let (one, other) = (Narrow(MemoryOnlineStore::default(), 9), MemoryOnlineStore::default());
    let (one, other) = (Arc::new(one), Arc::new(other));
    for store in [Arc::clone(&one) as Arc<dyn OnlineStore>, Arc::clone(&other) as _] {
        let online = Online::new(store);
        assert_eq!(online.follow(&view(), &log, second(99)).await.unwrap(), 50);
        assert_eq!(online.follow(&view(), &log, second(99)).await.unwrap(), 0);
        let asked = request((0..100).collect(), 99 * S);
        let found = online.features(&service(view()), &asked, "at").await.unwrap();
        let x: Vec<_> = numbers(&found, "x").unwrap().iter().collect();
        let expected = (0..100).map(|k| (!(20..70).contains(&k)).then(|| f64::from(k) / 10.0));
        assert_eq!(x, expected.collect::<Vec<_>>());
    }
    // One entity is too much: it is said, and nothing is lost.
    let none = Online::new(Arc::new(Narrow(MemoryOnlineStore::default(), 2)));
    let error = none.follow(&view(), &log, second(99)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}
