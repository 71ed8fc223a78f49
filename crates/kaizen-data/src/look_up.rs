//! The features of a service for many rows, view by view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use kaizen_core::record::Coverage;
use kaizen_core::{Context, Error, ErrorKind, Result, compute};
use kaizen_table::{FeatureService, FeatureView, arrow_type};

use crate::FeatureStore;
use crate::on_demand::with_computed;
use crate::parquet_file::plain;
use crate::point_in_time::Index;
use crate::reading::{Reading, once};
use crate::typed::typed;
use crate::walk::{Asked, Walk};
use crate::within::Within;

/// A view's features, a column each, with how the rows were answered.
pub(crate) type Answered = (Vec<ArrayRef>, Coverage);

impl FeatureStore {
    /// The spine with what was looked up and computed, and how each view answered.
    pub(crate) async fn look_up(
        &self,
        reading: &mut Reading<'_>,
        service: &FeatureService,
        spine: &RecordBatch,
        time: &str,
    ) -> Result<(RecordBatch, BTreeMap<String, Coverage>)> {
        check_request(service, spine)?;
        let mut found: BTreeMap<usize, Answered> = BTreeMap::new();
        for name in once(service.views().iter().map(FeatureView::source)) {
            let views = service.views().iter().enumerate();
            let views = views.filter(|(_, view)| view.source() == name).collect();
            found.extend(self.answer_source(reading, name, views, spine, time).await?);
        }
        let mut coverage: BTreeMap<String, Coverage> = BTreeMap::new();
        let mut columns = Vec::new();
        for (view, (answered, of_view)) in service.views().iter().zip(found.into_values()) {
            add(coverage.entry(view.name().to_owned()).or_default(), of_view);
            columns.extend(answered);
        }
        let rows = extended(service, spine, columns)?;
        if service.on_demand().is_empty() {
            return Ok((rows, coverage));
        }
        let (functions, service) = (self.functions.clone(), service.clone());
        let rows = compute(move || with_computed(&functions, &service, &rows)).await?;
        Ok((rows, coverage))
    }

    /// The answers of the views of one source, by their places in the service.
    async fn answer_source(
        &self,
        reading: &mut Reading<'_>,
        name: &str,
        views: Vec<(usize, &FeatureView)>,
        spine: &RecordBatch,
        time: &str,
    ) -> Result<Vec<(usize, Answered)>> {
        let mut found = Vec::with_capacity(views.len());
        let mut at_once = Vec::new();
        for event_time in once(views.iter().map(|(_, view)| view.event_time())) {
            let views = views.iter().filter(|(_, view)| view.event_time() == event_time);
            let views: Vec<(usize, &FeatureView)> = views.copied().collect();
            let spans = reading.spans(name, event_time, self.rows_in_memory).await?;
            if spans.len() == 1 {
                at_once.extend(views);
                continue;
            }
            let asked = Asked::new(spine, time)?;
            let (places, views): (Vec<usize>, Vec<FeatureView>) =
                views.into_iter().map(|(place, view)| (place, view.clone())).unzip();
            let walked =
                Walk::new(views, asked)?.through(reading, name, event_time, &spans).await?;
            found.extend(places.into_iter().zip(walked));
        }
        if !at_once.is_empty() {
            // One reading for all views, so that it is decoded once.
            let columns = once(at_once.iter().flat_map(|(_, view)| view.source_columns()));
            let since = self.erasures.now();
            let source = reading.read(name, &columns, None).await?;
            for (place, view) in at_once {
                let digest = reading.digests.get(name).copied();
                let digest = digest.context(ErrorKind::Internal, "a source without a digest")?;
                let index = self.index(view, &source, digest, &since).await?;
                let (view, spine, time) = (view.clone(), spine.clone(), time.to_owned());
                let answered = compute(move || answer(&index, &view, &spine, &time)).await?;
                found.push((place, answered));
            }
        }
        Ok(found)
    }
}

/// The answers of an index to rows.
pub(crate) fn answer(
    index: &Index,
    view: &FeatureView,
    rows: &RecordBatch,
    time: &str,
) -> Result<Answered> {
    let found = index.look_up(rows, time).within(format!("view `{}`", view.name()))?;
    let coverage = found.coverage(index.ordering().ignored());
    Ok((found.columns, coverage))
}

/// Adds what was counted of other rows.
pub(crate) fn add(total: &mut Coverage, part: Coverage) {
    total.found += part.found;
    total.expired += part.expired;
    total.unknown += part.unknown;
    total.hidden += part.hidden;
    total.ignored += part.ignored;
}

/// Checks that the rows have the columns that the caller must bring, and none that is looked up or
/// computed.
pub(crate) fn check_request(service: &FeatureService, rows: &RecordBatch) -> Result<()> {
    let place = || format!("feature service `{}`", service.name());
    for field in service.request() {
        typed(rows, &field.name, field.data_type).within(place())?;
    }
    let added = added(service);
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

/// The names of the columns that are looked up or computed.
pub(crate) fn added(service: &FeatureService) -> BTreeSet<String> {
    let columns = service.columns().into_iter().skip(service.request().len());
    columns.map(|field| field.name).collect()
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
