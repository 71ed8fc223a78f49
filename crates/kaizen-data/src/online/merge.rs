//! Rows that arrive become part of what is kept of their entities.

use kaizen_core::{Bytes, Result};
use kaizen_table::{FeatureView, Value, Window};

use super::tail::{Rows, Stored};
use super::tile::{Tiles, item};
use crate::point_in_time::{Layout, Moment};

/// What is to be kept of each entity when these rows have come, by the numbers of the entities:
/// whatever a question at `from` or later can still need.
///
/// `more` are rows of the same entities, in any order of becoming known; of rows with the same
/// event time and known-at column, the later here is the later in the source. The instants `from`
/// of an entity's merges ascend.
pub(crate) fn merged(
    view: &FeatureView,
    layout: &Layout,
    stored: Stored,
    more: Rows,
    from: i64,
) -> Result<Vec<Bytes>> {
    let Stored { mut rows, mut tiles } = stored;
    let before = rows.entity.len();
    rows.append(more)?;
    let moment = |(event, known): (&i64, &Option<i64>)| Moment::new(view.known(), *event, *known);
    let known_at: Vec<i64> =
        rows.event.iter().zip(&rows.known).map(moment).map(|moment| moment.known_at).collect();
    let mut of_entity: Vec<Vec<u32>> = vec![Vec::new(); tiles.len()];
    for (row, entity) in rows.entity.iter().enumerate() {
        of_entity[*entity as usize].push(row as u32);
    }
    let merge = Merge { view, layout, rows: &rows, known_at: &known_at, before, from };
    let each = of_entity.iter().zip(&mut tiles).map(|(own, tiles)| {
        merge.tile(own, tiles);
        rows.encode(&merge.needed(own), tiles)
    });
    each.collect()
}

struct Merge<'a> {
    view: &'a FeatureView,
    layout: &'a Layout,
    rows: &'a Rows,
    known_at: &'a [i64],
    /// How many of the rows were kept already.
    before: usize,
    from: i64,
}

impl Merge<'_> {
    fn windows(&self) -> impl Iterator<Item = &Window> {
        self.view.features().iter().filter_map(|feature| match &feature.value {
            Value::Window(window) => Some(window),
            Value::Column(_) => None,
        })
    }

    /// Puts rows that are known by now into tiles, each once, and drops tiles that are too old.
    fn tile(&self, own: &[u32], tiles: &mut Tiles) {
        let until = tiles.until.max(self.from);
        let enters = |row: &&u32| {
            let row = **row as usize;
            let known_at = self.known_at[row];
            known_at <= until && (row >= self.before || known_at > tiles.until)
        };
        let entering: Vec<u32> = own.iter().filter(enters).copied().collect();
        tiles.until = until;
        for (place, tiling) in self.layout.tilings().iter().enumerate() {
            let of_tiling = self.windows_of(&tiling.features);
            let oldest = of_tiling.map(|window| window.begins_after(self.from)).min().flatten();
            tiles.drop_before(place, tiling.hop_seconds, oldest);
            for row in &entering {
                let row = *row as usize;
                let event = self.rows.event[row];
                let young = oldest.is_none_or(|oldest| event > oldest);
                if let Some(item) = item(&self.rows.values[tiling.slot], row).filter(|_| young) {
                    tiles.add(place, tiling, (event, self.rows.known[row]), &item);
                }
            }
        }
    }

    fn windows_of(&self, features: &[usize]) -> impl Iterator<Item = &Window> {
        features.iter().filter_map(|place| match &self.view.features()[*place].value {
            Value::Window(window) => Some(window),
            Value::Column(_) => None,
        })
    }

    /// Which of an entity's rows a question at `from` or later can still need besides tiles.
    ///
    /// A column feature needs every row that became known later, and the latest of those known
    /// before: that it is too old already is an answer, too. A window needs the rows that are young
    /// enough for it, one with hops only those of them that became known later.
    fn needed(&self, own: &[u32]) -> Vec<u32> {
        let begin = |hops: bool| {
            let own = self.windows().filter(|window| window.hop_seconds.is_some() == hops);
            own.map(|window| window.begins_after(self.from)).min()
        };
        let (sliding, hopping) = (begin(false), begin(true));
        let inside = |begin: Option<Option<i64>>, event: i64| {
            begin.is_some_and(|begin| begin.is_none_or(|begin| event > begin))
        };
        let columns = self.view.features().iter();
        let mut columns = columns.filter(|feature| matches!(feature.value, Value::Column(_)));
        let takes_latest = columns.next().is_some();
        let event = |row: u32| self.rows.event[row as usize];
        let known_later = |row: u32| self.known_at[row as usize] > self.from;
        // The last of equals, as offline.
        let before = own.iter().copied().filter(|row| !known_later(*row));
        let latest = before.max_by_key(|row| (event(*row), self.rows.known[*row as usize], *row));
        let latest = latest.filter(|_| takes_latest);
        let kept = |row: &u32| {
            inside(sliding, event(*row))
                || Some(*row) == latest
                || (known_later(*row) && (takes_latest || inside(hopping, event(*row))))
        };
        own.iter().copied().filter(kept).collect()
    }
}
