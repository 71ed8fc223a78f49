//! How an append becomes durable.

use std::sync::Arc;

use kaizen_core::{Checkpoint, Result};
use tokio::runtime::Handle;

use super::journal::{self, PAGE};
use super::{Inner, lock};
use crate::files::{self, blocking};
use crate::queue::{Answer, MAX_BYTES, Request};
use crate::tail::{Additions, unread};

/// What is ready to be signed.
struct Ready {
    held: files::Lock,
    additions: Additions,
    answers: Vec<Answer>,
}

impl Inner {
    /// Commits everything that waits, in one frame.
    pub(super) async fn commit(self: Arc<Self>) {
        let _turn = self.queue.turn().await;
        let Some((requests, waiting)) = self.queue.take(MAX_BYTES) else { return };
        let writing = Arc::clone(&self);
        let written = blocking(move || writing.write(&requests)).await;
        lock(&self.shared).writing = false;
        waiting.answer(written);
    }

    fn write(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let Ready { held, additions, answers } = self.stage(requests)?;
        if additions.entries.is_empty() {
            return Ok(answers);
        }
        let (size, root) = (additions.peaks.size(), additions.peaks.root());
        // Here, and not back on the executor: going there and coming back takes as long as a fast
        // disk does.
        let note = Handle::current().block_on(self.signing.seal(size, &root))?;
        let origin = self.signing.keys().name().to_owned();
        self.put(additions, Checkpoint::new(origin, size, root, note), &held)?;
        Ok(answers)
    }

    /// Takes the lock of the files, and builds on what is there now.
    fn stage(&self, requests: &[Request]) -> Result<Ready> {
        let held = self.lock_files()?;
        if lock(&self.shared).doubt {
            self.settle(&held)?;
        }
        let mut shared = lock(&self.shared);
        self.refresh(&mut shared.state)?;
        let state = shared.state.as_ref().ok_or_else(unread)?;
        let mut additions = state.tail.additions();
        let answers = requests.iter().map(|request| request.admit(&mut additions)).collect();
        shared.writing = true;
        Ok(Ready { held, additions, answers })
    }

    /// Makes the additions durable: in the journal, if they have room there, else in tiles.
    fn put(&self, additions: Additions, head: Checkpoint, held: &files::Lock) -> Result<()> {
        let (before, offset) = {
            let shared = lock(&self.shared);
            let state = shared.state.as_ref().ok_or_else(unread)?;
            (state.before(), state.next_frame)
        };
        let capacity = self.capacity()?;
        let frame = journal::encode(before, &additions.entries, &head.note);
        let frame = frame.filter(|frame| frame.len() as u64 <= capacity);
        let full = frame.as_ref().is_none_or(|frame| offset + frame.len() as u64 > capacity);
        if full {
            self.fold(held)?;
        }
        let Some(frame) = frame else {
            // From the moment its checkpoint is in place, it is in the log.
            return self.publish_at_once(additions, head, held);
        };
        let offset = if full { 0 } else { offset };
        let path = self.journal_path();
        if let Err(error) = self.files.overwrite(&path, offset, &frame) {
            lock(&self.shared).doubt = true;
            // Taken back, as far as the disk allows it.
            let _ = self.files.overwrite(&path, offset, &[0; PAGE as usize]);
            return Err(files::failed(&path, error));
        }
        let mut shared = lock(&self.shared);
        let state = shared.state.as_mut().ok_or_else(unread)?;
        state.tail.add(additions);
        (state.head, state.next_frame) = (head, offset + frame.len() as u64);
        Ok(())
    }

    /// How many bytes the journal holds. Makes it, if there is none.
    fn capacity(&self) -> Result<u64> {
        let path = self.journal_path();
        match std::fs::metadata(&path) {
            Ok(metadata) => return Ok(metadata.len().min(journal::MAX_BYTES)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(files::failed(&path, error)),
        }
        // Written, not only reserved: the first write to a reserved block changes what the file
        // system knows of the file, and flushing that takes another turn of the disk.
        files::publish(&*self.files, &path, &vec![0; self.journal_bytes as usize])?;
        Ok(self.journal_bytes)
    }

    pub(super) fn lock_files(&self) -> Result<files::Lock> {
        self.signing.may_write()?;
        files::lock(&self.dir.join("checkpoint.lock"))
    }
}
