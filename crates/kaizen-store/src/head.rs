//! A log only grows: what a process has seen of one, it must find again.

use std::ops::Range;

use kaizen_core::{Checkpoint, Digest, Error, Result};

use crate::hashes::hash_of;
use crate::merkle;

/// A log of so many entries, with this root. Whoever has seen this head of it, or signed for it,
/// must not go on from one that does not contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) root: Digest,
}

impl From<&Checkpoint> for Head {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self { size: checkpoint.size, root: checkpoint.root }
    }
}

impl Head {
    /// The entries whose root, in the log as it is now with `size` entries, must be that of this
    /// head: to be given to [`Head::agrees`]. `place` names what holds the log as it is now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](kaizen_core::ErrorKind::Corrupt) if the log is shorter now.
    pub(crate) fn within(&self, size: u64, place: &str) -> Result<Range<u64>> {
        if size < self.size {
            let seen = self.size;
            let message = format!("{place}: the log had {seen} entries, and has {size} now");
            return Err(Error::corrupt(message));
        }
        Ok(0..self.size)
    }

    /// Compares the root that the log as it is now has over its entries [`Head::within`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](kaizen_core::ErrorKind::Corrupt) if it is another.
    pub(crate) fn agrees(&self, root: &Digest, place: &str) -> Result<()> {
        if *root == self.root {
            return Ok(());
        }
        let size = self.size;
        let message = format!("{place}: the first {size} entries are not those that the log had");
        Err(Error::corrupt(message))
    }

    /// Both, where the hashes of the log as it is now can be had at once: `node` gives that of the
    /// perfect subtree of a height and index. It must not give what it remembers of an earlier
    /// head, or a fork looks like what it forked from.
    ///
    /// # Errors
    ///
    /// As the two of them, and those of `node`.
    pub(crate) fn is_within<F>(&self, size: u64, place: &str, mut node: F) -> Result<()>
    where
        F: FnMut(u32, u64) -> Result<Digest>,
    {
        let range = self.within(size, place)?;
        let root = if range.is_empty() { merkle::root(&[]) } else { hash_of(range, &mut node)? };
        self.agrees(&root, place)
    }
}

#[cfg(test)]
mod tests {
    use kaizen_core::ErrorKind;

    use super::*;
    use crate::merkle::root;

    #[test]
    fn a_head_is_found_in_every_longer_log_and_in_no_shorter_or_other_one() {
        let leaves: Vec<_> = (0..40_u8).map(|leaf| Digest::of([leaf])).collect();
        let node = |leaves: &[Digest], height: u32, index: u64| {
            root(&leaves[(index as usize) << height..][..1 << height])
        };
        for seen in 0..=40 {
            let head = Head { size: seen as u64, root: root(&leaves[..seen]) };
            for now in 0..=40 {
                let found = head
                    .is_within(now, "the log", |height, index| Ok(node(&leaves, height, index)));
                match found {
                    Ok(()) => assert!(seen as u64 <= now),
                    Err(error) => {
                        assert!(seen as u64 > now);
                        assert_eq!(error.kind(), ErrorKind::Corrupt);
                        assert!(error.to_string().starts_with("the log: "), "{error}");
                    }
                }
            }
            for changed in 0..seen {
                let mut fork = leaves.clone();
                fork[changed] = Digest::of("another");
                let found =
                    head.is_within(40, "the log", |height, index| Ok(node(&fork, height, index)));
                assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt, "{seen} {changed}");
            }
        }
    }
}
