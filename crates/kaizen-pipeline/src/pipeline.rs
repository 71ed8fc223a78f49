//! Running steps.

use std::sync::Arc;

use kaizen_core::record::{Occurrence, Run};
use kaizen_core::{ArtifactStore, AuditLog, Digest, Error, Record, Records, Result};

use crate::{Step, flight, journal};

/// Runs steps over a store and a log, each once for equal keys.
///
/// The key of a step is the digest of its name, version, settings, inputs and the kind of its
/// output. When the work is done and its output is in the store, a [`Run`] record about the key is
/// written, then the log's entry of it. So a crash at any point loses at most the work of the step
/// that it met: run again, every step that has an output is found, the others are done.
///
/// An output that was lost or damaged is done again too.
#[derive(Clone, Debug)]
pub struct Pipeline {
    store: Arc<dyn ArtifactStore>,
    log: Arc<dyn AuditLog>,
    occurrence: Occurrence,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The record that came out.
    pub output: Digest,
    /// Whether it was there already, and no work was done.
    pub cached: bool,
    /// The record of the run that made it.
    pub run: Digest,
}

impl Pipeline {
    /// A pipeline whose runs happen at this instant, by this actor, in this operation.
    pub fn new(
        store: Arc<dyn ArtifactStore>,
        log: Arc<dyn AuditLog>,
        occurrence: Occurrence,
    ) -> Self {
        Self { store, log, occurrence }
    }

    /// Gives the output of a step: the one that is there, or else what `work` makes and stores,
    /// a record of type `R`.
    ///
    /// Two runs of equal key in one process do the work once; the second waits. Work that fails
    /// leaves neither a run nor an entry. Work must not run its own step again: it would wait for
    /// itself.
    pub async fn run<R: Record>(
        &self,
        step: &Step,
        inputs: &[Digest],
        work: impl AsyncFnOnce() -> Result<Digest>,
    ) -> Result<Outcome> {
        let key_bytes = step.key::<R>(inputs)?;
        let key = Digest::of(&key_bytes);
        let _turn = flight::alone(&self.store, key).await;
        if let Some((id, run)) = journal::find::<R>(&*self.store, &key).await? {
            self.complete(id, &run).await?;
            tracing::debug!(step = step.name, output = %run.output, "cached");
            return Ok(Outcome { output: run.output, cached: true, run: id });
        }
        tracing::debug!(step = step.name, key = %key, "running");
        let output = work().await?;
        self.store.get::<R>(&output).await.map_err(|source| {
            let message = format!("output of step `{}`", step.name);
            Error::new(source.kind(), message).with_source(source)
        })?;
        self.store.put_blob(key_bytes.into()).await?;
        let run = Run {
            occurrence: self.occurrence.clone(),
            step: step.name.clone(),
            key,
            inputs: inputs.to_vec(),
            output,
        };
        let id = self.store.put(&run, &[]).await?;
        self.log.append(&[journal::entry(id, &run)], None).await?;
        Ok(Outcome { output, cached: false, run: id })
    }

    /// Appends the entry of a run that a crash cut off between its record and its entry.
    ///
    /// That can only be seen by the same operation when it is resumed, and only there is the part
    /// of the log that must be searched short.
    async fn complete(&self, id: Digest, run: &Run) -> Result<()> {
        let resumed = run.occurrence.operation == self.occurrence.operation;
        if resumed && !journal::has_entry(&*self.log, &id, run).await? {
            self.log.append(&[journal::entry(id, run)], None).await?;
        }
        Ok(())
    }
}
