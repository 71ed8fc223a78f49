//! Which columns of a source a view keeps, and which feature reads which.

use arrow::array::{ArrayRef, RecordBatch};
use kaizen_core::{DataType, Result};
use kaizen_table::{FeatureView, Value};

use crate::typed::typed;

/// The columns of its source that a view's features read, each once per type, in a fixed order: a
/// *slot* each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    slots: Vec<(String, DataType)>,
    features: Vec<usize>,
}

impl Layout {
    /// The layout of this view.
    pub(crate) fn of(view: &FeatureView) -> Self {
        let mut layout = Self { slots: Vec::new(), features: Vec::new() };
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
        layout
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
