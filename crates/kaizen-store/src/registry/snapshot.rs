//! Opening a registry without reading the whole log.
//!
//! A snapshot is a blob that holds what the log came to after so many entries, and an entry of the
//! log that names it. So it is as good as the log: signed with it, and checked by folding anew.

use std::ops::Range;

use kaizen_core::record::Occurrence;
use kaizen_core::{
    ArtifactStore, AuditLog, Context, Digest, Entry, Error, ErrorKind, Event, Result,
};

use serde::{Deserialize, Serialize};

use super::fold::Fold;
use super::{PAGE, Registry};

/// How far back from the end of the log a snapshot is looked for, in entries.
pub(super) const LOOK_BACK: u64 = 65_536;

impl Registry {
    /// Writes down what the log has come to, so that a registry that is opened later reads only
    /// what follows; gives the digest of the snapshot. It is found if fewer than 65,536 entries
    /// follow: take one at least that often.
    ///
    /// # Errors
    ///
    /// As writing to the store and to the log.
    pub async fn snapshot(&self, occurrence: Occurrence) -> Result<Digest> {
        let (bytes, size) = {
            let fold = self.current().await?;
            (to_bytes(&fold)?, fold.size())
        };
        let subject = self.store.put_blob(bytes.into()).await?;
        let Occurrence { at, actor, operation } = occurrence;
        let event = Event::Folded { size };
        let entry = Entry { at, actor, operation, event, subject, evidence: Vec::new() };
        self.log.append(&[entry], None).await?;
        Ok(subject)
    }

    /// Folds the log from its first entry and compares what it comes to with every snapshot on the
    /// way; gives how many agree. Those that were collected, or that another version of this
    /// library wrote, are not counted. Of a log that was pruned, the oldest snapshot that covers
    /// what went is believed, and folded on from.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] naming the entry of a snapshot that says otherwise, or an entry that
    /// contradicts those before it.
    pub async fn check_snapshots(&self) -> Result<usize> {
        let size = self.log.size().await?;
        let first = self.log.first().await?;
        let promised = self.snapshots(first..size).await?;
        let mut fold = match first {
            0 => Fold::default(),
            _ => self.oldest(&promised, first..size).await?,
        };
        let mut start = fold.size();
        let covered = promised.partition_point(|(covers, ..)| *covers < start);
        let (mut waiting, mut agree) = (promised[covered..].iter().peekable(), 0);
        while start < size {
            let end = size.min(start + PAGE);
            for entry in self.log.read(start..end).await? {
                let now = fold.size();
                while let Some((_, index, said)) = waiting.next_if(|(covers, ..)| *covers == now) {
                    agree += usize::from(self.compare(&fold, *index, said).await?);
                }
                fold.apply(&entry)?;
            }
            start = end;
        }
        match waiting.next() {
            None => Ok(agree),
            Some((covered, index, _)) => Err(Error::corrupt(format!(
                "log entry {index}: a snapshot of {covered} entries, which did not come before it"
            ))),
        }
    }

    /// The snapshots that the log names: how many entries each covers, where it is named, and its
    /// digest; by the first.
    async fn snapshots(&self, range: Range<u64>) -> Result<Vec<(u64, u64, Digest)>> {
        let (mut found, mut start) = (Vec::new(), range.start);
        while start < range.end {
            let end = range.end.min(start + PAGE);
            for (index, entry) in (start..).zip(self.log.read(start..end).await?) {
                if let Event::Folded { size: covers } = entry.event {
                    found.push((covers, index, entry.subject));
                }
            }
            start = end;
        }
        found.sort_unstable();
        Ok(found)
    }

    /// What the oldest snapshot says that can be read and from which the log can be folded on.
    async fn oldest(&self, promised: &[(u64, u64, Digest)], range: Range<u64>) -> Result<Fold> {
        for (covers, index, said) in promised.iter().filter(|(covers, ..)| *covers >= range.start) {
            match read(self.store.as_ref(), said).await {
                Ok(Some(fold)) if fold.size() == *covers => return Ok(fold),
                Ok(None) => {}
                Ok(Some(_)) => {
                    tracing::warn!(index, "a snapshot of the registry is of another size")
                }
                Err(error) => tracing::warn!(index, %error, "a snapshot of the registry is lost"),
            }
        }
        Err(none(&range))
    }
}

/// A log that was pruned says nothing of names without a snapshot of what went.
fn none(range: &Range<u64>) -> Error {
    let Range { start, end } = range;
    Error::corrupt(format!(
        "registry: the log was pruned below entry {start}, and none of entries {start} to {end} \
         names a snapshot of the registry that covers what went and can be read"
    ))
}

/// What a snapshot holds. The number goes up with every change of what a [`Fold`] is made of: one
/// of another number is no lie because its bytes are others. A version that raises it goes on
/// reading those before: of what a log was pruned of, nothing else tells.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    fold: &'a Fold,
}

#[derive(Deserialize)]
struct Format {
    format: Option<u32>,
}

#[derive(Deserialize)]
struct Read {
    fold: Fold,
}

fn to_bytes(fold: &Fold) -> Result<Vec<u8>> {
    let written = Written { format: FORMAT, fold };
    serde_json::to_vec(&written).context(ErrorKind::Internal, "snapshot of the registry")
}

/// The fold in a snapshot; `None` if another version of this library wrote it.
fn from_bytes(bytes: &[u8], digest: &Digest) -> Result<Option<Fold>> {
    let what = || format!("snapshot {digest}");
    let Format { format } = serde_json::from_slice(bytes).context(ErrorKind::Corrupt, what())?;
    if format != Some(FORMAT) {
        tracing::info!(%digest, ?format, "a snapshot of the registry is of another format");
        return Ok(None);
    }
    let read: Read = serde_json::from_slice(bytes).context(ErrorKind::Corrupt, what())?;
    Ok(Some(read.fold))
}

impl Registry {
    /// Whether a snapshot was compared with what the entries come to. One that is gone or of
    /// another format misleads nobody.
    async fn compare(&self, fold: &Fold, index: u64, said: &Digest) -> Result<bool> {
        let found = Digest::of(to_bytes(fold)?);
        if found == *said {
            return Ok(true);
        }
        match read(self.store.as_ref(), said).await {
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            // Whoever opens a registry passes over what cannot be read; whoever checks is told.
            Ok(Some(_)) | Err(_) => {}
        }
        Err(Error::corrupt(format!(
            "log entry {index}: its snapshot of the registry is {said}, and the entries come to \
             {found}"
        )))
    }
}

/// The latest snapshot in reach of the log's end, if there is one, and its digest. One that is gone
/// or that cannot be read is passed over: the log is all that counts. Where the log was pruned
/// there must be one.
pub(crate) async fn latest(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    range: Range<u64>,
) -> Result<Option<(Digest, Fold)>> {
    let Range { start: first, end: size } = range;
    let last = if first > 0 { first } else { size.saturating_sub(LOOK_BACK) };
    let mut end = size;
    while end > last {
        let start = end.saturating_sub(PAGE).max(last);
        for (nth, entry) in log.read(start..end).await?.iter().enumerate().rev() {
            let index = start + nth as u64;
            let Event::Folded { size: covered } = entry.event else { continue };
            match read(store, &entry.subject).await {
                Ok(Some(fold)) if fold.size() != covered || covered > index => {
                    tracing::warn!(index, "a snapshot of the registry is of another size");
                }
                // Older ones do not either.
                Ok(Some(_)) if covered < first => return Err(none(&range)),
                Ok(Some(fold)) => return Ok(Some((entry.subject, fold))),
                Ok(None) => {}
                Err(error) => tracing::warn!(index, %error, "a snapshot of the registry is lost"),
            }
        }
        end = start;
    }
    if first > 0 { Err(none(&range)) } else { Ok(None) }
}

async fn read(store: &dyn ArtifactStore, digest: &Digest) -> Result<Option<Fold>> {
    from_bytes(&store.get_blob(digest).await?, digest)
}
