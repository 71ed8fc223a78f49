//! How an append becomes durable in an object store, and how the log is published.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kaizen_core::{Bytes, Checkpoint, Error, ErrorKind, Result};
use object_store::PutMode;

use super::Inner;
use super::objects::{Put, name_of};
use super::state::{ATTEMPTS, Attempt, CHECKPOINT, JOURNAL, State, TRIES, writer_of};
use crate::merkle::root;
use crate::note;
use crate::queue::{Answer, MAX_BYTES, Request};
use crate::tail::unread;
use crate::witness::{Cosignature, WitnessPolicy};

/// The journal is published when it holds this many entries, or bytes.
const ENTRIES: usize = 1024;
const BYTES: usize = 1 << 20;
/// It is not written on before it is published, when it holds this many times as much.
const BEHIND: usize = 64;
/// How often a write is tried again that failed, and may have been done.
const RETRIES: u32 = 3;
/// How many objects are written at the same time.
const AT_ONCE: usize = 8;

/// A write of which it is not known yet whether it was done.
struct Tried {
    answers: Vec<Answer>,
    /// The place that its entries would have, and they.
    indices: Range<u64>,
    entries: Vec<Bytes>,
    /// If it failed, rather than that somebody else was faster.
    error: Option<Error>,
}

impl Inner {
    /// Makes an empty log if there is none.
    pub(super) async fn start(&self) -> Result<()> {
        if !self.folder.exists(CHECKPOINT).await? {
            let journal = self.folder.exists(JOURNAL).await?;
            // Every log begins with a checkpoint, so one that has a journal has lost it; unless
            // somebody else made both between the two looks.
            if journal && !self.folder.exists(CHECKPOINT).await? {
                return Err(self.missing(CHECKPOINT));
            }
            if !journal {
                self.folder.demand_conditional_puts().await?;
                let empty = self.signing.seal(0, &root(&[])).await?;
                let put = self.folder.replace(CHECKPOINT, None, empty.into_bytes()).await?;
                if let Put::Unknown(error) = put {
                    return Err(error);
                }
            }
        }
        let mut slot = self.state.lock().await;
        if !self.folder.exists(JOURNAL).await? {
            let bytes = self.first_journal().await?;
            if let Put::Unknown(error) = self.folder.replace(JOURNAL, None, bytes).await? {
                return Err(error);
            }
        }
        self.refresh(&mut slot).await
    }

    /// The journal of a log of which nothing but an empty checkpoint is there.
    async fn first_journal(&self) -> Result<Vec<u8>> {
        let (published, base) = self.load().await?;
        if published.size > 0 {
            // It had one when it was published.
            return Err(self.missing(JOURNAL));
        }
        let note = published.note.clone();
        State::new(published, base).journal(&[], &note, None).map(|(bytes, _)| bytes)
    }

    fn attempt(&self) -> Attempt {
        let mut attempt = [0; 24];
        attempt[..16].copy_from_slice(&self.writer);
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        attempt[16..].copy_from_slice(&number.to_be_bytes());
        attempt
    }

    /// Commits everything that waits, in one write.
    pub(super) async fn commit(self: Arc<Self>) {
        let _turn = self.queue.turn().await;
        let Some((requests, waiting)) = self.queue.take(MAX_BYTES) else { return };
        waiting.answer(self.write(&requests).await);
        let behind = self.state.lock().await.as_ref().is_some_and(|state| is_behind(state, 1));
        if behind && let Err(error) = self.publish().await {
            tracing::warn!(%error, "log not published; the next commit tries again");
        }
    }

    async fn write(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let attempt = self.attempt();
        let (mut tried, mut failures): (Option<Tried>, _) = (None, 0);
        for _ in 0..TRIES {
            let mut slot = self.state.lock().await;
            self.refresh(&mut slot).await?;
            let state = slot.as_mut().ok_or_else(unread)?;
            // A store's client tries again by itself, and then takes its own write for somebody
            // else's; a write that failed may have been done, or be done only now. The journal
            // knows. It is asked on the very state that is built on: what comes after that, and
            // the next write, exclude each other.
            if let Some(last) = &mut tried {
                if self.is_done(state, &attempt, last).await? {
                    return Ok(std::mem::take(&mut last.answers));
                }
                failures += u32::from(last.error.is_some());
                if let Some(error) = last.error.take().filter(|_| failures > RETRIES) {
                    return Err(error);
                }
            }
            if is_behind(state, BEHIND) {
                drop(slot);
                self.publish().await?;
                continue;
            }
            let mut additions = state.tail.additions();
            let start = additions.peaks.size();
            let answers = requests.iter().map(|request| request.admit(&mut additions)).collect();
            if additions.entries.is_empty() {
                return Ok(answers);
            }
            let (size, root) = (additions.peaks.size(), additions.peaks.root());
            // Whoever reads does not wait for the signature.
            let version = state.version.clone();
            drop(slot);
            let note = self.signing.seal(size, &root).await?;
            let mut slot = self.state.lock().await;
            let state = slot.as_mut().ok_or_else(unread)?;
            if state.version != version {
                // Somebody else committed meanwhile, and what was signed is no head any more.
                continue;
            }
            let mut entries = state.recent();
            entries.extend(additions.entries.iter().cloned());
            let (bytes, attempts) = state.journal(&entries, &note, Some(attempt))?;
            let put = self.folder.replace(JOURNAL, Some(&state.version), bytes).await?;
            let error = match put {
                Put::Done(version) => {
                    state.tail.add(additions);
                    let origin = state.head.origin.clone();
                    state.head = Checkpoint::new(origin, size, root, note);
                    (state.attempts, state.version) = (attempts, version);
                    return Ok(answers);
                }
                Put::Changed => None,
                Put::Unknown(error) => Some(error),
            };
            let (indices, entries) = (start..size, additions.entries);
            tried = Some(Tried { answers, indices, entries, error });
        }
        Err(self.busy(JOURNAL))
    }

    /// Whether a write was done. No earlier one of the same attempt can have been, if this one was
    /// not: it was made on a state that was seen to lack them, and changed since.
    async fn is_done(&self, state: &State, attempt: &Attempt, tried: &Tried) -> Result<bool> {
        if state.attempts.contains(attempt) {
            return Ok(true);
        }
        let mine = |known: &Attempt| writer_of(known) == writer_of(attempt);
        let forgotten = state.attempts.len() >= ATTEMPTS && !state.attempts.iter().any(mine);
        if !forgotten || state.tail.size() < tried.indices.end {
            return Ok(false);
        }
        // So many other writers have committed since that the journal names none of ours any more.
        // What stands at a place never changes; only an equal entry of another writer that came
        // just there would be taken for ours.
        Ok(self.bytes_at(state, &tried.indices).await? == tried.entries)
    }

    /// Brings what is in the journal into tiles, under a new checkpoint.
    pub(super) async fn publish(&self) -> Result<Checkpoint> {
        let (staged, head) = {
            let mut slot = self.state.lock().await;
            self.refresh(&mut slot).await?;
            let state = slot.as_ref().ok_or_else(unread)?;
            (state.tail.unpublished()?, state.head.clone())
        };
        // A function of what is committed: whoever else publishes writes the same bytes.
        let writes = staged.into_iter().map(|(kind, index, width, bytes)| async move {
            let name = name_of(kind, index, width);
            self.folder.put(&name, bytes, PutMode::Overwrite).await.map(drop)
        });
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let published = self.move_checkpoint(&head).await?;
        self.trim(&published).await?;
        Ok(published)
    }

    pub(super) async fn published(&self) -> Result<Checkpoint> {
        let read = self.folder.get(CHECKPOINT, note::MAX_BYTES).await?;
        self.checkpoint_of(&read.ok_or_else(|| self.missing(CHECKPOINT))?)
    }

    pub(super) async fn add_cosignatures(
        &self,
        lines: &str,
        policy: &WitnessPolicy,
    ) -> Result<Vec<Cosignature>> {
        for _ in 0..TRIES {
            let read = self.folder.get(CHECKPOINT, note::MAX_BYTES).await?;
            let read = read.ok_or_else(|| self.missing(CHECKPOINT))?;
            let published = self.checkpoint_of(&read)?;
            let (note, found) = self.signing.cosigned(&published.note, lines, policy)?;
            match self.folder.replace(CHECKPOINT, Some(&read.version), note.into()).await? {
                Put::Done(_) => return Ok(found),
                Put::Changed => {}
                Put::Unknown(error) => return Err(error),
            }
        }
        Err(self.busy(CHECKPOINT))
    }

    /// Others write all the time.
    pub(super) fn busy(&self, name: &str) -> Error {
        let message = format!("{}: it changes all the time", self.folder.place(name));
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Puts the checkpoint in place, unless a later one is there already.
    async fn move_checkpoint(&self, head: &Checkpoint) -> Result<Checkpoint> {
        for _ in 0..TRIES {
            let read = self.folder.get(CHECKPOINT, note::MAX_BYTES).await?;
            let read = read.ok_or_else(|| self.missing(CHECKPOINT))?;
            let there = self.checkpoint_of(&read)?;
            if there.size >= head.size {
                return Ok(there);
            }
            let note = head.note.clone().into_bytes();
            match self.folder.replace(CHECKPOINT, Some(&read.version), note).await? {
                Put::Done(_) => return Ok(head.clone()),
                Put::Changed => {}
                Put::Unknown(error) => return Err(error),
            }
        }
        Err(self.busy(CHECKPOINT))
    }

    /// Takes out of the journal what is published. If somebody else commits meanwhile, the next
    /// publication does it.
    async fn trim(&self, published: &Checkpoint) -> Result<()> {
        let mut slot = self.state.lock().await;
        self.refresh(&mut slot).await?;
        let Some(state) = slot.as_ref() else { return Ok(()) };
        if !(state.published.size + 1..=state.tail.size()).contains(&published.size) {
            return Ok(());
        }
        let mut trimmed = state.rebased(published.clone());
        let (bytes, _) = trimmed.journal(&trimmed.recent(), &trimmed.head.note, None)?;
        match self.folder.replace(JOURNAL, Some(&state.version), bytes).await? {
            Put::Done(version) => {
                trimmed.version = version;
                *slot = Some(trimmed);
                Ok(())
            }
            Put::Changed => Ok(()),
            Put::Unknown(error) => Err(error),
        }
    }
}

fn is_behind(state: &State, times: usize) -> bool {
    let recent = state.recent();
    let bytes: usize = recent.iter().map(|entry| entry.len()).sum();
    recent.len() >= times * ENTRIES || bytes >= times * BYTES
}
