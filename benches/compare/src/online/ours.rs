//! Our own side of `online`.

use std::fs;
use std::sync::Arc;

use kaizen_core::{Context, DataType, Error, ErrorKind, Result, Silent, Timestamp};
use kaizen_data::{FileSource, Online, open_online};
use kaizen_table::arrow::array::{
    Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use kaizen_table::arrow::datatypes::Float64Type;
use kaizen_table::{FeatureService, FeatureView};
use tokio::runtime::Runtime;

use crate::contender::{Contender, Found, Stopwatch};
use crate::data::{END_US, features};

/// So many entities are asked for at once where all are.
const ENTITIES_AT_ONCE: usize = 10_000;

/// Our own side, on the store of this URL.
pub(crate) fn ours(settings: &[String]) -> Result<Box<dyn Contender>> {
    let [url] = settings else {
        return Err(Error::invalid(format!("settings {settings:?}; the URL of a store")));
    };
    let runtime = Runtime::new().context(ErrorKind::Unavailable, "threads")?;
    Ok(Box::new(Ours { runtime, url: url.clone(), filled: 0, current: None, drawn: 1 }))
}

struct Ours {
    runtime: Runtime,
    url: String,
    /// How often it was filled: each time under another name.
    filled: u32,
    current: Option<Current>,
    /// The state of the draws of entities.
    drawn: u64,
}

/// What was filled last.
struct Current {
    online: Online,
    service: FeatureService,
    entities: u64,
}

impl Contender for Ours {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        match question {
            ["materialize", source, entities, until] => {
                self.materialize(source, number(entities)?, number(until)?, stopwatch)
            }
            ["get", entities, calls] => {
                let (entities, calls): (u64, u32) = (number(entities)?, number(calls)?);
                let requests: Vec<RecordBatch> =
                    (0..calls).map(|_| self.drawn(entities)).collect::<Result<_>>()?;
                let current = self.current()?;
                for request in &requests {
                    let features = current.online.features(&current.service, request, "at");
                    stopwatch.time(|| self.runtime.block_on(features))?;
                }
                Ok(Found::new())
            }
            _ => Err(Error::invalid(format!("question {question:?}"))),
        }
    }
}

impl Ours {
    fn materialize(
        &mut self,
        source: &str,
        entities: u64,
        until: i64,
        stopwatch: &mut Stopwatch,
    ) -> Result<Found> {
        // The store before it first, that two are never there at once.
        self.current = None;
        self.filled += 1;
        let view = view(&format!("filled_{}", self.filled))?;
        give_up(&self.url)?;
        let filled = fill(&self.url, &view, source, Timestamp::from_micros(until));
        let online = stopwatch.time(|| self.runtime.block_on(filled))?;
        let service = FeatureService::new("compare", 1, vec![], vec![view])?;
        self.current = Some(Current { online, service, entities });
        self.everything()
    }

    /// What all entities' features come to, as in `rivals/online_feast.py`.
    fn everything(&self) -> Result<Found> {
        let Current { online, service, entities } = self.current()?;
        let (mut unmatched, mut sum) = (0, 0.0);
        for begin in (0..*entities).step_by(ENTITIES_AT_ONCE) {
            let end = (*entities).min(begin + ENTITIES_AT_ONCE as u64);
            let some = request((begin..end).map(|entity| entity as i64).collect())?;
            let found = self.runtime.block_on(online.features(service, &some, "at"))?;
            for (place, name) in features().enumerate() {
                let values = found.column_by_name(&name).context(ErrorKind::Internal, &name)?;
                let values = values.as_primitive::<Float64Type>();
                sum += values.iter().flatten().sum::<f64>();
                unmatched += if place == 0 { values.null_count() } else { 0 };
            }
        }
        Ok(Found::from([("unmatched".to_owned(), unmatched as f64), ("sum".to_owned(), sum)]))
    }

    fn current(&self) -> Result<&Current> {
        self.current.as_ref().context(ErrorKind::Invalid, "nothing is materialised")
    }

    /// A request for so many entities, drawn at random.
    fn drawn(&mut self, entities: u64) -> Result<RecordBatch> {
        let all = self.current()?.entities;
        let mut entity = || {
            // Knuth's multiplier; the high bits are the random ones.
            self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((self.drawn >> 33) % all) as i64
        };
        request((0..entities).map(|_| entity()).collect())
    }
}

/// Removes the file of a store, if it is one.
fn give_up(url: &str) -> Result<()> {
    let file = url.strip_prefix("redb:").or_else(|| url.strip_prefix("snapshot:"));
    match file.map(fs::remove_file) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(ErrorKind::Unavailable, url)
        }
        _ => Ok(()),
    }
}

/// Materialises a view into the store of this URL. A snapshot only reads: it is filled in memory,
/// exported, and opened.
async fn fill(url: &str, view: &FeatureView, source: &str, until: Timestamp) -> Result<Online> {
    let source = FileSource::open("events", source).await?;
    let snapshot = url.strip_prefix("snapshot:");
    let online = Online::new(open_online(if snapshot.is_some() { "memory:" } else { url }).await?);
    online.materialize(view, &source, until, &Silent).await?;
    let Some(path) = snapshot else { return Ok(online) };
    online.export(std::slice::from_ref(view), path).await?;
    Ok(Online::new(open_online(url).await?))
}

fn view(name: &str) -> Result<FeatureView> {
    let view = FeatureView::builder(name).source("events").key("entity").event_time("at");
    features().fold(view, |view, name| view.column(&name, DataType::Float64)).build()
}

/// These entities, after everything that was materialised.
fn request(entities: Vec<i64>) -> Result<RecordBatch> {
    let at = TimestampMicrosecondArray::from(vec![END_US; entities.len()]).with_timezone("UTC");
    let entities = Int64Array::from(entities);
    RecordBatch::try_from_iter([("entity", Arc::new(entities) as _), ("at", Arc::new(at) as _)])
        .context(ErrorKind::Internal, "a request")
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Error>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().context(ErrorKind::Invalid, text)
}
