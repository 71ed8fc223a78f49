//! Opening a registry without reading the whole log.
//!
//! A snapshot is a blob that holds what the log came to after so many entries, and an entry of the
//! log that names it. So it is as good as the log: signed with it, and checked by folding anew.

use kaizen_core::record::Occurrence;
use kaizen_core::{
    ArtifactStore, AuditLog, Context, Digest, Entry, Error, ErrorKind, Event, Result,
};

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
    /// way; gives how many there were.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] naming the entry of a snapshot that says otherwise, or an entry that
    /// contradicts those before it.
    pub async fn check_snapshots(&self) -> Result<usize> {
        let size = self.log.size().await?;
        let promised = self.snapshots(size).await?;
        let mut waiting = promised.iter().peekable();
        let (mut fold, mut start) = (Fold::default(), 0);
        while start < size {
            let end = size.min(start + PAGE);
            for entry in self.log.read(start..end).await? {
                let now = fold.size();
                while let Some((_, index, said)) = waiting.next_if(|(covers, ..)| *covers == now) {
                    compare(&fold, *index, said)?;
                }
                fold.apply(&entry)?;
            }
            start = end;
        }
        match waiting.next() {
            None => Ok(promised.len()),
            Some((covered, index, _)) => Err(Error::corrupt(format!(
                "log entry {index}: a snapshot of {covered} entries, which did not come before it"
            ))),
        }
    }

    /// The snapshots that the log names: how many entries each covers, where it is named, and its
    /// digest; by the first.
    async fn snapshots(&self, size: u64) -> Result<Vec<(u64, u64, Digest)>> {
        let (mut found, mut start) = (Vec::new(), 0);
        while start < size {
            let end = size.min(start + PAGE);
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
}

fn to_bytes(fold: &Fold) -> Result<Vec<u8>> {
    serde_json::to_vec(fold).context(ErrorKind::Internal, "snapshot of the registry")
}

fn compare(fold: &Fold, index: u64, said: &Digest) -> Result<()> {
    let found = Digest::of(to_bytes(fold)?);
    if found == *said {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "log entry {index}: its snapshot of the registry is {said}, and the entries come to {found}"
    )))
}

/// The latest snapshot in reach of the log's end, if there is one. One that is gone or that cannot
/// be read is passed over: the log is all that counts.
pub(super) async fn latest(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    size: u64,
) -> Result<Option<Fold>> {
    let (mut end, last) = (size, size.saturating_sub(LOOK_BACK));
    while end > last {
        let start = end.saturating_sub(PAGE).max(last);
        for (nth, entry) in log.read(start..end).await?.iter().enumerate().rev() {
            let index = start + nth as u64;
            let Event::Folded { size: covered } = entry.event else { continue };
            match read(store, &entry.subject).await {
                Ok(fold) if fold.size() == covered && covered <= index => return Ok(Some(fold)),
                Ok(_) => tracing::warn!(index, "a snapshot of the registry is of another size"),
                Err(error) => tracing::warn!(index, %error, "a snapshot of the registry is lost"),
            }
        }
        end = start;
    }
    Ok(None)
}

async fn read(store: &dyn ArtifactStore, digest: &Digest) -> Result<Fold> {
    let bytes = store.get_blob(digest).await?;
    serde_json::from_slice(&bytes).context(ErrorKind::Corrupt, format!("snapshot {digest}"))
}
