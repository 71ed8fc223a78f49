//! The deployments of one target, as the log tells them.

use std::ops::ControlFlow;
use std::sync::Arc;

use kaizen_core::record::{InForce, Occurrence};
use kaizen_core::{AuditLog, Digest, Entry, Error, ErrorKind, Event, Result};

/// What a deployment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Started,
    Shifted,
    RolledBack,
    Retired,
}

impl Step {
    /// The step's name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Shifted => "shifted",
            Self::RolledBack => "rolled_back",
            Self::Retired => "retired",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Journal {
    target: String,
    log: Arc<dyn AuditLog>,
}

/// How many entries are read at once.
const PAGE: u64 = 256;

/// How often an append is tried again because others have written to the log.
const TRIES: u32 = 32;

impl Journal {
    pub(crate) fn new(target: &str, log: Arc<dyn AuditLog>) -> Self {
        Self { target: target.to_owned(), log }
    }

    /// The last deployment, and the size of the log at which that holds.
    pub(crate) async fn last(&self) -> Result<(Option<Digest>, u64)> {
        let size = self.log.size().await?;
        let mut last = None;
        self.walk_back(size, |_, deployment| {
            last = Some(deployment);
            ControlFlow::Break(())
        })
        .await?;
        Ok((last, size))
    }

    /// The shift before the one that is in force. A rollback undoes the shift before it.
    pub(crate) async fn before_last(&self) -> Result<Option<Digest>> {
        let mut in_force = InForce::default();
        let size = self.log.size().await?;
        self.walk_back(size, |step, deployment| {
            in_force.earlier(step, deployment);
            match in_force.shifts().len() {
                0 | 1 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })
        .await?;
        Ok(in_force.shifts().get(1).copied())
    }

    /// Commits a deployment, if this target has had none since the log had `seen` entries; gives
    /// the size of the log after it.
    pub(crate) async fn append(
        &self,
        step: Step,
        deployment: Digest,
        occurrence: &Occurrence,
        evidence: &[Digest],
        mut seen: u64,
    ) -> Result<u64> {
        let entry = Entry {
            at: occurrence.at,
            actor: occurrence.actor.clone(),
            operation: occurrence.operation.clone(),
            event: Event::Deployed { target: self.target.clone(), step: step.name().to_owned() },
            subject: deployment,
            evidence: evidence.to_vec(),
        };
        for _ in 0..TRIES {
            match self.log.append(std::slice::from_ref(&entry), Some(seen)).await {
                Ok(indices) => return Ok(indices.end),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            // Others write to the same log; only a deployment here is in our way.
            let size = self.log.size().await?;
            for since in self.log.read(seen..size).await? {
                if self.step(&since).is_some() {
                    let (name, other) = (&self.target, since.subject);
                    return Err(Error::conflict(format!(
                        "target `{name}`: deployment {other} came in between"
                    )));
                }
            }
            seen = size;
        }
        let name = &self.target;
        Err(Error::conflict(format!("target `{name}`: the log moved on {TRIES} times")))
    }

    /// What the entry did to this target, if it is about it.
    fn step<'a>(&self, entry: &'a Entry) -> Option<&'a str> {
        match &entry.event {
            Event::Deployed { target, step } if *target == self.target => Some(step),
            _ => None,
        }
    }

    /// Visits the deployments of this target, the latest first.
    async fn walk_back(
        &self,
        size: u64,
        mut visit: impl FnMut(&str, Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        // What may still be in force is never pruned.
        let (mut end, first) = (size, self.log.first().await?);
        while end > first {
            let start = end.saturating_sub(PAGE).max(first);
            for entry in self.log.read(start..end).await?.iter().rev() {
                if let Some(step) = self.step(entry)
                    && visit(step, entry.subject).is_break()
                {
                    return Ok(());
                }
            }
            end = start;
        }
        Ok(())
    }
}
