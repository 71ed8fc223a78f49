//! Random key columns of every type that can name an entity, in the types of both sides.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int64Array, NullArray, StringArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use proptest::prelude::*;
use proptest::sample::select;

/// So many different values a key column has at most.
const VALUES: usize = 4;

/// What a key column holds, with the types of the source's column and of the spine's.
#[derive(Clone, Debug)]
pub(crate) struct KeyColumn {
    kind: Kind,
    source: DataType,
    spine: DataType,
    /// Where in the kind's values this column begins.
    from: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Integer,
    Float,
    Flag,
    Decimal,
    Ticks,
    Instant,
    Text,
    Bytes,
    TwoBytes,
    Nothing,
}

const INTEGERS: [i128; 9] =
    [1, 0, -1, 127, 255, 300, i64::MAX as i128, i64::MIN as i128, u64::MAX as i128];
const FLOATS: [f64; 7] = [0.0, -0.0, f64::NAN, 1.5, f64::INFINITY, f64::NEG_INFINITY, f64::MAX];
const DECIMALS: [i128; 5] = [0, 150, -150, 15, 999_999_999];
/// In milliseconds: since the epoch, since midnight, or as a length.
const TICKS: [i64; 5] = [0, 1_000, 3_600_000, 86_399_000, 1_500];
const INSTANTS: [i64; 6] = [0, 1, -1, 1_700_000_000_000, 1_500, -86_400_000];
const TEXTS: [&str; 8] = ["", "1", "11", "a", "a\0", "\0", "é", "twelve letters and more"];
const BYTES: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"a", b"\xff\xff", b"twelve bytes and more"];
const TWO_BYTES: [&[u8; 2]; 4] = [b"\0\0", b"\0a", b"aa", b"\xff\xff"];

fn integers() -> Vec<DataType> {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    vec![Int64, Int32, Int16, Int8, UInt8, UInt16, UInt32, UInt64, dictionary(Int32)]
}

fn texts() -> Vec<DataType> {
    use DataType::{LargeUtf8, Utf8, Utf8View};
    vec![Utf8, LargeUtf8, Utf8View, dictionary(Utf8), dictionary(LargeUtf8)]
}

fn bytes() -> Vec<DataType> {
    use DataType::{Binary, BinaryView, LargeBinary};
    vec![Binary, LargeBinary, BinaryView, dictionary(Binary)]
}

fn dictionary(values: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(values))
}

/// Types that are compared only with themselves, and whose values are counts of ticks.
fn ticks() -> Vec<DataType> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    vec![
        DataType::Date32,
        DataType::Date64,
        DataType::Time32(Second),
        DataType::Time32(Millisecond),
        DataType::Time64(Microsecond),
        DataType::Time64(Nanosecond),
        DataType::Timestamp(Second, None),
        DataType::Timestamp(Nanosecond, None),
        DataType::Duration(Millisecond),
    ]
}

fn zoned() -> Vec<DataType> {
    let units =
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let zones = ["UTC", "+09:00", "-05:30"];
    let all = units.iter().flat_map(|unit| zones.map(|zone| (*unit, zone)));
    all.map(|(unit, zone)| DataType::Timestamp(unit, Some(zone.into()))).collect()
}

fn decimals() -> Vec<DataType> {
    vec![
        DataType::Decimal32(9, 2),
        DataType::Decimal64(18, 2),
        DataType::Decimal128(20, 2),
        DataType::Decimal256(40, 2),
    ]
}

/// A key column of any type, and of any that it is compared with.
pub(crate) fn key_column() -> impl Strategy<Value = KeyColumn> {
    let two = |kind: Kind, types: Vec<DataType>| {
        (Just(kind), select(types.clone()), select(types)).boxed()
    };
    let one = |kind: Kind, types: Vec<DataType>| {
        select(types).prop_map(move |found| (kind, found.clone(), found)).boxed()
    };
    let kinds = prop_oneof![
        4 => two(Kind::Integer, integers()),
        4 => two(Kind::Text, texts()),
        2 => two(Kind::Bytes, bytes()),
        2 => two(Kind::Instant, zoned()),
        2 => one(Kind::Float, vec![DataType::Float64, DataType::Float32]),
        1 => one(Kind::Flag, vec![DataType::Boolean]),
        2 => one(Kind::Decimal, decimals()),
        3 => one(Kind::Ticks, ticks()),
        1 => one(Kind::TwoBytes, vec![DataType::FixedSizeBinary(2)]),
        1 => one(Kind::Nothing, vec![DataType::Null]),
    ];
    (kinds, 0_usize..9).prop_map(|((kind, source, spine), from)| KeyColumn {
        kind,
        source,
        spine,
        from,
    })
}

/// Which value a key has: one of the first few, the first most often where one entity dominates.
pub(crate) fn choice(dominated: bool) -> impl Strategy<Value = Option<usize>> {
    let first = if dominated { 12 } else { 1 };
    prop_oneof![
        1 => Just(None),
        first * 4 => Just(Some(0)),
        12 => (0..VALUES).prop_map(Some),
    ]
}

impl KeyColumn {
    /// The source's column with these values.
    pub(crate) fn source(&self, choices: &[Option<usize>]) -> ArrayRef {
        self.column(choices, &self.source)
    }

    /// The spine's column with these values.
    pub(crate) fn spine(&self, choices: &[Option<usize>]) -> ArrayRef {
        self.column(choices, &self.spine)
    }

    fn column(&self, choices: &[Option<usize>], to: &DataType) -> ArrayRef {
        let picked = |count: usize| {
            choices.iter().map(move |choice| choice.map(|choice| (self.from + choice) % count))
        };
        let wide: ArrayRef = match self.kind {
            Kind::Nothing => return Arc::new(NullArray::new(choices.len())),
            // An integer that a type cannot hold is not there.
            Kind::Integer => {
                let numbers = picked(INTEGERS.len()).map(|place| Some(INTEGERS[place?]));
                match to {
                    DataType::UInt64 => {
                        Arc::new(numbers.map(|n| u64::try_from(n?).ok()).collect::<UInt64Array>())
                    }
                    _ => Arc::new(numbers.map(|n| i64::try_from(n?).ok()).collect::<Int64Array>()),
                }
            }
            Kind::Float => {
                let floats = picked(FLOATS.len()).map(|place| Some(FLOATS[place?]));
                match to {
                    DataType::Float32 => {
                        Arc::new(floats.map(|x| Some(x? as f32)).collect::<Float32Array>())
                    }
                    _ => Arc::new(floats.collect::<Float64Array>()),
                }
            }
            Kind::Flag => {
                Arc::new(picked(2).map(|place| Some(place? == 1)).collect::<BooleanArray>())
            }
            Kind::Decimal => {
                let decimals = picked(DECIMALS.len()).map(|place| Some(DECIMALS[place?]));
                let decimals = decimals.collect::<Decimal128Array>();
                Arc::new(decimals.with_precision_and_scale(20, 2).unwrap())
            }
            Kind::Ticks | Kind::Instant => {
                let pool: &[i64] = match self.kind {
                    Kind::Ticks => &TICKS,
                    _ => &INSTANTS,
                };
                let counts = picked(pool.len()).map(|place| Some(in_unit(pool[place?], to)));
                Arc::new(counts.collect::<Int64Array>())
            }
            Kind::Text => Arc::new(
                picked(TEXTS.len()).map(|place| Some(TEXTS[place?])).collect::<StringArray>(),
            ),
            Kind::Bytes => Arc::new(
                picked(BYTES.len()).map(|place| Some(BYTES[place?])).collect::<BinaryArray>(),
            ),
            Kind::TwoBytes => {
                let pairs = picked(TWO_BYTES.len()).map(|place| Some(TWO_BYTES[place?]));
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(pairs, 2).unwrap())
            }
        };
        let wide = match to {
            DataType::Date32 | DataType::Time32(_) => cast(&wide, &DataType::Int32).unwrap(),
            _ => wide,
        };
        cast(&wide, to).unwrap()
    }
}

/// Milliseconds in the ticks of a type, rounded down.
fn in_unit(millis: i64, data_type: &DataType) -> i64 {
    match data_type {
        DataType::Date32 => millis / 1_000,
        DataType::Date64 => millis / 1_000 * 86_400_000,
        DataType::Time32(unit) | DataType::Time64(unit) | DataType::Duration(unit) => {
            ticks_of(millis, *unit)
        }
        DataType::Timestamp(unit, _) => ticks_of(millis, *unit),
        _ => millis,
    }
}

fn ticks_of(millis: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => millis.div_euclid(1_000),
        TimeUnit::Millisecond => millis,
        TimeUnit::Microsecond => millis * 1_000,
        TimeUnit::Nanosecond => millis * 1_000_000,
    }
}
