//! Many questions at once, asked entity by entity.

use rayon::prelude::*;

use super::timeline::{LANES, PARALLEL_FROM, Probe, Sight, Timelines};

/// With fewer rows, all that is searched is close at hand in any order.
const ROWS_IN_REACH: usize = 1 << 15;

/// Questions are asked in the order of so many ranges of entities, and of no entity.
const RANGES: usize = 1 << 11;

/// At least so many questions are worth a thread.
const PROBES_PER_TASK: usize = 1 << 14;

/// What each probe sees, where a row older than `ttl` nanoseconds does not count.
///
/// Neighbouring questions are mostly about entities far apart, and most of the time of a search
/// would go by waiting for memory. Each thread therefore asks its share of them by ranges of
/// entities.
pub(super) fn sights(timelines: &Timelines, probes: &[Probe], ttl: Option<u64>) -> Vec<Sight> {
    let near = timelines.rows.len() < ROWS_IN_REACH;
    let sight = |probe: &Probe| timelines.sight(*probe, ttl);
    if near || probes.len() < PARALLEL_FROM {
        return match probes.len() < PARALLEL_FROM {
            true => probes.iter().map(sight).collect(),
            false => probes.par_iter().with_min_len(PROBES_PER_TASK).map(sight).collect(),
        };
    }
    let share = probes.len().div_ceil(rayon::current_num_threads()).max(PROBES_PER_TASK);
    let mut sights = vec![Sight::NOTHING; probes.len()];
    let shares = sights.par_chunks_mut(share).zip(probes.par_chunks(share));
    shares.for_each(|(sights, probes)| {
        let places = by_range(probes, timelines.entities());
        let (groups, rest) = places.as_chunks::<LANES>();
        for group in groups {
            let probes = group.map(|place| probes[place as usize]);
            for (place, sight) in group.iter().zip(timelines.sights(&probes, ttl)) {
                sights[*place as usize] = sight;
            }
        }
        for place in rest {
            sights[*place as usize] = sight(&probes[*place as usize]);
        }
    });
    sights
}

/// The places of probes that name an entity, by ranges of entities.
fn by_range(probes: &[Probe], entities: usize) -> Vec<u32> {
    let shift = (entities / RANGES).checked_ilog2().map_or(0, |bits| bits + 1);
    let range = |probe: &Probe| probe.entity.map(|entity| (entity >> shift) as usize);
    let mut next = [0_u32; RANGES + 1];
    for range in probes.iter().filter_map(range) {
        next[range + 1] += 1;
    }
    for range in 0..RANGES {
        next[range + 1] += next[range];
    }
    let mut places = vec![0; next[RANGES] as usize];
    for (place, probe) in probes.iter().enumerate() {
        if let Some(range) = range(probe) {
            places[next[range] as usize] = place as u32;
            next[range] += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::super::timeline::{Knowledge, Status};
    use super::*;
    use crate::keys::NOBODY;

    const SECOND: i64 = 1_000_000_000;
    const ROWS: usize = 40_000;
    const ENTITIES: u32 = 700;

    /// A number below `most` drawn from its place: splitmix64.
    fn drawn(stream: u64, place: usize, most: u64) -> i64 {
        let mut z = stream.wrapping_add((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most) as i64
    }

    /// Few instants, so that ties are many, and the first and the last instants that there are.
    fn instant(stream: u64, place: usize) -> i64 {
        match drawn(stream, place, 50) {
            0 => i64::MIN + drawn(stream + 1, place, 3) * SECOND,
            1 => i64::MAX - drawn(stream + 1, place, 3) * SECOND,
            _ => drawn(stream + 1, place, 2_000) * SECOND,
        }
    }

    /// Timelines over more rows than are in reach, of which some entities have none and one has
    /// many.
    fn timelines(after: Option<u64>, threads: usize) -> Timelines {
        let entity = |row| match drawn(1, row, 10) {
            0 => NOBODY,
            1 | 2 => 5,
            _ => drawn(2, row, u64::from(ENTITIES - 50)) as u32,
        };
        let entity: Vec<u32> = (0..ROWS).map(entity).collect();
        let event: Vec<i64> = (0..ROWS).map(|row| instant(3, row)).collect();
        let known_at: Vec<i64> = (0..ROWS).map(|row| event[row].max(instant(5, row))).collect();
        let knowledge = match after {
            Some(nanos) => Knowledge::After(nanos),
            None => Knowledge::Each { known_at: &known_at, column: &known_at, valid: None },
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Timelines::of(&entity, ENTITIES as usize, &event, &knowledge))
    }

    #[test]
    fn many_questions_at_once_see_what_each_sees_alone() {
        let entity = |place| (drawn(7, place, 20) > 0).then(|| drawn(8, place, ENTITIES.into()));
        let probe = |place: usize| Probe {
            entity: entity(place).map(|entity| entity as u32),
            at: match drawn(9, place, 10) {
                0 => i64::MAX,
                1 => i64::MIN,
                _ => instant(10, place),
            },
        };
        // More than one thread's share of them.
        let probes: Vec<Probe> = (0..2 * PROBES_PER_TASK + 5).map(probe).collect();
        assert!(ROWS > ROWS_IN_REACH && probes.len() > PARALLEL_FROM);
        for after in [Some(0), Some(7 * SECOND.cast_unsigned()), None] {
            let timelines = timelines(after, 2);
            for ttl in [None, Some(20 * SECOND.cast_unsigned())] {
                let alone: Vec<Sight> =
                    probes.iter().map(|probe| timelines.sight(*probe, ttl)).collect();
                let statuses = [Status::Found, Status::Unknown];
                assert!(statuses.iter().all(|s| alone.iter().any(|sight| sight.status == *s)));
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let found = pool.unwrap().install(|| sights(&timelines, &probes, ttl));
                    for (probe, (found, alone)) in probes.iter().zip(found.iter().zip(&alone)) {
                        assert_eq!(found, alone, "{probe:?}, {after:?}, {ttl:?}, {threads}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_question_about_an_entity_is_asked_once() {
        for entities in [1_u32, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 1_000_000] {
            let entity = |place: u32| (!place.is_multiple_of(7)).then(|| place * 7_919 % entities);
            let probes: Vec<Probe> =
                (0..5_000).map(|place| Probe { entity: entity(place), at: 0 }).collect();
            let mut places = by_range(&probes, entities as usize);
            places.sort_unstable();
            let wanted: Vec<u32> =
                (0..5_000).filter(|place: &u32| !place.is_multiple_of(7)).collect();
            assert_eq!(places, wanted, "{entities} entities");
        }
    }
}
