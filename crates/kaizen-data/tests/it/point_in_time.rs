//! The rule, case by case and against the oracle.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampSecondArray,
};
use kaizen_core::{DataType, ErrorKind};
use kaizen_data::point_in_time::Index;
use kaizen_table::{Aggregate, FeatureView, FeatureViewBuilder, Known, numbers};
use kaizen_testkit::point_in_time::oracle;
use proptest::prelude::*;

use crate::cases::{assert_same_bits, case, instants};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_equals_the_oracle(case in case(40, 20, -12..30)) {
        let found = Index::new(&case.view, &case.source).unwrap().features(&case.spine, "at");
        let expected = oracle(&case.view, &case.source, &case.spine, "at").unwrap();
        assert_same_bits(&found.unwrap(), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// Enough rows that the parallel paths are taken.
    #[test]
    fn many_rows_equal_the_same_rows_one_by_one(case in case(9_000, 9_000, -12..30)) {
        let index = Index::new(&case.view, &case.source).unwrap();
        let all = index.features(&case.spine, "at").unwrap();
        for start in (0..case.spine.num_rows()).step_by(500) {
            let length = 500.min(case.spine.num_rows() - start);
            let part = index.features(&case.spine.slice(start, length), "at").unwrap();
            assert_same_bits(&all.slice(start, length), &part);
        }
        let narrow = case.spine.slice(0, case.spine.num_rows().min(40));
        let expected = oracle(&case.view, &case.source, &narrow, "at").unwrap();
        assert_same_bits(&index.features(&narrow, "at").unwrap(), &expected);
    }
}

const S: i64 = 1_000_000_000;

/// Event, known at, value.
type Row = (Option<i64>, Option<i64>, Option<f64>);

fn source(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(StringArray::from(vec!["a"; rows.len()]))),
        ("event", instants(rows.iter().map(|row| row.0).collect())),
        ("known", instants(rows.iter().map(|row| row.1).collect())),
        ("x", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn spine(keys: Vec<Option<&str>>, at: Vec<i64>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(StringArray::from(keys))),
        ("at", instants(at.into_iter().map(Some).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn view() -> FeatureViewBuilder {
    FeatureView::builder("v").source("s").key("k").event_time("event")
}

fn latest(view: FeatureViewBuilder, rows: &[Row], at: i64) -> Option<f64> {
    let view = view.column("x", DataType::Float64).build().unwrap();
    let found = Index::new(&view, &source(rows)).unwrap();
    let found = found.features(&spine(vec![Some("a")], vec![at]), "at").unwrap();
    assert_eq!(found.num_rows(), 1);
    numbers(&found, "x").unwrap().iter().next().unwrap()
}

/// Name, definition, rows of the source, the instant asked about, the answer.
type RuleCase<'a> = (&'a str, FeatureViewBuilder, &'a [Row], i64, Option<f64>);

fn check(cases: &[RuleCase<'_>]) {
    for (name, view, rows, at, expected) in cases {
        assert_eq!(latest(view.clone(), rows, *at), *expected, "{name}");
    }
}

fn bitemporal() -> FeatureViewBuilder {
    view().known(Known::Column("known".to_owned()))
}

/// A row that happened at `event` and became known at `known`.
fn row(event: i64, known: i64, value: f64) -> Row {
    (Some(event), Some(known), Some(value))
}

/// A row of a source that does not say when it became known.
fn plain(event: i64, value: f64) -> Row {
    (Some(event), None, Some(value))
}

#[test]
fn the_rule_of_age_and_of_the_future() {
    let ttl = || view().ttl_seconds(10);
    let after = || view().known(Known::After { seconds: 4 });
    let far = [plain(i64::MIN, 1.0)];
    check(&[
        ("the same instant matches", view(), &[plain(7 * S, 1.0)], 7 * S, Some(1.0)),
        ("an age of exactly the TTL", ttl(), &[plain(0, 1.0)], 10 * S, Some(1.0)),
        ("one nanosecond older", ttl(), &[plain(0, 1.0)], 10 * S + 1, None),
        ("only future rows", view(), &[plain(8 * S, 1.0)], 8 * S - 1, None),
        ("no TTL is no end", view(), &far, i64::MAX, Some(1.0)),
        ("a TTL over all of time", ttl(), &far, i64::MAX, None),
        ("an empty source", view(), &[], 0, None),
        (
            "known a fixed time after the event",
            after(),
            &[plain(0, 1.0), plain(2 * S, 2.0)],
            6 * S - 1,
            Some(1.0),
        ),
        ("and from that instant on", after(), &[plain(2 * S, 2.0)], 6 * S, Some(2.0)),
        (
            "an old row that becomes known late is still too old",
            bitemporal().ttl_seconds(3),
            &[row(S, 9 * S, 1.0)],
            9 * S,
            None,
        ),
    ]);
}

#[test]
fn the_rule_of_ties_and_late_rows() {
    let correction = [row(S, S, 1.0), row(2 * S, 10 * S, 2.0)];
    check(&[
        (
            "the same event: the last known",
            bitemporal(),
            &[row(S, 5 * S, 5.0), row(S, 4 * S, 4.0)],
            9 * S,
            Some(5.0),
        ),
        (
            "known before it happened counts for ties, not for sight",
            bitemporal(),
            &[row(5 * S, 2 * S, 2.0), row(5 * S, S, 1.0)],
            5 * S,
            Some(2.0),
        ),
        ("it is not seen before it happens", bitemporal(), &[row(5 * S, S, 1.0)], 4 * S, None),
        ("a late correction is not seen early", bitemporal(), &correction, 5 * S, Some(1.0)),
        ("and is when it is known", bitemporal(), &correction, 10 * S, Some(2.0)),
        (
            "a late row of an older event does not replace a newer one",
            bitemporal(),
            &[row(2 * S, 2 * S, 2.0), row(S, 9 * S, 1.0)],
            10 * S,
            Some(2.0),
        ),
        (
            "an exact tie: the last in the source",
            view(),
            &[plain(S, 1.0), plain(S, 2.0)],
            S,
            Some(2.0),
        ),
        (
            "a tie, equally known: the last in the source",
            bitemporal(),
            &[row(S, 2 * S, 1.0), row(S, 2 * S, 2.0)],
            3 * S,
            Some(2.0),
        ),
        (
            "a missing known-at wins no tie",
            bitemporal(),
            &[row(5 * S, S, 1.0), plain(5 * S, 2.0)],
            5 * S,
            Some(1.0),
        ),
    ]);
}

#[test]
fn the_rule_of_what_is_missing() {
    let gap = (Some(2 * S), None, None);
    let timeless = (None, Some(S), Some(1.0));
    check(&[
        ("a missing known-at: as it happened", bitemporal(), &[plain(5, 2.0)], 5, Some(2.0)),
        ("a missing value stays missing", view(), &[plain(S, 1.0), gap], 3 * S, None),
        (
            "a row without an event time is ignored",
            bitemporal(),
            &[timeless, row(0, S, 2.0)],
            3 * S,
            Some(2.0),
        ),
        ("all rows without one", view(), &[timeless], 3 * S, None),
    ]);
}

#[test]
fn a_ttl_of_zero_is_an_error() {
    let error = view().column("x", DataType::Float64).ttl_seconds(0).build().unwrap_err();
    assert!(error.to_string().contains("TTL"), "{error}");
}

#[test]
fn every_row_gets_one_answer_in_its_place() {
    let view = view().column("x", DataType::Float64).build().unwrap();
    let keys: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]))),
        ("event", instants(vec![Some(0), Some(0), Some(5)])),
        ("x", Arc::new(Float64Array::from(vec![1.0, 9.0, 2.0]))),
    ];
    let source = RecordBatch::try_from_iter(keys).unwrap();
    // Duplicates, an entity that was never seen, a missing key, and instants out of order.
    let asked = vec![Some("b"), Some("a"), Some("z"), None, Some("a"), Some("b"), Some("a")];
    let spine = spine(asked, vec![9, 3, 3, 3, 3, 4, -1]);
    let found = Index::new(&view, &source).unwrap().features(&spine, "at").unwrap();
    let found: Vec<_> = numbers(&found, "x").unwrap().iter().collect();
    assert_eq!(found, [Some(2.0), Some(1.0), None, None, Some(1.0), None, None]);
}

#[test]
fn composite_keys_do_not_run_together() {
    let pair = |left: Vec<&str>, right: Vec<&str>, more: (&'static str, ArrayRef)| {
        let left: ArrayRef = Arc::new(StringArray::from(left));
        let right: ArrayRef = Arc::new(StringArray::from(right));
        let at = instants(vec![Some(0); left.len()]);
        RecordBatch::try_from_iter([("k", left), ("l", right), ("event", at), more]).unwrap()
    };
    let one: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let source = pair(vec!["1"], vec!["11"], ("x", one));
    let asked = pair(vec!["11", "1"], vec!["1", "11"], ("at", instants(vec![Some(0), Some(0)])));
    let view = view().key("l").column("x", DataType::Float64).build().unwrap();
    let found = Index::new(&view, &source).unwrap().features(&asked, "at").unwrap();
    assert_eq!(numbers(&found, "x").unwrap().iter().collect::<Vec<_>>(), [None, Some(1.0)]);
}

#[test]
fn windows_are_open_at_their_start_and_exact() {
    let view = view()
        .known(Known::Column("known".to_owned()))
        .window("n", Aggregate::Count, "x", 10)
        .window("sum", Aggregate::Sum, "x", 10)
        .window("mean", Aggregate::Mean, "x", 10)
        .build()
        .unwrap();
    let rows = [
        (Some(0), Some(0), Some(1e100)),
        (Some(S), Some(S), Some(1.0)),
        (Some(2 * S), Some(2 * S), None),
        (Some(3 * S), Some(3 * S), Some(-1e100)),
        // Known only after it left.
        (Some(4 * S), Some(40 * S), Some(7.0)),
    ];
    let at = vec![-1, 10 * S - 1, 10 * S, 12 * S, 13 * S - 1, 40 * S, 3 * S];
    let found = Index::new(&view, &source(&rows)).unwrap();
    let found = found.features(&spine(vec![Some("a"); 7], at), "at").unwrap();
    let of = |name| numbers(&found, name).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(of("n"), [0, 3, 2, 1, 1, 0, 3].map(|n| Some(f64::from(n))));
    let one = Some(1.0);
    let lost = Some(-1e100);
    assert_eq!(of("sum"), [None, one, lost, lost, lost, None, one]);
    assert_eq!(of("mean"), [None, Some(1.0 / 3.0), Some(-5e99), lost, lost, None, Some(1.0 / 3.0)]);
}

#[test]
fn instants_are_compared_as_instants() {
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(StringArray::from(vec!["a"]))),
        ("event", Arc::new(TimestampSecondArray::from(vec![100]).with_timezone("-05:00"))),
        ("x", Arc::new(Int64Array::from(vec![3]))),
    ];
    let source = RecordBatch::try_from_iter(columns).unwrap();
    let spine: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(StringArray::from(vec!["a", "a"]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![100_000_000, 99_999_999])
                    .with_timezone("+09:00"),
            ),
        ),
    ];
    let spine = RecordBatch::try_from_iter(spine).unwrap();
    let view = view().column("x", DataType::Float64).build().unwrap();
    let found = Index::new(&view, &source).unwrap().features(&spine, "at").unwrap();
    assert_eq!(numbers(&found, "x").unwrap().iter().collect::<Vec<_>>(), [Some(3.0), None]);
}

#[test]
fn bad_input_is_named() {
    let naive = |name: &str, batch: &RecordBatch| {
        let values = Arc::new(TimestampSecondArray::from(vec![0; batch.num_rows()]));
        kaizen_table::with_column(batch, name, values).unwrap()
    };
    let known = view().known(Known::Column("known".to_owned()));
    let view = known.column("x", DataType::Float64).build().unwrap();
    let good = source(&[(Some(0), Some(0), Some(1.0))]);
    let asked = spine(vec![Some("a")], vec![0]);
    let index = Index::new(&view, &good).unwrap();
    let of = |source: &RecordBatch| Index::new(&view, source).unwrap_err();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let gap = kaizen_table::with_column(&asked, "at", instants(vec![None])).unwrap();
    let errors = [
        (of(&naive("event", &good)), "source `s`: column `event`: naive"),
        (of(&naive("known", &good)), "column `known`: naive"),
        (of(&kaizen_table::with_column(&good, "x", text).unwrap()), "column `x`: holds Utf8"),
        (of(&good.project(&[0, 1, 3]).unwrap()), "column `known` is missing"),
        (index.features(&naive("at", &asked), "at").unwrap_err(), "column `at`: naive"),
        (index.features(&asked, "when").unwrap_err(), "column `when` is missing"),
        (index.features(&gap, "at").unwrap_err(), "row 0 has no instant"),
        (
            index
                .features(&kaizen_table::with_column(&asked, "k", number).unwrap(), "at")
                .unwrap_err(),
            "view `v`: key column `k`: holds Int64, where the source has Utf8",
        ),
    ];
    for (error, part) in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
}
