//! Timestamps without a zone, read in a declared one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, PrimitiveArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Schema, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use kaizen_core::{Context, Error, ErrorKind, Result};

/// No zone was ever so far from UTC, and no change of one so large.
const WIDEST_SECONDS: i64 = 26 * 3600;

/// A time zone in which the naive timestamps of a source are read.
///
/// A local time that occurs twice, when clocks go back, is the earlier of the two. One that does
/// not occur, when clocks go forward, is moved forward by as much as the clocks.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    pub(crate) fn named(name: &str) -> Result<Self> {
        let rules = TimeZone::get(name);
        let rules = rules.context(ErrorKind::Invalid, format!("time zone `{name}`"))?;
        Ok(Self { name: rules.iana_name().unwrap_or(name).to_owned(), rules })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The instant of a local time.
    pub(crate) fn instant(&self, local: DateTime) -> Result<Timestamp> {
        let instant = self.rules.to_ambiguous_timestamp(local).compatible();
        instant.context(ErrorKind::Invalid, format!("{local}"))
    }

    /// The instants of a column of naive timestamps, in its unit; any other column as it is.
    pub(crate) fn apply(&self, name: &str, values: &ArrayRef) -> Result<ArrayRef> {
        let DataType::Timestamp(unit, None) = values.data_type() else {
            return Ok(Arc::clone(values));
        };
        let place = || format!("column `{name}`: a local time");
        let mut stretch = Steady::default();
        macro_rules! convert {
            ($type:ty, $array:ty, $per_second:expr) => {{
                let naive: &PrimitiveArray<$type> = values.as_primitive();
                let instant = |at: i64| stretch.instant(&self.rules, at, $per_second);
                let found: $array = zoned(naive, instant).context(ErrorKind::Invalid, place())?;
                Arc::new(found.with_timezone("UTC"))
            }};
        }
        Ok(match unit {
            TimeUnit::Second => convert!(TimestampSecondType, TimestampSecondArray, 1),
            TimeUnit::Millisecond => {
                convert!(TimestampMillisecondType, TimestampMillisecondArray, 1_000)
            }
            TimeUnit::Microsecond => {
                convert!(TimestampMicrosecondType, TimestampMicrosecondArray, 1_000_000)
            }
            TimeUnit::Nanosecond => {
                convert!(TimestampNanosecondType, TimestampNanosecondArray, 1_000_000_000)
            }
        })
    }

    /// The schema after [`apply`](Self::apply).
    pub(crate) fn schema(schema: &Schema) -> Schema {
        let field = |field: &Arc<Field>| match field.data_type() {
            DataType::Timestamp(unit, None) => {
                let zoned = DataType::Timestamp(*unit, Some("UTC".into()));
                Arc::new(field.as_ref().clone().with_data_type(zoned))
            }
            _ => Arc::clone(field),
        };
        Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
    }
}

fn zoned<T: ArrowPrimitiveType<Native = i64>>(
    naive: &PrimitiveArray<T>,
    mut instant: impl FnMut(i64) -> Result<i64>,
) -> Result<PrimitiveArray<T>> {
    let values = naive.iter().map(|at| at.map(&mut instant).transpose());
    values.collect::<Result<PrimitiveArray<T>>>()
}

/// Local seconds between which the zone's offset is the same, so that most values need no search.
#[derive(Default)]
struct Steady {
    from: i64,
    to: i64,
    offset: i64,
}

impl Steady {
    /// The instant of a local time, both in units of which a second has so many.
    fn instant(&mut self, zone: &TimeZone, local: i64, per_second: i64) -> Result<i64> {
        let seconds = local.div_euclid(per_second);
        let message = || format!("{local} in units of 1/{per_second} s");
        if !(self.from..self.to).contains(&seconds) {
            let civil = Timestamp::from_second(seconds).context(ErrorKind::Invalid, message())?;
            let civil = TimeZone::UTC.to_datetime(civil);
            let found = zone.to_ambiguous_timestamp(civil).compatible();
            let found = found.context(ErrorKind::Invalid, message())?;
            let offset = seconds - found.as_second();
            let before = zone.preceding(found).next().map(|change| change.timestamp().as_second());
            let after = zone.following(found).next().map(|change| change.timestamp().as_second());
            let from = before.map_or(i64::MIN, |at| at.saturating_add(WIDEST_SECONDS));
            let to = after.map_or(i64::MAX, |at| at.saturating_sub(WIDEST_SECONDS));
            if !(from..to).contains(&seconds) {
                // Near a change, each value is looked up.
                return instant_of(found.as_second(), local, per_second);
            }
            *self = Self { from, to, offset };
        }
        instant_of(seconds - self.offset, local, per_second)
    }
}

fn instant_of(seconds: i64, local: i64, per_second: i64) -> Result<i64> {
    let whole = seconds.checked_mul(per_second);
    let instant = whole.and_then(|whole| whole.checked_add(local.rem_euclid(per_second)));
    instant.ok_or_else(|| Error::invalid(format!("{local}: out of range")))
}

/// How far, in nanoseconds, a local time read as UTC may be from its instant.
pub(crate) const WIDEST_NANOS: i64 = WIDEST_SECONDS * 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert(local: &[&str]) -> Vec<String> {
        let zone = Zone::named("America/New_York").unwrap();
        let seconds = local.iter().map(|text| {
            let civil: DateTime = text.parse().unwrap();
            TimeZone::UTC.to_timestamp(civil).unwrap().as_second()
        });
        let values: ArrayRef = Arc::new(TimestampSecondArray::from_iter_values(seconds));
        let found = zone.apply("at", &values).unwrap();
        let found = found.as_primitive::<TimestampSecondType>().values().to_vec();
        found.iter().map(|at| Timestamp::from_second(*at).unwrap().to_string()).collect()
    }

    #[test]
    fn clocks_that_go_back_and_forward() {
        let local = [
            "2013-01-01T05:15:00",
            "2013-03-10T01:59:59",
            // Does not occur: clocks go from 2 to 3.
            "2013-03-10T02:30:00",
            "2013-03-10T03:00:00",
            "2013-07-01T00:00:00",
            // Occurs twice.
            "2013-11-03T01:30:00",
            "2013-11-03T02:00:00",
        ];
        let expected = [
            "2013-01-01T10:15:00Z",
            "2013-03-10T06:59:59Z",
            "2013-03-10T07:30:00Z",
            "2013-03-10T07:00:00Z",
            "2013-07-01T04:00:00Z",
            "2013-11-03T05:30:00Z",
            "2013-11-03T07:00:00Z",
        ];
        assert_eq!(convert(&local), expected);
        let error = Zone::named("Mars/Olympus").unwrap_err();
        assert!(error.to_string().contains("Mars/Olympus"), "{error}");
    }

    proptest! {
        #[test]
        fn each_value_is_as_if_it_were_looked_up_alone(
            seconds in prop::collection::vec(-5_000_000_000_i64..5_000_000_000, 1..50),
            zone in prop::sample::select(vec!["America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]),
        ) {
            let zone = Zone::named(zone).unwrap();
            let micros = seconds.iter().map(|at| at * 1_000_000 + 7);
            let values: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(micros));
            let found = zone.apply("at", &values).unwrap();
            for (at, found) in seconds.iter().zip(found.as_primitive::<TimestampMicrosecondType>().values()) {
                let civil = TimeZone::UTC.to_datetime(Timestamp::from_second(*at).unwrap());
                let expected = zone.instant(civil).unwrap().as_microsecond() + 7;
                prop_assert_eq!(*found, expected);
            }
        }
    }
}
