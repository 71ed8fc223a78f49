//! Datasets: sources, training sets, models, evaluations.

use kaizen_core::record::{Evaluation, Model, TrainingSet};
use kaizen_core::{ArtifactStore, Digest, Records as _, Result, Stored};
use serde_json::{Map, Value, json};

use super::{Dataset, Facets, OpenLineage, Step};
use crate::gather::{self, ColumnSummary, remembered};

impl OpenLineage {
    /// A dataset of this name, in the version that the digest names.
    pub(super) fn dataset(&self, name: &str, version: &Digest) -> Dataset {
        let body = json!({ "datasetVersion": version });
        let facets =
            Facets::from([self.standard("version", "1-0-1/DatasetVersionDatasetFacet", body)]);
        Dataset {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            facets,
            input_facets: Facets::new(),
            output_facets: Facets::new(),
        }
    }

    pub(super) async fn snapshot(
        &self,
        store: &dyn ArtifactStore,
        id: &Digest,
    ) -> Result<Option<Step>> {
        let Some(set) = store.find::<TrainingSet>(id).await? else { return Ok(None) };
        let files = TrainingSet::files(store, &set.manifest).await?;
        let inputs = set.record.sources.iter().map(|(source, digest)| {
            let mut dataset = self.dataset(source, digest);
            let body = json!({ "name": source });
            let file = "1-0-1/DatasourceDatasetFacet";
            dataset.facets.extend([self.standard("dataSource", file, body)]);
            if let Some(files) = files.get(source).filter(|files| !files.is_empty()) {
                let body = json!({ "columnMetrics": {}, "fileCount": files.len() });
                let file = "1-0-3/DataQualityMetricsInputDatasetFacet";
                dataset.input_facets.extend([self.standard("dataQualityMetrics", file, body)]);
            }
            dataset
        });
        let inputs = inputs.collect();
        let mut output = self.of_training_set(store, &set, false).await?;
        let body = json!({ "rowCount": set.record.rows });
        let file = "1-0-2/OutputStatisticsOutputDatasetFacet";
        output.output_facets.extend([self.standard("outputStatistics", file, body)]);
        Ok(Some(Step {
            name: "snapshot".to_owned(),
            inputs,
            outputs: vec![output],
            facets: Facets::new(),
        }))
    }

    pub(super) async fn trained(
        &self,
        store: &dyn ArtifactStore,
        id: &Digest,
    ) -> Result<Option<Step>> {
        let Some(model) = remembered::<Model>(store, id).await? else { return Ok(None) };
        let inputs = self.training_set(store, &model.training_set).await?.into_iter().collect();
        let mut output = self.dataset(&model.name, id);
        let (inputs_of, outputs_of) = (model.signature.inputs(), model.signature.outputs());
        let fields = inputs_of.iter().chain(outputs_of);
        let fields = fields.map(|field| (field.name.clone(), json!(field.data_type)));
        output.facets.extend(self.schema(fields));
        let (name, facets) = ("train".to_owned(), Facets::new());
        Ok(Some(Step { name, inputs, outputs: vec![output], facets }))
    }

    pub(super) async fn evaluated(
        &self,
        store: &dyn ArtifactStore,
        id: &Digest,
    ) -> Result<Option<Step>> {
        let Some(evaluation) = remembered::<Evaluation>(store, id).await? else { return Ok(None) };
        let Some(model) = remembered::<Model>(store, &evaluation.model).await? else {
            return Ok(None);
        };
        let name = model.name;
        let mut inputs = vec![self.dataset(&name, &evaluation.model)];
        inputs.extend(self.training_set(store, &evaluation.training_set).await?);
        if let Some(comparison) = &evaluation.comparison {
            inputs.push(self.dataset(&format!("{name}/champion"), &comparison.champion));
        }
        let mut output = self.dataset(&format!("{name}/evaluation"), id);
        let metrics = evaluation.metrics.iter();
        output
            .facets
            .extend(self.schema(metrics.map(|(name, _)| (name.clone(), json!("float64")))));
        let body = json!({ "rowCount": evaluation.rows });
        let file = "1-0-2/OutputStatisticsOutputDatasetFacet";
        output.output_facets.extend([self.standard("outputStatistics", file, body)]);
        Ok(Some(Step {
            name: "evaluate".to_owned(),
            inputs,
            outputs: vec![output],
            facets: Facets::new(),
        }))
    }

    /// A training set as an input. One that is not in the store is left out: only its record says
    /// its name, and by another it would be another dataset.
    async fn training_set(
        &self,
        store: &dyn ArtifactStore,
        id: &Digest,
    ) -> Result<Option<Dataset>> {
        match store.find::<TrainingSet>(id).await? {
            Some(set) => self.of_training_set(store, &set, true).await.map(Some),
            None => Ok(None),
        }
    }

    /// A training set, with its columns; as an input with what they hold.
    async fn of_training_set(
        &self,
        store: &dyn ArtifactStore,
        set: &Stored<TrainingSet>,
        input: bool,
    ) -> Result<Dataset> {
        let record = &set.record;
        let mut dataset = self.dataset(&format!("{}/training-set", record.label), &set.id);
        let features = record.features.iter();
        let features = features.map(|field| (field.name.clone(), json!(field.data_type)));
        let others =
            [(record.time.clone(), json!("timestamp")), (record.label.clone(), json!("bool"))];
        dataset.facets.extend(self.schema(features.chain(others)));
        if input {
            let columns = gather::columns(store, &set.manifest).await?;
            let metrics: Map<String, Value> =
                columns.iter().map(|column| (column.name.clone(), metrics_of(column))).collect();
            let body = json!({ "rowCount": record.rows, "columnMetrics": metrics });
            let file = "1-0-3/DataQualityMetricsInputDatasetFacet";
            dataset.input_facets.extend([self.standard("dataQualityMetrics", file, body)]);
        }
        Ok(dataset)
    }

    fn schema(&self, fields: impl Iterator<Item = (String, Value)>) -> Facets {
        let fields: Vec<_> = fields
            .enumerate()
            .map(|(at, (name, kind))| {
                json!({ "name": name, "type": kind, "ordinal_position": at + 1 })
            })
            .collect();
        let body = json!({ "fields": fields });
        Facets::from([self.standard("schema", "1-2-0/SchemaDatasetFacet", body)])
    }
}

fn metrics_of(column: &ColumnSummary) -> Value {
    let mut metrics = Map::new();
    let count = |text: &str| text.parse::<u64>().ok();
    let (rows, missing) = (count(&column.rows), count(&column.missing));
    let mut note = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            metrics.insert(name.to_owned(), value);
        }
    };
    note("nullCount", missing.map(|missing| json!(missing)));
    let present = rows.zip(missing).map(|(rows, missing)| rows.saturating_sub(missing));
    note("count", present.map(|present| json!(present)));
    note("distinctCount", column.distinct.map(|distinct| json!(distinct)));
    note("min", column.min.map(|min| json!(min)));
    note("max", column.max.map(|max| json!(max)));
    let sum = column.mean.zip(present).map(|(mean, present)| mean * present as f64);
    note("sum", sum.filter(|sum| sum.is_finite()).map(|sum| json!(sum)));
    Value::Object(metrics)
}
