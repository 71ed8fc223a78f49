//! Orders of rows: keys of every type, keys that dominate, any number of threads, coverage, files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array,
    RecordBatch, StringArray, UInt32Array,
};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType as ArrowType, Float64Type, Int64Type, TimeUnit};
use kaizen_core::record::Coverage;
use kaizen_core::{DataType, Digest, ErrorKind};
use kaizen_data::point_in_time::{Index, Ordering};
use kaizen_data::{FeatureStore, MemorySource};
use kaizen_table::{Aggregate, FeatureService, FeatureView, Known, with_column};
use kaizen_testkit::point_in_time::{coverage as oracle_coverage, oracle};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::cases::{Case, assert_same_bits, case, instants};

const S: i64 = 1_000_000_000;

/// Small whole numbers as keys of another type; every number below 100 has one of its own.
fn as_keys(numbers: &Int64Array, to: &ArrowType) -> ArrayRef {
    let text = |number: Option<i64>| number.map(|number| format!("key {number}"));
    match to {
        ArrowType::Binary => Arc::new(numbers.iter().map(text).collect::<BinaryArray>()),
        ArrowType::FixedSizeBinary(_) => {
            let bytes = numbers.iter().map(|number| number.map(|n| [n as u8, 0, 255]));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 3).unwrap())
        }
        ArrowType::Utf8
        | ArrowType::LargeUtf8
        | ArrowType::Utf8View
        | ArrowType::Dictionary(..) => {
            cast(&numbers.iter().map(text).collect::<StringArray>(), to).unwrap()
        }
        ArrowType::LargeBinary | ArrowType::BinaryView => {
            cast(&numbers.iter().map(text).collect::<BinaryArray>(), to).unwrap()
        }
        ArrowType::Date32 | ArrowType::Time32(_) | ArrowType::Decimal32(..) => {
            cast(&cast(numbers, &ArrowType::Int32).unwrap(), to).unwrap()
        }
        ArrowType::Timestamp(_, Some(_)) => {
            let seconds = ArrowType::Timestamp(TimeUnit::Second, Some("UTC".into()));
            cast(&cast(numbers, &seconds).unwrap(), to).unwrap()
        }
        _ => cast(numbers, to).unwrap(),
    }
}

/// Every type that can be a key, and a type of the other side that matches it.
fn key_types() -> Vec<(ArrowType, ArrowType)> {
    use ArrowType::*;
    let text = || Dictionary(Box::new(Int16), Box::new(Utf8));
    let utc = |unit| Timestamp(unit, Some("UTC".into()));
    let alike = [
        Float32,
        Float64,
        Date32,
        Date64,
        Time32(TimeUnit::Second),
        Time32(TimeUnit::Millisecond),
        Time64(TimeUnit::Microsecond),
        Time64(TimeUnit::Nanosecond),
        Duration(TimeUnit::Second),
        Timestamp(TimeUnit::Second, None),
        Decimal32(9, 2),
        Decimal64(18, 2),
        Decimal128(30, 2),
        Decimal256(60, 2),
        FixedSizeBinary(3),
    ];
    let mut types: Vec<_> = alike.into_iter().map(|alike| (alike.clone(), alike)).collect();
    let integers = [Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64];
    let other = [UInt64, Int64, UInt8, Int8, Int32, Int16, Int64, UInt32];
    types.extend(integers.into_iter().zip(other));
    types.extend([(Utf8, LargeUtf8), (LargeUtf8, Utf8View), (Utf8View, text()), (text(), Utf8)]);
    types.extend([(Binary, LargeBinary), (LargeBinary, BinaryView), (BinaryView, Binary)]);
    let zone = Timestamp(TimeUnit::Millisecond, Some("+09:00".into()));
    types.extend([
        (utc(TimeUnit::Second), zone),
        (utc(TimeUnit::Nanosecond), utc(TimeUnit::Second)),
    ]);
    types
}

/// A case whose key `number` is always there.
fn numbered() -> impl Strategy<Value = Case> {
    let number = || vec(option::weighted(0.9, 0_i64..6), 40);
    (case(40, 20, -12..30), number(), number()).prop_map(|(case, of_rows, of_asked)| {
        let put = |batch: &RecordBatch, numbers: Vec<Option<i64>>| {
            let numbers: Int64Array = numbers.into_iter().take(batch.num_rows()).collect();
            with_column(batch, "number", Arc::new(numbers)).unwrap()
        };
        let (source, spine) = (put(&case.source, of_rows), put(&case.spine, of_asked));
        Case { view: rekeyed(&case.view, &["number"]), source, spine }
    })
}

/// The same view with other keys.
fn rekeyed(view: &FeatureView, keys: &[&str]) -> FeatureView {
    let mut json = serde_json::to_value(view).unwrap();
    json["keys"] = keys.into();
    serde_json::from_value(json).unwrap()
}

fn with_keys(batch: &RecordBatch, to: &ArrowType) -> RecordBatch {
    let numbers = batch.column_by_name("number").unwrap().as_primitive::<Int64Type>();
    with_column(batch, "number", as_keys(numbers, to)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn keys_of_every_type_give_the_answers_of_plain_numbers(case in numbered()) {
        let expected = oracle(&case.view, &case.source, &case.spine, "at").unwrap();
        let pairs = rekeyed(&case.view, &["text", "number"]);
        let expected_of_pairs = oracle(&pairs, &case.source, &case.spine, "at").unwrap();
        for (of_source, of_spine) in key_types() {
            let source = with_keys(&case.source, &of_source);
            let spine = with_keys(&case.spine, &of_spine);
            let found = Index::new(&case.view, &source).unwrap().features(&spine, "at").unwrap();
            assert_same_bits(&found, &expected);
            let found = Index::new(&pairs, &source).unwrap().features(&spine, "at").unwrap();
            assert_same_bits(&found, &expected_of_pairs);
        }
    }

    #[test]
    fn sparse_numbers_and_flags_are_keys_like_any_other(case in numbered()) {
        let map = |batch: &RecordBatch, of: fn(i64) -> i64| {
            let numbers = batch.column_by_name("number").unwrap().as_primitive::<Int64Type>();
            let numbers: Int64Array = numbers.unary(of);
            with_column(batch, "number", Arc::new(numbers)).unwrap()
        };
        let far = |number: i64| [i64::MIN, -1, 0, 1 << 40, i64::MAX - 1, i64::MAX][number as usize % 6];
        let (source, spine) = (map(&case.source, far), map(&case.spine, far));
        let found = Index::new(&case.view, &source).unwrap().features(&spine, "at").unwrap();
        assert_same_bits(&found, &oracle(&case.view, &source, &spine, "at").unwrap());
        let (source, spine) = (map(&case.source, |n| n % 2), map(&case.spine, |n| n % 2));
        let expected = oracle(&case.view, &source, &spine, "at").unwrap();
        let (source, spine) =
            (with_keys(&source, &ArrowType::Boolean), with_keys(&spine, &ArrowType::Boolean));
        let found = Index::new(&case.view, &source).unwrap().features(&spine, "at").unwrap();
        assert_same_bits(&found, &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn coverage_counts_every_question_once(case in case(40, 20, -12..30)) {
        let index = Index::new(&case.view, &case.source).unwrap();
        let (_, coverage) = index.features_with_coverage(&case.spine, "at").unwrap();
        let expected = oracle_coverage(&case.view, &case.source, &case.spine, "at").unwrap();
        prop_assert_eq!(coverage, expected);
        let asked = coverage.found + coverage.expired + coverage.unknown;
        prop_assert_eq!(asked, case.spine.num_rows() as u64);
    }

    #[test]
    fn later_questions_need_only_the_rows_that_are_carried(
        case in case(60, 20, -12..30),
        from in crate::cases::instant(-12..30),
    ) {
        let index = Index::new(&case.view, &case.source).unwrap();
        let needed = index.needed(from);
        prop_assert!(needed.is_sorted_by(|a, b| a < b));
        let carried = take_record_batch(&case.source, &UInt32Array::from(needed)).unwrap();
        let asked = kaizen_table::instants(&case.spine, "at").unwrap();
        let later: BooleanArray = asked.iter().map(|at| Some(at? >= from)).collect();
        let spine = arrow::compute::filter_record_batch(&case.spine, &later).unwrap();
        let (all, of_all) = index.features_with_coverage(&spine, "at").unwrap();
        let index = Index::new(&case.view, &carried).unwrap();
        let (few, of_few) = index.features_with_coverage(&spine, "at").unwrap();
        assert_same_bits(&few, &all);
        prop_assert_eq!(of_few, Coverage { ignored: 0, ..of_all });
    }
}

/// Rows and questions drawn from their places: 9 of 10 are about one entity.
fn dominated(rows: usize, known: bool) -> Case {
    let drawn = |row: usize, stream: u64| {
        let mut z = (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 29)) as i64 & 0xffff_ffff
    };
    let table = |rows: usize, stream: u64, time: &'static str| {
        let draw = |salt: u64, most: i64| -> Vec<i64> {
            (0..rows).map(|row| drawn(row, stream * 100 + salt) % most).collect()
        };
        let keys = draw(1, 100).into_iter().map(|k| if k < 90 { 7 } else { k * 1_000_003 });
        // Few instants, so that ties are many.
        let at = draw(2, 5_000).into_iter().map(|at| Some(at * S)).collect();
        let late = draw(2, 5_000).into_iter().zip(draw(3, 50));
        let late = late.map(|(at, late)| (late > 5).then_some((at + late) * S)).collect();
        let values: Float64Array = draw(4, 1 << 30).into_iter().map(|x| Some(x as f64)).collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("number", Arc::new(keys.collect::<Int64Array>())),
            (time, instants(at)),
            ("known", instants(late)),
            ("amount", Arc::new(values)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let rule = if known { Known::Column("known".to_owned()) } else { Known::AtEvent };
    let view = FeatureView::builder("v")
        .source("s")
        .key("number")
        .event_time("event")
        .known(rule)
        .ttl_seconds(20)
        .column("amount", DataType::Float64)
        .window("n", Aggregate::Count, "amount", 3)
        .build();
    let (source, spine) = (table(rows, 1, "event"), table(40_000, 2, "at"));
    Case { view: view.unwrap(), source, spine }
}

#[test]
fn one_thread_and_many_give_the_same_bits_also_where_one_key_dominates() {
    for known in [false, true] {
        let case = dominated(120_000, known);
        let answered = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let index = Index::new(&case.view, &case.source).unwrap();
                let answered = index.features_with_coverage(&case.spine, "at").unwrap();
                (answered, index.needed(2_000 * S))
            })
        };
        let ((features, coverage), needed) = answered(1);
        for threads in [2, 3, 7] {
            let ((same_features, same_coverage), same_needed) = answered(threads);
            assert_same_bits(&same_features, &features);
            assert_eq!((same_coverage, &same_needed), (coverage, &needed), "{threads} threads");
        }
        let few = case.spine.slice(20_000, 60);
        let expected = oracle(&case.view, &case.source, &few, "at").unwrap();
        assert_same_bits(&features.slice(20_000, 60), &expected);
    }
}

/// The index, and the same packed.
fn answers_packed(case: &Case) -> [(RecordBatch, Coverage); 2] {
    let index = Index::new(&case.view, &case.source).unwrap();
    let packed = index.clone().packed();
    assert!(packed.is_packed() && !index.is_packed());
    assert_eq!(packed.needed(3 * S), index.needed(3 * S));
    [index, packed].map(|index| index.features_with_coverage(&case.spine, "at").unwrap())
}

fn assert_same_answers([left, right]: [(RecordBatch, Coverage); 2]) {
    assert_same_bits(&left.0, &right.0);
    assert_eq!(left.1, right.1);
    // Also of what lies beneath missing numbers.
    for (left, right) in left.0.columns().iter().zip(right.0.columns()) {
        if left.data_type().is_numeric() {
            assert_eq!(left.to_data().buffers(), right.to_data().buffers());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn packed_values_are_the_same_values(case in case(40, 20, -12..30)) {
        assert_same_answers(answers_packed(&case));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn packed_values_of_many_rows_are_the_same_on_any_number_of_threads(
        case in case(9_000, 20_000, -12..30),
    ) {
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_same_answers(pool.install(|| answers_packed(&case)));
        }
    }
}

/// 20,000 questions of 60,000 rows with values of every type: 70 columns, so that the bits of a row
/// fill more than a word.
#[test]
fn packed_values_of_every_type_are_the_same_values() {
    let case = dominated(60_000, true);
    let numbers = case.source.column_by_name("amount").unwrap().as_primitive::<Float64Type>();
    let mut view = FeatureView::builder("v").source("s").key("number").event_time("event");
    view = view.known(case.view.known().clone()).ttl_seconds(20);
    let mut source = case.source.clone();
    for place in 0..70_u32 {
        // Some columns have no missing value.
        let there = |x: f64| place % 7 < 3 || !(x as u64 + u64::from(place)).is_multiple_of(5);
        let drawn = numbers.iter().map(|x| x.filter(|x| there(*x)));
        let name = format!("c{place}");
        let (values, data_type): (ArrayRef, _) = match place % 4 {
            0 => (
                Arc::new(drawn.map(|x| x.map(|x| x / -3.0)).collect::<Float64Array>()),
                DataType::Float64,
            ),
            1 => (
                Arc::new(drawn.map(|x| x.map(|x| -(x as i64))).collect::<Int64Array>()),
                DataType::Int64,
            ),
            2 => (
                Arc::new(drawn.map(|x| x.map(|x| x as i64 % 2 == 0)).collect::<BooleanArray>()),
                DataType::Bool,
            ),
            _ => (
                Arc::new(drawn.map(|x| x.map(|x| format!("{x}"))).collect::<StringArray>()),
                DataType::Utf8,
            ),
        };
        source = with_column(&source, &name, values).unwrap();
        view = view.column(&name, data_type);
    }
    let view = view.window("n", Aggregate::Sum, "c0", 3).build().unwrap();
    for rows in [60_000, 1, 0] {
        let (view, source) = (view.clone(), source.slice(60_000 - rows, rows));
        let spine = case.spine.slice(0, 20_000);
        assert_same_answers(answers_packed(&Case { view, source, spine }));
    }
}

/// Every hundredth of many questions of many rows, by every rule of when rows are known.
#[test]
fn many_questions_of_many_rows_are_answered_by_the_rule() {
    let case = dominated(40_000, true);
    let column = || "known".to_owned();
    let until = Some(kaizen_core::Timestamp::from_nanos(2_500 * S));
    let rules = [
        Known::AtEvent,
        Known::After { seconds: 11 },
        Known::Column(column()),
        Known::Backfilled { column: column(), until },
    ];
    for rule in rules {
        let mut json = serde_json::to_value(&case.view).unwrap();
        json["known"] = serde_json::to_value(&rule).unwrap();
        let view: FeatureView = serde_json::from_value(json).unwrap();
        let spine = case.spine.slice(0, 5_000);
        let index = Index::new(&view, &case.source).unwrap();
        let found = index.features(&spine, "at").unwrap();
        let sample = UInt32Array::from_iter_values((0..5_000).step_by(100));
        let found = take_record_batch(&found, &sample).unwrap();
        let spine = take_record_batch(&spine, &sample).unwrap();
        assert_same_bits(&found, &oracle(&view, &case.source, &spine, "at").unwrap());
    }
}

#[test]
fn an_order_serves_every_view_that_agrees_and_no_other() {
    let case = dominated(5_000, true);
    let view = |name: &str, event: &str| {
        let known = Known::Column("known".to_owned());
        let view = FeatureView::builder(name).source("s").key("number").known(known);
        view.event_time(event).column_as("y", "amount", DataType::Float64).build().unwrap()
    };
    let index = Index::new(&case.view, &case.source).unwrap();
    let other = view("w", "event");
    assert_eq!(Ordering::definition(&case.view).unwrap(), Ordering::definition(&other).unwrap());
    let shared = Index::over(&other, Arc::clone(index.ordering()), &case.source).unwrap();
    let expected = Index::new(&other, &case.source).unwrap().features(&case.spine, "at").unwrap();
    assert_same_bits(&shared.features(&case.spine, "at").unwrap(), &expected);
    let differs = Index::over(&view("w", "known"), Arc::clone(index.ordering()), &case.source);
    assert_eq!(differs.unwrap_err().kind(), ErrorKind::Conflict);
    let fewer = case.source.slice(0, 4_999);
    let differs = Index::over(&other, Arc::clone(index.ordering()), &fewer).unwrap_err();
    assert_eq!(differs.kind(), ErrorKind::Conflict);
    assert!(differs.to_string().contains("4999 rows, of which 5000"), "{differs}");
}

/// Views whose keys are numbered by subtraction, by words and by bytes, known in every way.
fn kept_cases() -> Vec<Case> {
    let case = dominated(60, true);
    let text = with_keys(&case.source, &ArrowType::Utf8);
    let spine = with_keys(&case.spine.slice(0, 500), &ArrowType::Utf8);
    let close = |batch: &RecordBatch| {
        let numbers = batch.column_by_name("number").unwrap().as_primitive::<Int64Type>();
        let numbers: Int64Array = numbers.unary(|number| number % 50);
        with_column(batch, "number", Arc::new(numbers)).unwrap()
    };
    let later = |known: Known| {
        let mut json = serde_json::to_value(&case.view).unwrap();
        json["known"] = serde_json::to_value(known).unwrap();
        serde_json::from_value(json).unwrap()
    };
    let sparse = Case { spine: case.spine.slice(0, 500), ..case.clone() };
    let at_event = Case { view: later(Known::AtEvent), ..sparse.clone() };
    let after = later(Known::After { seconds: 3 });
    let dense = Case { view: after, source: close(&case.source), spine: close(&sparse.spine) };
    vec![Case { source: text, spine, ..case }, sparse, at_event, dense]
}

#[test]
fn an_order_that_was_kept_answers_as_one_that_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = Digest::of("rows");
    for (place, case) in kept_cases().into_iter().enumerate() {
        let path = folder.path().join(format!("{place}.order"));
        assert!(Ordering::load(&path, &case.view, &data).is_none(), "there is none yet");
        let made = Ordering::new(&case.view, &case.source).unwrap();
        made.save(&path, &data).unwrap();
        let kept = Ordering::load(&path, &case.view, &data).unwrap();
        assert_eq!(kept.ignored(), made.ignored());
        let made = Index::over(&case.view, Arc::new(made), &case.source).unwrap();
        let kept = Index::over(&case.view, Arc::new(kept), &case.source).unwrap();
        let expected = made.features_with_coverage(&case.spine, "at").unwrap();
        let found = kept.features_with_coverage(&case.spine, "at").unwrap();
        assert_same_bits(&found.0, &expected.0);
        assert_eq!(found.1, expected.1);
        let fresh = oracle(&case.view, &case.source, &case.spine, "at").unwrap();
        assert_same_bits(&found.0, &fresh);
        // Of other rows, or for another view.
        assert!(Ordering::load(&path, &case.view, &Digest::of("other rows")).is_none());
        let other = rekeyed(&case.view, &["known"]);
        assert!(Ordering::load(&path, &other, &data).is_none());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), place + 1, "nothing partial is left");
    }
}

#[test]
fn an_order_with_any_byte_damaged_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("order");
    let data = Digest::of("rows");
    for case in kept_cases().into_iter().skip(2) {
        let made = Ordering::new(&case.view, &case.source).unwrap();
        made.save(&path, &data).unwrap();
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(Ordering::load(&path, &case.view, &data).is_none(), "byte {place}");
        }
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Ordering::load(&path, &case.view, &data).is_none(), "cut at {length}");
        }
    }
}

/// A store that keeps its orders in a folder.
fn keeping(case: &Case, folder: &Path) -> (FeatureStore, FeatureService) {
    let source = MemorySource::new("s", case.source.clone());
    let store = FeatureStore::new(vec![Arc::new(source)]).keep_indices_in(folder);
    (store, FeatureService::new("service", 1, vec![], vec![case.view.clone()]).unwrap())
}

async fn assert_answers(case: &Case, folder: &Path) {
    let (store, service) = keeping(case, folder);
    let asked = ["text", "number", "at"].into_iter();
    let asked: Vec<_> = asked.filter_map(|name| case.spine.schema().index_of(name).ok()).collect();
    let asked = case.spine.project(&asked).unwrap();
    let found = store.features(&service, &asked, "at").await.unwrap();
    let expected = oracle(&case.view, &case.source, &case.spine, "at").unwrap();
    let names: Vec<_> = expected
        .schema()
        .fields()
        .iter()
        .map(|field| found.schema().index_of(field.name()).unwrap())
        .collect();
    assert_same_bits(&found.project(&names).unwrap(), &expected);
}

#[tokio::test]
async fn a_store_makes_a_damaged_or_stale_order_again_and_writes_the_same_bytes() {
    for case in kept_cases() {
        let folder = tempfile::tempdir().unwrap();
        let indices = folder.path().join("made if it is not there");
        assert_answers(&case, &indices).await;
        let entries: Vec<_> = fs::read_dir(&indices).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), 1, "nothing partial is left");
        let path = entries[0].path();
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(whole.len() / 5) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let name = entries[0].file_name().into_string().unwrap();
            fs::write(indices.join(format!(".{name}.7-0.tmp")), b"cut off").unwrap();
            assert_answers(&case, &indices).await;
            assert_eq!(fs::read(&path).unwrap(), whole, "it was written again, the same");
            assert_eq!(fs::read_dir(&indices).unwrap().count(), 1, "what was left is cleared away");
        }
        // The rows are others, and so is the order.
        let fewer = Case { source: case.source.slice(0, 40), ..case.clone() };
        assert_answers(&fewer, &indices).await;
        assert_ne!(fs::read(&path).unwrap(), whole);
        assert_answers(&case, &indices).await;
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_written_is_answered_from_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no folder");
    fs::write(&file, b"x").unwrap();
    let case = kept_cases().remove(0);
    let made = Ordering::new(&case.view, &case.source).unwrap();
    let nowhere = file.join("order");
    assert_eq!(
        made.save(&nowhere, &Digest::of("rows")).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_answers(&case, &file).await;
}
