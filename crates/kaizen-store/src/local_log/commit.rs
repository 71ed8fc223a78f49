//! How an append becomes durable.

use std::sync::Arc;

use kaizen_core::{Checkpoint, Context, ErrorKind, Result};

use super::journal;
use super::journal_file::Opened;
use super::lock_file::Held;
use super::state::State;
use super::{Inner, lock};
use crate::files::{self, Draft};
use crate::queue::{Answer, MAX_BYTES, Request};
use crate::tail::{Additions, unread};

/// Whoever commits what waits, on a thread that may block.
struct Committing {
    log: Arc<Inner>,
    done: bool,
}

impl Committing {
    fn run(mut self) {
        while let Some((requests, waiting)) = self.log.queue.next(MAX_BYTES) {
            waiting.answer(self.log.write(&requests));
        }
        self.done = true;
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        // It panicked, or the runtime went down before it began.
        if !self.done {
            self.log.queue.abandon();
        }
    }
}

impl Inner {
    /// Waits until the request is committed. That goes on if the caller goes away.
    ///
    /// Whoever finds nobody at it has everything committed that waits by then, from the lock to
    /// the answer on one thread: to hand it to another takes as long as a fast disk does.
    pub(super) async fn append(self: &Arc<Self>, request: Request) -> Answer {
        let (outcome, first) = self.queue.push(request);
        if first {
            let committing = Committing { log: Arc::clone(self), done: false };
            drop(tokio::task::spawn_blocking(move || committing.run()));
        }
        outcome.await.context(ErrorKind::Internal, "log append was cut off")?
    }

    /// Commits these, in one frame.
    fn write(self: &Arc<Self>, requests: &[Request]) -> Result<Vec<Answer>> {
        let held = self.hold()?;
        self.catch_up(&held)?;
        let (additions, answers) = {
            let known = lock(&self.state);
            let mut additions = known.as_ref().ok_or_else(unread)?.tail.additions();
            let admit = |request: &Request| request.admit(&mut additions);
            let answers = requests.iter().map(admit).collect();
            (additions, answers)
        };
        if additions.entries.is_empty() {
            return Ok(answers);
        }
        let (size, root) = (additions.peaks.size(), additions.peaks.root());
        // Nobody else can write meanwhile, in any process, so it is waited for only so long.
        let note = self.signing.seal_blocking(size, &root)?;
        let origin = self.signing.keys().name().to_owned();
        self.put(additions, Checkpoint::new(origin, size, root, note), &held)?;
        Ok(answers)
    }

    /// Makes the additions durable: in the journal, if they have room there, else in tiles.
    fn put(&self, additions: Additions, head: Checkpoint, held: &Held<'_>) -> Result<()> {
        let (before, mut offset) = {
            let known = lock(&self.state);
            let state = known.as_ref().ok_or_else(unread)?;
            (state.before(), state.next_frame)
        };
        let journal = match self.open_journal()? {
            Some(journal) => journal,
            None => {
                // What was in it is in memory.
                self.fold(held)?;
                offset = 0;
                self.make_journal(held)?
            }
        };
        let capacity = journal::Pages::length(&*journal);
        let frame = journal::encode(before, &additions.entries, &head.note);
        let frame = frame.filter(|frame| frame.len() as u64 <= capacity);
        let length = frame.as_ref().map_or(u64::MAX, |frame| frame.len() as u64);
        if offset.saturating_add(length) > capacity {
            self.fold(held)?;
            offset = 0;
        }
        let Some(frame) = frame else {
            // From the moment its checkpoint is in place, it is in the log.
            return self.publish_at_once(additions, head, held);
        };
        self.begin(held)?;
        let path = self.journal.path();
        let written = self.files.overwrite(&journal.file, path, offset, &frame);
        written.map_err(|error| files::failed(path, error))?;
        self.finish(held, |state| state.go_on(additions, head, offset + length))
    }

    /// Says that something is about to be written that others must not believe. If nothing says
    /// that it is done, whoever comes next brings it to an end.
    pub(super) fn begin(&self, held: &Held<'_>) -> Result<()> {
        let known = lock(&self.state);
        held.begin(known.as_ref().ok_or_else(unread)?.committed())
    }

    /// Takes in what is durable by now, and says so to others: at once, for a reader of this
    /// process.
    pub(super) fn finish(&self, held: &Held<'_>, change: impl FnOnce(&mut State)) -> Result<()> {
        held.still_alone()?;
        let mut known = lock(&self.state);
        let state = known.as_mut().ok_or_else(unread)?;
        change(state);
        held.finish(state.committed())
    }

    fn make_journal(&self, held: &Held<'_>) -> Result<Arc<Opened>> {
        // Written, not only reserved: the first write to a reserved block changes what the file
        // system knows of the file, and flushing that takes another turn of the disk.
        let path = self.journal.path();
        let mut draft = Draft::create(&*self.files, files::parent(path)?)?;
        draft.write(&vec![0; self.journal_bytes as usize])?;
        draft.publish_while(path, || held.still_alone())?;
        let made = self.open_journal()?;
        made.context(ErrorKind::Unavailable, format!("{}: it was removed", path.display()))
    }
}
