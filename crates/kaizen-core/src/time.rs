//! Instants, the clock, and blocks of time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Context, Error, ErrorKind, Result};

/// An instant in microseconds since 1970-01-01T00:00:00 UTC; in JSON an RFC 3339 string in UTC.
///
/// ```
/// use kaizen_core::Timestamp;
///
/// let at: Timestamp = "2013-01-01T12:00:00Z".parse()?;
/// assert_eq!(at.to_string(), "2013-01-01T12:00:00.000000Z");
/// assert_eq!(at.plus_seconds(60).micros() - at.micros(), 60_000_000);
/// # Ok::<(), kaizen_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From nanoseconds since the epoch, rounded down.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos.div_euclid(1_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Nanoseconds since the epoch; an error outside the years 1678 to 2262.
    pub fn nanos(self) -> Result<i64> {
        self.0
            .checked_mul(1_000)
            .context(ErrorKind::Limit, format!("instant {self}: outside the years 1678 to 2262"))
    }

    /// This many seconds later (earlier if negative), stopping at the ends of the range.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// The date in UTC, as `2013-01-31`.
    pub fn date(self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let instant: jiff::Timestamp =
            text.parse().context(ErrorKind::Invalid, format!("instant `{text}`"))?;
        Ok(Self(instant.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The port of time. No other code reads the clock of the machine.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }
}

/// The unit of independence over time: equal blocks, such as days, whose rows move together.
///
/// Rows within a block share their weather, their outage, their sale. So nulls and bootstraps
/// resample blocks, and sequential tests step once a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeBlocks {
    /// Length of one block, in seconds; more than zero.
    #[serde(with = "serde_int")]
    length_s: i64,
    /// Where block 0 starts, in seconds after the epoch.
    #[serde(with = "serde_int")]
    offset_s: i64,
}

impl TimeBlocks {
    /// Days that start at midnight UTC.
    pub const fn days() -> Self {
        Self { length_s: 86_400, offset_s: 0 }
    }

    /// Blocks of `length_s` seconds.
    pub fn of_seconds(length_s: i64) -> Result<Self> {
        if length_s <= 0 {
            return Err(Error::invalid(format!("time blocks of {length_s} s: not above zero")));
        }
        Ok(Self { length_s, offset_s: 0 })
    }

    /// The same blocks, starting this much later than the epoch: five hours make days of New
    /// York's standard time.
    #[must_use]
    pub const fn starting_at(self, offset_s: i64) -> Self {
        Self { offset_s, ..self }
    }

    /// The number of the block that holds this instant.
    pub const fn block(&self, at: Timestamp) -> i64 {
        let seconds = at.micros().div_euclid(1_000_000);
        seconds.saturating_sub(self.offset_s).div_euclid(self.length_s)
    }

    /// The first instant of a block.
    pub const fn start(&self, block: i64) -> Timestamp {
        let seconds = block.saturating_mul(self.length_s).saturating_add(self.offset_s);
        Timestamp::from_micros(0).plus_seconds(seconds)
    }
}

/// 64-bit integers as JSON strings, for `#[serde(with = "serde_int")]`: JavaScript and many JSON
/// readers lose digits beyond 2⁵³.
pub mod serde_int {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the integer as a string.
    pub fn serialize<T: Display, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    /// Reads the integer from a string.
    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_their_instants_before_the_epoch_too() {
        let days = TimeBlocks::days().starting_at(5 * 3600);
        for text in ["2013-01-01T04:59:59Z", "2013-01-01T05:00:00Z", "1969-12-31T23:00:00Z"] {
            let at: Timestamp = text.parse().unwrap();
            let block = days.block(at);
            assert!(days.start(block) <= at && at < days.start(block + 1), "{text}");
        }
        let before: Timestamp = "2013-01-01T04:59:59Z".parse().unwrap();
        assert_eq!(days.block(before) + 1, days.block(before.plus_seconds(1)));
    }

    #[test]
    fn a_naive_instant_is_refused() {
        let error = "2013-01-01T12:00:00".parse::<Timestamp>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("2013-01-01T12:00:00"));
    }

    #[test]
    fn far_instants_do_not_overflow() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.plus_seconds(i64::MAX), end);
        assert_eq!(end.nanos().unwrap_err().kind(), ErrorKind::Limit);
        assert!(!end.to_string().is_empty());
    }
}
