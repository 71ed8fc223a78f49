//! Vectors of others: the proofs of transparency-dev/merkle, the log of transparency-dev/tessera.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::{Digest, ErrorKind};
use kaizen_store::merkle::{
    leaf_hash, root, verify_consistency, verify_inclusion, verify_subtree_consistency,
    verify_subtree_inclusion,
};
use kaizen_store::{VerifierKey, open_checkpoint, verify_tiles};
use serde_json::Value;

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// A case of the vectors. Fields that cannot be a hash make the case fail, as they should.
struct Case(Value);

impl Case {
    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }

    fn hash(&self, name: &str) -> Option<Digest> {
        as_hash(&self.0[name])
    }

    fn proof(&self) -> Option<Vec<Digest>> {
        self.0["proof"].as_array().map_or(Some(Vec::new()), |p| p.iter().map(as_hash).collect())
    }

    fn holds(&self, kind: &str) -> Option<()> {
        let proof = self.proof()?;
        let (hash, number) = (|name| self.hash(name), |name| self.number(name));
        match kind {
            "inclusion" => {
                let (index, size) = (number("leafIdx"), number("treeSize"));
                verify_inclusion(&hash("leafHash")?, index, size, &proof, &hash("root")?)
            }
            "consistency" => {
                let (old, new) = (number("size1"), number("size2"));
                verify_consistency(old, new, &proof, &hash("root1")?, &hash("root2")?)
            }
            "subtreeinclusion" => {
                let range = number("start")..number("end");
                let (leaf, root) = (hash("leafHash")?, hash("root")?);
                verify_subtree_inclusion(&leaf, number("leafIdx"), range, &proof, &root)
            }
            _ => {
                let (range, size) = (number("start")..number("end"), number("size"));
                let (range_root, root) = (hash("root1")?, hash("root2")?);
                verify_subtree_consistency(range, size, &proof, &range_root, &root)
            }
        }
        .ok()
    }
}

fn as_hash(value: &Value) -> Option<Digest> {
    let bytes = STANDARD.decode(value.as_str()?).ok()?;
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

#[test]
fn the_proofs_of_transparency_dev_are_judged_as_they_should_be() {
    let lines = std::fs::read_to_string(vectors("merkle/cases.jsonl")).unwrap();
    let (mut good, mut bad, mut beyond) = (0, 0, Vec::new());
    for line in lines.lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let file = line["file"].as_str().unwrap().to_owned();
        let case = Case(line["case"].take());
        let wrong = case.0["wantErr"].as_bool().unwrap();
        let unlike_sha256 = ["root", "root1", "root2"]
            .iter()
            .any(|name| case.0[name].is_string() && case.hash(name).is_none());
        if !wrong && unlike_sha256 {
            // Equal sizes with roots of 12 bytes: a type of ours cannot hold them.
            beyond.push(file);
            continue;
        }
        let kind = file.split('/').next().unwrap();
        assert_eq!(case.holds(kind).is_none(), wrong, "{file}: {}", case.0);
        *(if wrong { &mut bad } else { &mut good }) += 1;
    }
    println!("{good} good proofs, {bad} bad ones, not expressible: {beyond:?}");
    assert_eq!(good + bad + beyond.len(), 518);
    assert!(good > 20 && beyond.len() <= 4, "{good} {beyond:?}");
}

const TESSERA: &str =
    "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

#[tokio::test]
async fn the_log_of_tessera_verifies() {
    let dir = vectors("tessera/log");
    let key: VerifierKey = TESSERA.parse().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let verified = verify_tiles(&dir, &key, move |_, entry| {
        sender.send(entry.to_vec()).unwrap();
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((verified.origin.as_str(), verified.size), ("example.com/log/testdata", 15));
    let leaves: Vec<_> = receiver.iter().map(leaf_hash).collect();
    for size in 0..=15 {
        let note = std::fs::read_to_string(dir.join(format!("checkpoint.{size}"))).unwrap();
        let checkpoint = open_checkpoint(&note, &key).unwrap();
        assert_eq!(checkpoint.size, size);
        assert_eq!(checkpoint.root, root(&leaves[..size as usize]), "{size}");
    }
    let other = TESSERA.replace("33d7b496", "33d7b497").parse::<VerifierKey>();
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Invalid);
}
