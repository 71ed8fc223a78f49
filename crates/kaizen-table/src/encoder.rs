//! Preprocessing: from the columns of a signature to a matrix of numbers.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use kaizen_core::{DataType, Error, Field, Result, Signature};
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::{numbers, texts};

/// Turns the columns of a signature into a matrix, one column each.
///
/// Numbers and booleans pass as they are, missing as NaN. A text becomes the smoothed mean of the
/// label among the rows that had it when the encoder was fitted: with `n` rows of sum `s`, the
/// overall mean `m` and the weight `w`, `(s + w m) / (n + w)`; a text that was never seen becomes
/// `m`, a missing one NaN (Micci-Barreca 2001, with a constant weight).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Column {
    #[serde(flatten)]
    field: Field,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    categories: Option<Categories>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Categories {
    codes: BTreeMap<String, f64>,
    unseen: f64,
}

impl Encoder {
    /// The weight of the overall mean in a text's code, in rows.
    pub const SMOOTHING_ROWS: f64 = 100.0;

    /// At most this many distinct texts in one column.
    pub const MAX_CATEGORIES: usize = 100_000;

    /// Learns the codes of texts from training rows and their labels (length: the rows).
    pub fn fit(signature: &Signature, rows: &RecordBatch, y: ArrayView1<f64>) -> Result<Self> {
        if rows.num_rows() != y.len() || y.is_empty() {
            let (rows, labels) = (rows.num_rows(), y.len());
            return Err(Error::invalid(format!("encoder: {rows} rows with {labels} labels")));
        }
        let fit = |field: &Field| {
            let categories = match field.data_type {
                DataType::Utf8 => Some(Categories::fit(&field.name, rows, y)?),
                _ => None,
            };
            Ok(Column { field: field.clone(), categories })
        };
        let columns = signature.inputs().iter().map(fit).collect::<Result<_>>()?;
        Ok(Self { columns })
    }

    /// The columns that it takes, in order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.columns.iter().map(|column| &column.field)
    }

    /// The matrix of these rows: rows × columns, missing as NaN.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Array2<f64>> {
        let mut matrix = Array2::from_elem((rows.num_rows(), self.columns.len()), f64::NAN);
        for (column, mut out) in self.columns.iter().zip(matrix.columns_mut()) {
            match &column.categories {
                Some(categories) => {
                    let values = texts(rows, &column.field.name)?;
                    for (cell, text) in out.iter_mut().zip(&values) {
                        *cell = text.map_or(f64::NAN, |text| categories.code(text));
                    }
                }
                None => {
                    let values = numbers(rows, &column.field.name)?;
                    for (cell, number) in out.iter_mut().zip(&values) {
                        *cell = number.unwrap_or(f64::NAN);
                    }
                }
            }
        }
        Ok(matrix)
    }
}

impl Categories {
    fn fit(name: &str, rows: &RecordBatch, y: ArrayView1<f64>) -> Result<Self> {
        let values = texts(rows, name)?;
        let mean = y.sum() / y.len() as f64;
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (row, label) in y.iter().enumerate().filter(|(row, _)| values.is_valid(*row)) {
            let (count, sum) = sums.entry(values.value(row)).or_default();
            *count += 1.0;
            *sum += label;
        }
        if sums.len() > Encoder::MAX_CATEGORIES {
            let found = sums.len();
            return Err(Error::invalid(format!("column `{name}`: {found} distinct texts")));
        }
        let weight = Encoder::SMOOTHING_ROWS;
        let code = |(count, sum): (f64, f64)| (sum + weight * mean) / (count + weight);
        let codes = sums.into_iter().map(|(text, n)| (text.to_owned(), code(n))).collect();
        Ok(Self { codes, unseen: mean })
    }

    fn code(&self, text: &str) -> f64 {
        self.codes.get(text).copied().unwrap_or(self.unseen)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, StringArray};
    use ndarray::array;

    use super::*;

    #[test]
    fn texts_become_smoothed_means_and_missing_stays_missing() {
        let rows = |texts: Vec<Option<&str>>| {
            let flags: BooleanArray = texts.iter().map(|t| t.map(|_| true)).collect();
            let texts: ArrayRef = Arc::new(StringArray::from(texts));
            RecordBatch::try_from_iter([("t", texts), ("b", Arc::new(flags) as ArrayRef)]).unwrap()
        };
        let fields = vec![Field::new("t", DataType::Utf8), Field::new("b", DataType::Bool)];
        let signature = Signature::new(fields, vec![]).unwrap();
        let train = rows(vec![Some("a"), Some("a"), Some("b"), None]);
        let encoder = Encoder::fit(&signature, &train, array![1., 1., 0., 0.].view()).unwrap();
        let x = encoder.encode(&rows(vec![Some("a"), Some("z"), None])).unwrap();
        assert_eq!(x[[0, 0]], 52.0 / 102.0);
        assert_eq!((x[[1, 0]], x[[1, 1]]), (0.5, 1.0));
        assert!(x[[2, 0]].is_nan() && x[[2, 1]].is_nan());

        let json = serde_json::to_string(&encoder).unwrap();
        assert_eq!(serde_json::from_str::<Encoder>(&json).unwrap(), encoder);
    }
}
