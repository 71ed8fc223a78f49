//! Which columns of a source a view keeps, and which feature reads which.

use arrow::array::{ArrayRef, RecordBatch};
use kaizen_core::{DataType, Result};
use kaizen_table::{Aggregate, FeatureView, Value};

use crate::typed::typed;

/// The columns of its source that a view's features read, each once per type, in a fixed order: a
/// *slot* each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    slots: Vec<(String, DataType)>,
    features: Vec<usize>,
    tilings: Vec<Tiling>,
}

/// The windows of one slot with hops of one length. Online they share their tiles: one for each
/// hop, of what is needed for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub(crate) slot: usize,
    pub(crate) hop_seconds: u32,
    pub(crate) needs: Needs,
    /// The features, by their places in the view.
    pub(crate) features: Vec<usize>,
}

/// What the aggregates of some windows need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) sum: bool,
    pub(crate) moments: bool,
    pub(crate) least: bool,
    pub(crate) greatest: bool,
    pub(crate) first: bool,
    pub(crate) last: bool,
    pub(crate) distinct: bool,
    pub(crate) registers: bool,
    pub(crate) buckets: bool,
}

impl Needs {
    /// Adds what this aggregate needs.
    pub(crate) fn add(&mut self, aggregate: Aggregate) {
        match aggregate {
            Aggregate::Sum | Aggregate::Mean => self.sum = true,
            Aggregate::StandardDeviation => self.moments = true,
            Aggregate::Min => self.least = true,
            Aggregate::Max => self.greatest = true,
            Aggregate::First => self.first = true,
            Aggregate::Last => self.last = true,
            Aggregate::Distinct => self.distinct = true,
            Aggregate::ApproximateDistinct => self.registers = true,
            Aggregate::Quantile { .. } => self.buckets = true,
            _ => {}
        }
    }
}

impl Layout {
    /// The layout of this view.
    pub(crate) fn of(view: &FeatureView) -> Self {
        let (slots, features, tilings) = (Vec::new(), Vec::new(), Vec::new());
        let mut layout = Self { slots, features, tilings };
        for feature in view.features() {
            let data_type = match &feature.value {
                Value::Column(_) => feature.field.data_type,
                Value::Window(window) => window.holds,
            };
            let slot = (feature.value.column().to_owned(), data_type);
            let found = layout.slots.iter().position(|known| *known == slot);
            layout.features.push(found.unwrap_or(layout.slots.len()));
            if found.is_none() {
                layout.slots.push(slot);
            }
        }
        for (place, feature) in view.features().iter().enumerate() {
            if let Value::Window(window) = &feature.value
                && let Some(hop_seconds) = window.hop_seconds
            {
                layout.tile(place, hop_seconds, window.aggregate);
            }
        }
        layout
    }

    fn tile(&mut self, feature: usize, hop_seconds: u32, aggregate: Aggregate) {
        let slot = self.features[feature];
        let same = |tiling: &Tiling| (tiling.slot, tiling.hop_seconds) == (slot, hop_seconds);
        let place = self.tilings.iter().position(same).unwrap_or(self.tilings.len());
        if place == self.tilings.len() {
            let (needs, features) = (Needs::default(), Vec::new());
            self.tilings.push(Tiling { slot, hop_seconds, needs, features });
        }
        self.tilings[place].needs.add(aggregate);
        self.tilings[place].features.push(feature);
    }

    /// What is tiled online, in a fixed order.
    pub(crate) fn tilings(&self) -> &[Tiling] {
        &self.tilings
    }

    /// The types of the slots.
    pub(crate) fn types(&self) -> impl ExactSizeIterator<Item = DataType> {
        self.slots.iter().map(|(_, data_type)| *data_type)
    }

    /// The slot that a feature reads, by the feature's place in the view.
    pub(crate) fn slot(&self, feature: usize) -> usize {
        self.features[feature]
    }

    /// The slots of a source's rows, converted to their types.
    pub(crate) fn values(&self, source: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.slots.iter().map(|(column, data_type)| typed(source, column, *data_type)).collect()
    }
}
