//! Training sets: what is in them, what is refused, and what comes back from a store.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use kaizen_core::record::TrainingSet;
use kaizen_core::{
    ArtifactStore, DataType, ErrorKind, Field, Manifest, Payload, Records as _, Timestamp,
};
use kaizen_data::{FeatureStore, MemorySource, TrainingData};
use kaizen_table::{FeatureService, FeatureView, Known, LabelView, numbers, with_column};
use kaizen_testkit::MemoryStore;

use crate::cases::instants;

const ROWS: usize = 1_000;
const S: i64 = 1_000_000_000;

/// Any bits, the same each time.
fn noise(row: usize) -> u64 {
    (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

fn late(row: usize) -> bool {
    noise(row).is_multiple_of(3)
}

fn ids() -> ArrayRef {
    Arc::new((0..ROWS as i64).collect::<Int64Array>())
}

/// One row a second; each is known ten seconds later.
fn outcomes(labels: ArrayRef) -> RecordBatch {
    let known = (0..ROWS as i64).map(|row| Some((row + 10) * S)).collect();
    RecordBatch::try_from_iter([("id", ids()), ("late", labels), ("known_at", instants(known))])
        .unwrap()
}

fn spine() -> RecordBatch {
    let at = (0..ROWS as i64).map(|row| Some(row * S)).collect();
    RecordBatch::try_from_iter([("id", ids()), ("at", instants(at))]).unwrap()
}

fn values(values: ArrayRef) -> RecordBatch {
    let event = instants(vec![Some(0); ROWS]);
    RecordBatch::try_from_iter([("id", ids()), ("event_time", event), ("x", values)]).unwrap()
}

fn labels() -> ArrayRef {
    Arc::new((0..ROWS).map(|row| Some(late(row))).collect::<BooleanArray>())
}

fn store(x: ArrayRef) -> FeatureStore {
    FeatureStore::new(vec![
        Arc::new(MemorySource::new("values", values(x))),
        Arc::new(MemorySource::new("outcomes", outcomes(labels()))),
    ])
}

fn service(data_type: DataType) -> FeatureService {
    let view = FeatureView::builder("v").source("values").key("id").column("x", data_type);
    FeatureService::new("service", 1, vec![], vec![view.build().unwrap()]).unwrap()
}

fn label_view() -> LabelView {
    LabelView::new("late", "outcomes", vec!["id".into()], "late", "known_at").unwrap()
}

fn honest() -> ArrayRef {
    Arc::new((0..ROWS).map(|row| Some(noise(row + 7) as f64)).collect::<Float64Array>())
}

async fn training(
    x: ArrayRef,
    data_type: DataType,
    cutoff: i64,
) -> kaizen_core::Result<TrainingData> {
    let cutoff = Timestamp::from_nanos(cutoff * S);
    let (service, labels) = (service(data_type), label_view());
    store(x).training_set(&service, &labels, &spine(), "at", cutoff).await
}

#[tokio::test]
async fn labels_are_those_known_at_the_cut_off() {
    let data = training(honest(), DataType::Float64, 509).await.unwrap();
    assert_eq!((data.record.rows, data.record.unlabelled), (500, 500));
    assert_eq!(data.labels(), (0..500).map(late).collect::<Vec<_>>());
    assert_eq!(data.record.features, [Field::new("x", DataType::Float64)]);
    assert_eq!(data.record.sources.keys().collect::<Vec<_>>(), ["outcomes", "values"]);
    let names: Vec<_> = data.rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "at", "x", "late"]);
    let none = training(honest(), DataType::Float64, -1).await.unwrap();
    assert_eq!((none.record.rows, none.record.unlabelled), (0, 1_000));

    let view = label_view();
    let store = store(honest());
    let known = store.labels(&view, &spine(), Timestamp::from_nanos(10 * S)).await.unwrap();
    assert_eq!((known.len(), known.null_count()), (ROWS, ROWS - 1));
    assert!(known.is_valid(0));
}

#[tokio::test]
async fn a_corrected_label_counts_from_when_it_is_known() {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1, 1, 1, 2]))),
        ("late", Arc::new(Float64Array::from(vec![Some(1.0), Some(0.0), None, Some(1.0)]))),
        ("known_at", instants(vec![Some(5 * S), Some(3 * S), Some(9 * S), None])),
    ];
    let source = MemorySource::new("outcomes", RecordBatch::try_from_iter(columns).unwrap());
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let asked: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), None]));
    let asked = RecordBatch::try_from_iter([("id", asked)]).unwrap();
    let expected = [(2, None), (3, Some(false)), (4, Some(false)), (5, Some(true)), (9, None)];
    for (at, expected) in expected {
        let at = Timestamp::from_nanos(at * S);
        let found = store.labels(&label_view(), &asked, at).await.unwrap();
        assert_eq!(found, BooleanArray::from(vec![expected, None, None, None]), "{at}");
    }
}

#[tokio::test]
async fn a_feature_that_knows_the_answer_is_refused() {
    let telling: ArrayRef = Arc::new(
        (0..ROWS).map(|row| Some(f64::from(u8::from(late(row))))).collect::<Float64Array>(),
    );
    let backwards: ArrayRef = Arc::new(
        (0..ROWS)
            .map(|row| (row % 5 > 0).then(|| -f64::from(u8::from(late(row)))))
            .collect::<Float64Array>(),
    );
    let missing: ArrayRef = Arc::new(
        (0..ROWS).map(|row| (!late(row)).then(|| noise(row) as f64)).collect::<Float64Array>(),
    );
    let nan: ArrayRef = Arc::new(
        (0..ROWS).map(|row| Some(if late(row) { f64::NAN } else { 1.0 })).collect::<Float64Array>(),
    );
    let word = |row| if late(row) { "diverted" } else { "landed" };
    let words: ArrayRef = Arc::new((0..ROWS).map(|row| Some(word(row))).collect::<StringArray>());
    for (x, data_type) in [
        (telling, DataType::Float64),
        (backwards, DataType::Float64),
        (missing, DataType::Float64),
        (nan, DataType::Float64),
        (words, DataType::Utf8),
        (labels(), DataType::Bool),
    ] {
        let error = training(x, data_type, 2_000).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("feature `x`"), "{error}");
    }
    // An identifier tells nothing about other rows, however well it names its own.
    let names: ArrayRef =
        Arc::new((0..ROWS).map(|row| Some(row.to_string())).collect::<StringArray>());
    training(names, DataType::Utf8, 2_000).await.unwrap();
    // Too few rows to say.
    let few: ArrayRef = Arc::new(
        (0..ROWS).map(|row| Some(f64::from(u8::from(late(row))))).collect::<Float64Array>(),
    );
    training(few, DataType::Float64, 100).await.unwrap();
}

#[tokio::test]
async fn definitions_that_could_see_the_label_are_refused() {
    let own = |known| {
        let view = FeatureView::builder("own").source("outcomes").key("id").event_time("known_at");
        let view = view.known(known).column_as("was_late", "late", DataType::Bool);
        FeatureService::new("service", 1, vec![], vec![view.build().unwrap()]).unwrap()
    };
    let request = vec![Field::new("late", DataType::Bool)];
    let asks = FeatureService::new("service", 1, request, vec![]).unwrap();
    let cutoff = Timestamp::from_nanos(2_000 * S);
    let store = store(honest());
    let made = store.training_set(&asks, &label_view(), &spine(), "at", cutoff).await;
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Refused);
    // Known no earlier than the label, it is the past of others, and here of nobody.
    let made =
        store.training_set(&own(Known::AtEvent), &label_view(), &spine(), "at", cutoff).await;
    assert_eq!(made.unwrap().rows.column_by_name("was_late").unwrap().null_count(), ROWS);
}

#[tokio::test]
async fn wrong_tables_are_named() {
    let cutoff = Timestamp::from_nanos(2_000 * S);
    let store = store(honest());
    let labelled = with_column(&spine(), "late", labels()).unwrap();
    let (service, view) = (service(DataType::Float64), label_view());
    let of = |spine: RecordBatch| {
        let (store, service, view) = (&store, &service, &view);
        async move { store.training_set(service, view, &spine, "at", cutoff).await.unwrap_err() }
    };
    let errors = [
        (of(labelled).await, "column `late`"),
        (of(spine().project(&[1]).unwrap()).await, "column `id` is missing"),
        (of(with_column(&spine(), "x", honest()).unwrap()).await, "column `x`"),
    ];
    for (error, part) in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error}");
    }
    let field = Field::new("distance", DataType::Float64);
    let needs = FeatureService::new("s", 1, vec![field], vec![]).unwrap();
    let error = store.features(&needs, &spine(), "at").await.unwrap_err();
    assert!(error.to_string().contains("service `s`: column `distance` is missing"), "{error}");
    let timeless = with_column(&spine(), "at", instants(vec![None; ROWS])).unwrap();
    let nothing = FeatureService::new("s", 1, vec![Field::new("id", DataType::Int64)], vec![]);
    let made = store.training_set(&nothing.unwrap(), &view, &timeless, "at", cutoff).await;
    assert!(made.unwrap_err().to_string().contains("column `at`: a row has no instant"));
    let lost = FeatureStore::new(vec![]);
    let error = lost.features(&service, &spine(), "at").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("source `values`"), "{error}");
    let both = || Arc::new(MemorySource::new("values", values(honest())));
    let twice = FeatureStore::new(vec![both(), both()]);
    let error = twice.features(&service, &spine(), "at").await.unwrap_err();
    assert!(error.to_string().contains("two have this name"), "{error}");
    let twos: ArrayRef = Arc::new(Int64Array::from(vec![2; ROWS]));
    let odd = FeatureStore::new(vec![Arc::new(MemorySource::new("outcomes", outcomes(twos)))]);
    let error = odd.labels(&view, &spine(), cutoff).await.unwrap_err();
    assert!(error.to_string().contains("column `late`: 2 is neither 0 nor 1"), "{error}");
}

#[tokio::test]
async fn a_stored_training_set_comes_back_and_equal_rows_are_equal_bytes() {
    let artifacts = MemoryStore::default();
    let data = training(honest(), DataType::Float64, 509).await.unwrap();
    let id = data.save(&artifacts).await.unwrap();
    let again = training(honest(), DataType::Float64, 509).await.unwrap();
    assert_eq!(again.save(&artifacts).await.unwrap(), id);
    let loaded = TrainingData::load(&artifacts, &id).await.unwrap();
    assert_eq!(loaded, data);
    assert_eq!(loaded.save(&artifacts).await.unwrap(), id, "what was read is written the same");

    let at = Timestamp::from_nanos(100 * S);
    let (before, from) = (data.before(at).unwrap(), data.from(at).unwrap());
    assert_eq!((before.record.rows, from.record.rows), (100, 400));
    assert_eq!([before.labels(), from.labels()].concat(), data.labels());
    assert_eq!(before.record.cutoff, data.record.cutoff);
    assert_eq!(numbers(&from.rows, "x").unwrap().value(0), noise(107) as f64);
    let id = before.save(&artifacts).await.unwrap();
    assert_eq!(TrainingData::load(&artifacts, &id).await.unwrap(), before);
}

#[tokio::test]
async fn a_record_that_does_not_fit_its_rows_is_corrupt() {
    let artifacts = MemoryStore::default();
    let data = training(honest(), DataType::Float64, 509).await.unwrap();
    let id = data.save(&artifacts).await.unwrap();
    let stored = artifacts.get::<TrainingSet>(&id).await.unwrap();
    let rows = stored.payload(&artifacts, TrainingSet::ROWS).await.unwrap();
    let definitions = stored.payload(&artifacts, TrainingSet::DEFINITIONS).await.unwrap();
    let other = serde_json::to_vec(&kaizen_definitions(&data)).unwrap();
    let lie = TrainingSet { rows: 7, ..stored.record.clone() };
    let no_label = TrainingSet { label: "early".to_owned(), ..stored.record.clone() };
    let record = stored.record.clone();
    let cases = [
        (lie, rows.clone(), definitions.clone()),
        (no_label, rows.clone(), definitions.clone()),
        (record.clone(), rows.slice(..rows.len() / 2), definitions.clone()),
        (record.clone(), rows.clone(), other.into()),
        (record, rows, b"{}".to_vec().into()),
    ];
    for (place, (record, rows, definitions)) in cases.into_iter().enumerate() {
        let payloads = [
            Payload::new(TrainingSet::ROWS, "x", rows),
            Payload::new(TrainingSet::DEFINITIONS, "x", definitions),
        ];
        let id = artifacts.put(&record, &payloads).await.unwrap();
        let error = TrainingData::load(&artifacts, &id).await.unwrap_err();
        assert!(error.to_string().contains("training-set sha256:"), "{place}: {error}");
        let kinds = [ErrorKind::Corrupt, ErrorKind::Invalid];
        assert!(kinds.contains(&error.kind()), "{place}: {error:?}");
    }
    let manifest: Manifest = artifacts.manifest(&id).await.unwrap();
    assert_eq!(manifest.layers.len(), 4);
    assert!(artifacts.contains(&manifest.layers[0].digest).await.unwrap());
}

/// The same definitions under another version.
fn kaizen_definitions(data: &TrainingData) -> kaizen_data::Definitions {
    let mut other = data.definitions.clone();
    let views = other.service.views().to_vec();
    other.service = FeatureService::new("service", 2, vec![], views).unwrap();
    other
}

#[tokio::test]
async fn a_label_counts_once_it_is_mature_and_as_it_was_last_known() {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1, 1, 1, 2, 2]))),
        (
            "late",
            Arc::new(BooleanArray::from(vec![
                Some(false),
                Some(true),
                Some(false),
                None,
                Some(true),
            ])),
        ),
        ("known_at", instants([10, 15, 90, 20, 40].map(|at| Some(at * S)).to_vec())),
    ];
    let source = MemorySource::new("outcomes", RecordBatch::try_from_iter(columns).unwrap());
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let mature = label_view().with_maturity_seconds(30);
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(Int64Array::from(vec![1, 2]))), ("at", instants(vec![Some(0); 2]))];
    let asked = RecordBatch::try_from_iter(columns).unwrap();
    let nothing = FeatureService::new("s", 1, vec![Field::new("id", DataType::Int64)], vec![]);
    let nothing = nothing.unwrap();
    // Of entity 1 the label is first known at 10, of entity 2 at 40: its row before says nothing.
    let expected = [
        (39, [None, None]),
        (40, [Some(true), None]),
        (69, [Some(true), None]),
        (70, [Some(true), Some(true)]),
        (90, [Some(false), Some(true)]),
    ];
    for (at, expected) in expected {
        let cutoff = Timestamp::from_nanos(at * S);
        let found = store.labels(&mature, &asked, cutoff).await.unwrap();
        assert_eq!(found, BooleanArray::from(expected.to_vec()), "{at}");
        let data = store.training_set(&nothing, &mature, &asked, "at", cutoff).await.unwrap();
        assert_eq!(data.record.unlabelled, expected.iter().filter(|l| l.is_none()).count() as u64);
    }
    let at_once = store.labels(&label_view(), &asked, Timestamp::from_nanos(10 * S)).await.unwrap();
    assert_eq!(at_once, BooleanArray::from(vec![Some(false), None]));
}

#[tokio::test]
async fn a_training_set_says_how_each_view_answered() {
    let data = training(honest(), DataType::Float64, 509).await.unwrap();
    let coverage = data.record.coverage["v"];
    assert_eq!((coverage.found, coverage.expired, coverage.unknown), (500, 0, 0));
    assert_eq!((coverage.hidden, coverage.ignored), (0, 0));
}

#[tokio::test]
async fn a_training_set_of_an_earlier_version_is_read_and_stays_what_it_is() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training_set");
    let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let artifacts = MemoryStore::default();
    for name in ["record.json", "rows.parquet", "definitions.json"] {
        artifacts.put_blob(file(name).into()).await.unwrap();
    }
    let id = artifacts.put_manifest(file("manifest.json").into()).await.unwrap();
    let old = TrainingData::load(&artifacts, &id).await.unwrap();
    assert_eq!((old.record.rows, old.record.unlabelled), (30, 970));
    assert_eq!((&old.files, old.record.coverage.len()), (&None, 0));
    assert_eq!(old.save(&artifacts).await.unwrap(), id);
    let now = training(honest(), DataType::Float64, 39).await.unwrap();
    assert_eq!((&now.rows, now.labels()), (&old.rows, old.labels()));
    // Its sources are still what they were, so it can be made once more.
    let again = store(honest()).reproduce(&old).await.unwrap();
    assert_eq!(again, old);
}

#[tokio::test]
async fn the_summary_of_columns_is_stored_beside_them() {
    let odd = (0..ROWS).map(|row| match row {
        3 => None,
        5 => Some(f64::NAN),
        6 => Some(f64::INFINITY),
        row => Some(noise(row + 7) as f64),
    });
    let odd: ArrayRef = Arc::new(odd.collect::<Float64Array>());
    let data = training(odd, DataType::Float64, 509).await.unwrap();
    let summary = data.summary().unwrap();
    let of = |name: &str| summary.iter().find(|column| column.name == name).unwrap();
    assert_eq!((of("x").rows, of("x").missing), (500, 1));
    let finite = (0..500).filter(|row| ![3, 5, 6].contains(row)).map(|row| noise(row + 7) as f64);
    let finite: Vec<f64> = finite.collect();
    assert_eq!(of("x").mean, Some(finite.iter().sum::<f64>() / 497.0));
    assert_eq!(of("x").max, finite.iter().copied().reduce(f64::max));
    assert_eq!(of("id").min, Some(0.0));
    assert_eq!(of("at").latest, Some(Timestamp::from_nanos(499 * S)));
    assert_eq!(of("late").distinct, None);

    let artifacts = MemoryStore::default();
    let id = data.save(&artifacts).await.unwrap();
    let stored = artifacts.get::<TrainingSet>(&id).await.unwrap();
    let columns = stored.payload(&artifacts, TrainingSet::COLUMNS).await.unwrap();
    let columns: Vec<kaizen_data::ColumnSummary> = serde_json::from_slice(&columns).unwrap();
    assert_eq!(columns, summary);
    let files = stored.payload(&artifacts, TrainingSet::SOURCES).await.unwrap();
    assert_eq!(files, r#"{"outcomes":[],"values":[]}"#);

    let words = (0..ROWS).map(|row| Some(format!("w{}", noise(row) % 7))).collect::<StringArray>();
    let data = training(Arc::new(words), DataType::Utf8, 509).await.unwrap();
    let summary = data.summary().unwrap();
    assert_eq!(summary.iter().find(|column| column.name == "x").unwrap().distinct, Some(7));
}
