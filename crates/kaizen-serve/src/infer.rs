//! From the body of a request to its answer: no clock, no network, no waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field as ArrowField, Schema};
use arrow::record_batch::RecordBatch;
use kaizen_core::{Bytes, Context, Digester, Error, ErrorKind, Result, Timestamp};
use kaizen_table::prediction;
use serde::{Deserialize, Serialize};

use crate::router::Slots;
use crate::tensor::Tensor;
use crate::{Limits, Router, Servable};

/// A request with all that its answer depends on.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) router: Arc<Router>,
    /// The slots when the request came.
    pub(crate) slots: Arc<Slots>,
    /// The version that the request names, if it names one.
    pub(crate) pinned: Option<Arc<Servable>>,
    pub(crate) body: Bytes,
    /// When the request came.
    pub(crate) at: Timestamp,
    /// Which request it is of this process.
    pub(crate) number: u64,
    pub(crate) limits: Limits,
}

/// What goes back to the caller, and what is to be logged before it does.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// One table per release that answered.
    pub(crate) log: Vec<RecordBatch>,
}

#[derive(Deserialize)]
struct Request {
    id: Option<String>,
    inputs: Vec<Tensor>,
    #[serde(default)]
    outputs: Vec<Requested>,
}

#[derive(Deserialize)]
struct Requested {
    name: String,
}

/// The response in the protocol's words.
#[derive(Debug, Serialize)]
pub(crate) struct Response {
    model_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    id: String,
    parameters: Parameters,
    outputs: [Output; 1],
}

#[derive(Debug, Serialize)]
struct Parameters {
    /// The versions that answered, ascending, with commas between.
    versions: String,
    /// The digests of the releases that answered, in the order of `versions`.
    releases: String,
}

#[derive(Debug, Serialize)]
struct Output {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 1],
    data: Vec<f64>,
}

/// The rows that one release answers.
struct Group {
    servable: Arc<Servable>,
    rows: Vec<usize>,
}

/// Answers a request.
pub(crate) fn infer(call: &Call) -> Result<Answer> {
    let request: Request =
        serde_json::from_slice(&call.body).context(ErrorKind::Invalid, "request body")?;
    if let Some(output) = request.outputs.iter().find(|o| o.name != prediction::SCORE) {
        let (name, has) = (&output.name, prediction::SCORE);
        return Err(Error::invalid(format!("output `{name}`: the model gives `{has}` only")));
    }
    let tensors = by_name(&request.inputs)?;
    let rows = count_rows(&request.inputs, call.limits.rows)?;
    let id = request_id(request.id, call)?;
    let ids = row_ids(&tensors, &id, rows)?;
    let groups = route(call, &ids)?;
    refuse_unknown(&tensors, &groups)?;

    let mut scores = vec![f64::NAN; rows];
    let mut log = Vec::with_capacity(groups.len());
    for group in &groups {
        let features = features(group, &tensors)?;
        let answered = group.servable.scorer().score(&features)?.to_vec();
        for (row, score) in group.rows.iter().zip(&answered) {
            scores[*row] = *score;
        }
        let ids = group.rows.iter().map(|row| ids[*row].as_str());
        log.push(log_rows(group, ids.collect(), call.at, answered, &features)?);
    }
    Ok(Answer { response: respond(call, &groups, id, scores), log })
}

fn by_name(inputs: &[Tensor]) -> Result<BTreeMap<&str, &Tensor>> {
    let mut tensors = BTreeMap::new();
    for tensor in inputs {
        if tensors.insert(tensor.name.as_str(), tensor).is_some() {
            return Err(Error::invalid(format!("input `{}`: it stands twice", tensor.name)));
        }
    }
    Ok(tensors)
}

/// The number of rows, on which all tensors must agree.
fn count_rows(inputs: &[Tensor], limit: usize) -> Result<usize> {
    let first = inputs.first().context(ErrorKind::Invalid, "request: it has no inputs")?;
    let rows = first.rows()?;
    if rows == 0 {
        return Err(Error::invalid(format!("input `{}`: it has no rows", first.name)));
    }
    if rows > limit {
        let message = format!("input `{}`: {rows} rows, at most {limit} in a request", first.name);
        return Err(Error::new(ErrorKind::Limit, message));
    }
    for tensor in inputs {
        let found = tensor.rows()?;
        if found != rows {
            return Err(Error::invalid(format!(
                "input `{}`: {found} rows, but `{}` has {rows}",
                tensor.name, first.name
            )));
        }
    }
    Ok(rows)
}

/// At most this many bytes in the id of a request or of a prediction.
const MAX_ID_BYTES: usize = 256;

fn check_id(id: &str, what: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        let found = id.len();
        let message = format!("{what}: {found} bytes, not 1 to {MAX_ID_BYTES}");
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// The id that the caller gave, or one made of all that tells this request from others.
fn request_id(given: Option<String>, call: &Call) -> Result<String> {
    if let Some(id) = given.filter(|id| !id.is_empty()) {
        check_id(&id, "request `id`")?;
        return Ok(id);
    }
    let mut digester = Digester::default();
    digester.update(call.at.micros().to_be_bytes());
    digester.update(call.number.to_be_bytes());
    digester.update(&call.body);
    let mut id = digester.finish().hex();
    id.truncate(32);
    Ok(id)
}

/// The id of each row: the caller's, or the request's with the number of the row.
fn row_ids(tensors: &BTreeMap<&str, &Tensor>, id: &str, rows: usize) -> Result<Vec<String>> {
    let Some(tensor) = tensors.get(prediction::ID) else {
        return Ok((0..rows).map(|row| format!("{id}/{row}")).collect());
    };
    let ids = tensor.texts()?;
    let mut seen = BTreeSet::new();
    for (row, id) in ids.iter().enumerate() {
        check_id(id, &format!("input `{}`: row {row}", prediction::ID))?;
        if !seen.insert(id) {
            let name = prediction::ID;
            return Err(Error::invalid(format!("input `{name}`: row {row} repeats `{id}`")));
        }
    }
    Ok(ids)
}

/// Which release answers which rows.
fn route(call: &Call, ids: &[String]) -> Result<Vec<Group>> {
    if let Some(servable) = &call.pinned {
        let servable = Arc::clone(servable);
        return Ok(vec![Group { servable, rows: (0..ids.len()).collect() }]);
    }
    let mut groups = BTreeMap::new();
    for (row, id) in ids.iter().enumerate() {
        let picked = call.slots.at(call.router.bucket(id));
        let servable = picked.with_idle(&call.router)?;
        let release = servable.release();
        // Two slots that hold the same release are one group.
        let group = groups.entry((release.version, *servable.id()));
        let new = || Group { servable: Arc::clone(servable), rows: Vec::new() };
        group.or_insert_with(new).rows.push(row);
    }
    Ok(groups.into_values().collect())
}

trait WithIdle<T> {
    fn with_idle(self, router: &Router) -> Result<T>;
}

impl<T> WithIdle<T> for Option<T> {
    fn with_idle(self, router: &Router) -> Result<T> {
        self.ok_or_else(|| Error::new(ErrorKind::Unavailable, router.idle()))
    }
}

fn refuse_unknown(tensors: &BTreeMap<&str, &Tensor>, groups: &[Group]) -> Result<()> {
    let takes = |name: &str| {
        let inputs = |group: &Group| {
            let signature = &group.servable.scorer().model().signature;
            signature.inputs().iter().any(|field| field.name == name)
        };
        name == prediction::ID || groups.iter().any(inputs)
    };
    match tensors.keys().find(|name| !takes(name)) {
        Some(name) => Err(Error::invalid(format!("input `{name}`: the model takes no such input"))),
        None => Ok(()),
    }
}

/// The columns of the signature, for the group's rows.
fn features(group: &Group, tensors: &BTreeMap<&str, &Tensor>) -> Result<RecordBatch> {
    let inputs = group.servable.scorer().model().signature.inputs();
    let mut fields = Vec::with_capacity(inputs.len());
    let mut columns = Vec::with_capacity(inputs.len());
    for field in inputs {
        let tensor = tensors.get(field.name.as_str());
        let tensor = tensor
            .ok_or_else(|| Error::invalid(format!("input `{}`: it is missing", field.name)))?;
        let column = tensor.column(field, &group.rows)?;
        fields.push(ArrowField::new(&field.name, column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .context(ErrorKind::Internal, "the request as a table")
}

/// What the prediction log keeps of the group's rows.
fn log_rows(
    group: &Group,
    ids: Vec<&str>,
    at: Timestamp,
    scores: Vec<f64>,
    features: &RecordBatch,
) -> Result<RecordBatch> {
    let rows = ids.len();
    let model = group.servable.scorer().id().to_string();
    let at = TimestampNanosecondArray::from_value(at.nanos()?, rows).with_timezone("UTC");
    let own: [(&str, ArrayRef); 4] = [
        (prediction::ID, Arc::new(StringArray::from(ids))),
        (prediction::AT, Arc::new(at)),
        (prediction::MODEL, Arc::new(StringArray::from(vec![model.as_str(); rows]))),
        (prediction::SCORE, Arc::new(Float64Array::from(scores))),
    ];
    let field = |(name, column): &(&str, ArrayRef)| {
        Arc::new(ArrowField::new(*name, column.data_type().clone(), false))
    };
    let mut fields: Vec<_> = own.iter().map(field).collect();
    let mut columns: Vec<_> = own.into_iter().map(|(_, column)| column).collect();
    fields.extend(features.schema().fields().iter().map(Arc::clone));
    columns.extend(features.columns().iter().map(Arc::clone));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .context(ErrorKind::Internal, "the predictions as a table")
}

fn respond(call: &Call, groups: &[Group], id: String, scores: Vec<f64>) -> Response {
    let versions: Vec<_> =
        groups.iter().map(|group| group.servable.release().version.to_string()).collect();
    let releases: Vec<_> = groups.iter().map(|group| group.servable.id().to_string()).collect();
    let only = match &versions[..] {
        [version] => Some(version.clone()),
        _ => None,
    };
    Response {
        model_name: call.router.name().to_owned(),
        model_version: only,
        id,
        parameters: Parameters { versions: versions.join(","), releases: releases.join(",") },
        outputs: [Output {
            name: prediction::SCORE,
            datatype: "FP64",
            shape: [scores.len()],
            data: scores,
        }],
    }
}
