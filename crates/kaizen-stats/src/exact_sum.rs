//! Sums of floats without rounding, so that their order cannot matter.

use std::fmt;

/// Bits in one digit.
const DIGIT_BITS: usize = 32;

/// The lowest bit of a digit.
const DIGIT_MASK: i64 = (1 << DIGIT_BITS) - 1;

/// A finite float is an integer below 2^2098 times 2^-1074: 66 digits. Four more hold the carries
/// of any number of terms that a counter of 64 bits can count.
const DIGITS: usize = 70;

/// A digit takes this many terms below 2^32 before its carry must move on, or 63 bits overflow.
const MAX_PENDING: u32 = 1 << 30;

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
    /// Signed digits, base 2^32, the lowest first; the unit is 2^-1074. Carries are kept where they
    /// arise until `pending` forces them on.
    digits: [i64; DIGITS],
    /// Digits outside `low..=high` are zero.
    low: usize,
    high: usize,
    /// At most how many terms a digit has taken since the carries moved on.
    pending: u32,
    nan: i64,
    plus_infinity: i64,
    minus_infinity: i64,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self {
            digits: [0; DIGITS],
            low: DIGITS,
            high: 0,
            pending: 0,
            nan: 0,
            plus_infinity: 0,
            minus_infinity: 0,
        }
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
        if other.low > other.high {
            return;
        }
        // A digit after `carry` counts as one term, and so does one of the other's.
        self.carry();
        let mut other = other.clone();
        other.carry();
        for index in other.low..=other.high {
            self.digits[index] += other.digits[index];
        }
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.pending += other.pending;
    }

    /// The sum, rounded to the nearest float, a tie to the even one.
    pub fn value(&self) -> f64 {
        let plus = self.plus_infinity > 0 || self.minus_infinity < 0;
        let minus = self.minus_infinity > 0 || self.plus_infinity < 0;
        match (self.nan != 0, plus, minus) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => self.finite_value(),
        }
    }

    fn apply(&mut self, term: f64, sign: i64) {
        if term.is_finite() {
            self.apply_finite(term, sign);
        } else if term.is_nan() {
            self.nan += sign;
        } else if term > 0.0 {
            self.plus_infinity += sign;
        } else {
            self.minus_infinity += sign;
        }
    }

    fn apply_finite(&mut self, term: f64, sign: i64) {
        let bits = term.to_bits();
        let exponent = (bits >> 52) as usize & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        // A subnormal has the unit of the smallest normal, without the hidden bit.
        let (mantissa, position) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | 1 << 52, exponent - 1),
        };
        if mantissa == 0 {
            return;
        }
        // Without its trailing zeros, a round number touches fewer digits.
        let zeros = mantissa.trailing_zeros() as usize;
        let (mantissa, position) = (mantissa >> zeros, position + zeros);
        let sign = if bits >> 63 == 1 { -sign } else { sign };
        let index = position / DIGIT_BITS;
        let mut rest = u128::from(mantissa) << (position % DIGIT_BITS);
        let mut last = index;
        while rest != 0 {
            self.digits[last] += sign * (rest as i64 & DIGIT_MASK);
            rest >>= DIGIT_BITS;
            last += 1;
        }
        self.low = self.low.min(index);
        self.high = self.high.max(last - 1);
        self.pending += 1;
        if self.pending == MAX_PENDING {
            self.carry();
        }
    }

    /// Moves the carries on: every digit but the highest lies in `[0, 2^32)` afterwards, and the
    /// highest, which has the sign, within `±2^31`.
    fn carry(&mut self) {
        if self.low > self.high {
            return;
        }
        let mut index = self.low;
        while index < DIGITS - 1 {
            let digit = self.digits[index];
            let settled = index >= self.high && digit.unsigned_abs() < 1 << (DIGIT_BITS - 1);
            if settled {
                break;
            }
            self.digits[index] = digit & DIGIT_MASK;
            self.digits[index + 1] += digit >> DIGIT_BITS;
            index += 1;
        }
        self.high = self.high.max(index);
        self.pending = 1;
    }

    fn finite_value(&self) -> f64 {
        let mut sum = self.clone();
        sum.carry();
        let Some(top) = sum.highest() else { return 0.0 };
        let negative = sum.digits[top] < 0;
        if negative {
            for digit in &mut sum.digits[sum.low..=sum.high] {
                *digit = -*digit;
            }
            sum.carry();
        }
        let Some(top) = sum.highest() else { return 0.0 };
        let magnitude = sum.round(top);
        if negative { -magnitude } else { magnitude }
    }

    /// The index of the highest digit that is not zero.
    fn highest(&self) -> Option<usize> {
        (self.low..=self.high).rev().find(|index| self.digits[*index] != 0)
    }

    /// Rounds a positive sum without carries whose highest digit is at `top`.
    fn round(&self, top: usize) -> f64 {
        let digit = |back: usize| match top.checked_sub(back) {
            Some(index) => self.digits[index].cast_unsigned(),
            None => 0,
        };
        let width = (u64::BITS - digit(0).leading_zeros()) as usize;
        let bits = DIGIT_BITS * top + width;
        if bits <= 53 {
            // An integer below 2^53 times the smallest subnormal: its bit pattern is that integer.
            let pattern = if top == 0 { digit(0) } else { digit(0) << DIGIT_BITS | digit(1) };
            return f64::from_bits(pattern);
        }
        let head = u128::from(digit(0)) << (2 * DIGIT_BITS)
            | u128::from(digit(1)) << DIGIT_BITS
            | u128::from(digit(2));
        let dropped = 2 * DIGIT_BITS + width - 53;
        let kept = (head >> dropped) as u64;
        let rest = head & ((1 << dropped) - 1);
        let half = 1 << (dropped - 1);
        let below = top.saturating_sub(2);
        let sticky = self.low < below && self.digits[self.low..below].iter().any(|d| *d != 0);
        let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
        // The hidden bit of `kept` adds one to the exponent field, a carry out of it another one.
        let pattern = ((bits as u64 - 53) << 52) + kept + u64::from(up);
        f64::from_bits(pattern.min(f64::INFINITY.to_bits()))
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

    #[test]
    fn carries_survive_any_number_of_terms() {
        let mut sum = ExactSum::default();
        for _ in 0..3 {
            sum.pending = MAX_PENDING - 2;
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
