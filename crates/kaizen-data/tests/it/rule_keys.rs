//! The clauses of `docs/point-in-time.md` on keys: by value, and never as text run together.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
    Int64Array, LargeBinaryArray, LargeStringArray, NullArray, RecordBatch, StringArray,
    StringViewArray, TimestampMillisecondArray, TimestampSecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int8Type, UInt16Type};
use kaizen_core::{DataType, ErrorKind};
use kaizen_data::point_in_time::Index;
use kaizen_table::{FeatureView, numbers};
use kaizen_testkit::point_in_time::{assert_agree, oracle};

use crate::cases::instants;

fn column(values: impl Array + 'static) -> ArrayRef {
    Arc::new(values)
}

fn table(keys: Vec<ArrayRef>, time: &str) -> RecordBatch {
    let rows = keys[0].len();
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (place, key) in keys.into_iter().enumerate() {
        columns.push((format!("k{place}"), key));
    }
    columns.push((time.to_owned(), instants(vec![Some(0); rows])));
    columns.push(("x".to_owned(), column((0..rows as i64).collect::<Int64Array>())));
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The source's row that each row of the spine gets, by its place.
fn matched(source: Vec<ArrayRef>, spine: Vec<ArrayRef>) -> Vec<Option<i64>> {
    let mut view = FeatureView::builder("v").source("s").event_time("event");
    for place in 0..source.len() {
        view = view.key(format!("k{place}"));
    }
    let view = view.column("x", DataType::Int64).build().unwrap();
    let (source, spine) = (table(source, "event"), table(spine, "at"));
    let found = Index::new(&view, &source).unwrap().features(&spine, "at").unwrap();
    assert_agree(&view, &found, &oracle(&view, &source, &spine, "at").unwrap());
    numbers(&found, "x").unwrap().iter().map(|x| x.map(|x| x as i64)).collect()
}

fn matched_one(source: ArrayRef, spine: ArrayRef) -> Vec<Option<i64>> {
    matched(vec![source], vec![spine])
}

#[test]
fn a_missing_key_matches_nothing_not_even_a_missing_key() {
    let keys = || column(StringArray::from(vec![None, Some("a"), Some("")]));
    assert_eq!(matched_one(keys(), keys()), [None, Some(1), Some(2)]);
    let pair = |left: Option<&str>| {
        vec![column(StringArray::from(vec![left])), column(Int64Array::from(vec![1]))]
    };
    assert_eq!(matched(pair(None), pair(None)), [None]);
    assert_eq!(matched(pair(Some("a")), pair(None)), [None]);
    let nothing = || column(NullArray::new(2));
    assert_eq!(matched_one(nothing(), nothing()), [None, None]);
}

#[test]
fn a_key_that_is_no_number_matches_nothing_and_zero_is_zero() {
    let source = vec![0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let asked = vec![-0.0, f64::NAN, -f64::NAN, f64::NEG_INFINITY, f64::INFINITY];
    let expected = [Some(0), None, None, Some(3), Some(2)];
    let (wide, asked_wide) =
        (Float64Array::from(source.clone()), Float64Array::from(asked.clone()));
    assert_eq!(matched_one(column(wide), column(asked_wide)), expected);
    let narrow = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Float32Array>();
    assert_eq!(matched_one(column(narrow(source)), column(narrow(asked))), expected);
}

#[test]
fn integers_of_any_width_are_compared_by_value() {
    let narrow = || column(Int8Array::from(vec![-1, 7]));
    let wide = || column(UInt64Array::from(vec![7, u64::MAX]));
    assert_eq!(matched_one(narrow(), wide()), [Some(1), None]);
    assert_eq!(matched_one(wide(), narrow()), [None, Some(0)]);
    let middle = || column(UInt32Array::from(vec![7, u32::MAX]));
    assert_eq!(
        matched_one(column(Int64Array::from(vec![4_294_967_295])), middle()),
        [None, Some(0)]
    );
    let coded: DictionaryArray<Int8Type> =
        DictionaryArray::new(Int8Array::from(vec![1, 0]), column(Int32Array::from(vec![7, -1])));
    assert_eq!(matched_one(narrow(), column(coded)), [Some(0), Some(1)]);
}

#[test]
fn text_and_bytes_are_compared_by_value_whatever_their_encoding() {
    let texts = ["", "a", "a\0", "é"];
    let coded: DictionaryArray<UInt16Type> = texts.into_iter().collect();
    let texts: [ArrayRef; 4] = [
        column(StringArray::from_iter_values(texts)),
        column(LargeStringArray::from_iter_values(texts)),
        column(StringViewArray::from_iter_values(texts)),
        column(coded),
    ];
    let bytes: [&[u8]; 4] = [b"", b"\0", b"\0\0", b"\xff"];
    let bytes: [ArrayRef; 3] = [
        column(BinaryArray::from_iter_values(bytes)),
        column(LargeBinaryArray::from_iter_values(bytes)),
        column(BinaryViewArray::from_iter_values(bytes)),
    ];
    for encodings in [&texts[..], &bytes[..]] {
        for source in encodings {
            for asked in encodings {
                let found = matched_one(Arc::clone(source), Arc::clone(asked));
                assert_eq!(found, [Some(0), Some(1), Some(2), Some(3)]);
            }
        }
    }
}

#[test]
fn instants_as_keys_are_compared_as_instants() {
    let source = TimestampSecondArray::from(vec![0, 100]).with_timezone("+09:00");
    let asked = TimestampMillisecondArray::from(vec![100_000, 100_001]).with_timezone("UTC");
    assert_eq!(matched_one(column(source), column(asked)), [Some(1), None]);
}

#[test]
fn keys_of_other_types_match_in_the_same_type() {
    let decimals = || {
        let values = Decimal128Array::from(vec![150, 15]);
        column(values.with_precision_and_scale(10, 2).unwrap())
    };
    assert_eq!(matched_one(decimals(), decimals()), [Some(0), Some(1)]);
    let dates = || column(Date32Array::from(vec![-1, 20_000]));
    assert_eq!(matched_one(dates(), dates()), [Some(0), Some(1)]);
    let flags = || column(BooleanArray::from(vec![Some(true), None, Some(false)]));
    assert_eq!(matched_one(flags(), flags()), [Some(0), None, Some(2)]);
    let pairs = || {
        let pairs = [b"ab", b"\0\0"].into_iter();
        column(FixedSizeBinaryArray::try_from_iter(pairs).unwrap())
    };
    assert_eq!(matched_one(pairs(), pairs()), [Some(0), Some(1)]);
}

#[test]
fn composite_keys_do_not_run_together() {
    let pair = |left: Vec<&str>, right: Vec<&str>| {
        vec![column(StringArray::from(left)), column(StringArray::from(right))]
    };
    let asked = pair(vec!["11", "1", "1", ""], vec!["1", "11", "1", "111"]);
    assert_eq!(matched(pair(vec!["1"], vec!["11"]), asked), [None, Some(0), None, None]);
    let asked = pair(vec!["a\0", "a"], vec!["b", "\0b"]);
    assert_eq!(matched(pair(vec!["a"], vec!["\0b"]), asked), [None, Some(0)]);
}

#[test]
fn keys_of_different_kinds_are_an_error_that_names_the_column() {
    let view = FeatureView::builder("v").source("s").event_time("event").key("k0");
    let view = view.column("x", DataType::Int64).build().unwrap();
    let of = |source: ArrayRef, asked: ArrayRef| {
        let index = Index::new(&view, &table(vec![source], "event"))?;
        index.features(&table(vec![asked], "at"), "at")
    };
    let number = || column(Int64Array::from(vec![1]));
    let text = || column(StringArray::from(vec!["1"]));
    let error = of(number(), text()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let message = error.to_string();
    assert!(
        message.contains("key column `k0`: holds Utf8, where the source has Int64"),
        "{message}"
    );
    assert!(of(text(), number()).is_err());
    assert!(of(column(Float64Array::from(vec![1.0])), number()).is_err());
}
