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
    use super::*;

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
