//! Questions in the order in which they are swept.

use rayon::prelude::*;

use crate::keys::NOBODY;
use crate::point_in_time::grouping::{Grouped, group};
use crate::point_in_time::timeline::{Knowledge, PARALLEL_FROM, Probe};

/// Probes by entity, then by instant; last those about nobody.
#[derive(Debug)]
pub(super) struct Questions {
    /// The probe of each question.
    pub(super) order: Vec<u32>,
    /// The instant of each question about somebody.
    pub(super) instants: Vec<i64>,
    /// The entities that are asked about, ascending.
    pub(super) entities: Vec<u32>,
    /// Where the questions about each of them start; one more at the end.
    pub(super) starts: Vec<u32>,
}

impl Questions {
    /// Orders probes about entities with numbers below `entities`.
    pub(super) fn of(probes: &[Probe], entities: usize) -> Self {
        // A counting sort looks at every entity, asked about or not.
        let mut questions = match probes.len() < PARALLEL_FROM.max(entities / 4) {
            true => Self::compared(probes),
            false => Self::counted(probes, entities),
        };
        if questions.order.len() < probes.len() {
            let nobody = |place: &u32| probes[*place as usize].entity.is_none();
            questions.order.extend((0..probes.len() as u32).filter(nobody));
        }
        questions
    }

    fn compared(probes: &[Probe]) -> Self {
        let entity = |place: u32| probes[place as usize].entity;
        let somebody = |place: &u32| entity(*place).is_some();
        let mut order: Vec<u32> = (0..probes.len() as u32).filter(somebody).collect();
        let key = |place: &u32| (entity(*place), probes[*place as usize].at, *place);
        if order.len() < PARALLEL_FROM {
            order.sort_unstable_by_key(key);
        } else {
            order.par_sort_unstable_by_key(key);
        }
        let instants = order.iter().map(|place| probes[*place as usize].at).collect();
        let (mut entities, mut starts) = (Vec::new(), vec![0]);
        for own in order.chunk_by(|one, other| entity(*one) == entity(*other)) {
            let start = starts.last().copied().unwrap_or(0);
            starts.push(start + own.len() as u32);
            entities.extend(own.first().and_then(|place| entity(*place)));
        }
        Self { order, instants, entities, starts }
    }

    fn counted(probes: &[Probe], entities: usize) -> Self {
        let entity = probes.par_iter().map(|probe| probe.entity.unwrap_or(NOBODY));
        let entity: Vec<u32> = entity.collect();
        let at: Vec<i64> = probes.par_iter().map(|probe| probe.at).collect();
        let Grouped { starts, rows, event, .. } =
            group(&entity, entities, &at, &Knowledge::After(0));
        let asked = |entity: &u32| starts[*entity as usize] < starts[*entity as usize + 1];
        let entities: Vec<u32> = (0..entities as u32).filter(asked).collect();
        let own = entities.iter().map(|entity| starts[*entity as usize]);
        let starts = own.chain([rows.len() as u32]).collect();
        Self { order: rows, instants: event, entities, starts }
    }

    /// The question of each probe; `None` if each is its own.
    pub(super) fn ranks(&self) -> Option<Vec<u32>> {
        if self.order.is_sorted() {
            return None;
        }
        let mut ranks = vec![0; self.order.len()];
        for (question, probe) in self.order.iter().enumerate() {
            ranks[*probe as usize] = question as u32;
        }
        Some(ranks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn questions_counted_are_in_the_order_of_those_compared(
            asked in prop::collection::vec((prop::option::of(0_u32..6), -3_i64..3), 0..60),
        ) {
            let probe = |(entity, at): &(Option<u32>, i64)| Probe { entity: *entity, at: *at };
            let probes: Vec<Probe> = asked.iter().map(probe).collect();
            let (one, other) = (Questions::compared(&probes), Questions::counted(&probes, 7));
            prop_assert_eq!(&one.order, &other.order);
            prop_assert_eq!(one.instants, other.instants);
            prop_assert_eq!(one.entities, other.entities);
            prop_assert_eq!(one.starts, other.starts);
            let whole = Questions::of(&probes, 7);
            let ranks = whole.ranks().unwrap_or_else(|| (0..probes.len() as u32).collect());
            for (question, probe) in whole.order.iter().enumerate() {
                prop_assert_eq!(ranks[*probe as usize] as usize, question);
            }
            prop_assert_eq!(whole.order.len(), probes.len());
        }
    }
}
