//! One entity after the other, its instants ascending.

use arrow::array::{Array, ArrayRef};
use kaizen_core::Result;
use kaizen_stats::Scaled;

use super::Groups;
use super::codes::{Codes, Words, bucket_word};
use super::ranges::{Ranges, Totals};
use super::states::State;
use crate::point_in_time::layout::Needs;
use crate::point_in_time::timeline::Timelines;

/// The rows of one entity that a sweep can need. A *position* counts them in the order in which
/// they became known, a *place* in the order in which they happened, then by rank.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The source's row at each position.
    rows: Vec<u32>,
    known_at: Vec<i64>,
    /// Event times, by place.
    event: Vec<i64>,
    /// Whether positions are places.
    plain: bool,
    place: Vec<u32>,
    position: Vec<u32>,
}

impl Rows {
    /// Takes the rows of an entity, without those that happened at `begin` or before where they
    /// are easily told.
    fn load(&mut self, timelines: &Timelines, entity: Option<u32>, begin: Option<i64>) {
        let mut range = timelines.positions(entity);
        let in_order = |place: usize| timelines.by_event(place) == place;
        self.plain = timelines.is_by_event() || range.clone().all(in_order);
        if let (true, Some(begin)) = (self.plain, begin) {
            range.start = timelines.first_after(range.clone(), begin);
        }
        let (start, range) = (range.start, range);
        self.rows.clear();
        self.known_at.clear();
        self.event.clear();
        self.rows.extend(range.clone().map(|position| timelines.row(position) as u32));
        self.known_at.extend(range.clone().map(|position| timelines.known_at(position)));
        if self.plain {
            self.event.extend(range.map(|position| timelines.event(position)));
            return;
        }
        self.position.clear();
        self.place.clear();
        self.place.resize(range.len(), 0);
        for (place, at) in range.enumerate() {
            let position = timelines.by_event(at);
            self.event.push(timelines.event(position));
            self.position.push((position - start) as u32);
            self.place[position - start] = place as u32;
        }
    }

    /// Whether positions are places: rows became known in the order in which they happened.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The event times, by place.
    pub(super) fn events(&self) -> &[i64] {
        &self.event
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The event time of the row with this place.
    pub(super) fn event_at(&self, place: usize) -> i64 {
        self.event[place]
    }

    /// The position of the row with this place.
    pub(super) fn position(&self, place: usize) -> usize {
        if self.plain { place } else { self.position[place] as usize }
    }

    /// The place of the row at this position.
    pub(super) fn place(&self, position: usize) -> usize {
        if self.plain { position } else { self.place[position] as usize }
    }

    /// The source's row at this position.
    pub(super) fn row(&self, position: usize) -> u32 {
        self.rows[position]
    }
}

/// A slot's values of one entity, by position.
#[derive(Debug)]
pub(super) struct Column<'a> {
    needs: Needs,
    values: Words<'a>,
    /// Whether a row has a value that counts.
    pub(super) valid: Vec<bool>,
    /// The numbers, NaN where there is none; empty if they are not needed.
    pub(super) numbers: Vec<f64>,
    /// The numbers as integers of one unit, if they can be.
    pub(super) scaled: Option<Scaled>,
    pub(super) integers: Vec<i128>,
    /// Where positions are places.
    pub(super) totals: Totals,
    pub(super) words: Codes,
    pub(super) cells: Codes,
    pub(super) buckets: Codes,
}

impl Column<'_> {
    /// Whether sums of squares of the integers are kept.
    pub(super) fn has_squares(&self) -> bool {
        self.scaled.is_some_and(|scaled| scaled.has_squares())
    }

    fn load(&mut self, rows: &Rows) {
        let Self { needs, values, valid, numbers, .. } = self;
        let plain = rows.plain;
        let rows = || rows.rows.iter().map(|row| *row as usize);
        valid.clear();
        if let Some(floats) = values.floats() {
            let (all, nulls) = (floats.values(), floats.nulls());
            let present = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
            let number = |row: usize| if present(row) { all[row] } else { f64::NAN };
            numbers.clear();
            numbers.extend(rows().map(number));
            valid.extend(numbers.iter().map(|number| !number.is_nan()));
        } else {
            valid.extend(rows().map(|row| values.has(row)));
        }
        self.scaled = match needs.sum || needs.moments {
            true => Scaled::of(numbers, &mut self.integers),
            false => None,
        };
        if plain {
            let squares = self.scaled.is_some_and(|scaled| scaled.has_squares());
            self.totals.load(valid, &self.integers, needs.moments && squares);
        }
        let present = || rows().zip(valid.iter().copied());
        if needs.distinct {
            values.clear();
            let word = |(row, valid): (usize, bool)| valid.then(|| values.word(row));
            self.words.rank(present().map(word));
        }
        if needs.registers {
            let cell = |(row, valid): (usize, bool)| valid.then(|| u64::from(values.cell(row)));
            self.cells.rank(present().map(cell));
        }
        if needs.buckets {
            self.buckets.rank(numbers.iter().map(|number| bucket_word(*number)));
        }
    }
}

/// Answers the probes of one entity after the other.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    groups: &'a Groups,
    timelines: &'a Timelines,
    rows: Rows,
    /// By slot; `None` for those that no window reads.
    columns: Vec<Option<Column<'a>>>,
    states: Vec<State>,
    /// How many rows each question sees.
    seen: Vec<u32>,
    ranges: Ranges,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        groups: &'a Groups,
        timelines: &'a Timelines,
        values: &'a [ArrayRef],
    ) -> Result<Self> {
        let column = |(slot, values): (usize, &'a ArrayRef)| {
            let mut needs = None;
            for group in groups.groups.iter().filter(|group| group.slot == slot) {
                let needs = needs.get_or_insert_with(Needs::default);
                group.aggregates.iter().for_each(|aggregate| needs.add(*aggregate));
            }
            let Some(needs) = needs else { return Ok(None) };
            Ok(Some(Column {
                needs,
                values: Words::of(values)?,
                valid: Vec::new(),
                numbers: Vec::new(),
                scaled: None,
                integers: Vec::new(),
                totals: Totals::default(),
                words: Codes::default(),
                cells: Codes::default(),
                buckets: Codes::default(),
            }))
        };
        let columns = values.iter().enumerate().map(column).collect::<Result<_>>()?;
        let states = groups.groups.iter().map(|group| State::new(&group.aggregates)).collect();
        let (rows, seen, ranges) = (Rows::default(), Vec::new(), Ranges::default());
        Ok(Self { groups, timelines, rows, columns, states, seen, ranges })
    }

    /// The cells of an entity's questions, whose instants ascend: a column per cell.
    pub(super) fn run(&mut self, entity: u32, instants: &[i64], cells: &mut [&mut [u64]]) {
        let earliest = instants.first().and_then(|at| {
            let begins = self.groups.groups.iter().map(|group| group.window.begins_after(*at));
            begins.min().flatten()
        });
        let rows = &mut self.rows;
        rows.load(self.timelines, Some(entity), earliest);
        let mut seen = 0;
        self.seen.clear();
        self.seen.extend(instants.iter().map(|at| {
            while rows.known_at.get(seen).is_some_and(|known| *known <= *at) {
                seen += 1;
            }
            seen as u32
        }));
        for column in self.columns.iter_mut().flatten() {
            column.load(rows);
        }
        for (state, group) in self.states.iter_mut().zip(&self.groups.groups) {
            let Some(column) = &self.columns[group.slot] else { continue };
            let own = group.first_cell..group.first_cell + group.aggregates.len();
            let (cells, asked) = (&mut cells[own], (instants, self.seen.as_slice()));
            if Ranges::suit(group, rows, column) {
                self.ranges.answer(group, rows, column, asked, cells);
                continue;
            }
            state.reset(column);
            for (question, (at, seen)) in instants.iter().zip(&self.seen).enumerate() {
                state.advance(rows, column, group.window.begins_after(*at), *seen as usize);
                for (aggregate, cells) in group.aggregates.iter().zip(&mut *cells) {
                    cells[question] = state.cell(*aggregate, rows, column);
                }
            }
        }
    }
}
