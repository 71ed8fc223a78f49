//! The standard deviation, from sums without rounding.

use std::fmt;

use kaizen_core::{Context, Error, ErrorKind, Result};

use crate::fixed_point::{FixedPoint, Magnitude, parts};

/// Digits for sums of floats, as in [`ExactSum`](crate::ExactSum).
const DIGITS: usize = 74;

/// Digits for sums of squares of floats, integers below 2^4196 times 2^-2148: 132, and eight more.
const SQUARE_DIGITS: usize = 140;

/// How many numbers there are, their sum and the sum of their squares, each kept exactly.
///
/// The standard deviation of the sample is `sqrt((n Σx² - (Σx)²) / (n (n - 1)))`. In floats the
/// difference can lose every digit; here it is an integer that is computed in full and rounded
/// once. So no data is too close to its mean, the order of terms does not matter to the bit, and a
/// term can be taken away again without a trace.
///
/// ```
/// use kaizen_stats::ExactMoments;
///
/// let moments: ExactMoments = [1e15, 1e15 + 1.0, 1e15 + 2.0].into_iter().collect();
/// assert_eq!(moments.standard_deviation(), Some(1.0));
/// ```
#[derive(Clone)]
pub struct ExactMoments {
    count: i64,
    /// How many of them are infinite or NaN.
    special: i64,
    /// In units of 2^-1074.
    sum: FixedPoint<DIGITS>,
    /// In units of 2^-2148.
    squares: FixedPoint<SQUARE_DIGITS>,
}

impl Default for ExactMoments {
    fn default() -> Self {
        Self { count: 0, special: 0, sum: FixedPoint::ZERO, squares: FixedPoint::ZERO }
    }
}

impl ExactMoments {
    /// Adds a number.
    pub fn add(&mut self, term: f64) {
        self.apply(term, 1);
    }

    /// Takes a number away that was added.
    pub fn subtract(&mut self, term: f64) {
        self.apply(term, -1);
    }

    fn apply(&mut self, term: f64, sign: i64) {
        self.count += sign;
        if !term.is_finite() {
            self.special += sign;
            return;
        }
        let (mantissa, position) = parts(term);
        if mantissa == 0 {
            return;
        }
        let zeros = mantissa.trailing_zeros() as usize;
        let (mantissa, position) = (u128::from(mantissa >> zeros), position + zeros);
        let signed = if term.is_sign_negative() { -sign } else { sign };
        self.sum.add(mantissa, position, signed);
        self.squares.add(mantissa * mantissa, 2 * position, sign);
    }

    /// Adds all numbers of another.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.special += other.special;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// How many numbers there are.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// The standard deviation of the sample, over `n - 1`: `None` if there are fewer than two
    /// numbers, NaN if one of them is infinite or NaN.
    pub fn standard_deviation(&self) -> Option<f64> {
        let count = u64::try_from(self.count).ok().filter(|count| *count >= 2)?;
        if self.special != 0 {
            return Some(f64::NAN);
        }
        let numerator = numerator(count, &self.sum.magnitude(), &self.squares.magnitude());
        let pairs = count as f64 * (count - 1) as f64;
        let Some((mantissa, exponent)) = leading(&numerator) else { return Some(0.0) };
        // The unit is 2^-2148; its root is taken of an even power.
        let odd = exponent.rem_euclid(2);
        let mantissa = if odd == 1 { 2.0 * mantissa } else { mantissa };
        Some(scaled((mantissa / pairs).sqrt(), (exponent - odd) / 2 - 1_074))
    }

    /// Appends the moments as bytes, little-endian: the count, how many are infinite or NaN, 8
    /// bytes each, and the two sums. Equal moments have equal bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.count.to_le_bytes());
        out.extend(self.special.to_le_bytes());
        self.sum.write(out);
        self.squares.write(out);
    }

    /// Takes what [`write`](Self::write) appended from the front; anything else is
    /// [`ErrorKind::Corrupt`].
    pub fn read(bytes: &mut &[u8]) -> Result<Self> {
        let mut number = || -> Result<i64> {
            let (found, rest) =
                bytes.split_first_chunk().context(ErrorKind::Corrupt, "moments cut off")?;
            *bytes = rest;
            Ok(i64::from_le_bytes(*found))
        };
        let (count, special) = (number()?, number()?);
        // A store holds far fewer, and later ones must not overflow.
        if !(0..1 << 48).contains(&count) || !(0..=count).contains(&special) {
            return Err(Error::corrupt(format!("moments of {count} numbers, {special} special")));
        }
        let (sum, squares) = (FixedPoint::read(bytes)?, FixedPoint::read(bytes)?);
        Ok(Self { count, special, sum, squares })
    }
}

/// `count × squares - sum²`, the lowest digit first; 0 if it would be negative, which no numbers
/// give.
fn numerator(count: u64, sum: &Magnitude, squares: &Magnitude) -> Vec<u32> {
    let mut digits = vec![0_u32; 2 * DIGITS + 8];
    let factor = [count as u32, (count >> 32) as u32];
    for (place, digit) in factor.into_iter().enumerate() {
        add_product(&mut digits, squares.low + place, &squares.digits, digit);
    }
    let mut square = vec![0_u32; digits.len()];
    for (place, digit) in sum.digits.iter().enumerate() {
        add_product(&mut square, 2 * sum.low + place, &sum.digits, *digit);
    }
    let mut borrow = 0_i64;
    for (digit, less) in digits.iter_mut().zip(square) {
        let difference = i64::from(*digit) - i64::from(less) + borrow;
        *digit = difference as u32;
        borrow = difference >> 32;
    }
    if borrow < 0 {
        digits.clear();
    }
    digits
}

/// Adds `digits × factor`, moved up by so many places. What is beyond the last place is lost.
fn add_product(to: &mut [u32], at: usize, digits: &[u32], factor: u32) {
    let mut carry = 0_u64;
    let mut rest = digits.iter();
    for place in to.iter_mut().skip(at) {
        let next = rest.next();
        if next.is_none() && carry == 0 {
            return;
        }
        let product = u64::from(next.copied().unwrap_or(0)) * u64::from(factor);
        let total = u64::from(*place) + product + carry;
        *place = total as u32;
        carry = total >> 32;
    }
}

/// The integer as `mantissa × 2^exponent` with a mantissa in `[2^52, 2^53]`, or as it is if it is
/// smaller; rounded to the nearest, a tie to the even one. `None` for 0.
fn leading(digits: &[u32]) -> Option<(f64, i32)> {
    let top = digits.iter().rposition(|digit| *digit != 0)?;
    let digit = |back: usize| top.checked_sub(back).map_or(0, |place| u128::from(digits[place]));
    let head = digit(0) << 96 | digit(1) << 64 | digit(2) << 32 | digit(3);
    let sticky = digits[..top.saturating_sub(3)].iter().any(|digit| *digit != 0);
    // The head has at least 97 bits, so that what is below it can only decide a tie.
    let dropped = u128::BITS - head.leading_zeros() - 53;
    let kept = (head >> dropped) as u64;
    let rest = head & ((1 << dropped) - 1);
    let half = 1 << (dropped - 1);
    let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
    let exponent = 32 * (top as i32 - 3) + dropped as i32;
    Some(((kept + u64::from(up)) as f64, exponent))
}

/// `value × 2^exponent`, rounded once.
fn scaled(value: f64, exponent: i32) -> f64 {
    let power = |exponent: i32| f64::from_bits(((exponent + 1_023) as u64) << 52);
    // The value lies within 2^±100 and is split off so that only the last product can round.
    let mut value = value;
    let mut exponent = exponent;
    while exponent > 1_000 {
        value *= power(600);
        exponent -= 600;
    }
    if exponent >= -1_022 {
        return value * power(exponent);
    }
    // Up first, exactly, then down to a subnormal in one step.
    value * power(200) * power(-1_000) * power((exponent + 800).max(-1_022))
}

impl Extend<f64> for ExactMoments {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, terms: I) {
        terms.into_iter().for_each(|term| self.add(term));
    }
}

impl FromIterator<f64> for ExactMoments {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut moments = Self::default();
        moments.extend(terms);
        moments
    }
}

impl fmt::Debug for ExactMoments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ExactMoments");
        shown.field("count", &self.count).field("sum", &self.sum.value());
        shown.field("standard_deviation", &self.standard_deviation()).finish()
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    fn units(term: f64) -> BigInt {
        let (mantissa, position) = parts(term);
        let magnitude = BigInt::from(mantissa) << position;
        if term.is_sign_negative() { -magnitude } else { magnitude }
    }

    /// The standard deviation in units of 2^-1074 times 2^200, rounded down.
    fn slow(terms: &[f64]) -> BigInt {
        let n = BigInt::from(terms.len());
        let sum: BigInt = terms.iter().map(|term| units(*term)).sum();
        let squares: BigInt = terms.iter().map(|term| units(*term) * units(*term)).sum();
        let numerator: BigInt = (&n * squares - &sum * &sum) << 400;
        let variance: BigInt = numerator / (&n * (&n - 1));
        variance.sqrt()
    }

    fn is_near(found: f64, terms: &[f64]) -> bool {
        let exact = slow(terms);
        if found.is_infinite() {
            return exact >= units(f64::MAX) << 200;
        }
        let scaled: BigInt = units(found) << 200;
        let apart = BigInt::from((&scaled - &exact).magnitude().clone());
        // Four units in the last place; a subnormal's are absolute.
        let unit = (&exact >> 50) + (BigInt::from(1) << 200);
        let normal = found >= f64::MIN_POSITIVE;
        apart <= if normal { (&exact >> 50) + 1 } else { unit }
    }

    fn any_finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
            (0_i32..10).prop_map(|n| 1e15 + f64::from(n)),
            (0_u64..10).prop_map(|n| f64::from_bits(1.0_f64.to_bits() + n)),
            (0_u64..100).prop_map(f64::from_bits),
            Just(f64::MAX),
            Just(-f64::MAX),
            Just(-0.0),
        ]
    }

    /// Terms of one kind, so that they are close to each other, or of all kinds.
    fn terms() -> impl Strategy<Value = Vec<f64>> {
        let kind = |count| prop::collection::vec(any_finite(), count);
        let close =
            (any_finite(), prop::collection::vec(0_u64..1_000, 2..40)).prop_map(|(base, steps)| {
                let near = |step: u64| f64::from_bits(base.to_bits().saturating_add(step));
                let near = steps.into_iter().map(near);
                near.filter(|x| x.is_finite()).collect()
            });
        prop_oneof![kind(0..40), close]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn it_is_the_standard_deviation_whatever_cancels(terms in terms()) {
            let found = ExactMoments::from_iter(terms.iter().copied()).standard_deviation();
            prop_assert_eq!(found.is_some(), terms.len() >= 2);
            if let Some(found) = found {
                prop_assert!(is_near(found, &terms), "{found:?} of {terms:?}");
            }
        }

        #[test]
        fn order_grouping_detours_and_bytes_do_not_matter(
            (terms, shuffled) in terms()
                .prop_flat_map(|terms| (Just(terms.clone()), Just(terms).prop_shuffle())),
            detour in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let straight: ExactMoments = terms.iter().copied().collect();
            let cut = if terms.is_empty() { 0 } else { cut.index(terms.len()) };
            let mut grouped: ExactMoments = detour.iter().copied().collect();
            grouped.merge(&shuffled[cut..].iter().copied().collect());
            grouped.merge(&shuffled[..cut].iter().copied().collect());
            detour.iter().for_each(|term| grouped.subtract(*term));
            let bits = |of: &ExactMoments| of.standard_deviation().map(f64::to_bits);
            prop_assert_eq!(bits(&straight), bits(&grouped));
            let (mut bytes, mut other) = (Vec::new(), Vec::new());
            straight.write(&mut bytes);
            grouped.write(&mut other);
            prop_assert_eq!(&bytes, &other);
            let mut rest = bytes.as_slice();
            let read = ExactMoments::read(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(bits(&read), bits(&straight));
            for length in 0..bytes.len() {
                prop_assert!(ExactMoments::read(&mut &bytes[..length]).is_err());
            }
        }

        #[test]
        fn other_bytes_are_corrupt_or_moments(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            if let Ok(mut read) = ExactMoments::read(&mut bytes.as_slice()) {
                read.add(1.0);
                read.standard_deviation();
            }
        }
    }

    #[test]
    fn infinities_make_it_nan_and_can_leave() {
        let mut moments: ExactMoments = [1.0, f64::INFINITY, 3.0].into_iter().collect();
        assert!(moments.standard_deviation().unwrap().is_nan());
        moments.subtract(f64::INFINITY);
        assert_eq!(moments.standard_deviation(), Some(2.0_f64.sqrt()));
        assert_eq!(moments.count(), 2);
        moments.subtract(1.0);
        assert_eq!(moments.standard_deviation(), None);
        let extremes = ExactMoments::from_iter([f64::MAX, -f64::MAX]);
        assert_eq!(extremes.standard_deviation(), Some(f64::INFINITY));
        let tiny = ExactMoments::from_iter([0.0, f64::from_bits(4)]);
        assert_eq!(tiny.standard_deviation(), Some(f64::from_bits(3)));
    }
}
