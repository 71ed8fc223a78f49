//! Features as they were served, logged for the [skew check](crate::skew).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use kaizen_core::{Context, ErrorKind, Result, async_trait};
use kaizen_table::{FeatureService, arrow_type};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// So many answers wait to be logged; more are lost, and counted.
const ANSWERS_WAITING: usize = 1_024;

/// About so many rows are handed over at once.
const ROWS_AT_ONCE: usize = 65_536;

/// Where features go as they were served: each row with the columns that it was asked with and its
/// features.
#[async_trait]
pub trait ServedSink: fmt::Debug + Send + Sync {
    /// Takes rows.
    async fn log(&self, rows: &RecordBatch) -> Result<()>;
}

enum Message {
    Rows(RecordBatch),
    Flush(oneshot::Sender<()>),
}

/// Hands over what was served without holding up the answers: behind them, many at once.
///
/// What cannot be logged, because the sink fails or cannot keep up, is [counted](Self::lost) and
/// said in the log; no answer is lost by it.
#[derive(Debug)]
pub struct ServedLog {
    sender: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl ServedLog {
    /// Starts to log to this sink, within a tokio runtime; outside one it is
    /// [`ErrorKind::Invalid`]. It ends when the log is dropped and what waits is handed over.
    pub fn start(sink: Arc<dyn ServedSink>) -> Result<Self> {
        let runtime =
            Handle::try_current().context(ErrorKind::Invalid, "a log of what is served")?;
        let (sender, receiver) = mpsc::channel(ANSWERS_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        runtime.spawn(hand_over(sink, receiver, Arc::clone(&lost)));
        Ok(Self { sender, lost })
    }

    /// The columns of what is logged of a service: those that it is asked with, then its features.
    pub fn schema(service: &FeatureService, asked: &Schema) -> Result<SchemaRef> {
        let mut fields: Vec<FieldRef> = asked.fields().iter().map(Arc::clone).collect();
        // Columns of the request are features too, and stand there already.
        let added = |field: &kaizen_core::Field| asked.field_with_name(&field.name).is_err();
        for field in service.columns().into_iter().filter(added) {
            fields.push(Arc::new(Field::new(field.name, arrow_type(field.data_type)?, true)));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// How many rows could not be logged since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until all that was served before is handed over.
    pub async fn flush(&self) -> Result<()> {
        let (sender, done) = oneshot::channel();
        let sent = self.sender.send(Message::Flush(sender)).await;
        sent.ok().context(ErrorKind::Unavailable, "the log of what is served has ended")?;
        done.await.context(ErrorKind::Unavailable, "the log of what is served has ended")
    }

    /// Logs rows later.
    pub(crate) fn log(&self, rows: &RecordBatch) {
        if rows.num_rows() > 0 && self.sender.try_send(Message::Rows(rows.clone())).is_err() {
            lose(&self.lost, rows);
            tracing::warn!(rows = rows.num_rows(), "served features are not logged: too many wait");
        }
    }
}

fn lose(lost: &AtomicU64, rows: &RecordBatch) {
    lost.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
}

async fn hand_over(
    sink: Arc<dyn ServedSink>,
    mut receiver: mpsc::Receiver<Message>,
    lost: Arc<AtomicU64>,
) {
    let mut next = receiver.recv().await;
    while let Some(message) = next {
        let first = match message {
            Message::Rows(rows) => rows,
            Message::Flush(done) => {
                // Whoever does not wait any more has no need of the answer.
                let _ = done.send(());
                next = receiver.recv().await;
                continue;
            }
        };
        let (mut batches, mut rows) = (vec![first], 0);
        // What waits goes along, as long as it has the same columns.
        let mut left = None;
        while rows < ROWS_AT_ONCE && left.is_none() {
            match receiver.try_recv() {
                Ok(Message::Rows(more)) if more.schema_ref() == batches[0].schema_ref() => {
                    rows += more.num_rows();
                    batches.push(more);
                }
                Ok(other) => left = Some(other),
                Err(_) => break,
            }
        }
        let joined = concat_batches(batches[0].schema_ref(), &batches);
        let logged = match joined.context(ErrorKind::Internal, "served rows as one table") {
            Ok(joined) => sink.log(&joined).await,
            Err(error) => Err(error),
        };
        if let Err(error) = logged {
            batches.iter().for_each(|rows| lose(&lost, rows));
            tracing::warn!(%error, "served features are not logged");
        }
        next = match left {
            Some(left) => Some(left),
            None => receiver.recv().await,
        };
    }
}
