//! Sums of floats without rounding, so that their order cannot matter.

use std::fmt;

use kaizen_core::{Context, ErrorKind, Result};

use crate::fixed_point::{FixedPoint, parts};

/// A finite float is an integer below 2^2098 times 2^-1074: 66 digits of 32 bits. Eight more hold
/// the carries of any number of terms that a counter of 64 bits can count.
const DIGITS: usize = 74;

/// The sum of floats, kept exactly and rounded once, when it is asked for.
///
/// A long accumulator (Kulisch): one fixed-point integer wide enough for every finite `f64`. Since
/// integers are added, order and grouping do not change the result, and what was added can be
/// taken away again without a trace. That makes a sliding window's sum the same bits as the sum
/// over its rows, however the window got there.
///
/// Infinities and NaN are counted beside the integer: while any is in the sum, its value is what
/// IEEE 754 says (`+inf` and `-inf` together give NaN). A sum of exactly zero is `+0.0`. A sum
/// beyond the largest float rounds to an infinity.
///
/// ```
/// use kaizen_stats::ExactSum;
///
/// let mut sum: ExactSum = [1e100, 1.0, -1e100].into_iter().collect();
/// assert_eq!(sum.value(), 1.0);
/// sum.subtract(1.0);
/// assert_eq!(sum.value(), 0.0);
/// ```
#[derive(Clone)]
pub struct ExactSum {
    /// In units of 2^-1074.
    finite: FixedPoint<DIGITS>,
    nan: i64,
    plus_infinity: i64,
    minus_infinity: i64,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { finite: FixedPoint::ZERO, nan: 0, plus_infinity: 0, minus_infinity: 0 }
    }
}

impl ExactSum {
    /// Adds a term.
    pub fn add(&mut self, term: f64) {
        self.apply(term, 1);
    }

    /// Takes a term away that was added. An infinity or NaN that was added is gone again.
    pub fn subtract(&mut self, term: f64) {
        self.apply(term, -1);
    }

    /// Adds all terms of another sum.
    pub fn merge(&mut self, other: &Self) {
        self.nan += other.nan;
        self.plus_infinity += other.plus_infinity;
        self.minus_infinity += other.minus_infinity;
        self.finite.merge(&other.finite);
    }

    /// The sum, rounded to the nearest float, a tie to the even one.
    pub fn value(&self) -> f64 {
        let plus = self.plus_infinity > 0 || self.minus_infinity < 0;
        let minus = self.minus_infinity > 0 || self.plus_infinity < 0;
        match (self.nan != 0, plus, minus) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => self.finite.value(),
        }
    }

    fn apply(&mut self, term: f64, sign: i64) {
        if term.is_finite() {
            let (mantissa, position) = parts(term);
            let sign = if term.is_sign_negative() { -sign } else { sign };
            self.finite.add(u128::from(mantissa), position, sign);
        } else if term.is_nan() {
            self.nan += sign;
        } else if term > 0.0 {
            self.plus_infinity += sign;
        } else {
            self.minus_infinity += sign;
        }
    }

    /// Appends the sum as bytes, little-endian: how many infinities of each sign and how many NaN
    /// it has, 8 bytes each if there are any, and the exact sum of the rest. Equal sums have equal
    /// bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let special = [self.plus_infinity, self.minus_infinity, self.nan];
        let any = special.iter().any(|count| *count != 0);
        out.push(u8::from(any));
        if any {
            special.iter().for_each(|count| out.extend(count.to_le_bytes()));
        }
        self.finite.write(out);
    }

    /// Takes what [`write`](Self::write) appended from the front; anything else is
    /// [`ErrorKind::Corrupt`].
    pub fn read(bytes: &mut &[u8]) -> Result<Self> {
        let mut sum = Self::default();
        let (any, rest) = bytes.split_first().context(ErrorKind::Corrupt, "a sum cut off")?;
        *bytes = rest;
        if *any != 0 {
            for count in [&mut sum.plus_infinity, &mut sum.minus_infinity, &mut sum.nan] {
                let (found, rest) =
                    bytes.split_first_chunk().context(ErrorKind::Corrupt, "a sum cut off")?;
                *count = i64::from(
                    i32::try_from(i64::from_le_bytes(*found))
                        .context(ErrorKind::Corrupt, "a sum of too many infinities")?,
                );
                *bytes = rest;
            }
        }
        sum.finite = FixedPoint::read(bytes)?;
        Ok(sum)
    }
}

impl Extend<f64> for ExactSum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, terms: I) {
        terms.into_iter().for_each(|term| self.add(term));
    }
}

impl FromIterator<f64> for ExactSum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Self::default();
        sum.extend(terms);
        sum
    }
}

impl fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExactSum").field(&self.value()).finish()
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    /// The float in units of 2^-1074.
    fn units(term: f64) -> BigInt {
        let (mantissa, exponent) = match term.to_bits() >> 52 & 0x7ff {
            0 => (term.to_bits() & ((1 << 52) - 1), 0),
            e => (term.to_bits() & ((1 << 52) - 1) | 1 << 52, e - 1),
        };
        let magnitude = BigInt::from(mantissa) << exponent;
        if term.is_sign_negative() { -magnitude } else { magnitude }
    }

    /// Whether `found` is the float nearest to `exact`, an even one if two are as near.
    fn is_nearest(found: f64, exact: &BigInt) -> bool {
        // Halfway between the largest float and the one that would come next.
        let limit = (BigInt::from(1) << (1024 + 1074)) - (BigInt::from(1) << (970 + 1074));
        if found.is_infinite() {
            let signed = if found > 0.0 { exact.clone() } else { -exact };
            return signed >= limit;
        }
        let distance = |float: f64| (units(float) - exact).magnitude().clone();
        let nearer = |next: f64| {
            next.is_infinite()
                || match distance(found).cmp(&distance(next)) {
                    std::cmp::Ordering::Equal => found.to_bits() & 1 == 0,
                    order => order.is_lt(),
                }
        };
        let within = -&limit < *exact && *exact < limit;
        within && nearer(found.next_up()) && nearer(found.next_down())
    }

    fn any_finite() -> impl Strategy<Value = f64> {
        let close = -1_000_000_i64..1_000_000;
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
            close.prop_map(|n| n as f64 / 1024.0),
            (any::<bool>(), 0..3_u64).prop_map(|(up, near)| {
                // Near the halfway points of 2^53, where a tie is decided.
                let base = 9_007_199_254_740_992.0;
                (base + near as f64) * if up { 1.0 } else { -0.5 }
            }),
            Just(f64::MAX),
            Just(-f64::MAX),
            Just(f64::from_bits(1)),
            Just(f64::MIN_POSITIVE),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn it_is_the_exact_sum_rounded_once(terms in prop::collection::vec(any_finite(), 0..40)) {
            let exact: BigInt = terms.iter().map(|term| units(*term)).sum();
            let found: ExactSum = terms.iter().copied().collect();
            prop_assert!(is_nearest(found.value(), &exact), "{found:?} of {terms:?}");
        }

        #[test]
        fn order_grouping_and_detours_do_not_matter(
            (terms, shuffled) in prop::collection::vec(any_finite(), 0..40)
                .prop_flat_map(|terms| (Just(terms.clone()), Just(terms).prop_shuffle())),
            detour in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let straight: ExactSum = terms.iter().copied().collect();
            let cut = if terms.is_empty() { 0 } else { cut.index(terms.len()) };
            let mut grouped: ExactSum = detour.iter().copied().collect();
            let left: ExactSum = shuffled[..cut].iter().copied().collect();
            let right: ExactSum = shuffled[cut..].iter().copied().collect();
            grouped.merge(&right);
            grouped.merge(&left);
            detour.iter().for_each(|term| grouped.subtract(*term));
            prop_assert_eq!(straight.value().to_bits(), grouped.value().to_bits());
        }
    }

    proptest! {
        #[test]
        fn bytes_tell_the_sum_and_any_others_are_corrupt_or_a_sum(
            terms in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..40),
            noise in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let sum: ExactSum = terms.iter().copied().collect();
            let (mut bytes, mut reversed) = (Vec::new(), Vec::new());
            sum.write(&mut bytes);
            terms.iter().rev().copied().collect::<ExactSum>().write(&mut reversed);
            prop_assert_eq!(&bytes, &reversed);
            let mut rest = bytes.as_slice();
            let read = ExactSum::read(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read.value().to_bits(), sum.value().to_bits());
            for length in 0..bytes.len() {
                prop_assert!(ExactSum::read(&mut &bytes[..length]).is_err());
            }
            if let Ok(mut read) = ExactSum::read(&mut noise.as_slice()) {
                read.add(-1.0);
                read.value();
            }
        }
    }

    #[test]
    fn carries_survive_any_number_of_terms() {
        let mut sum = ExactSum::default();
        for _ in 0..3 {
            sum.finite.pending = (1 << 30) - 2;
            (0..8).for_each(|_| sum.add(-f64::from(u32::MAX)));
        }
        assert_eq!(sum.value(), -24.0 * f64::from(u32::MAX));
    }

    #[test]
    fn infinities_and_nan_follow_ieee_and_can_leave() {
        let mut sum: ExactSum = [1.0, f64::INFINITY].into_iter().collect();
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.value().is_nan());
        sum.subtract(f64::INFINITY);
        assert_eq!(sum.value(), f64::NEG_INFINITY);
        sum.add(f64::NAN);
        assert!(sum.value().is_nan());
        sum.subtract(f64::NAN);
        sum.subtract(f64::NEG_INFINITY);
        assert_eq!(sum.value(), 1.0);
        assert_eq!(ExactSum::from_iter([-0.0]).value().to_bits(), 0.0_f64.to_bits());
    }
}
