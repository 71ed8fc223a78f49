//! Windows with hops, added up from tiles and from the rows that are newer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use kaizen_core::{DataType, Result};
use kaizen_table::{Aggregate, FeatureView, Value, Window};

use super::tail::Stored;
use super::tile::{Item, Tile, item};
use crate::point_in_time::{Layout, Moment, Probe, Tiling, as_declared};
use crate::within::Within;

/// The features of a view that are windows with hops, by their place in it: a column each, with an
/// element per probe. A probe's entity is its number in `stored`.
pub(crate) fn columns(
    view: &FeatureView,
    layout: &Layout,
    stored: &Stored,
    probes: &[Probe],
) -> Result<BTreeMap<usize, ArrayRef>> {
    let mut columns = BTreeMap::new();
    if layout.tilings().is_empty() {
        return Ok(columns);
    }
    let rows = &stored.rows;
    let mut newer: Vec<Vec<(i64, usize)>> = vec![Vec::new(); stored.tiles.len()];
    for (row, entity) in rows.entity.iter().enumerate() {
        let known_at = Moment::new(view.known(), rows.event[row], rows.known[row]).known_at;
        let entity = *entity as usize;
        if known_at > stored.tiles[entity].until {
            newer[entity].push((known_at, row));
        }
    }
    let tiled = Tiled { stored, newer };
    for (place, tiling) in layout.tilings().iter().enumerate() {
        // Windows of one length begin together and are added up once.
        let mut by_length: BTreeMap<u32, Vec<(usize, &Window)>> = BTreeMap::new();
        for feature in &tiling.features {
            if let Value::Window(window) = &view.features()[*feature].value {
                by_length.entry(window.seconds).or_default().push((*feature, window));
            }
        }
        for windows in by_length.into_values() {
            let Some((_, window)) = windows.first() else { continue };
            let whole = |probe: &Probe| tiled.whole((place, tiling), window, *probe);
            let wholes: Vec<Tile> = probes.iter().map(whole).collect();
            for (feature, window) in windows {
                let field = &view.features()[feature].field;
                let column = column(window, &wholes)
                    .and_then(|values| as_declared(values, field))
                    .within(format!("feature `{}`", field.name))?;
                columns.insert(feature, column);
            }
        }
    }
    Ok(columns)
}

struct Tiled<'a> {
    stored: &'a Stored,
    /// Of each entity the rows that are in no tile, and from when on they are known.
    newer: Vec<Vec<(i64, usize)>>,
}

impl Tiled<'_> {
    /// All that a window holds for a probe.
    fn whole(&self, (place, tiling): (usize, &Tiling), window: &Window, probe: Probe) -> Tile {
        let mut whole = Tile::default();
        let Some(entity) = probe.entity.map(|entity| entity as usize) else { return whole };
        let begin = window.begins_after(probe.at);
        for tile in self.stored.tiles[entity].since(place, tiling.hop_seconds, begin) {
            whole.merge(tiling.needs, tile);
        }
        let rows = &self.stored.rows;
        for (known_at, row) in &self.newer[entity] {
            let event = rows.event[*row];
            let inside = *known_at <= probe.at && begin.is_none_or(|begin| event > begin);
            if let Some(item) = item(&rows.values[tiling.slot], *row).filter(|_| inside) {
                whole.add(tiling.needs, (event, rows.known[*row]), &item);
            }
        }
        whole
    }
}

fn column(window: &Window, wholes: &[Tile]) -> Result<ArrayRef> {
    let aggregate = window.aggregate;
    let rows = || {
        wholes.iter().map(|tile| match aggregate {
            Aggregate::First => tile.first.as_ref().map(|(_, item)| item),
            _ => tile.last.as_ref().map(|(_, item)| item),
        })
    };
    Ok(match (aggregate, window.output()) {
        (Aggregate::First | Aggregate::Last, DataType::Bool) => {
            let flag = |item: Option<&Item>| match item {
                Some(Item::Bool(flag)) => Some(*flag),
                _ => None,
            };
            Arc::new(rows().map(flag).collect::<BooleanArray>())
        }
        (Aggregate::First | Aggregate::Last, DataType::Int64) => {
            let integer = |item: Option<&Item>| match item {
                Some(Item::Int64(integer)) => Some(*integer),
                _ => None,
            };
            Arc::new(rows().map(integer).collect::<Int64Array>())
        }
        (Aggregate::First | Aggregate::Last, DataType::Utf8) => {
            fn text(item: Option<&Item>) -> Option<&str> {
                if let Some(Item::Utf8(text)) = item { Some(text) } else { None }
            }
            Arc::new(rows().map(text).collect::<StringArray>())
        }
        (Aggregate::First | Aggregate::Last, _) => {
            let number = |item: Option<&Item>| item.and_then(Item::number);
            Arc::new(rows().map(number).collect::<Float64Array>())
        }
        (_, DataType::Int64) => {
            let integer = |tile: &Tile| Some(tile.integer(aggregate));
            Arc::new(wholes.iter().map(integer).collect::<Int64Array>())
        }
        _ => Arc::new(wholes.iter().map(|tile| tile.number(aggregate)).collect::<Float64Array>()),
    })
}
