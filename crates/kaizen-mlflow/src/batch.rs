//! What is logged of a run, in requests that the server takes.

use kaizen_core::{Context, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Value, json};

/// The limits of one `runs/log-batch`.
const MAX_METRICS: usize = 1_000;
const MAX_PARAMS: usize = 100;
const MAX_TAGS: usize = 100;
/// And of all three together.
const MAX_TOGETHER: usize = 1_000;
/// At most this many bytes in one request: MLflow takes a million, with what is around them.
const MAX_BYTES: usize = 900_000;

/// Which part of a request an item belongs to.
#[derive(Clone, Copy)]
enum Part {
    Params,
    Tags,
    Metrics,
}

#[derive(Default)]
struct Batch {
    /// Parameters, tags, metrics.
    parts: [Vec<Value>; 3],
    bytes: usize,
}

impl Batch {
    fn has_room(&self, part: Part, bytes: usize) -> bool {
        let most = [MAX_PARAMS, MAX_TAGS, MAX_METRICS][part as usize];
        let together: usize = self.parts.iter().map(Vec::len).sum();
        self.parts[part as usize].len() < most
            && together < MAX_TOGETHER
            && self.bytes + bytes <= MAX_BYTES
    }
}

/// The bodies of the requests that log all of it.
pub(crate) fn batches(
    run: &str,
    params: &[impl Serialize],
    tags: &[impl Serialize],
    metrics: &[impl Serialize],
) -> Result<Vec<Value>> {
    let mut batches = vec![Batch::default()];
    let params = params.iter().map(|item| (Part::Params, json_of(item)));
    let tags = tags.iter().map(|item| (Part::Tags, json_of(item)));
    let metrics = metrics.iter().map(|item| (Part::Metrics, json_of(item)));
    for (part, item) in params.chain(tags).chain(metrics) {
        let item = item?;
        // A comma more.
        let bytes = item.to_string().len() + 1;
        if batches.last().is_none_or(|batch| !batch.has_room(part, bytes)) {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.parts[part as usize].push(item);
            batch.bytes += bytes;
        }
    }
    let bodies = batches.into_iter().filter(|batch| batch.bytes > 0).map(|batch| {
        let [params, tags, metrics] = batch.parts;
        json!({ "run_id": run, "params": params, "tags": tags, "metrics": metrics })
    });
    Ok(bodies.collect())
}

fn json_of(item: &impl Serialize) -> Result<Value> {
    serde_json::to_value(item).context(ErrorKind::Internal, "training as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_is_larger_than_the_server_takes() {
        let long = "x".repeat(5_000);
        let params: Vec<_> = (0..250).map(|n| json!({ "key": n, "value": long })).collect();
        let tags: Vec<_> = (0..101).map(|n| json!({ "key": n, "value": long })).collect();
        let metrics: Vec<_> = (0..2_500).map(|n| json!({ "key": n, "value": 0.5 })).collect();
        let bodies = batches("run", &params, &tags, &metrics).unwrap();
        let of = |part: &str| -> Vec<Value> {
            bodies.iter().flat_map(|body| body[part].as_array().unwrap()).cloned().collect()
        };
        assert_eq!((of("params"), of("tags"), of("metrics")), (params, tags, metrics));
        for body in &bodies {
            let count = |part: &str| body[part].as_array().unwrap().len();
            let [params, tags, metrics] = ["params", "tags", "metrics"].map(count);
            assert!(params <= MAX_PARAMS && tags <= MAX_TAGS && metrics <= MAX_METRICS);
            assert!(params + tags + metrics <= MAX_TOGETHER);
            assert!(body.to_string().len() < 1_000_000);
        }
        let none: [Value; 0] = [];
        assert_eq!(batches("run", &none, &none, &none).unwrap(), Vec::<Value>::new());
    }
}
