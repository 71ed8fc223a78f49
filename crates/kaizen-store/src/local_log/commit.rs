//! How an append becomes durable.

use std::ops::Range;
use std::sync::Arc;

use kaizen_core::{Checkpoint, Digest, Error, Result};
use tokio::sync::oneshot;

use super::{Inner, lock};
use crate::files::{self, blocking};
use crate::merkle::{leaf_hash, root};
use crate::note::{checkpoint_text, seal};
use crate::tiles::{self, Kind, Tree, WIDTH};

/// The indices that an append got.
type Answer = Result<Range<u64>>;

/// An append that waits, and where its answer goes.
pub(super) type Pending = (Request, oneshot::Sender<Answer>);

/// What is to be appended.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) expected: Option<u64>,
}

/// The right edge of the log: what the next append builds on.
#[derive(Debug)]
pub(super) struct Tip {
    /// The note of the checkpoint that covers it.
    note: String,
    tree: Tree,
    /// The bytes of the bundle that is not yet full.
    bundle: Vec<u8>,
}

/// A file to be written: which tile, how many items it holds, and its bytes.
type Staged = (Kind, u64, u64, Vec<u8>);

/// What one commit wrote and answers.
struct Written {
    lock: files::Lock,
    tip: Tip,
    files: Vec<Staged>,
    answers: Vec<Answer>,
}

impl Inner {
    /// Makes an empty log if there is none, and checks that the edge of the log fits together.
    pub(super) async fn start(self: Arc<Self>) -> Result<()> {
        let looking = Arc::clone(&self);
        // A log that is there needs no signature to be read.
        let note = match blocking(move || looking.published()).await? {
            Some(known) => known.note,
            None => self.sign(&checkpoint_text(self.key.name(), 0, &root(&[]))).await?,
        };
        blocking(move || {
            files::create_dirs(&*self.files, &self.dir)?;
            let _lock = self.lock_files()?;
            if self.published()?.is_none() {
                // Every log begins with a checkpoint, so one that has entries has lost it.
                if !files::list(&self.dir.join("tile"))?.is_empty() {
                    return Err(Error::corrupt(format!("{}: it is missing", self.shown())));
                }
                files::publish(&*self.files, &self.checkpoint_path(), note.as_bytes())?;
            }
            self.load_tip()?;
            Ok(())
        })
        .await
    }

    /// Commits everything that waits, under one checkpoint.
    pub(super) async fn commit(self: Arc<Self>) {
        let mut slot = self.tip.lock().await;
        let pending = std::mem::take(&mut *lock(&self.queue));
        if pending.is_empty() {
            // Whoever held the lock before committed this one too.
            return;
        }
        let (requests, senders): (Vec<_>, Vec<_>) = pending.into_iter().unzip();
        let known = slot.take();
        let answers = match Arc::clone(&self).write_and_publish(known, requests).await {
            Ok((tip, answers)) => {
                *slot = Some(tip);
                answers
            }
            // What this process knows of the log is read again next time.
            Err(error) => senders
                .iter()
                .map(|_| Err(Error::new(error.kind(), format!("{error:#}"))))
                .collect(),
        };
        for (sender, answer) in senders.into_iter().zip(answers) {
            // The caller may have gone away.
            let _ = sender.send(answer);
        }
    }

    async fn write_and_publish(
        self: Arc<Self>,
        known: Option<Tip>,
        requests: Vec<Request>,
    ) -> Result<(Tip, Vec<Answer>)> {
        let writing = Arc::clone(&self);
        let written = blocking(move || writing.write(known, &requests)).await?;
        let Written { lock, mut tip, files, answers } = written;
        if files.is_empty() {
            return Ok((tip, answers));
        }
        let text = checkpoint_text(self.key.name(), tip.tree.size, &tip.tree.root());
        tip.note = self.sign(&text).await?;
        blocking(move || {
            // From here on the entries are in the log.
            files::publish(&*self.files, &self.checkpoint_path(), tip.note.as_bytes())?;
            self.remove_partials(&files);
            drop(lock);
            Ok((tip, answers))
        })
        .await
    }

    /// Writes entries and tiles; gives back the lock, which covers the checkpoint too.
    fn write(&self, known: Option<Tip>, requests: &[Request]) -> Result<Written> {
        let lock = self.lock_files()?;
        let mut tip = self.current(known)?;
        let before = tip.tree.size;
        let (files, answers) = tip.stage(requests)?;
        for (kind, index, width, bytes) in &files {
            self.sweep(*kind, *index, before)?;
            files::place(&*self.files, &kind.path(&self.dir, *index, *width), bytes)?;
        }
        Ok(Written { lock, tip, files, answers })
    }

    async fn sign(&self, text: &str) -> Result<String> {
        let signature = self.signer.sign(text.as_bytes()).await?;
        // A signer whose signature does not verify would make the log unreadable.
        self.key.verify(text.as_bytes(), &signature)?;
        Ok(seal(text, &self.key, &signature))
    }

    fn lock_files(&self) -> Result<files::Lock> {
        files::lock(&self.dir.join("checkpoint.lock"))
    }

    /// The tip that the published checkpoint speaks of: the known one, or read again if another
    /// process appended.
    fn current(&self, known: Option<Tip>) -> Result<Tip> {
        let head = self.head()?;
        match known.filter(|tip| tip.note == head.note) {
            Some(tip) => Ok(tip),
            None => self.load_tip_of(head),
        }
    }

    fn load_tip(&self) -> Result<Tip> {
        self.load_tip_of(self.head()?)
    }

    fn load_tip_of(&self, head: Checkpoint) -> Result<Tip> {
        let tree = Tree::load(&self.dir, head.size)?;
        if tree.root() != head.root {
            let dir = self.dir.join("tile");
            return Err(Error::corrupt(format!(
                "{}: the last tiles have not the root of the checkpoint",
                dir.display()
            )));
        }
        let bundle = if head.size.is_multiple_of(WIDTH) {
            Vec::new()
        } else {
            self.bundle(head.size / WIDTH, head.size)?.1
        };
        Ok(Tip { note: head.note, tree, bundle })
    }

    /// Removes what an append that was cut off left of a tile beyond the `size` entries of the
    /// log. Else the log would one day grow over it, and it would seem to be part of it.
    fn sweep(&self, kind: Kind, index: u64, size: u64) -> Result<()> {
        let dir = kind.partials(&self.dir, index);
        let valid = kind.width(index, size);
        let mut swept = false;
        for path in files::list(&dir)? {
            let width = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
            if width.is_some_and(|width| width > valid) {
                self.files.remove(&path).map_err(|error| files::failed(&path, error))?;
                swept = true;
            }
        }
        if swept {
            self.files.sync_dir(&dir).map_err(|error| files::failed(&dir, error))?;
        }
        Ok(())
    }

    /// Removes the partial forms of tiles that are full now, as the format allows. Failing to is
    /// no fault.
    fn remove_partials(&self, written: &[Staged]) {
        for (kind, index, ..) in written.iter().filter(|(_, _, width, _)| *width == WIDTH) {
            let dir = kind.partials(&self.dir, *index);
            for path in files::list(&dir).unwrap_or_default() {
                if let Err(error) = self.files.remove(&path) {
                    tracing::debug!(path = %path.display(), %error, "partial tile not removed");
                }
            }
            let _ = std::fs::remove_dir(&dir);
        }
    }
}

impl Tip {
    /// Adds what waits, each append whole or not at all; gives the files that this makes, and the
    /// answers.
    fn stage(&mut self, requests: &[Request]) -> Result<(Vec<Staged>, Vec<Answer>)> {
        let (mut files, mut answers) = (Vec::new(), Vec::with_capacity(requests.len()));
        let before = self.tree.size;
        for request in requests {
            let start = self.tree.size;
            if let Some(expected) = request.expected.filter(|expected| *expected != start) {
                let message = format!("log: it has {start} entries by now, not {expected}");
                answers.push(Err(Error::conflict(message)));
                continue;
            }
            for entry in &request.entries {
                self.push(entry, &mut files)?;
            }
            answers.push(Ok(start..self.tree.size));
        }
        if self.tree.size > before {
            let (index, width) = (self.tree.size / WIDTH, self.tree.size % WIDTH);
            if width > 0 {
                files.push((Kind::Entries, index, width, self.bundle.clone()));
            }
            for (kind, index, row) in self.tree.partials() {
                let width = row.len() as u64;
                // A tile that did not grow is in the log already, and what is in the log is never
                // written again: a crash could tear it.
                if width > kind.width(index, before) {
                    files.push((kind, index, width, tiles::tile_bytes(row)));
                }
            }
        }
        Ok((files, answers))
    }

    fn push(&mut self, entry: &[u8], files: &mut Vec<Staged>) -> Result<()> {
        tiles::push_entry(&mut self.bundle, entry)?;
        let index = self.tree.size / WIDTH;
        self.tree.push(leaf_hash(entry), |kind, index, row: &[Digest]| {
            files.push((kind, index, WIDTH, tiles::tile_bytes(row)));
            Ok(())
        })?;
        if self.tree.size.is_multiple_of(WIDTH) {
            files.push((Kind::Entries, index, WIDTH, std::mem::take(&mut self.bundle)));
        }
        Ok(())
    }
}
