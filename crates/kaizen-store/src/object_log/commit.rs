//! How an append becomes durable in an object store, and how the log is published.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kaizen_core::{Checkpoint, Error, ErrorKind, Result};

use super::Inner;
use super::objects::{Put, name_of};
use super::state::{Attempt, CHECKPOINT, JOURNAL, State, TRIES};
use crate::merkle::root;
use crate::note;
use crate::queue::{Answer, MAX_BYTES, Request};
use crate::tail::unread;

/// The journal is published when it holds this many entries, or bytes.
const ENTRIES: usize = 1024;
const BYTES: usize = 1 << 20;
/// It is not written on before it is published, when it holds this many times as much.
const BEHIND: usize = 64;
/// How often a write is tried again that failed, and may have been done.
const RETRIES: u32 = 3;
/// How many objects are written at the same time.
const AT_ONCE: usize = 8;

impl Inner {
    /// Makes an empty log if there is none.
    pub(super) async fn start(&self) -> Result<()> {
        if self.objects.get(CHECKPOINT, note::MAX_BYTES).await?.is_none() {
            if self.objects.get(JOURNAL, usize::MAX).await?.is_some() {
                // Every log begins with a checkpoint, so one that has a journal has lost it.
                return Err(self.missing(CHECKPOINT));
            }
            let probe = format!("conditions-{}", hex::encode(self.attempt()));
            self.objects.require_conditions(&probe).await?;
            let empty = self.signing.seal(0, &root(&[])).await?;
            if let Put::Unknown(error) =
                self.objects.replace(CHECKPOINT, None, empty.into_bytes()).await?
            {
                return Err(error);
            }
        }
        let mut slot = self.state.lock().await;
        if self.objects.get(JOURNAL, usize::MAX).await?.is_none() {
            let bytes = self.first_journal().await?;
            if let Put::Unknown(error) = self.objects.replace(JOURNAL, None, bytes).await? {
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
        if self.is_behind(1).await
            && let Err(error) = self.publish().await
        {
            tracing::warn!(%error, "log not published; the next commit tries again");
        }
    }

    async fn is_behind(&self, times: usize) -> bool {
        let slot = self.state.lock().await;
        slot.as_ref().is_some_and(|state| {
            let recent = state.recent();
            let bytes: usize = recent.iter().map(|entry| entry.len()).sum();
            recent.len() >= times * ENTRIES || bytes >= times * BYTES
        })
    }

    async fn write(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        if self.is_behind(BEHIND).await {
            self.publish().await?;
        }
        let attempt = self.attempt();
        let mut slot = self.state.lock().await;
        let mut failures = 0;
        for _ in 0..TRIES {
            self.refresh(&mut slot).await?;
            let state = slot.as_mut().ok_or_else(unread)?;
            let mut additions = state.tail.additions();
            let answers = requests.iter().map(|request| request.admit(&mut additions)).collect();
            if additions.entries.is_empty() {
                return Ok(answers);
            }
            let (size, root) = (additions.peaks.size(), additions.peaks.root());
            let note = self.signing.seal(size, &root).await?;
            let mut entries = state.recent();
            entries.extend(additions.entries.iter().cloned());
            let (bytes, attempts) = state.journal(&entries, &note, Some(attempt))?;
            let put = self.objects.replace(JOURNAL, Some(&state.version), bytes).await?;
            match put {
                Put::Done(version) => {
                    state.tail.add(additions);
                    let origin = state.head.origin.clone();
                    state.head = Checkpoint::new(origin, size, root, note);
                    (state.attempts, state.version) = (attempts, version);
                    return Ok(answers);
                }
                Put::Changed => {}
                Put::Unknown(error) => {
                    failures += 1;
                    if failures > RETRIES {
                        return Err(error);
                    }
                }
            }
            // A store's client tries again by itself, and then takes its own write for somebody
            // else's; and a write that failed may have been done. The journal knows. If the write
            // is still on its way, it and the next one exclude each other.
            self.refresh(&mut slot).await?;
            if slot.as_ref().is_some_and(|state| state.attempts.contains(&attempt)) {
                return Ok(answers);
            }
        }
        let message = format!("{}: it changes all the time", self.objects.shown(JOURNAL));
        Err(Error::new(ErrorKind::Unavailable, message))
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
            self.objects.put(&name_of(kind, index, width), bytes).await
        });
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let published = self.move_checkpoint(&head).await?;
        self.trim(&published).await?;
        Ok(published)
    }

    /// Puts the checkpoint in place, unless a later one is there already.
    async fn move_checkpoint(&self, head: &Checkpoint) -> Result<Checkpoint> {
        for _ in 0..TRIES {
            let read = self.objects.get(CHECKPOINT, note::MAX_BYTES).await?;
            let read = read.ok_or_else(|| self.missing(CHECKPOINT))?;
            let there = self.checkpoint_of(&read)?;
            if there.size >= head.size {
                return Ok(there);
            }
            let note = head.note.clone().into_bytes();
            match self.objects.replace(CHECKPOINT, Some(&read.version), note).await? {
                Put::Done(_) => return Ok(head.clone()),
                Put::Changed => {}
                Put::Unknown(error) => return Err(error),
            }
        }
        let message = format!("{}: it changes all the time", self.objects.shown(CHECKPOINT));
        Err(Error::new(ErrorKind::Unavailable, message))
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
        match self.objects.replace(JOURNAL, Some(&state.version), bytes).await? {
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
