//! Views of column features alone: of each entity the latest row that is seen, straight from its
//! bytes. Only the row that answers is decoded.

use arrow::array::ArrayRef;
use kaizen_core::{Bytes, Result};
use kaizen_table::{FeatureView, Known, Value};

use super::tail::{Column, Reader};
use crate::point_in_time::{Layout, Moment, Probe, Sight, Status, nanos};

/// Whether a view is answered [so](answer).
pub(crate) fn answers(view: &FeatureView) -> bool {
    view.features().iter().all(|feature| matches!(feature.value, Value::Column(_)))
}

/// Answers each probe, as [`answer`](crate::point_in_time::answer) does from timelines of all rows:
/// a column per feature and what was seen, with an element per probe. `tails` are those of the
/// entities, by their numbers.
pub(crate) fn answer(
    view: &FeatureView,
    layout: &Layout,
    tails: &[Option<Bytes>],
    probes: &[Probe],
) -> Result<(Vec<ArrayRef>, Vec<Sight>)> {
    let ttl = view.ttl_seconds().map(nanos);
    let column = |data_type| Column::of(data_type, probes.len());
    let mut columns: Vec<Column> = layout.types().map(column).collect::<Result<_>>()?;
    let mut sights = Vec::with_capacity(probes.len());
    for probe in probes {
        let tail = probe.entity.and_then(|entity| tails.get(entity as usize)?.as_ref());
        let Some(tail) = tail else {
            columns.iter_mut().for_each(Column::push_missing);
            sights.push(Sight::NOTHING);
            continue;
        };
        let mut reader = Reader(tail);
        let (_, count) = reader.head()?;
        let sight = sight(&mut reader, count, view.known(), probe.at, ttl)?;
        for column in &mut columns {
            column.read_one(&mut reader, count, sight.answer())?;
        }
        reader.end()?;
        sights.push(sight);
    }
    let slots: Vec<ArrayRef> = columns.into_iter().map(Column::finish).collect::<Result<_>>()?;
    let of_feature = |place| slots[layout.slot(place)].clone();
    Ok(((0..view.features().len()).map(of_feature).collect(), sights))
}

/// What is seen of a tail's rows, whose times the reader is at; their places in the tail are their
/// positions.
fn sight(
    reader: &mut Reader<'_>,
    count: usize,
    rule: &Known,
    at: i64,
    ttl: Option<u64>,
) -> Result<Sight> {
    let events = reader.words(count)?.map(i64::from_le_bytes);
    let valid = reader.bits(count)?;
    let known = reader.words(count)?.map(i64::from_le_bytes);
    let known = valid.zip(known).map(|(valid, at)| valid.then_some(at));
    let mut latest: Option<((i64, Option<i64>), u32)> = None;
    for (position, (event, known)) in (0_u32..).zip(events.zip(known)) {
        let seen = Moment::new(rule, event, known).known_at <= at;
        // Of equals the last.
        if seen && latest.is_none_or(|(rank, _)| rank <= (event, known)) {
            latest = Some(((event, known), position));
        }
    }
    let Some(((event, _), position)) = latest else { return Ok(Sight::NOTHING) };
    let young = ttl.is_none_or(|ttl| at.abs_diff(event) <= ttl);
    let status = if young { Status::Found } else { Status::Expired };
    Ok(Sight { position, status, event, ..Sight::NOTHING })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use kaizen_core::{DataType, ErrorKind};
    use proptest::prelude::*;

    use super::super::tail::{Rows, Stored};
    use super::super::tile::Tiles;
    use super::*;
    use crate::on_demand::same_bits;
    use crate::point_in_time::{Timelines, answer as general};

    /// Seconds of the event and of the known-at column, and a value.
    type Row = (i64, Option<i64>, Option<i64>);

    fn view(rule: Known, ttl: Option<u32>) -> FeatureView {
        let view = FeatureView::builder("v").source("s").key("k").known(rule);
        let view = match ttl {
            Some(ttl) => view.ttl_seconds(ttl),
            None => view,
        };
        let view = view.column("b", DataType::Bool).column("i", DataType::Int64);
        view.column("f", DataType::Float64).column("t", DataType::Utf8).build().unwrap()
    }

    fn rule() -> impl Strategy<Value = Known> {
        let column = || "known".to_owned();
        let until = kaizen_core::Timestamp::from_nanos(10_000_000_000);
        prop_oneof![
            Just(Known::AtEvent),
            (0_u32..5).prop_map(|seconds| Known::After { seconds }),
            Just(Known::Column(column())),
            Just(Known::Backfilled { column: column(), until: Some(until) }),
        ]
    }

    fn instant(second: i64) -> i64 {
        match second {
            -5 => i64::MIN,
            20 => i64::MAX,
            second => second * 1_000_000_000,
        }
    }

    fn tail(layout: &Layout, rows: &[Row]) -> Bytes {
        let values = || rows.iter().map(|row| row.2);
        let text = |value: Option<i64>| value.map(|value| "ä".repeat(value as usize));
        let rows = Rows {
            entity: vec![0; rows.len()],
            event: rows.iter().map(|row| instant(row.0)).collect(),
            known: rows.iter().map(|row| row.1.map(instant)).collect(),
            values: vec![
                Arc::new(values().map(|value| Some(value? > 2)).collect::<BooleanArray>()),
                Arc::new(values().collect::<Int64Array>()),
                Arc::new(values().map(|value| Some(-(value? as f64))).collect::<Float64Array>()),
                Arc::new(values().map(text).collect::<StringArray>()),
            ],
        };
        let all: Vec<u32> = (0..rows.event.len() as u32).collect();
        rows.encode(&all, &Tiles::none(layout)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Ties, instants at both ends of time, tails without rows and entities without tails.
        #[test]
        fn it_is_what_timelines_of_all_rows_answer(
            rule in rule(),
            ttl in prop::option::of(1_u32..10),
            tails in prop::collection::vec(
                prop::option::of(prop::collection::vec(
                    (-5_i64..=20, prop::option::of(-5_i64..=20), prop::option::of(0_i64..5)), 0..6,
                )),
                1..5,
            ),
            probes in prop::collection::vec((prop::option::of(0_u32..5), -5_i64..=20), 0..12),
        ) {
            let view = view(rule, ttl);
            let layout = Layout::of(&view);
            let tails: Vec<Option<Bytes>> =
                tails.iter().map(|rows| Some(tail(&layout, rows.as_ref()?))).collect();
            let entity = |entity: Option<u32>| entity.filter(|e| (*e as usize) < tails.len());
            let probe = |(e, second): &(_, i64)| Probe { entity: entity(*e), at: instant(*second) };
            let probes: Vec<Probe> = probes.iter().map(probe).collect();

            let stored = Stored::decode(&layout, &tails).unwrap().rows;
            let entity: Vec<Option<u32>> = stored.entity.iter().copied().map(Some).collect();
            let times = stored.event.iter().zip(&stored.known);
            let moments: Vec<Moment> =
                times.map(|(event, known)| Moment::new(view.known(), *event, *known)).collect();
            let timelines = Timelines::new(&entity, tails.len(), &moments);
            let expected =
                general(&view, &layout, &timelines, &stored.values, None, &probes, BTreeMap::new());
            let expected = expected.unwrap();

            let (columns, sights) = answer(&view, &layout, &tails, &probes).unwrap();
            for (found, expected) in columns.iter().zip(&expected.columns) {
                prop_assert!(same_bits(found, expected), "{found:?} is not {expected:?}");
            }
            for (found, expected) in sights.iter().zip(&expected.sights) {
                prop_assert_eq!((found.status, found.event), (expected.status, expected.event));
            }
        }
    }

    #[test]
    fn bytes_that_are_not_as_they_were_written_are_corrupt() {
        let view = view(Known::AtEvent, None);
        let layout = Layout::of(&view);
        let bytes = tail(&layout, &[(1, None, Some(3)), (2, None, Some(1))]);
        let asked = |bytes: Bytes, at: i64| {
            answer(&view, &layout, &[Some(bytes)], &[Probe { entity: Some(0), at }])
        };
        for at in [0, i64::MAX] {
            asked(bytes.clone(), at).unwrap();
            for length in 0..bytes.len() {
                let error = asked(bytes.slice(..length), at).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(asked(longer.into(), at).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let newer = [&[3], &bytes[1..]].concat();
        assert!(asked(newer.into(), 0).unwrap_err().to_string().contains("version 3"));
    }
}
