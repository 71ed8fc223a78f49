//! The feature store: what was known, as of any instant, for training.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter, filter_record_batch};
use arrow::datatypes::{Field, Schema};
use kaizen_core::record::TrainingSet;
use kaizen_core::{Context, Digest, Error, ErrorKind, Result, Timestamp, compute};
use kaizen_table::{
    FeatureService, FeatureView, Functions, LabelView, Scan, Source, arrow_type, instants,
    with_column,
};

use crate::labels::LabelIndex;
use crate::on_demand::{check_rows_alone, with_computed};
use crate::parquet_file::plain;
use crate::point_in_time::Index;
use crate::training_data::{Definitions, TrainingData};
use crate::typed::typed;
use crate::within::Within;
use crate::{labels, leak};

/// At most this many indices are kept between calls.
const MAX_INDICES: usize = 64;

/// Answers feature services and label views from sources, by the rule of
/// [`point_in_time`](crate::point_in_time).
///
/// The index of a view is kept and used again while its source's digest is the same.
#[derive(Debug)]
pub struct FeatureStore {
    sources: Vec<Arc<dyn Source>>,
    indices: Kept<Index>,
    labels: Kept<LabelIndex>,
    functions: Functions,
}

/// Indices by the digest of their definition, each with the digest of the data that it was made of.
#[derive(Debug)]
struct Kept<T>(Mutex<BTreeMap<Digest, (Digest, Arc<T>)>>);

impl<T> Kept<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, definition: &Digest, data: &Digest) -> Option<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, index) = kept.get(definition)?;
        (of == data).then(|| Arc::clone(index))
    }

    fn keep(&self, definition: Digest, data: Digest, index: Arc<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_INDICES && !kept.contains_key(&definition) {
            kept.pop_first();
        }
        kept.insert(definition, (data, index));
    }
}

impl FeatureStore {
    /// A store over these sources, whose names are distinct.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        let (indices, labels, functions) = (Kept::new(), Kept::new(), Functions::default());
        Self { sources, indices, labels, functions }
    }

    /// Has these functions for on-demand features.
    #[must_use]
    pub fn with_functions(mut self, functions: Functions) -> Self {
        self.functions = functions;
        self
    }

    /// The features of each row of the spine, as of the instant in its column `time`.
    ///
    /// The spine has the request's columns and the views' keys. The answer has the spine's columns
    /// and then those that were looked up and those that were computed, one row per row of the
    /// spine, in its order.
    pub async fn features(
        &self,
        service: &FeatureService,
        spine: &RecordBatch,
        time: &str,
    ) -> Result<RecordBatch> {
        Ok(self.look_up(service, spine, time).await?.0)
    }

    /// The label of each row's entity, missing where it was not known by then. Length: the rows.
    ///
    /// Of several labels of one entity the one that became known last counts.
    pub async fn labels(
        &self,
        view: &LabelView,
        rows: &RecordBatch,
        known_by: Timestamp,
    ) -> Result<BooleanArray> {
        Ok(self.find_labels(view, rows, known_by).await?.0)
    }

    /// The training set of a spine: features as of each row's own instant, labels as they were
    /// known at the cut-off.
    ///
    /// Rows without a label by then, and rows whose own instant is after the cut-off, are left out
    /// and counted in the record as unlabelled. [`ErrorKind::Refused`] if a definition could see
    /// the label before it was known, or if one feature alone tells it (AUC of 0.99 or more, or
    /// 0.01 or less, over at least 100 rows of each class).
    pub async fn training_set(
        &self,
        service: &FeatureService,
        labels: &LabelView,
        spine: &RecordBatch,
        time: &str,
        cutoff: Timestamp,
    ) -> Result<TrainingData> {
        self.check_functions(service)?;
        service.guard_against(labels)?;
        if spine.column_by_name(labels.label()).is_some() {
            let name = labels.label();
            return Err(Error::invalid(format!(
                "column `{name}`: the rows have the label already"
            )));
        }
        let (known, digest) = self.find_labels(labels, spine, cutoff).await?;
        // Only rows that are kept are looked up.
        let mask = kept(spine, &known, time, cutoff)?;
        let message = "labelled rows";
        let kept = filter_record_batch(spine, &mask).context(ErrorKind::Internal, message)?;
        let known = filter(&known, &mask).context(ErrorKind::Internal, message)?;
        let unlabelled = (spine.num_rows() - kept.num_rows()) as u64;
        let (rows, mut sources) = self.look_up(service, &kept, time).await?;
        remember(&mut sources, labels.source(), digest)?;
        let record = TrainingSet {
            service: service.digest()?,
            label_view: labels.digest()?,
            sources,
            cutoff,
            rows: rows.num_rows() as u64,
            unlabelled,
            features: service.columns(),
            label: labels.label().to_owned(),
            time: time.to_owned(),
            coverage: BTreeMap::new(),
        };
        let rows = with_column(&rows, labels.label(), known)?;
        let definitions = Definitions { service: service.clone(), labels: labels.clone() };
        let functions = self.functions.clone();
        compute(move || {
            check_rows_alone(&functions, &definitions.service, &rows)?;
            let data = TrainingData::new(record, rows, definitions)?;
            leak::check(&data.rows, &data.record.features, &data.labels())?;
            Ok(data)
        })
        .await
    }

    fn check_functions(&self, service: &FeatureService) -> Result<()> {
        self.functions.check(service).within(format!("feature service `{}`", service.name()))
    }

    /// The spine with the looked-up columns, and the digest of each source that was read.
    async fn look_up(
        &self,
        service: &FeatureService,
        spine: &RecordBatch,
        time: &str,
    ) -> Result<(RecordBatch, BTreeMap<String, Digest>)> {
        self.check_functions(service)?;
        check_request(service, spine)?;
        let mut scans: BTreeMap<&str, (Digest, RecordBatch)> = BTreeMap::new();
        for name in service.views().iter().map(FeatureView::source) {
            if scans.contains_key(name) {
                continue;
            }
            // One read for all views of the source, so that they see the same rows.
            let mut columns: Vec<&str> = Vec::new();
            let views = service.views().iter().filter(|view| view.source() == name);
            for column in views.flat_map(FeatureView::source_columns) {
                if !columns.contains(&column) {
                    columns.push(column);
                }
            }
            scans.insert(name, self.read(name, &columns).await?);
        }
        let digests = scans.iter().map(|(name, (digest, _))| ((*name).to_owned(), *digest));
        let digests = digests.collect();
        let mut columns = Vec::new();
        for view in service.views() {
            let Some((digest, source)) = scans.get(view.source()) else { continue };
            columns.extend(self.answer(view, *digest, source, spine, time).await?);
        }
        let rows = extended(service, spine, columns)?;
        if service.on_demand().is_empty() {
            return Ok((rows, digests));
        }
        let (functions, service) = (self.functions.clone(), service.clone());
        let rows = compute(move || with_computed(&functions, &service, &rows)).await?;
        Ok((rows, digests))
    }

    async fn answer(
        &self,
        view: &FeatureView,
        digest: Digest,
        source: &RecordBatch,
        spine: &RecordBatch,
        time: &str,
    ) -> Result<Vec<ArrayRef>> {
        let id = view.digest()?;
        let kept = self.indices.get(&id, &digest);
        let (view, source) = (view.clone(), source.clone());
        let (spine, time) = (spine.clone(), time.to_owned());
        let work = move || {
            let index = match kept {
                Some(index) => index,
                None => Arc::new(Index::new(&view, &source)?),
            };
            let columns =
                index.look_up(&spine, &time).within(format!("view `{}`", view.name()))?.columns;
            Ok((index, columns))
        };
        let (index, columns) = compute(work).await?;
        self.indices.keep(id, digest, index);
        Ok(columns)
    }

    async fn find_labels(
        &self,
        view: &LabelView,
        rows: &RecordBatch,
        known_by: Timestamp,
    ) -> Result<(BooleanArray, Digest)> {
        let (digest, source) = self.read(view.source(), &labels::columns(view)).await?;
        let id = view.digest()?;
        let kept = self.labels.get(&id, &digest);
        let place = format!("label view `{}`, source `{}`", view.name(), view.source());
        let (view, rows) = (view.clone(), rows.clone());
        let work = move || {
            let index = match kept {
                Some(index) => index,
                None => Arc::new(LabelIndex::new(&view, &source).within(&place)?),
            };
            let labels = index.known_by(&rows, known_by).within(&place)?;
            Ok((index, labels))
        };
        let (index, labels) = compute(work).await?;
        self.labels.keep(id, digest, index);
        Ok((labels, digest))
    }

    async fn read(&self, name: &str, columns: &[&str]) -> Result<(Digest, RecordBatch)> {
        let mut found = self.sources.iter().filter(|source| source.name() == name);
        let source = match (found.next(), found.next()) {
            (Some(source), None) => source,
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!("source `{name}`: two have this name")));
            }
            _ => {
                let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
                let names = names.join(", ");
                return Err(Error::not_found(format!("source `{name}`; there are: {names}")));
            }
        };
        let scan = source.read(columns).await?;
        let digest = scan.digest;
        let whole = whole(scan).within(format!("source `{name}`"))?;
        Ok((digest, whole))
    }
}

/// All rows of a scan as one table.
pub(crate) fn whole(scan: Scan) -> Result<RecordBatch> {
    match scan.batches.as_slice() {
        [] => Err(Error::internal("a scan without a batch")),
        [only] => Ok(only.clone()),
        [first, ..] => concat_batches(first.schema_ref(), &scan.batches)
            .context(ErrorKind::Invalid, "its batches differ in their columns"),
    }
}

/// Checks that the rows have the columns that the caller must bring.
pub(crate) fn check_request(service: &FeatureService, rows: &RecordBatch) -> Result<()> {
    let place = || format!("feature service `{}`", service.name());
    for field in service.request() {
        typed(rows, &field.name, field.data_type).within(place())?;
    }
    let added = service.columns().into_iter().skip(service.request().len());
    let added: BTreeSet<String> = added.map(|field| field.name).collect();
    for field in rows.schema_ref().fields() {
        if added.contains(field.name()) {
            let name = field.name();
            return Err(Error::invalid(format!(
                "{}: the rows have a column `{name}`, which would be looked up or computed",
                place()
            )));
        }
    }
    Ok(())
}

/// The rows with the looked-up columns after their own.
pub(crate) fn extended(
    service: &FeatureService,
    rows: &RecordBatch,
    looked_up: Vec<ArrayRef>,
) -> Result<RecordBatch> {
    let mut fields: Vec<Field> =
        plain(rows.schema_ref()).fields().iter().map(|field| field.as_ref().clone()).collect();
    for feature in service.views().iter().flat_map(FeatureView::features) {
        let arrow = arrow_type(feature.field.data_type)?;
        fields.push(Field::new(&feature.field.name, arrow, true));
    }
    let columns = rows.columns().iter().cloned().chain(looked_up).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .context(ErrorKind::Internal, "rows with their features")
}

fn remember(sources: &mut BTreeMap<String, Digest>, name: &str, digest: Digest) -> Result<()> {
    match sources.insert(name.to_owned(), digest) {
        Some(before) if before != digest => {
            Err(Error::conflict(format!("source `{name}`: it changed between two reads")))
        }
        _ => Ok(()),
    }
}

/// Which rows have a label by the cut-off and are not later than it themselves.
fn kept(
    spine: &RecordBatch,
    known: &BooleanArray,
    time: &str,
    cutoff: Timestamp,
) -> Result<BooleanArray> {
    let at = instants(spine, time)?;
    if at.null_count() > 0 {
        return Err(Error::invalid(format!("column `{time}`: a row has no instant")));
    }
    let end = cutoff.nanos()?;
    let kept = |row| known.is_valid(row) && at.value(row) <= end;
    Ok((0..spine.num_rows()).map(kept).map(Some).collect())
}
