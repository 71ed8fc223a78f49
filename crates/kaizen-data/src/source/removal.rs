//! Which rows are removed when entities are forgotten.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use kaizen_core::Result;

use crate::keys::{Entities, KeyTypes};

/// Entities to forget, by the keys of a source: compared as the point-in-time join compares them.
#[derive(Debug)]
pub(crate) struct Removal {
    types: KeyTypes,
    entities: Entities,
    names: Vec<String>,
}

impl Removal {
    /// The entities of these rows, whose columns are keys among the source's columns.
    pub(crate) fn new(schema: &SchemaRef, entities: &RecordBatch) -> Result<Self> {
        let fields = entities.schema();
        let names: Vec<String> = fields.fields().iter().map(|f| f.name().clone()).collect();
        let types = KeyTypes::of(&RecordBatch::new_empty(schema.clone()), &names)?;
        let mut known = Entities::default();
        if !names.is_empty() {
            known.number(&types.encode(entities)?);
        }
        Ok(Self { types, entities: known, names })
    }

    /// Whether nothing is to be removed.
    pub(crate) fn is_empty(&self) -> bool {
        self.entities.len() == 0
    }

    /// The columns that [`kept`](Self::kept) looks at.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Which of these rows remain. Length: the batch's rows.
    pub(crate) fn kept(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let found = self.entities.find(&self.types.encode(batch)?);
        Ok(found.iter().map(|entity| Some(entity.is_none())).collect())
    }
}
