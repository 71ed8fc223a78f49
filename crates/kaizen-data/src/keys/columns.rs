//! The columns of keys, one by one.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use arrow::row::{RowConverter, SortField};
use kaizen_core::{Context, ErrorKind, Result};

use super::KeyTypes;

impl KeyTypes {
    /// The columns, each with the type in which its values are compared.
    pub(crate) fn typed_columns(&self) -> &[(String, ArrowType)] {
        &self.0
    }

    /// These columns alone, in this order; `None` if one is not among the keys.
    pub(crate) fn only(&self, columns: &[&str]) -> Option<Self> {
        let column = |name: &&str| self.0.iter().find(|(other, _)| other == name).cloned();
        columns.iter().map(column).collect::<Option<_>>().map(Self)
    }

    /// The columns of keys that [`encode`](Self::encode) gave as bytes. Length: the keys.
    pub(crate) fn decode(&self, keys: &[&[u8]]) -> Result<RecordBatch> {
        let message = "keys from bytes";
        let fields = self.0.iter().map(|(_, compared)| SortField::new(compared.clone())).collect();
        let converter = RowConverter::new(fields).context(ErrorKind::Internal, message)?;
        let parser = converter.parser();
        let columns = converter
            .convert_rows(keys.iter().map(|key| parser.parse(key)))
            .context(ErrorKind::Corrupt, message)?;
        let fields = self.0.iter().zip(&columns);
        let field = |((name, _), values): (&(String, _), &Arc<dyn arrow::array::Array>)| {
            Field::new(name, values.data_type().clone(), true)
        };
        let schema = Arc::new(Schema::new(fields.map(field).collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        RecordBatch::try_new_with_options(schema, columns, &options)
            .context(ErrorKind::Internal, message)
    }
}
