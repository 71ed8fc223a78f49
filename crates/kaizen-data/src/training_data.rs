//! Training sets: rows with their record.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::DataType as ArrowType;
use kaizen_core::record::TrainingSet;
use kaizen_core::{
    ArtifactStore, Context, Digest, Error, ErrorKind, Payload, Record as _, Records as _, Result,
    Timestamp, compute, media_type,
};
use kaizen_table::{FeatureService, LabelView, SourceFile, arrow_type, column, instants};
use serde::{Deserialize, Serialize};

use crate::parquet_file::{MAX_COLUMNS, ParquetFile, to_parquet};
use crate::reading::Files;
use crate::summary::{ColumnSummary, summarise};
use crate::within::Within;

/// The definitions by which a training set was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Definitions {
    /// The columns that the model takes.
    pub service: FeatureService,
    /// What became of it.
    pub labels: LabelView,
}

/// A training set in memory: its record, its rows and its definitions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainingData {
    /// What it is made of.
    pub record: TrainingSet,
    /// The labelled rows: the columns that were asked with, the features, the label.
    pub rows: RecordBatch,
    /// The definitions.
    pub definitions: Definitions,
    /// The files that were read, by source: none for a source that is not in files. `None` if it
    /// was stored by a version that did not write them down.
    pub files: Option<BTreeMap<String, Vec<SourceFile>>>,
    labels: BooleanArray,
}

impl TrainingData {
    /// Puts the parts together, and checks that they fit.
    pub(crate) fn new(
        record: TrainingSet,
        rows: RecordBatch,
        definitions: Definitions,
    ) -> Result<Self> {
        if record.rows != rows.num_rows() as u64 {
            let (found, said) = (rows.num_rows(), record.rows);
            return Err(Error::corrupt(format!("{found} rows, where the record says {said}")));
        }
        if record.service != definitions.service.digest()?
            || record.label_view != definitions.labels.digest()?
        {
            return Err(Error::corrupt("the definitions are not those that the record names"));
        }
        check_columns(&record, &rows, &definitions.service)?;
        instants(&rows, &record.time)?;
        let labels = column(&rows, &record.label)?.as_boolean_opt();
        let labels = labels.filter(|labels| labels.null_count() == 0).cloned();
        let message = format!("column `{}`: not a label for every row", record.label);
        let labels = labels.context(ErrorKind::Corrupt, message)?;
        Ok(Self { record, rows, definitions, files: None, labels })
    }

    /// With the files that were read.
    pub(crate) fn with_files(self, files: Files) -> Self {
        Self { files: Some(files), ..self }
    }

    /// These of its rows: the record says how many they are, and is else that of the whole.
    pub(crate) fn with_rows(&self, rows: RecordBatch) -> Result<Self> {
        let record = TrainingSet { rows: rows.num_rows() as u64, ..self.record.clone() };
        let part = Self::new(record, rows, self.definitions.clone())?;
        Ok(Self { files: self.files.clone(), ..part })
    }

    /// The label of each row.
    pub fn labels(&self) -> Vec<bool> {
        self.labels.values().iter().collect()
    }

    /// The rows whose own instant is before `at`.
    ///
    /// The record says how many rows they are; its cut-off and its count of unlabelled rows remain
    /// those of the whole. So their labels may have become known after `at`: where that matters,
    /// make a training set with the cut-off `at` instead.
    pub fn before(&self, at: Timestamp) -> Result<Self> {
        self.only(|instant| instant < at)
    }

    /// The rows whose own instant is `at` or later; else like [`before`](Self::before).
    pub fn from(&self, at: Timestamp) -> Result<Self> {
        self.only(|instant| instant >= at)
    }

    fn only(&self, keep: impl Fn(Timestamp) -> bool) -> Result<Self> {
        let instants = instants(&self.rows, &self.record.time)?;
        let keep = |nanos: &i64| keep(Timestamp::from_nanos(*nanos));
        let mask: Vec<bool> = instants.values().iter().map(keep).collect();
        let rows = filter_record_batch(&self.rows, &mask.into())
            .context(ErrorKind::Internal, "part of a training set")?;
        self.with_rows(rows)
    }

    /// What each column holds, in the order of the columns.
    pub fn summary(&self) -> Result<Vec<ColumnSummary>> {
        summarise(&self.rows)
    }

    /// Stores the record with its payloads and gives its id. Equal rows give equal bytes.
    ///
    /// More columns than a Parquet file may have are [`ErrorKind::Limit`], and nothing is stored.
    pub async fn save(&self, store: &dyn ArtifactStore) -> Result<Digest> {
        let columns = self.rows.num_columns();
        if columns > MAX_COLUMNS {
            let message = format!("a training set of {columns} columns, over {MAX_COLUMNS}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let mut payloads = vec![json(TrainingSet::DEFINITIONS, &self.definitions)?];
        let (rows, summary) = (self.rows.clone(), self.files.is_some());
        let (parquet, summary) = compute(move || {
            let summary = summary.then(|| summarise(&rows)).transpose()?;
            Ok((to_parquet(&rows)?, summary))
        })
        .await?;
        payloads.insert(0, Payload::new(TrainingSet::ROWS, media_type::PARQUET, parquet));
        if let (Some(files), Some(summary)) = (&self.files, summary) {
            payloads.push(json(TrainingSet::SOURCES, files)?);
            payloads.push(json(TrainingSet::COLUMNS, &summary)?);
        }
        store.put(&self.record, &payloads).await
    }

    /// Reads a stored training set, and checks that rows and definitions are those of its record.
    pub async fn load(store: &dyn ArtifactStore, id: &Digest) -> Result<Self> {
        let place = format!("{} {id}", TrainingSet::KIND);
        let stored = store.get::<TrainingSet>(id).await?;
        let bytes = stored.payload(store, TrainingSet::ROWS).await?;
        let definitions = stored.payload(store, TrainingSet::DEFINITIONS).await?;
        // Stored by an earlier version, it has no such payload.
        let named = stored.manifest.layers.iter().any(|l| l.title() == Some(TrainingSet::SOURCES));
        let files = match named {
            true => Some(stored.payload(store, TrainingSet::SOURCES).await?),
            false => None,
        };
        let decode = move || {
            let files: Option<Files> = files
                .map(|files| serde_json::from_slice(&files))
                .transpose()
                .context(ErrorKind::Corrupt, TrainingSet::SOURCES)?;
            let definitions: Definitions = serde_json::from_slice(&definitions)
                .context(ErrorKind::Corrupt, TrainingSet::DEFINITIONS)?;
            let file = ParquetFile::open(TrainingSet::ROWS, bytes)?;
            let schema = file.schema();
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let data = Self::new(stored.record, file.read(&names)?, definitions)?;
            Ok(Self { files, ..data })
        };
        compute(decode).await.within(place)
    }
}

fn json<T: Serialize>(name: &str, value: &T) -> Result<Payload> {
    let bytes =
        serde_json::to_vec(value).context(ErrorKind::Internal, format!("{name} as JSON"))?;
    Ok(Payload::new(name, media_type::JSON, bytes))
}

/// Checks that the rows have the features, and what was looked up or computed in its own type.
fn check_columns(record: &TrainingSet, rows: &RecordBatch, service: &FeatureService) -> Result<()> {
    let schema = rows.schema_ref();
    let found: BTreeMap<&str, &ArrowType> =
        schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
    let there = |name: &str| {
        let message = format!("column `{name}` is missing");
        found.get(name).copied().context(ErrorKind::Corrupt, message)
    };
    for field in service.columns().iter().skip(service.request().len()) {
        let (name, found) = (&field.name, there(&field.name)?);
        if *found != arrow_type(field.data_type)? {
            return Err(Error::corrupt(format!("column `{name}`: holds {found}")));
        }
    }
    record.features.iter().try_for_each(|field| there(&field.name).map(drop))
}
