//! What online views answer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use kaizen_core::{Bytes, Error, Result, Timestamp, compute};
use kaizen_table::{FeatureService, FeatureView, Value};

use super::prepared::{Prepared, Reach};
use super::space::Space;
use super::tail::Stored;
use super::tiled;
use super::{Online, latest};
use crate::feature_store::{check_request, extended};
use crate::keys::KeyTypes;
use crate::on_demand::with_computed;
use crate::point_in_time::{Moment, Probe, Sight, Status as Seen, Timelines, answer, probes};
use crate::within::Within;

/// Up to this many bytes of rows are read where they are; more on the thread pool for maths.
const INLINE_BYTES: usize = 1 << 20;

/// Where more than [`INLINE_BYTES`] are read one by one for each row of a request, and they are more
/// than so many times what they are once, rows are decoded once and sorted.
const TIMES: usize = 8;

/// Up to this many rows functions compute where they are; more on the thread pool for maths.
const INLINE_ROWS: usize = 1_024;

/// Features, and how each row came to them.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The request's columns and then the features, one row per row of the request, in its order.
    pub rows: RecordBatch,
    /// How each view of the service answered, in the service's order.
    pub views: Vec<ViewAnswer>,
}

/// How a view answered each row of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewAnswer {
    /// The view's name.
    pub name: String,
    /// What was found. Length: the rows.
    pub status: Vec<Status>,
    /// The event time, in nanoseconds UTC, of the latest row that is seen, whether or not it is
    /// too old. A view of windows alone keeps only rows that a window may need, and of windows with
    /// hops none that is in a tile: it tells the latest of those that are kept, if any. Length: the
    /// rows.
    pub event_time: Vec<Option<i64>>,
}

/// What a view has for a row of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// A row of the entity is seen, and has a value.
    Present,
    /// A row of the entity is seen, but no column feature of the view has a value in it.
    Missing,
    /// No row of the entity is seen, or a key is missing. Of a view of windows alone rows are not
    /// kept that no window can need: an entity that has only such is not found.
    NotFound,
    /// The latest row that is seen is older than the TTL. Windows do not end by it, and a view of
    /// windows alone is never outside.
    OutsideTtl,
}

/// What a view answers: its features, and how it came to them.
type Found = (Vec<ArrayRef>, ViewAnswer);

impl Online {
    /// The features of each row of the request, as of the instant in its column `time`: the
    /// request's columns, then those that were looked up, then those that functions compute of
    /// them; one row per row, in its order.
    ///
    /// An entity that is not there has missing features and counts of 0. A view that was never
    /// materialised with this definition is [`ErrorKind::NotFound`](kaizen_core::ErrorKind); an
    /// instant before the one until which it is materialised, less
    /// [what is kept](Self::keep_seconds), is [`ErrorKind::Invalid`](kaizen_core::ErrorKind),
    /// because rows that it would need may be gone.
    pub async fn features(
        &self,
        service: &FeatureService,
        request: &RecordBatch,
        time: &str,
    ) -> Result<RecordBatch> {
        Ok(self.answer(service, request, time).await?.rows)
    }

    /// The [features](Self::features), and how each row came to them.
    pub async fn answer(
        &self,
        service: &FeatureService,
        request: &RecordBatch,
        time: &str,
    ) -> Result<Answer> {
        check_request(service, request)?;
        let place = || format!("feature service `{}`", service.name());
        self.functions.check(service).within(place())?;
        let (mut columns, mut views) = (Vec::new(), Vec::with_capacity(service.views().len()));
        for view in service.views() {
            let found = self.look_up(view, request, time).await;
            let (features, answer) = found.within(format!("view `{}`", view.name()))?;
            columns.extend(features);
            views.push(answer);
        }
        let rows = extended(service, request, columns)?;
        let rows = self.with_computed(service, rows).await?;
        if !self.served.is_empty() {
            let service = (service.name().to_owned(), service.version());
            self.served.get(&service).inspect(|log| log.log(&rows));
        }
        Ok(Answer { rows, views })
    }

    /// The rows, and what functions compute of them.
    async fn with_computed(
        &self,
        service: &FeatureService,
        rows: RecordBatch,
    ) -> Result<RecordBatch> {
        if rows.num_rows() <= INLINE_ROWS {
            return with_computed(&self.functions, service, &rows);
        }
        let (functions, service) = (self.functions.clone(), service.clone());
        compute(move || with_computed(&functions, &service, &rows)).await
    }

    async fn look_up(
        &self,
        view: &FeatureView,
        request: &RecordBatch,
        time: &str,
    ) -> Result<Found> {
        let prepared = self.prepared.of(view)?;
        let mut reach = match prepared.reach() {
            Some(reach) => reach,
            None => self.reach(&prepared).await?,
        };
        // A view that was dropped and built anew may have keys of other types.
        let mut asked = match Asked::new(&reach.key_types, request) {
            Ok(asked) => asked,
            Err(error) => {
                let now = self.reach(&prepared).await?;
                if now.key_types == reach.key_types {
                    return Err(error);
                }
                reach = now;
                Asked::new(&reach.key_types, request)?
            }
        };
        let (mut now, mut tails) = self.read(&prepared, &asked).await?;
        if now.key_types != reach.key_types {
            asked = Asked::new(&now.key_types, request)?;
            (now, tails) = self.read(&prepared, &asked).await?;
        }
        let progress = &now.progress;
        let probes = probes(asked.entity, request, time)?;
        if let Some(row) = probes.iter().position(|probe| probe.at < progress.from) {
            let at = Timestamp::from_nanos(probes[row].at);
            let from = Timestamp::from_nanos(progress.from);
            return Err(Error::invalid(format!(
                "row {row} asks as of {at}, but what was needed before {from} may be gone online; \
                 ask the feature store"
            )));
        }
        // Each tail is that of a row at least.
        let read = read_bytes(&tails, &probes);
        let work = move || answered(&prepared, &tails, &probes, read);
        if read <= INLINE_BYTES { work() } else { compute(work).await }
    }

    async fn reach(&self, prepared: &Prepared) -> Result<Arc<Reach>> {
        let key = Space::progress_key();
        match self.store.get(prepared.space.name(), &[key]).await?.pop().flatten() {
            Some(found) => prepared.read(found),
            None => Err(self.absent(&prepared.view).await),
        }
    }

    /// How far the view goes, and the rows of the entities, in one read.
    async fn read(
        &self,
        prepared: &Prepared,
        asked: &Asked,
    ) -> Result<(Arc<Reach>, Vec<Option<Bytes>>)> {
        let space = &prepared.space;
        let mut found = self.store.get(space.name(), &asked.keys).await?;
        let Some(progress) = found.pop().flatten() else {
            return Err(self.absent(&prepared.view).await);
        };
        let tails = found.into_iter().map(|value| space.rows(value)).collect::<Result<_>>()?;
        Ok((prepared.read(progress)?, tails))
    }

    /// The types in which a view's keys are compared.
    #[cfg(feature = "server")]
    pub(crate) async fn key_types(&self, view: &FeatureView) -> Result<Arc<KeyTypes>> {
        let prepared = self.prepared.of(view)?;
        let reach = match prepared.reach() {
            Some(reach) => reach,
            None => self.reach(&prepared).await.within(format!("view `{}`", view.name()))?,
        };
        Ok(Arc::clone(&reach.key_types))
    }
}

/// The entities of a request.
struct Asked {
    /// The number of each row's entity.
    entity: Vec<Option<u32>>,
    /// The key of each entity, and after them that of how far the view goes.
    keys: Vec<Bytes>,
}

impl Asked {
    fn new(key_types: &KeyTypes, request: &RecordBatch) -> Result<Self> {
        let encoded = key_types.encode(request)?;
        let rows = request.num_rows();
        let mut numbers: hashbrown::HashMap<&[u8], u32> = hashbrown::HashMap::with_capacity(rows);
        let mut keys = Vec::with_capacity(rows + 1);
        let mut number = |key| {
            *numbers.entry(key).or_insert_with(|| {
                keys.push(Space::entity_key(key));
                keys.len() as u32 - 1
            })
        };
        let entity = (0..rows).map(|row| encoded.get(row).map(&mut number)).collect();
        keys.push(Space::progress_key());
        Ok(Self { entity, keys })
    }
}

/// How many bytes of tails are read if they are for each probe.
fn read_bytes(tails: &[Option<Bytes>], probes: &[Probe]) -> usize {
    let tail = |probe: &Probe| tails.get(probe.entity? as usize)?.as_ref();
    probes.iter().filter_map(tail).map(Bytes::len).fold(0, usize::saturating_add)
}

/// Whether probes ask so often for the same long tails that these are better decoded once; `read`
/// is what [`read_bytes`] says.
fn repeats(tails: &[Option<Bytes>], read: usize) -> bool {
    let once = || tails.iter().flatten().map(Bytes::len).sum::<usize>();
    read > INLINE_BYTES && read / TIMES > once()
}

fn answered(
    prepared: &Prepared,
    tails: &[Option<Bytes>],
    probes: &[Probe],
    read: usize,
) -> Result<Found> {
    let (view, layout) = (&prepared.view, &prepared.layout);
    if prepared.latest && !repeats(tails, read) {
        let (columns, sights) = latest::answer(view, layout, tails, probes)?;
        let status = |(row, sight): (usize, &Sight)| status(sight, row, columns.iter());
        let status = sights.iter().enumerate().map(status).collect();
        return Ok((columns, view_answer(view, status, &sights)));
    }
    let stored = Stored::decode(layout, tails)?;
    let tiled = tiled::columns(view, layout, &stored, probes)?;
    let rows = &stored.rows;
    let entity: Vec<Option<u32>> = rows.entity.iter().copied().map(Some).collect();
    let moment = |(event, known): (&i64, &Option<i64>)| Moment::new(view.known(), *event, *known);
    let moments: Vec<Moment> = rows.event.iter().zip(&rows.known).map(moment).collect();
    let timelines = Timelines::new(&entity, tails.len(), &moments);
    let found = answer(view, layout, &timelines, &rows.values, None, probes, tiled)?;
    let of_columns: Vec<&ArrayRef> = view
        .features()
        .iter()
        .zip(&found.columns)
        .filter(|(feature, _)| matches!(feature.value, Value::Column(_)))
        .map(|(_, values)| values)
        .collect();
    // Tiles know that there were rows, and not which was the latest.
    let is_tiled = |probe: &Probe| probe.entity.is_some_and(|entity| stored.has_tiles(entity));
    let status = |(row, (probe, sight)): (usize, (&Probe, &Sight))| match sight.status {
        Seen::Unknown if of_columns.is_empty() && is_tiled(probe) => Status::Present,
        Seen::Expired if of_columns.is_empty() => Status::Present,
        Seen::Found if of_columns.is_empty() => Status::Present,
        _ => status(sight, row, of_columns.iter().copied()),
    };
    let status = probes.iter().zip(&found.sights).enumerate().map(status).collect();
    Ok((found.columns, view_answer(view, status, &found.sights)))
}

/// What a view has for a row that sees this, given its column features, of which there is one.
fn status<'a>(
    sight: &Sight,
    row: usize,
    mut of_columns: impl Iterator<Item = &'a ArrayRef>,
) -> Status {
    match sight.status {
        Seen::Unknown => Status::NotFound,
        Seen::Expired => Status::OutsideTtl,
        Seen::Found if of_columns.all(|values| values.is_null(row)) => Status::Missing,
        Seen::Found => Status::Present,
    }
}

fn view_answer(view: &FeatureView, status: Vec<Status>, sights: &[Sight]) -> ViewAnswer {
    let event = |sight: &Sight| (sight.status != Seen::Unknown).then_some(sight.event);
    let event_time = sights.iter().map(event).collect();
    ViewAnswer { name: view.name().to_owned(), status, event_time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tails_that_are_asked_for_again_and_again_are_decoded_once() {
        let asked = |bytes: usize, count: usize| {
            let tails = [Some(Bytes::from(vec![0; bytes])), None];
            let mut probes = vec![Probe { entity: Some(0), at: 0 }; count];
            probes.extend([Probe { entity: Some(1), at: 0 }, Probe { entity: None, at: 0 }]);
            let read = read_bytes(&tails, &probes);
            assert_eq!(read, bytes * count);
            repeats(&tails, read)
        };
        // A row of an entity, and a tail that is read once.
        assert!(!asked(40, 10_000) && !asked(100 << 20, 1));
        assert!(asked(800_000, 10_000) && asked(40, 1_000_000));
    }
}
