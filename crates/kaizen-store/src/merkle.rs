//! Merkle trees by RFC 6962, and the proofs over them.
//!
//! A leaf hashes as `SHA-256(0x00 || entry)`, an inner node as `SHA-256(0x01 || left || right)`; a
//! tree of `n` leaves splits at the largest power of two below `n`. The checks of inclusion and
//! consistency follow RFC 9162, sections 2.1.3.2 and 2.1.4.2. The checks of subtrees follow
//! draft-ietf-plants-merkle-tree-certs, section 4; consistency is their case of a subtree that
//! starts at 0.
//!
//! ```
//! use kaizen_store::merkle::{inclusion_proof, leaf_hash, root, verify_inclusion};
//!
//! let leaves: Vec<_> = ["a", "b", "c"].map(leaf_hash).into();
//! let proof = inclusion_proof(&leaves, 1)?;
//! verify_inclusion(&leaf_hash("b"), 1, 3, &proof, &root(&leaves))?;
//! assert!(verify_inclusion(&leaf_hash("x"), 1, 3, &proof, &root(&leaves)).is_err());
//! # Ok::<(), kaizen_core::Error>(())
//! ```

use std::ops::Range;

use kaizen_core::{Context, Digest, Digester, Error, ErrorKind, Result};

/// The hash of an entry.
pub fn leaf_hash(entry: impl AsRef<[u8]>) -> Digest {
    let mut digester = Digester::default();
    digester.update([0x00]);
    digester.update(entry);
    digester.finish()
}

/// The hash of an inner node.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut digester = Digester::default();
    digester.update([0x01]);
    digester.update(left.as_bytes());
    digester.update(right.as_bytes());
    digester.finish()
}

/// The root over these leaf hashes; that of no leaves is the hash of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of([]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node_hash(&root(left), &root(right))
        }
    }
}

/// The hashes that lead from the leaf `index` to the root over `leaves`, from the bottom up.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] if there is no such leaf.
pub fn inclusion_proof(leaves: &[Digest], index: u64) -> Result<Vec<Digest>> {
    let ranges = inclusion_ranges(index, leaves.len() as u64)?;
    Ok(ranges.into_iter().map(|range| root(slice(leaves, range))).collect())
}

/// The hashes that show that the tree over the first `old_size` leaves is a prefix of the tree
/// over `leaves`, from the bottom up.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] if there are fewer leaves than that.
pub fn consistency_proof(leaves: &[Digest], old_size: u64) -> Result<Vec<Digest>> {
    let ranges = consistency_ranges(old_size, leaves.len() as u64)?;
    Ok(ranges.into_iter().map(|range| root(slice(leaves, range))).collect())
}

/// Checks that `leaf` stands at `index` in the tree of `size` leaves with this root.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if the proof does not show it.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<()> {
    let wrong = |why: &str| {
        Error::corrupt(format!("inclusion proof of entry {index} in a log of {size}: {why}"))
    };
    if index >= size {
        return Err(wrong("there is no such entry"));
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(wrong("it is too long"));
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node without a right sibling stands for itself one level up.
            let skipped = node.trailing_zeros().min(63);
            node >>= skipped;
            last >>= skipped;
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong("it is too short"));
    }
    if hash == *root { Ok(()) } else { Err(wrong("it leads to another root")) }
}

/// Checks that the tree of `new_size` leaves begins with the tree of `old_size` leaves: nothing
/// was changed or removed in between.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if the proof does not show it.
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    proof: &[Digest],
    old_root: &Digest,
    new_root: &Digest,
) -> Result<()> {
    if old_size == 0 && new_size == 0 && old_root != new_root {
        return Err(Error::corrupt("consistency proof of two empty logs: their roots differ"));
    }
    verify_subtree_consistency(0..old_size, new_size, proof, old_root, new_root)
}

/// Checks that `leaf` stands at `index` (counted in the whole tree) within the subtree over the
/// leaves `range`, whose root is `root`.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if the proof does not show it, or the range is no subtree.
pub fn verify_subtree_inclusion(
    leaf: &Digest,
    index: u64,
    range: Range<u64>,
    proof: &[Digest],
    root: &Digest,
) -> Result<()> {
    check_subtree(&range)?;
    if !range.contains(&index) {
        return Err(Error::corrupt(format!("entry {index} is not in the subtree {range:?}")));
    }
    verify_inclusion(leaf, index - range.start, range.end - range.start, proof, root)
}

/// Checks that the subtree over the leaves `range`, whose root is `range_root`, is part of the
/// tree of `size` leaves with this root.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if the proof does not show it, or the range is no subtree.
pub fn verify_subtree_consistency(
    range: Range<u64>,
    size: u64,
    proof: &[Digest],
    range_root: &Digest,
    root: &Digest,
) -> Result<()> {
    check_subtree(&range)?;
    let wrong = |why: &str| {
        Error::corrupt(format!("consistency proof of {range:?} in a log of {size}: {why}"))
    };
    if range.end > size {
        return Err(wrong("the log is shorter"));
    }
    if range.is_empty() {
        // Nothing is part of everything: there is no proof to give, only a root to state.
        let stated = proof.is_empty() && *range_root == Digest::of([]);
        return if stated { Ok(()) } else { Err(wrong("nothing has another root and no proof")) };
    }
    let (mut first, mut last, mut end) = (range.start, range.end - 1, size - 1);
    // Up to the largest node that both trees share at the right edge of the range.
    let to_the_end = last == end;
    while first != last && (to_the_end || last & 1 == 1) {
        (first, last, end) = (first >> 1, last >> 1, end >> 1);
    }
    let mut proof = proof.iter();
    let start = if first == last { Some(range_root) } else { proof.next() };
    let start = start.context(ErrorKind::Corrupt, wrong("it is empty"))?;
    let (mut old, mut new) = (*start, *start);
    for sibling in proof {
        if end == 0 {
            return Err(wrong("it is too long"));
        }
        if last & 1 == 1 || last == end {
            if first < last {
                old = node_hash(sibling, &old);
            }
            new = node_hash(sibling, &new);
            let skipped = last.trailing_zeros().min(63);
            (first, last, end) = (first >> skipped, last >> skipped, end >> skipped);
        } else {
            new = node_hash(&new, sibling);
        }
        (first, last, end) = (first >> 1, last >> 1, end >> 1);
    }
    if end != 0 {
        return Err(wrong("it is too short"));
    }
    if old != *range_root {
        return Err(wrong("it leads to another root of the earlier part"));
    }
    if new == *root { Ok(()) } else { Err(wrong("it leads to another root")) }
}

/// The ranges of leaves whose roots make up an inclusion proof (PATH of RFC 6962, 2.1.1).
pub(crate) fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range<u64>>> {
    if index >= size {
        return Err(Error::invalid(format!("entry {index}: the log has {size}")));
    }
    let mut ranges = Vec::new();
    let mut within = 0..size;
    while within.end - within.start > 1 {
        let middle = within.start + split(within.end - within.start);
        if index < middle {
            ranges.push(middle..within.end);
            within.end = middle;
        } else {
            ranges.push(within.start..middle);
            within.start = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}

/// The ranges of leaves whose roots make up a consistency proof (PROOF of RFC 6962, 2.1.2).
pub(crate) fn consistency_ranges(old_size: u64, size: u64) -> Result<Vec<Range<u64>>> {
    if old_size > size {
        return Err(Error::invalid(format!("log of {old_size} entries: there are only {size}")));
    }
    let mut ranges = Vec::new();
    let mut within = 0..size;
    while old_size != 0 && old_size != within.end {
        let middle = within.start + split(within.end - within.start);
        if old_size <= middle {
            ranges.push(middle..within.end);
            within.end = middle;
        } else {
            ranges.push(within.start..middle);
            within.start = middle;
        }
    }
    // The verifier knows the root of the whole old tree, but not that of its last part.
    if within.start > 0 {
        ranges.push(within);
    }
    ranges.reverse();
    Ok(ranges)
}

/// Where a tree of `size` leaves, at least two, splits: the largest power of two below `size`.
pub(crate) fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// A subtree starts at a multiple of its own size, rounded up to a power of two. One of no leaves
/// may start anywhere.
fn check_subtree(range: &Range<u64>) -> Result<()> {
    let wrong = || Error::corrupt(format!("leaves {range:?}: not a subtree"));
    let size = range.end.checked_sub(range.start).ok_or_else(wrong)?;
    let unit = size.checked_next_power_of_two().ok_or_else(wrong)?;
    if range.start.is_multiple_of(unit) { Ok(()) } else { Err(wrong()) }
}

fn slice(leaves: &[Digest], range: Range<u64>) -> &[Digest] {
    &leaves[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Constants that RFC 6962 implementations share.
    #[test]
    fn hashes_are_those_of_the_rfc() {
        let cases = [
            (root(&[]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (leaf_hash([]), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (
                leaf_hash("L123456"),
                "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56",
            ),
        ];
        for (found, wanted) in cases {
            assert_eq!(found.hex(), wanted);
        }
    }

    /// The tree of eight leaves that the Certificate Transparency test suites share.
    #[test]
    fn roots_are_those_of_the_reference_tree() {
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let leaves: Vec<_> = entries.map(leaf_hash).into();
        let wanted = [
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (size, hex) in wanted {
            assert_eq!(root(&leaves[..size]).hex(), hex, "{size} leaves");
        }
    }

    #[test]
    fn every_proof_of_small_trees_holds_and_no_other_does() {
        let leaves: Vec<_> = (0u8..40).map(|i| leaf_hash([i])).collect();
        for size in 1..=leaves.len() as u64 {
            let tree = slice(&leaves, 0..size);
            for index in 0..size {
                let proof = inclusion_proof(tree, index).unwrap();
                let leaf = &tree[index as usize];
                verify_inclusion(leaf, index, size, &proof, &root(tree)).unwrap();
                let other = (index + 1) % size;
                let moved = verify_inclusion(leaf, other, size, &proof, &root(tree));
                assert_eq!(moved.is_ok(), size == 1, "{index} as {other} of {size}");
            }
            for old in 0..=size {
                let proof = consistency_proof(tree, old).unwrap();
                let old_root = root(slice(tree, 0..old));
                verify_consistency(old, size, &proof, &old_root, &root(tree)).unwrap();
                let forged = leaf_hash("forged");
                verify_consistency(old, size, &proof, &forged, &root(tree)).unwrap_err();
                if old > 0 {
                    verify_consistency(old, size, &proof, &old_root, &forged).unwrap_err();
                }
            }
        }
        assert!(inclusion_proof(&leaves, 40).is_err());
        assert!(consistency_proof(&leaves, 41).is_err());
    }
}
