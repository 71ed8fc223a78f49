//! Quantiles with a bounded relative error, in buckets that grow with the value.

use std::collections::BTreeMap;

/// Bits of the mantissa that a bucket keeps: 64 buckets to each power of two.
const BITS: u32 = 6;

/// Bits of the mantissa that it drops.
const DROPPED: u32 = 52 - BITS;

/// The bucket of `+inf`; that of `-inf` is its negative.
const INFINITE: i32 = (1 + 1074 + 1023 + 1) << BITS;

/// A sketch of numbers from which any quantile is told within 1 %: counts in buckets, as in
/// `DDSketch` (Masson, Rim and Lee 2019, arXiv:1908.10693), with buckets that are linear within
/// each power of two instead of logarithmic, so that a value's bucket can be read off its bits and
/// is the same on every machine.
///
/// A bucket spans at most 1/64 of its lower end, and its middle stands for it: within 0.79 % of any
/// value in it. Zero and each infinity have buckets of their own, negative values have the buckets
/// of their magnitude. There are at most 268,547 buckets, and one power of two needs 64.
///
/// The counts are a function of the values alone: neither order nor merging matters.
///
/// ```
/// use kaizen_stats::LogBuckets;
///
/// let mut sketch = LogBuckets::default();
/// (1..=1_000).for_each(|n| sketch.add(f64::from(n), 1));
/// let median = sketch.quantile(500).unwrap();
/// assert!((median - 500.0).abs() < 5.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBuckets {
    counts: BTreeMap<i32, u64>,
    total: u64,
}

impl LogBuckets {
    /// The bucket of a value, ascending with it; NaN has none.
    pub fn bucket(value: f64) -> Option<i32> {
        let magnitude = value.abs();
        let bucket = if value.is_nan() {
            return None;
        } else if magnitude == 0.0 {
            0
        } else if magnitude.is_infinite() {
            INFINITE
        } else {
            // 2^54 lifts every subnormal into the normal numbers, without rounding.
            let subnormal = magnitude < f64::MIN_POSITIVE;
            let lifted = if subnormal { magnitude * TWO_54 } else { magnitude };
            let bits = (lifted.to_bits() >> DROPPED) as i32;
            // Counted from 2^-1074, whose exponent field would be -51.
            let lift = if subnormal { 54 } else { 0 };
            bits + ((52 - lift) << BITS)
        };
        Some(if value < 0.0 { -bucket } else { bucket })
    }

    /// The middle of a bucket; 0 if there is no such bucket.
    pub fn middle(bucket: i32) -> f64 {
        let magnitude = match bucket.unsigned_abs().cast_signed() {
            INFINITE => f64::INFINITY,
            // From 2^-1074 up to the largest number.
            found @ 64..INFINITE => {
                let exponent = (found >> BITS) - 52;
                let lift = if exponent < 1 { 54 } else { 0 };
                let bits = (found - ((52 - lift) << BITS)) as u64;
                let middle = f64::from_bits(bits << DROPPED | 1 << (DROPPED - 1));
                // A subnormal's bits are its units of 2^-1074; half a unit is dropped, or it would be
                // the next bucket's.
                if lift > 0 { f64::from_bits((middle * TWO_1020) as u64) } else { middle }
            }
            _ => 0.0,
        };
        if bucket < 0 { -magnitude } else { magnitude }
    }

    /// Adds a value so many times; NaN is not added.
    pub fn add(&mut self, value: f64, times: u64) {
        if let Some(bucket) = Self::bucket(value) {
            self.add_to(bucket, times);
        }
    }

    /// Adds so many values of a bucket.
    pub fn add_to(&mut self, bucket: i32, times: u64) {
        if times > 0 {
            let count = self.counts.entry(bucket).or_default();
            *count = count.saturating_add(times);
            self.total = self.total.saturating_add(times);
        }
    }

    /// Adds all values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        other.counts().for_each(|(bucket, count)| self.add_to(bucket, count));
    }

    /// The buckets that hold values, ascending, each with how many.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = (i32, u64)> {
        self.counts.iter().map(|(bucket, count)| (*bucket, *count))
    }

    /// The value that has [`rank_of`] the quantile, counted from 0 in ascending order, within 1 %.
    /// `None` if there are no values.
    pub fn quantile(&self, per_mille: u16) -> Option<f64> {
        let rank = rank_of(self.total, per_mille)?;
        let mut below = 0_u64;
        let holds = |(_, count): &(&i32, &u64)| {
            below = below.saturating_add(**count);
            below > rank
        };
        self.counts.iter().find(holds).map(|(bucket, _)| Self::middle(*bucket))
    }
}

/// 2^1020.
const TWO_1020: f64 = f64::from_bits((1_020 + 1_023) << 52);

/// 2^54.
const TWO_54: f64 = 18_014_398_509_481_984.0;

/// The rank of a quantile among so many values: `q (n - 1)`, rounded down. `None` if there are none.
pub fn rank_of(values: u64, per_mille: u16) -> Option<u64> {
    let last = u128::from(values.checked_sub(1)?);
    Some((last * u128::from(per_mille.min(1_000)) / 1_000) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("a number", |x| !x.is_nan()),
            (-100_i32..100).prop_map(f64::from),
            (0_u64..200).prop_map(f64::from_bits),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE),
            Just(f64::NEG_INFINITY),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_quantile_is_within_one_percent(
            values in prop::collection::vec(number(), 1..60),
            per_mille in 0_u16..=1_000,
        ) {
            let mut sketch = LogBuckets::default();
            values.iter().for_each(|value| sketch.add(*value, 1));
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[rank_of(values.len() as u64, per_mille).unwrap() as usize];
            let found = sketch.quantile(per_mille).unwrap();
            if exact.is_infinite() || exact == 0.0 {
                prop_assert_eq!(found, exact);
            } else {
                prop_assert!((found / exact - 1.0).abs() < 0.01, "{found} for {exact}");
            }
        }

        #[test]
        fn buckets_ascend_with_values_and_hold_their_middle(a in number(), b in number()) {
            let of = |value| LogBuckets::bucket(value).unwrap();
            prop_assert!((a <= b) <= (of(a) <= of(b)), "{a} {b}");
            let middle = LogBuckets::middle(of(a));
            prop_assert_eq!(of(middle), of(a), "{} {}", a, middle);
            let next = a.next_up();
            prop_assert!(of(next) - of(a) <= 1 || of(a) == 0 || of(next) == 0 || a < f64::from_bits(128));
        }

        #[test]
        fn order_and_merging_do_not_matter(
            (values, shuffled) in prop::collection::vec(number(), 0..60)
                .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
            cut in any::<prop::sample::Index>(),
        ) {
            let of = |values: &[f64]| {
                let mut sketch = LogBuckets::default();
                values.iter().for_each(|value| sketch.add(*value, 1));
                sketch
            };
            let cut = if values.is_empty() { 0 } else { cut.index(values.len()) };
            let mut merged = of(&shuffled[cut..]);
            merged.merge(&of(&shuffled[..cut]));
            prop_assert_eq!(of(&values), merged);
        }
    }

    #[test]
    fn zero_infinities_and_nan_have_their_places() {
        assert_eq!(LogBuckets::bucket(-0.0), Some(0));
        assert_eq!(LogBuckets::bucket(f64::NAN), None);
        assert_eq!(LogBuckets::bucket(f64::from_bits(1)), Some(64));
        assert_eq!(LogBuckets::bucket(f64::MAX), Some(INFINITE - 1));
        assert_eq!(LogBuckets::middle(INFINITE), f64::INFINITY);
        assert_eq!(LogBuckets::bucket(1.0), Some((1 + 1074) << 6));
        let empty = LogBuckets::default();
        assert_eq!(empty.quantile(500), None);
        for bucket in [1, -63, i32::MIN, i32::MAX, INFINITE + 1] {
            assert_eq!(LogBuckets::middle(bucket), 0.0, "{bucket}");
        }
    }
}
