//! Rows grouped by entity, in the order in which they became known.

use std::hint::select_unpredictable;
use std::ops::Range;

use arrow::buffer::{NullBuffer, ScalarBuffer};
use kaizen_core::{Error, Result, Timestamp};
use kaizen_table::Known;

use super::grouping::{Grouped, group};
use crate::keys::NOBODY;

/// Below this many rows, handing work to other threads costs more than it saves.
pub(crate) const PARALLEL_FROM: usize = 4_096;

/// When a source's row happened, and since when it is known, in nanoseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// When it happened.
    pub(crate) event: i64,
    /// What its column of the known-at time says, if it has one.
    pub(crate) known: Option<i64>,
    /// The first instant at which it may be seen, at or after `event`.
    pub(crate) known_at: i64,
}

impl Moment {
    /// The moment of a row whose known-at column, if the view has one, says `column`.
    pub(crate) fn new(rule: &Known, event: i64, column: Option<i64>) -> Self {
        let known_at = match rule {
            Known::AtEvent => event,
            Known::After { seconds } => event.saturating_add(nanos(*seconds) as i64),
            Known::Column(_) => column.map_or(event, |known| known.max(event)),
            Known::Backfilled { until, .. } => {
                // Instants beyond what nanoseconds can tell are before or after every row.
                let beyond =
                    |until: Timestamp| if until.micros() < 0 { i64::MIN } else { i64::MAX };
                let loaded = until.map_or(i64::MAX, |until| until.nanos().unwrap_or(beyond(until)));
                let live = column.filter(|known| *known > loaded);
                live.map_or(event, |known| known.max(event))
            }
        };
        Self { event, known: column, known_at }
    }
}

/// Seconds as nanoseconds; 32 bits of seconds always fit.
pub(crate) fn nanos(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000
}

/// So many searches run at once.
pub(super) const LANES: usize = 16;

/// Every so many positions a time stands among the fences.
const FENCED: usize = 16;

/// One question: this entity, as of this instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// The number of the entity, if the source has it.
    pub(crate) entity: Option<u32>,
    /// The instant, in nanoseconds UTC.
    pub(crate) at: i64,
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// By a row that counts.
    Found,
    /// The latest row is older than the TTL.
    Expired,
    /// Nothing was known of the entity.
    Unknown,
}

/// What a question sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The position of the row that is the latest; of no meaning if the status is unknown.
    pub(crate) position: u32,
    /// Whether it counts.
    pub(crate) status: Status,
    /// Whether something had happened that was not known yet.
    pub(crate) hidden: bool,
    /// When the latest row happened, in nanoseconds UTC; of no meaning if the status is unknown.
    pub(crate) event: i64,
}

impl Sight {
    /// What a question about nobody sees.
    pub(crate) const NOTHING: Self =
        Self { position: 0, status: Status::Unknown, hidden: false, event: 0 };

    /// The position of the row that answers.
    pub(crate) fn answer(&self) -> Option<usize> {
        (self.status == Status::Found).then_some(self.position as usize)
    }
}

/// When rows became known, with an element per row of the source.
#[derive(Debug)]
pub(crate) enum Knowledge<'a> {
    /// So many nanoseconds after they happened.
    After(u64),
    /// At instants of their own.
    Each {
        /// The first instant at which each row may be seen.
        known_at: &'a [i64],
        /// What the known-at column says, which decides between rows of the same event time.
        column: &'a [i64],
        /// Where it says something.
        valid: Option<&'a NullBuffer>,
    },
}

/// The instants from which rows are known, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KnownAt {
    /// So many nanoseconds after their event times.
    After(u64),
    /// As it stands here.
    Each(ScalarBuffer<i64>),
}

/// The rows of every entity. A *position* is a row's place here; the rows of an entity have
/// neighbouring positions, ascending by the instant from which they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timelines {
    /// Where each entity's positions start; one more at the end.
    pub(super) starts: ScalarBuffer<u32>,
    /// The source's row at each position.
    pub(super) rows: ScalarBuffer<u32>,
    /// The event time of the row at each position.
    pub(super) event: ScalarBuffer<i64>,
    /// The instant from which the row at each position is known.
    pub(super) known_at: KnownAt,
    /// The position of the latest row among the entity's rows up to each position; `None` if that
    /// is each position itself.
    pub(super) latest: Option<ScalarBuffer<u32>>,
    /// The positions of each entity ascending by event time, then by what decides which is the
    /// latest; `None` if they already are.
    pub(super) by_event: Option<ScalarBuffer<u32>>,
    /// Of the times that are searched every sixteenth, the first included: so few that a search finds
    /// most of its way in memory that is close at hand.
    pub(super) fences: Vec<i64>,
}

impl Timelines {
    /// Groups rows by entity. `entity` and `moments` have one element per row, and `entity` names
    /// numbers below `entities`, or none for rows that nobody can see.
    pub(crate) fn new(entity: &[Option<u32>], entities: usize, moments: &[Moment]) -> Self {
        let entity: Vec<u32> = entity.iter().map(|entity| entity.unwrap_or(NOBODY)).collect();
        let event: Vec<i64> = moments.iter().map(|moment| moment.event).collect();
        let known_at: Vec<i64> = moments.iter().map(|moment| moment.known_at).collect();
        let column: Vec<i64> = moments.iter().map(|moment| moment.known.unwrap_or(0)).collect();
        let valid: NullBuffer = moments.iter().map(|moment| moment.known.is_some()).collect();
        let valid = Some(&valid);
        let knowledge = Knowledge::Each { known_at: &known_at, column: &column, valid };
        Self::of(&entity, entities, &event, &knowledge)
    }

    /// Groups rows by entity. `entity` and `event` have one element per row, and `entity` names
    /// numbers below `entities`, or [`NOBODY`] for rows that nobody can see.
    pub(crate) fn of(
        entity: &[u32],
        entities: usize,
        event: &[i64],
        knowledge: &Knowledge<'_>,
    ) -> Self {
        let Grouped { starts, rows, event, known_at, latest, by_event } =
            group(entity, entities, event, knowledge);
        let known_at = match (known_at, knowledge) {
            (Some(known_at), _) => KnownAt::Each(known_at.into()),
            (None, Knowledge::After(nanos)) => KnownAt::After(*nanos),
            (None, Knowledge::Each { .. }) => KnownAt::After(0),
        };
        let (latest, by_event) = (latest.map(Into::into), by_event.map(Into::into));
        let (starts, rows, event) = (starts.into(), rows.into(), event.into());
        let fences = Vec::new();
        Self { starts, rows, event, known_at, latest, by_event, fences }.fenced()
    }

    /// With the fences of its times.
    pub(super) fn fenced(mut self) -> Self {
        self.fences = self.searched().iter().step_by(FENCED).copied().collect();
        self
    }

    /// The times that are searched, by position, ascending for each entity.
    fn searched(&self) -> &[i64] {
        match &self.known_at {
            KnownAt::Each(known_at) => known_at,
            KnownAt::After(_) => &self.event,
        }
    }

    /// Checks that every number names something that is there: these may have been in a file.
    pub(super) fn check(&self, entities: usize, rows: u32) -> Result<()> {
        let Self { starts, known_at, .. } = self;
        let count = self.rows.len();
        let counts = |positions: Option<&ScalarBuffer<u32>>| {
            positions.is_none_or(|positions| positions.len() == count)
        };
        let mut whole = entities.checked_add(1) == Some(starts.len())
            && starts.first() == Some(&0)
            && starts.last().is_some_and(|last| *last as usize == count)
            && starts.is_sorted()
            && self.event.len() == count
            && counts(self.latest.as_ref())
            && counts(self.by_event.as_ref())
            && self.rows.iter().all(|row| *row < rows);
        if let KnownAt::Each(known_at) = known_at {
            whole &= known_at.len() == count;
        }
        if !whole {
            return Err(Error::corrupt("its parts do not fit together"));
        }
        for pair in starts.windows(2) {
            let own = pair[0] as usize..pair[1] as usize;
            let inside = |positions: &ScalarBuffer<u32>| {
                positions[own.clone()].iter().all(|position| own.contains(&(*position as usize)))
            };
            if !self.latest.iter().chain(&self.by_event).all(inside) {
                return Err(Error::corrupt("an entity has rows of another"));
            }
        }
        Ok(())
    }

    /// What the probe sees, where a row older than `ttl` nanoseconds does not count.
    pub(crate) fn sight(&self, probe: Probe, ttl: Option<u64>) -> Sight {
        let range = self.positions(probe.entity);
        let seen = self.seen(range.clone(), probe.at);
        self.sight_of(range, probe.at, seen, ttl)
    }

    /// What probes see: several searches at once, so that one need not wait for the memory of
    /// another.
    pub(super) fn sights(&self, probes: &[Probe; LANES], ttl: Option<u64>) -> [Sight; LANES] {
        let ranges = probes.map(|probe| self.positions(probe.entity));
        // An instant before all time sees nothing.
        let until = probes.map(|probe| match &self.known_at {
            KnownAt::Each(_) => Some(probe.at),
            // What would be known after the last instant there is, is known at that instant.
            KnownAt::After(_) if probe.at == i64::MAX => Some(probe.at),
            KnownAt::After(nanos) => probe.at.checked_sub_unsigned(*nanos),
        });
        let at = until.map(|at| at.unwrap_or(i64::MIN));
        let near = self.near(&ranges, &at);
        let times = self.searched();
        std::array::from_fn(|lane| {
            let (range, near) = (ranges[lane].clone(), near[lane].clone());
            let passed = times[near.clone()].iter().filter(|time| **time <= at[lane]).count();
            let seen = until[lane].map_or(0, |_| near.start + passed - range.start);
            self.sight_of(range, probes[lane].at, seen, ttl)
        })
    }

    /// Between which positions of each range the times pass these instants, found by the fences.
    fn near(&self, ranges: &[Range<usize>; LANES], at: &[i64; LANES]) -> [Range<usize>; LANES] {
        let first = std::array::from_fn::<_, LANES, _>(|l| ranges[l].start.div_ceil(FENCED));
        let mut size: [usize; LANES] =
            std::array::from_fn(|l| ranges[l].end.div_ceil(FENCED).saturating_sub(first[l]));
        let some = size.map(|size| size > 0);
        let mut base = first;
        let end = self.fences.len().saturating_sub(1);
        let mut rest = size.iter().copied().max().unwrap_or(0);
        while rest > 1 {
            for lane in 0..LANES {
                let half = size[lane] / 2;
                // A lane that is done, or has no rows, has no half to go. A branch here would be
                // foretold wrongly half the time.
                let middle = base[lane] + half;
                let later = self.fences[middle.min(end)] <= at[lane];
                base[lane] = select_unpredictable(later, middle, base[lane]);
                size[lane] -= half;
            }
            rest -= rest / 2;
        }
        std::array::from_fn(|lane| {
            let Range { start, end } = ranges[lane].clone();
            // The first fence that is later; the one before it is not.
            let next = base[lane] + usize::from(some[lane] && self.fences[base[lane]] <= at[lane]);
            let from = if next > first[lane] { (next - 1) * FENCED } else { start };
            from..end.min(next * FENCED).max(from)
        })
    }

    fn sight_of(&self, range: Range<usize>, at: i64, seen: usize, ttl: Option<u64>) -> Sight {
        let hidden = self.hides(range.clone(), at, seen);
        let Some(last) = seen.checked_sub(1).map(|before| range.start + before) else {
            return Sight { hidden, ..Sight::NOTHING };
        };
        let latest = self.latest_position(last);
        let event = self.event[latest];
        let young = ttl.is_none_or(|ttl| at.abs_diff(event) <= ttl);
        let status = if young { Status::Found } else { Status::Expired };
        Sight { position: latest as u32, status, hidden, event }
    }

    /// The position of the latest row among the entity's rows up to a position.
    pub(super) fn latest_position(&self, position: usize) -> usize {
        self.latest.as_ref().map_or(position, |latest| latest[position] as usize)
    }

    /// How many of these positions, which are those of one entity, are known at an instant.
    pub(super) fn seen(&self, range: Range<usize>, at: i64) -> usize {
        match &self.known_at {
            KnownAt::Each(known_at) => known_at[range].partition_point(|known| *known <= at),
            // What would be known after the last instant there is, is known at that instant.
            KnownAt::After(_) if at == i64::MAX => range.len(),
            KnownAt::After(nanos) => match at.checked_sub_unsigned(*nanos) {
                Some(at) => self.event[range].partition_point(|event| *event <= at),
                None => 0,
            },
        }
    }

    /// Whether one of an entity's rows had happened at an instant at which `seen` were known, and
    /// was not among them.
    fn hides(&self, range: Range<usize>, at: i64, seen: usize) -> bool {
        let next = range.start + seen;
        if self.known_at == KnownAt::After(0) || next == range.end {
            return false;
        }
        match &self.by_event {
            _ if self.event[next] <= at => true,
            None => false,
            // What is known had happened, so that more must have happened than is known.
            Some(order) => {
                let happened = |position: &u32| self.event[*position as usize] <= at;
                order[range].partition_point(happened) > seen
            }
        }
    }

    /// The positions of an entity.
    pub(crate) fn positions(&self, entity: Option<u32>) -> Range<usize> {
        entity.map_or(0..0, |entity| {
            let entity = entity as usize;
            self.starts[entity] as usize..self.starts[entity + 1] as usize
        })
    }

    /// How many entities there are.
    pub(crate) fn entities(&self) -> usize {
        self.starts.len() - 1
    }

    /// The source's row at a position.
    pub(crate) fn row(&self, position: usize) -> usize {
        self.rows[position] as usize
    }

    /// The instant from which the row at a position is known.
    pub(crate) fn known_at(&self, position: usize) -> i64 {
        match &self.known_at {
            KnownAt::Each(known_at) => known_at[position],
            KnownAt::After(nanos) => self.event[position].saturating_add_unsigned(*nanos),
        }
    }

    /// The event time of the row at a position.
    pub(crate) fn event(&self, position: usize) -> i64 {
        self.event[position]
    }

    /// Whether the rows of every entity became known in the order in which they happened.
    pub(crate) fn is_by_event(&self) -> bool {
        self.by_event.is_none()
    }

    /// Of an entity's positions, which ascend by event time, the first that happened after an
    /// instant.
    pub(crate) fn first_after(&self, range: Range<usize>, instant: i64) -> usize {
        let start = range.start;
        start + self.event[range].partition_point(|event| *event <= instant)
    }

    /// The position that has this place when an entity's rows are ordered by event time, then by
    /// what decides which is the latest. `place` counts over all entities, like a position.
    pub(crate) fn by_event(&self, place: usize) -> usize {
        self.by_event.as_ref().map_or(place, |order| order[place] as usize)
    }
}
