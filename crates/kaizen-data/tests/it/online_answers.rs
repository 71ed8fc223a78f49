//! What online views say besides values; changed definitions; entities that are forgotten.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use kaizen_core::{Bytes, DataType, ErrorKind, Field, Silent};
use kaizen_data::point_in_time::Index;
use kaizen_data::{MemoryOnlineStore, MemorySource, Online, Status};
use kaizen_table::{
    Aggregate, FeatureService, FeatureView, Functions, Known, OnDemand, OnlineEntry, OnlineStore,
    numbers, with_column,
};

use crate::cases::{assert_same_bits, instants};
use crate::online::{S, events, request, second, service, view};

/// Keys with the second of their only event and its value.
fn rows(rows: &[(i64, i64, Option<f64>)]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("event_time", instants(rows.iter().map(|row| Some(row.1 * S)).collect())),
        ("x", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn brief() -> FeatureView {
    let view = FeatureView::builder("brief").source("s").key("k").ttl_seconds(10);
    view.column("x", DataType::Float64).build().unwrap()
}

#[tokio::test]
async fn an_answer_says_what_was_found() {
    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    // Of entity 3 the row is too old when it is written, of entity 4 when it is asked for.
    let source = rows(&[(1, 95, Some(1.5)), (2, 96, None), (3, 50, Some(3.0)), (4, 90, Some(4.0))]);
    let source = MemorySource::new("s", source);
    online.materialize(&brief(), &source, second(100), &Silent).await.unwrap();
    let asked = request(vec![1, 2, 3, 4, 5, 1], 101 * S);
    let answer = online.answer(&service(brief()), &asked, "at").await.unwrap();
    let x = answer.rows.column_by_name("x").unwrap().as_primitive::<Float64Type>();
    let found: Vec<Option<f64>> = x.iter().collect();
    assert_eq!(found, [Some(1.5), None, None, None, None, Some(1.5)]);
    use Status::{Missing, NotFound, OutsideTtl, Present};
    let [of_view] = answer.views.as_slice() else { panic!("one view") };
    assert_eq!(of_view.name, "brief");
    assert_eq!(of_view.status, [Present, Missing, OutsideTtl, OutsideTtl, NotFound, Present]);
    let at = |row: usize| of_view.event_time[row].map(|nanos| nanos / S);
    let event_times: Vec<Option<i64>> = (0..5).map(at).collect();
    assert_eq!(event_times, [Some(95), Some(96), Some(50), Some(90), None]);
}

/// A row that is there, but is not known yet, is not one that is too old.
#[tokio::test]
async fn what_is_not_known_yet_is_not_found_and_what_is_too_old_was_found() {
    let view = FeatureView::builder("late").source("s").key("k").ttl_seconds(10);
    let view =
        view.known(Known::After { seconds: 5 }).column("x", DataType::Float64).build().unwrap();
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(store).keep_seconds(20);
    // Known from 93 on; from 55 and 93 on; from 55 on.
    let all = [(1, 88, Some(1.0)), (2, 50, Some(2.0)), (2, 88, Some(3.0)), (3, 50, Some(4.0))];
    let source = MemorySource::new("s", rows(&all));
    online.materialize(&view, &source, second(100), &Silent).await.unwrap();
    use Status::{NotFound, OutsideTtl, Present};
    let status = |at: i64| {
        let (online, view) = (&online, view.clone());
        async move {
            let asked = request(vec![1, 2, 3], at * S);
            let answer = online.answer(&service(view), &asked, "at").await.unwrap();
            answer.views[0].status.clone()
        }
    };
    assert_eq!(status(92).await, [NotFound, OutsideTtl, OutsideTtl]);
    assert_eq!(status(93).await, [Present, Present, OutsideTtl]);
    assert_eq!(status(100).await, [OutsideTtl, OutsideTtl, OutsideTtl]);

    let windows = FeatureView::builder("windows").source("s").key("k").ttl_seconds(10);
    let windows = windows.window("n", Aggregate::Count, "x", 20).build().unwrap();
    online.materialize(&windows, &source, second(100), &Silent).await.unwrap();
    let asked = request(vec![1, 3, 4], 100 * S);
    let answer = online.answer(&service(windows), &asked, "at").await.unwrap();
    assert_eq!(answer.views[0].status, [Present, NotFound, NotFound]);
}

#[tokio::test]
async fn functions_compute_of_what_was_looked_up_and_of_the_request() {
    let both = OnDemand {
        name: "ratio".to_owned(),
        version: 1,
        inputs: vec![Field::new("x", DataType::Float64), Field::new("y", DataType::Float64)],
        outputs: vec![Field::new("x_per_y", DataType::Float64)],
    };
    let view = view();
    let field = Field::new("y", DataType::Float64);
    let service = FeatureService::new("service", 1, vec![field], vec![view.clone()]).unwrap();
    let service = service.with_on_demand(vec![both]).unwrap();
    let ratio = |rows: &RecordBatch| {
        let (x, y) = (numbers(rows, "x")?, numbers(rows, "y")?);
        let ratio: Float64Array = x.iter().zip(&y).map(|(x, y)| Some(x? / y?)).collect();
        Ok(vec![Arc::new(ratio) as ArrayRef])
    };
    let source = MemorySource::new("s", events(50));
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(store).with_functions(Functions::default().with("ratio", 1, ratio));
    online.materialize(&view, &source, second(49), &Silent).await.unwrap();
    // The request's integers are converted to the declared floats.
    let y: ArrayRef = Arc::new(Int32Array::from(vec![2, 2]));
    let asked = with_column(&request(vec![7, 8], 49 * S), "y", y).unwrap();
    let found = online.features(&service, &asked, "at").await.unwrap();
    let found: Vec<Option<f64>> = numbers(&found, "x_per_y").unwrap().iter().collect();
    assert_eq!(found, [Some(2.45), None]);
    // Many rows are computed on other threads.
    let many = concat_batches(asked.schema_ref(), std::iter::repeat_n(&asked, 1_000)).unwrap();
    let many = online.features(&service, &many, "at").await.unwrap();
    let many: Vec<Option<f64>> = numbers(&many, "x_per_y").unwrap().iter().collect();
    assert_eq!(many, found.repeat(1_000));

    let without = Online::new(Arc::new(MemoryOnlineStore::default()));
    let error = without.features(&service, &asked, "at").await.unwrap_err();
    assert!(error.to_string().contains("function `ratio` 1"), "{error}");
}

fn changed() -> FeatureView {
    let view = FeatureView::builder("v").source("s").key("k");
    view.window("n", Aggregate::Count, "x", 40).build().unwrap()
}

#[tokio::test]
async fn a_view_is_migrated_beside_its_old_definition() {
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let source = MemorySource::new("s", events(50));
    let ask = |view| {
        let online = &online;
        async move { online.features(&service(view), &request(vec![7], 30 * S), "at").await }
    };
    assert_eq!(online.definition("v").await.unwrap(), None);
    online.materialize(&view(), &source, second(30), &Silent).await.unwrap();
    let other = MemorySource::new("s", rows(&[(7, 25, Some(1.0))]));
    online.materialize(&brief(), &other, second(30), &Silent).await.unwrap();
    let error = ask(changed()).await.unwrap_err();
    let old = view().digest().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!(
            "view `v`: it is online with another definition ({}), not with this one; \
             materialise it",
            old.short()
        )
    );
    let error = online.drop_others(&changed()).await.unwrap_err();
    assert!(error.to_string().contains("another definition"), "nothing is dropped: {error}");
    online.materialize(&changed(), &source, second(30), &Silent).await.unwrap();
    ask(view()).await.unwrap();
    ask(changed()).await.unwrap();
    assert_eq!(online.definition("v").await.unwrap(), Some(changed().digest().unwrap()));

    assert_eq!(online.drop_others(&changed()).await.unwrap(), 2, "an entity, and how far it goes");
    assert_eq!(online.drop_others(&changed()).await.unwrap(), 0);
    assert_eq!(ask(view()).await.unwrap_err().kind(), ErrorKind::NotFound);
    ask(changed()).await.unwrap();
    ask(brief()).await.unwrap();
    let spaces = store.spaces().await.unwrap();
    assert_eq!(spaces.iter().filter(|space| space.starts_with("v@")).count(), 1, "{spaces:?}");
    // And back again.
    online.materialize(&view(), &source, second(30), &Silent).await.unwrap();
    let found = ask(view()).await.unwrap();
    assert_eq!(numbers(&found, "n").unwrap().value(0), 20.0);
}

#[tokio::test]
async fn a_view_that_another_version_has_laid_out_is_materialised_anew() {
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let source = MemorySource::new("s", events(50));
    online.materialize(&view(), &source, second(30), &Silent).await.unwrap();
    let digest = view().digest().unwrap().hex();
    let entries = [0_u8, 1].into_iter().flat_map(|key| {
        let entry = |version, value| OnlineEntry {
            space: format!("v@{digest}/v{version}"),
            key: Bytes::copy_from_slice(&[key]),
            value,
        };
        [entry(2, Some(Bytes::from("of another version"))), entry(4, None)]
    });
    store.put(entries.collect()).await.unwrap();
    let asked = online.features(&service(view()), &request(vec![7], 30 * S), "at").await;
    let error = asked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.to_string().contains("as another version of this library"), "{error}");
    online.materialize(&view(), &source, second(30), &Silent).await.unwrap();
    online.features(&service(view()), &request(vec![7], 30 * S), "at").await.unwrap();
    let nobody: ArrayRef = Arc::new(Int64Array::from(vec![99]));
    let nobody = RecordBatch::try_from_iter([("k", nobody)]).unwrap();
    assert_eq!(online.forget("v", &nobody).await.unwrap(), 2, "what is there of the other");
    online.features(&service(view()), &request(vec![7], 30 * S), "at").await.unwrap();
}

#[tokio::test]
async fn rows_from_elsewhere_are_corrupt_and_never_read() {
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let source = MemorySource::new("s", events(50));
    online.materialize(&view(), &source, second(30), &Silent).await.unwrap();
    online.materialize(&changed(), &source, second(30), &Silent).await.unwrap();
    let name = |view: FeatureView| format!("v@{}/v4", view.digest().unwrap().hex());
    let page = store.page(&name(changed()), None, 10).await.unwrap();
    let put = |key: Bytes, value| OnlineEntry { space: name(view()), key, value: Some(value) };
    let copied = page.entries.into_iter().filter(|(key, _)| key.first() == Some(&1));
    store.put(copied.map(|(key, value)| put(key, value)).collect()).await.unwrap();
    let asked = online.features(&service(view()), &request(vec![7], 30 * S), "at").await;
    let error = asked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains("view `v`"), "{error}");
    let error = online.materialize(&view(), &source, second(40), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[tokio::test]
async fn a_forgotten_entity_is_gone_from_every_definition() {
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let all = [(1, 10, Some(1.0)), (2, 20, Some(2.0)), (3, 25, Some(3.0))];
    let source = MemorySource::new("s", rows(&all));
    for view in [view(), changed(), brief()] {
        online.materialize(&view, &source, second(30), &Silent).await.unwrap();
    }
    let gone = RecordBatch::try_from_iter([(
        "k",
        Arc::new(Int32Array::from(vec![Some(1), None, Some(99), Some(1)])) as ArrayRef,
    )]);
    let gone = gone.unwrap();
    assert_eq!(online.forget("v", &gone).await.unwrap(), 2, "once in each definition");
    assert_eq!(online.forget("v", &gone).await.unwrap(), 0);
    assert_eq!(online.forget("no such view", &gone).await.unwrap(), 0);
    let counts = |found: RecordBatch| numbers(&found, "n").unwrap().iter().collect::<Vec<_>>();
    let asked = request(vec![1, 2], 30 * S);
    let found = online.features(&service(changed()), &asked, "at").await.unwrap();
    assert_eq!(counts(found), [Some(0.0), Some(1.0)]);
    let found = online.features(&service(brief()), &asked, "at").await.unwrap();
    assert!(found.column_by_name("x").unwrap().is_null(0), "too old");

    // The source has fewer rows of the past now, which is no conflict, once.
    let rest = MemorySource::new("s", rows(&all[1..]));
    online.materialize(&view(), &rest, second(31), &Silent).await.unwrap();
    let less = MemorySource::new("s", rows(&all[2..]));
    let online = online.check_past();
    let error = online.materialize(&view(), &less, second(32), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");

    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let texts = RecordBatch::try_from_iter([("k", texts)]).unwrap();
    let error = online.forget("v", &texts).await.unwrap_err();
    assert!(error.to_string().contains("key column `k`"), "{error}");
    let unnamed = RecordBatch::try_from_iter([("j", texts.column(0).clone())]).unwrap();
    let error = online.forget("v", &unnamed).await.unwrap_err();
    assert!(error.to_string().contains('k'), "{error}");
}

/// An answer that is worked out where it is asked for is there at the first look.
#[tokio::test]
async fn many_rows_about_a_busy_entity_hold_up_nobody() {
    let view = FeatureView::builder("v").source("s").key("k");
    let view = view.column("x", DataType::Float64).build().unwrap();
    let events = events(20_000);
    let online = Online::new(Arc::new(MemoryOnlineStore::default())).keep_seconds(86_400);
    let source = MemorySource::new("s", events.clone());
    online.materialize(&view, &source, second(20_000), &Silent).await.unwrap();
    let service = service(view.clone());
    for (rows, at_once) in [(1, true), (1_000, false)] {
        let at = (0..rows).map(|row| Some((row + 1) * 19_999 * S / rows)).collect();
        let asked = request(vec![7; rows as usize], 0);
        let asked = with_column(&asked, "at", instants(at)).unwrap();
        let mut answer = Box::pin(online.features(&service, &asked, "at"));
        let looked = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(looked.is_ready(), at_once, "{rows} rows");
        drop(answer);
        let found = online.features(&service, &asked, "at").await.unwrap();
        let expected = Index::new(&view, &events).unwrap().features(&asked, "at").unwrap();
        assert_same_bits(&found.project(&[2]).unwrap(), &expected);
    }
}
