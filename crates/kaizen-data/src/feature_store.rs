//! The feature store: what was known, as of any instant, for training.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{filter, filter_record_batch};
use kaizen_core::record::TrainingSet;
use kaizen_core::{Context, Error, ErrorKind, Result, Timestamp, compute};
use kaizen_table::{During, FeatureService, Functions, LabelView, Source, instants, with_column};

use crate::kept::{Erasures, Kept};
use crate::labels::{LabelIndex, Told};
use crate::on_demand::check_rows_alone;
use crate::point_in_time::{Index, Ordering, nanos};
use crate::reading::Reading;
use crate::training_data::{Definitions, TrainingData};
use crate::within::Within;
use crate::{labels, leak};

pub(crate) use crate::look_up::{check_request, extended};

/// At most this many rows of a source are in memory at once, unless it is said otherwise.
pub(crate) const ROWS_IN_MEMORY: u64 = 20_000_000;

/// Answers feature services and label views from sources, by the rule of
/// [`point_in_time`](crate::point_in_time).
///
/// The index of a view is kept and used again while its source's digest is the same; from the second
/// time on with its values [packed](Index::packed), if that costs at most 128 MiB. Views that agree
/// in source, keys, event time and known-at time share the order of the rows.
#[derive(Debug)]
pub struct FeatureStore {
    pub(crate) sources: Vec<Arc<dyn Source>>,
    pub(crate) functions: Functions,
    pub(crate) rows_in_memory: u64,
    pub(crate) indices: Kept<Index>,
    pub(crate) orderings: Kept<Ordering>,
    pub(crate) indices_in: Option<PathBuf>,
    pub(crate) labels: Kept<LabelIndex>,
    pub(crate) erasures: Erasures,
}

/// What a training set is asked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) service: &'a FeatureService,
    pub(crate) labels: &'a LabelView,
    pub(crate) spine: &'a RecordBatch,
    pub(crate) time: &'a str,
    pub(crate) cutoff: Timestamp,
}

impl FeatureStore {
    /// A store over these sources, whose names are distinct.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Self {
            sources,
            functions: Functions::default(),
            rows_in_memory: ROWS_IN_MEMORY,
            indices: Kept::default(),
            orderings: Kept::default(),
            indices_in: None,
            labels: Kept::default(),
            erasures: Erasures::default(),
        }
    }

    /// Has these functions for on-demand features.
    #[must_use]
    pub fn with_functions(mut self, functions: Functions) -> Self {
        self.functions = functions;
        self
    }

    /// Has about this many rows of a source in memory at once, at least one; 20,000,000 unless set.
    ///
    /// A source that has more, and can tell [spans](Source::spans) of its rows, is walked span by
    /// span; besides the span, those rows are in memory that later questions need: of each entity
    /// the latest, those that were not known yet, and those of the longest window. The answers are
    /// the same. The [coverage](kaizen_core::record::Coverage) is that of the rows that are read:
    /// * rows without an event time, and rows with a missing key in spans that no question needs,
    ///   are not counted as ignored;
    /// * a question whose entity has only rows in spans that no view looks back to is unknown, not
    ///   expired;
    /// * one from which only rows in such spans are hidden is not counted as hidden.
    #[must_use]
    pub fn rows_in_memory(mut self, rows: u64) -> Self {
        self.rows_in_memory = rows.max(1);
        self
    }

    /// The features of each row of the spine, as of the instant in its column `time`.
    ///
    /// The spine has the request's columns and the views' keys. The answer has the spine's columns
    /// and then those that were looked up and those that were computed, one row per row of the
    /// spine, in its order. [`ErrorKind::NotFound`] if a source or a function is not there.
    pub async fn features(
        &self,
        service: &FeatureService,
        spine: &RecordBatch,
        time: &str,
    ) -> Result<RecordBatch> {
        self.check_functions(service)?;
        let mut reading = Reading::new(&self.sources);
        Ok(self.look_up(&mut reading, service, spine, time).await?.0)
    }

    /// The label of each row's entity, missing where it was not known by then, or had been known
    /// for less than the view's [maturity](LabelView::maturity_seconds). Length: the rows.
    ///
    /// Of several labels of one entity the one that became known last counts.
    pub async fn labels(
        &self,
        view: &LabelView,
        rows: &RecordBatch,
        known_by: Timestamp,
    ) -> Result<BooleanArray> {
        self.find_labels(&mut Reading::new(&self.sources), view, rows, known_by).await
    }

    /// The training set of a spine: features as of each row's own instant, labels as they were
    /// known at the cut-off.
    ///
    /// Rows without a label by then, or with one that is not mature, and rows whose own instant is
    /// after the cut-off, are left out and counted in the record as unlabelled.
    /// [`ErrorKind::Refused`] if a definition could see the label before it was known, if one
    /// feature alone tells it (AUC of 0.99 or more, or 0.01 or less, over at least 100 rows of each
    /// class), or if a function gives a row other values alone than beside others.
    pub async fn training_set(
        &self,
        service: &FeatureService,
        labels: &LabelView,
        spine: &RecordBatch,
        time: &str,
        cutoff: Timestamp,
    ) -> Result<TrainingData> {
        service.guard_against(labels)?;
        let call = Call { service, labels, spine, time, cutoff };
        let data = self.assemble(Reading::new(&self.sources), call).await?;
        let functions = self.functions.clone();
        compute(move || {
            check_rows_alone(&functions, &data.definitions.service, &data.rows)?;
            leak::check(&data.rows, &data.record.features, &data.labels())?;
            Ok(data)
        })
        .await
    }

    /// A training set as the sources give it, without a look at what its rows hold.
    pub(crate) async fn assemble(
        &self,
        mut reading: Reading<'_>,
        call: Call<'_>,
    ) -> Result<TrainingData> {
        let Call { service, labels, spine, time, cutoff } = call;
        self.check_functions(service)?;
        let label = labels.label();
        if spine.column_by_name(label).is_some() {
            let message = format!("column `{label}`: the rows have the label already");
            return Err(Error::invalid(message));
        }
        let known = self.find_labels(&mut reading, labels, spine, cutoff).await?;
        // Only rows that are kept are looked up.
        let mask = kept(spine, &known, time, cutoff)?;
        let message = "labelled rows";
        let kept = filter_record_batch(spine, &mask).context(ErrorKind::Internal, message)?;
        let known = filter(&known, &mask).context(ErrorKind::Internal, message)?;
        let unlabelled = (spine.num_rows() - kept.num_rows()) as u64;
        let (rows, coverage) = self.look_up(&mut reading, service, &kept, time).await?;
        let record = TrainingSet {
            service: service.digest()?,
            label_view: labels.digest()?,
            sources: reading.digests,
            cutoff,
            rows: rows.num_rows() as u64,
            unlabelled,
            features: service.columns(),
            label: label.to_owned(),
            time: time.to_owned(),
            coverage,
        };
        let rows = with_column(&rows, label, known)?;
        let definitions = Definitions { service: service.clone(), labels: labels.clone() };
        let files = reading.files;
        compute(move || Ok(TrainingData::new(record, rows, definitions)?.with_files(files))).await
    }

    fn check_functions(&self, service: &FeatureService) -> Result<()> {
        self.functions.check(service).within(format!("feature service `{}`", service.name()))
    }

    async fn find_labels(
        &self,
        reading: &mut Reading<'_>,
        view: &LabelView,
        rows: &RecordBatch,
        known_by: Timestamp,
    ) -> Result<BooleanArray> {
        let name = view.source();
        let place = format!("label view `{}`, source `{name}`", view.name());
        let columns = labels::columns(view);
        let cutoff = known_by.nanos()?;
        let spans = reading.spans(name, view.known_at(), self.rows_in_memory).await?;
        let mut told = vec![Told::default(); rows.num_rows()];
        for span in spans.iter().filter(|span| spans.len() == 1 || span.start <= cutoff) {
            let during = During { column: view.known_at(), span: span.clone() };
            let during = Some(during).filter(|_| spans.len() > 1);
            let whole = during.is_none();
            let since = self.erasures.now();
            let source = reading.read(name, &columns, during).await?;
            let digest = reading.digests.get(name).copied();
            let digest = digest.context(ErrorKind::Internal, "a source without a digest")?;
            let id = view.digest()?;
            let kept = self.labels.get(&id, &digest).filter(|_| whole);
            let (place, view, rows) = (place.clone(), view.clone(), rows.clone());
            let work = move || {
                let index = match kept {
                    Some(index) => index,
                    None => Arc::new(LabelIndex::new(&view, &source).within(&place)?),
                };
                let later = index.known_by(&rows, cutoff).within(&place)?;
                let told = told.into_iter().zip(later).map(|(told, later)| told.then(later));
                Ok((index, told.collect()))
            };
            let index;
            (index, told) = compute(work).await?;
            if whole {
                self.labels.keep(&since, id, digest, index);
            }
        }
        let maturity = nanos(view.maturity_seconds());
        Ok(told.iter().map(|told| told.label(cutoff, maturity)).collect())
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
