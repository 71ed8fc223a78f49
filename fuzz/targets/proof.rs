//! Hashes, sizes and places as proofs in a Merkle tree.
#![no_main]

use kaizen_core::Digest;
use kaizen_store::merkle::{
    consistency_proof, inclusion_proof, leaf_hash, root, verify_consistency, verify_inclusion,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, u64, u64, u64, Vec<[u8; 32]>, u8, u8)| {
    let (leaves, seen, index, size, old_size, hashes, from, kept) = input;
    let given: Vec<Digest> = hashes.into_iter().map(Digest::from_bytes).collect();
    let leaves: Vec<Digest> = (0..=leaves).map(|number| leaf_hash([number])).collect();
    let all = root(&leaves);
    let leaf = leaf_hash([seen]);
    // What is given may be anything; nothing but the truth passes.
    let _ = verify_inclusion(&leaf, index, size, &given, &all);
    let _ = verify_consistency(old_size, size, &given, &leaf, &all);

    // A true proof, of which a part was put in place of another.
    let count = leaves.len() as u64;
    let index = index % count;
    let truth = inclusion_proof(&leaves, index).expect("an entry of the tree");
    let mut proof = truth.clone();
    proof.truncate(usize::from(kept));
    for (place, hash) in given.iter().enumerate() {
        let place = usize::from(from) + place;
        match proof.get_mut(place) {
            Some(held) => *held = *hash,
            None => proof.push(*hash),
        }
    }
    let passes = verify_inclusion(&leaf, index, count, &proof, &all).is_ok();
    assert_eq!(passes, leaf == leaves[index as usize] && proof == truth);

    let old_size = old_size % (count + 1);
    let truth = consistency_proof(&leaves, old_size).expect("a part of the tree");
    let old = root(&leaves[..old_size as usize]);
    verify_consistency(old_size, count, &truth, &old, &all).expect("the truth passes");
    if verify_consistency(old_size, count, &given, &old, &all).is_ok() {
        assert_eq!(given, truth);
    }
});
