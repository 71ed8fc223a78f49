//! Columns that are in the names of folders: `year=2013/month=1/part.parquet`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use kaizen_core::{Error, Result};

/// Stands for a missing value in the name of a folder.
const MISSING: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns in the names of a path's folders, in their order; `None` is a missing value.
pub(crate) fn partitions(path: &str) -> Result<Vec<(String, Option<String>)>> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    for folder in folders.split('/') {
        let Some((key, value)) = folder.split_once('=') else { continue };
        let (key, value) = (decoded(key, path)?, decoded(value, path)?);
        if key.is_empty() {
            return Err(Error::invalid(format!(
                "file `{path}`: folder `{folder}` names no column"
            )));
        }
        if found.iter().any(|(other, _)| *other == key) {
            let message = format!("file `{path}`: column `{key}` stands twice in its path");
            return Err(Error::invalid(message));
        }
        found.push((key, (value != MISSING).then_some(value)));
    }
    Ok(found)
}

/// A text in which `%` and two hexadecimal digits stand for a byte.
fn decoded(text: &str, path: &str) -> Result<String> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.filter(|_| *first == b'%').and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("file `{path}`: `{text}` is not UTF-8 when decoded")))
}

/// The partition columns of a whole source: their types, and each file's values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hive {
    fields: Vec<Field>,
    values: BTreeMap<String, Vec<Option<String>>>,
}

impl Hive {
    /// Of all files of a source. A column holds integers if every value of it is one, written as
    /// integers are, else text.
    pub(crate) fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Result<Self> {
        let (mut keys, mut hive): (Option<(String, Vec<String>)>, _) = (None, Self::default());
        for path in paths {
            let (names, values): (Vec<_>, Vec<_>) = partitions(path)?.into_iter().unzip();
            match &keys {
                None => keys = Some((path.to_owned(), names)),
                Some((_, first)) if *first == names => {}
                Some((other, first)) => {
                    let faulty = names.iter().find(|name| !first.contains(name));
                    let faulty = faulty.or_else(|| first.iter().find(|name| !names.contains(name)));
                    let column = faulty.or(names.first()).map_or("", String::as_str);
                    return Err(Error::invalid(format!(
                        "file `{path}`: its folders do not name the same columns as those of \
                         `{other}`: column `{column}`"
                    )));
                }
            }
            hive.values.insert(path.to_owned(), values);
        }
        for (place, name) in keys.map(|(_, names)| names).unwrap_or_default().iter().enumerate() {
            let mut values = hive.values.values().filter_map(|values| values[place].as_deref());
            // `007` is not 7: a text that the number does not give back is none.
            let integer = |value: &str| value.parse::<i64>().is_ok_and(|n| n.to_string() == value);
            let integers = values.all(integer);
            let data_type = if integers { DataType::Int64 } else { DataType::Utf8 };
            hive.fields.push(Field::new(name, data_type, true));
        }
        Ok(hive)
    }

    /// Whether there are partition columns.
    pub(crate) fn has_columns(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether this is a partition column.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name() == name)
    }

    /// A file's own columns, and after them the partition columns.
    pub(crate) fn extended(&self, own: &Schema) -> Result<SchemaRef> {
        if let Some(twice) = self.fields.iter().find(|field| own.index_of(field.name()).is_ok()) {
            let name = twice.name();
            let message = format!("column `{name}` is in the file and in the names of its folders");
            return Err(Error::invalid(message));
        }
        let own = own.fields().iter().map(|field| field.as_ref().clone());
        Ok(Arc::new(Schema::new(own.chain(self.fields.iter().cloned()).collect::<Vec<_>>())))
    }

    /// The values of a partition column in so many rows of a file, if it is one.
    pub(crate) fn column(&self, path: &str, name: &str, rows: usize) -> Option<ArrayRef> {
        let place = self.fields.iter().position(|field| field.name() == name)?;
        let value = self.values.get(path)?.get(place)?.as_deref();
        Some(match self.fields[place].data_type() {
            DataType::Int64 => {
                let value: Option<i64> = value.and_then(|value| value.parse().ok());
                Arc::new(Int64Array::from_iter(std::iter::repeat_n(value, rows)))
            }
            _ => Arc::new(StringArray::from_iter(std::iter::repeat_n(value, rows))) as ArrayRef,
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn values_are_decoded_and_typed() {
        let paths = ["y=1/c=New%20York/a.parquet", "y=__HIVE_DEFAULT_PARTITION__/c=%zz/b.parquet"];
        let hive = Hive::of(paths.into_iter()).unwrap();
        let year = hive.column(paths[0], "y", 2).unwrap();
        assert_eq!(year.as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 1]);
        assert_eq!(hive.column(paths[1], "y", 2).unwrap().null_count(), 2);
        assert_eq!(hive.column(paths[0], "c", 1).unwrap().as_string::<i32>().value(0), "New York");
        assert_eq!(hive.column(paths[1], "c", 1).unwrap().as_string::<i32>().value(0), "%zz");
        for text in ["007", "+7", "-0", "7 "] {
            let paths = [format!("y={text}/a"), "y=7/b".to_owned()];
            let hive = Hive::of(paths.iter().map(String::as_str)).unwrap();
            assert_eq!(hive.column(&paths[0], "y", 1).unwrap().as_string::<i32>().value(0), text);
        }
        let odd = Hive::of(["y=1/a", "z=1/a"].into_iter()).unwrap_err().to_string();
        assert!(odd.contains("`z=1/a`") && odd.contains("`z`"), "{odd}");
        assert!(Hive::of(["y=1/y=2/a"].into_iter()).unwrap_err().to_string().contains("`y`"));
        assert!(partitions("y=%ff/a").unwrap_err().to_string().contains("UTF-8"));
    }
}
