//! Proofs that stand alone, cosignatures of witnesses, and keys that change.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::{AuditLog, ErrorKind, Signer};
use kaizen_store::{
    Ed25519Signer, LocalLog, LogKeys, LogSigners, ObjectLog, TlogProof, VerifierKey, WitnessKey,
    WitnessPolicy, open_checkpoint,
};
use kaizen_testkit::audit_log::entry;
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// A checkpoint that the staging log of a certificate transparency operator published, with the
/// cosignatures of four witnesses that others run.
const ARCHE: &str = "arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
const ARCHE_KEY: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const REMORA: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
const SMARTIT: &str =
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO";

fn signer(seed: u8) -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [seed; 32]).unwrap())
}

/// The line that a witness gives for a checkpoint.
async fn cosign(witness: &Ed25519Signer, note: &str, seconds: u64) -> String {
    let text = &note[..=note.rfind("\n\n").unwrap()];
    let message = format!("cosignature/v1\ntime {seconds}\n{text}");
    let signature = witness.sign(message.as_bytes()).await.unwrap();
    let key = WitnessKey::new(witness.name(), witness.public_key()).unwrap().to_string();
    let hash = key.split('+').nth(1).unwrap();
    let hash = u32::from_str_radix(hash, 16).unwrap().to_be_bytes();
    let line = [&hash[..], &seconds.to_be_bytes(), &signature].concat();
    format!("— {} {}\n", witness.name(), STANDARD.encode(line))
}

fn witness(seed: u8) -> (Ed25519Signer, WitnessKey) {
    let signer = Ed25519Signer::from_seed(format!("witness{seed}.example"), [seed; 32]).unwrap();
    let key = WitnessKey::new(signer.name(), signer.public_key()).unwrap();
    (signer, key)
}

#[test]
fn a_checkpoint_that_others_signed_and_cosigned_is_judged_as_it_should_be() {
    let key: VerifierKey = ARCHE_KEY.parse().unwrap();
    let checkpoint = open_checkpoint(ARCHE, &key).unwrap();
    assert_eq!(checkpoint.size, 1_432_088_532);
    let keys: Vec<WitnessKey> = [REMORA, SMARTIT].map(|key| key.parse().unwrap()).into();
    assert_eq!(keys[0].to_string(), REMORA);
    let policy = WitnessPolicy::new(keys.clone(), 2).unwrap();
    let found = policy.check(ARCHE).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].witness, "remora.n621.de");
    assert_eq!(found[0].at.micros(), 1_779_573_024 * 1_000_000);

    // Another root, another time, and a witness that is not there.
    let other = ARCHE.replace("U7WM", "U7WN");
    assert_eq!(policy.check(&other).unwrap_err().kind(), ErrorKind::Corrupt);
    let later = ARCHE.replace("2net5wAAAABqEiEg", "2net5wAAAABqEiEh");
    assert_eq!(policy.check(&later).unwrap_err().kind(), ErrorKind::Corrupt);
    let more = WitnessPolicy::new([keys, vec![witness(1).1]].concat(), 3).unwrap();
    assert_eq!(more.check(ARCHE).unwrap_err().kind(), ErrorKind::Refused);
    // A witness's key signs no checkpoint as a log does, nor the other way round.
    assert_eq!(REMORA.parse::<VerifierKey>().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(ARCHE_KEY.parse::<WitnessKey>().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_policy_counts_nobody_twice() {
    let (signer, key) = witness(1);
    let alias = WitnessKey::new("other.example", signer.public_key()).unwrap();
    let twice = WitnessPolicy::new(vec![key.clone(), alias], 2).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Invalid);
    let too_many = WitnessPolicy::new(vec![key], 2).unwrap_err();
    assert_eq!(too_many.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_proof_holds_for_its_entry_alone_and_comes_back_from_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let entries: Vec<_> = (0..300).map(entry).collect();
    log.append(&entries, None).await.unwrap();
    log.append(&[entry(300)], None).await.unwrap();
    let (key, none) = (signer(1).verifier(), WitnessPolicy::none());
    for index in [0, 1, 255, 256, 299, 300] {
        let mut proof = log.proof(index).await.unwrap();
        for extra in [None, Some(vec![]), Some(b"where it came from".to_vec())] {
            proof.extra = extra;
            let text = proof.to_string();
            assert!(text.starts_with("c2sp.org/tlog-proof@v1\n"), "{text}");
            let again: TlogProof = text.parse().unwrap();
            assert_eq!(again, proof);
            let bytes = entry(index).to_bytes().unwrap();
            let proven = again.verify(&bytes, &key, &none).unwrap();
            assert_eq!((proven.checkpoint.size, proven.cosignatures), (301, vec![]));
            let other = entry(index + 1).to_bytes().unwrap();
            assert_eq!(again.verify(&other, &key, &none).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let bytes = entry(index).to_bytes().unwrap();
        let stranger = signer(2).verifier();
        assert!(proof.verify(&bytes, &stranger, &none).is_err());
        proof.index = (proof.index + 1) % 301;
        assert!(proof.verify(&bytes, &key, &none).is_err());
    }
    assert_eq!(log.proof(301).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_proof_with_any_other_byte_does_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    log.append(&(0..5).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let text = log.proof(2).await.unwrap().to_string();
    let (key, none) = (signer(1).verifier(), WitnessPolicy::none());
    let bytes = entry(2).to_bytes().unwrap();
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 0x01;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        let Ok(proof) = changed.parse::<TlogProof>() else { continue };
        assert!(proof.verify(&bytes, &key, &none).is_err(), "byte {at}: {changed}");
    }
    for bad in [
        "",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nx\n1\nx\n\n— x AAAAAAAA\n",
        "c2sp.org/tlog-proof@v1\nindex 00\n\nx\n1\nx\n\n— x AAAAAAAA\n",
        "c2sp.org/tlog-proof@v1\nextra *\nindex 0\n\nx\n1\nx\n\n— x AAAAAAAA\n",
        "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nx\n1\nx\n\n— x AAAAAAAA\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n\nno checkpoint\n",
    ] {
        assert_eq!(bad.parse::<TlogProof>().unwrap_err().kind(), ErrorKind::Corrupt, "{bad:?}");
    }
    let hash = format!("{}\n", STANDARD.encode([0; 32]));
    let long = format!("c2sp.org/tlog-proof@v1\nindex 0\n{}\nx\n", hash.repeat(65));
    assert_eq!(long.parse::<TlogProof>().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn cosignatures_stay_with_what_is_published_and_go_into_its_proofs() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    log.append(&(0..5).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let head = log.publish().await.unwrap();
    let ((first, first_key), (second, second_key)) = (witness(1), witness(2));
    let lines =
        [cosign(&first, &head.note, 1_700_000_000).await, cosign(&second, &head.note, 9).await];
    let policy = WitnessPolicy::new(vec![first_key.clone(), second_key], 2).unwrap();
    let few = log.add_cosignatures(&lines[0], &policy).await.unwrap_err();
    assert_eq!(few.kind(), ErrorKind::Refused);
    assert_eq!(log.add_cosignatures(lines.concat(), &policy).await.unwrap().len(), 2);

    let bytes = entry(3).to_bytes().unwrap();
    let proof: TlogProof = log.proof(3).await.unwrap().to_string().parse().unwrap();
    let proven = proof.verify(&bytes, log.key(), &policy).unwrap();
    assert_eq!(proven.cosignatures[0].at.micros(), 1_700_000_000_000_000);
    LocalLog::verify(dir.path(), log.key()).await.unwrap();

    // They are of that head: another one has none, and takes none of them.
    log.append(&[entry(5)], None).await.unwrap();
    log.publish().await.unwrap();
    let stale = log.add_cosignatures(lines.concat(), &policy).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    for bad in ["", "\n\n", "x", "— x AAAA\n\n— y AAAA"] {
        let error = log.add_cosignatures(bad, &policy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}: {error:?}");
    }
    // A witness that adds a line in the log's own name, or makes another text of it.
    let head = log.publish().await.unwrap();
    let own = head.note.lines().last().unwrap();
    let (name, signature) = own.rsplit_once(' ').unwrap();
    let mut forged = STANDARD.decode(signature).unwrap();
    forged[10] ^= 1;
    let good = cosign(&first, &head.note, 1_700_000_001).await;
    let policy = WitnessPolicy::new(vec![first_key.clone()], 1).unwrap();
    let forged = format!("{good}{name} {}\n", STANDARD.encode(forged));
    for bad in [&forged, &format!("\n{good}")] {
        let error = log.add_cosignatures(bad, &policy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}: {error:?}");
    }
    assert_eq!(log.add_cosignatures(good, &policy).await.unwrap().len(), 1);
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
    assert_eq!(LocalLog::open(dir.path(), signer(1)).await.unwrap().size().await.unwrap(), 6);
}

#[tokio::test]
async fn a_key_is_rotated_with_both_valid_for_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (signer(1), signer(2));
    let (old_key, new_key) = (old.verifier(), new.verifier());
    let log = LocalLog::open(dir.path(), old.clone()).await.unwrap();
    log.append(&[entry(0), entry(1)], None).await.unwrap();
    drop(log);

    // A new key alone does not open it; nor does the old one under another name.
    assert!(LocalLog::open(dir.path(), new.clone()).await.is_err());
    let stranger = Arc::new(Ed25519Signer::from_seed("other.test/log", [2; 32]).unwrap());
    let stranger = LogSigners::from(stranger).accepting(&old_key);
    let error = LocalLog::open(dir.path(), stranger).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");

    // Both sign.
    let both = LogSigners::from(new.clone()).and(old.clone());
    let log = LocalLog::open(dir.path(), both).await.unwrap();
    for _ in 0..2 {
        let note = log.checkpoint().await.unwrap().note;
        for key in [&old_key, &new_key] {
            assert_eq!(open_checkpoint(&note, key).unwrap().note, note);
            LocalLog::verify(dir.path(), key).await.unwrap();
        }
        log.append(&[entry(2)], None).await.unwrap();
    }
    let last = log.size().await.unwrap();
    drop(log);

    // The old key is retired: what it alone signed later is believed by nobody.
    let keys = LogKeys::for_sizes(old_key.clone(), 0..last + 1).and(new_key.clone()).unwrap();
    let signers = LogSigners::from(new).accepting(&keys);
    let log = LocalLog::open(dir.path(), signers).await.unwrap();
    log.append(&[entry(3)], None).await.unwrap();
    LocalLog::verify(dir.path(), &keys).await.unwrap();
    LocalLog::verify(dir.path(), &new_key).await.unwrap();
    assert!(LocalLog::verify(dir.path(), &old_key).await.is_err());
    drop(log);
    let signers = LogSigners::from(old).accepting(&new_key);
    let old_log = LocalLog::open(dir.path(), signers).await.unwrap();
    old_log.append(&[entry(4)], None).await.unwrap();
    let error = LocalLog::verify(dir.path(), &keys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_log_of_the_old_key_is_gone_on_with_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    log.append(&(0..3).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let head = log.publish().await.unwrap();
    let (witness, witness_key) = witness(1);
    let policy = WitnessPolicy::new(vec![witness_key], 1).unwrap();
    let line = cosign(&witness, &head.note, 1_700_000_000).await;
    log.add_cosignatures(line, &policy).await.unwrap();
    drop(log);
    let old = signer(1).verifier();
    let signers = LogSigners::from(signer(2)).accepting(&old);
    let log = LocalLog::open(dir.path(), signers).await.unwrap();
    // From the moment it is open, the new key is enough to read it. What a witness said stays.
    let note = log.published().await.unwrap().note;
    policy.check(&note).unwrap();
    open_checkpoint(&note, &old).unwrap();
    LocalLog::verify(dir.path(), signer(2).verifier()).await.unwrap();
    log.append(&[entry(3)], Some(3)).await.unwrap();
    let verified = LocalLog::verify(dir.path(), signer(2).verifier()).await.unwrap();
    assert_eq!(verified.size, 4);
    drop(log);
    LocalLog::open(dir.path(), signer(2)).await.unwrap();
}

#[tokio::test]
async fn a_busy_log_gives_proofs_that_witnesses_have_seen() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let object = ObjectLog::open(store.clone(), "log", signer(1)).await.unwrap();
    let entries: Vec<_> = (0..700).map(entry).collect();
    let ((first, first_key), none) = (witness(1), WitnessPolicy::none());
    let policy = WitnessPolicy::new(vec![first_key], 1).unwrap();
    local.append(&entries, None).await.unwrap();
    object.append(&entries, None).await.unwrap();
    let heads = [local.publish().await.unwrap(), object.publish().await.unwrap()];
    let line = cosign(&first, &heads[0].note, 1_700_000_000).await;
    assert_eq!(local.add_cosignatures(&line, &policy).await.unwrap().len(), 1);
    assert_eq!(object.add_cosignatures(&line, &policy).await.unwrap().len(), 1);
    let wrong = object.add_cosignatures("x", &policy).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    for number in 700..705 {
        local.append(&[entry(number)], None).await.unwrap();
        object.append(&[entry(number)], None).await.unwrap();
    }
    let published = [local.published().await.unwrap(), object.published().await.unwrap()];
    for (index, bytes) in entries.iter().map(|entry| entry.to_bytes().unwrap()).enumerate() {
        if ![0, 255, 256, 699].contains(&index) {
            continue;
        }
        let proofs = [
            local.proof_at(index as u64, &published[0]).await.unwrap(),
            object.proof_at(index as u64, &published[1]).await.unwrap(),
        ];
        for proof in proofs {
            let proven = proof.verify(&bytes, local.key(), &policy).unwrap();
            assert_eq!((proven.checkpoint.size, proven.cosignatures.len()), (700, 1));
        }
        // The head has been seen by nobody.
        let head = local.proof(index as u64).await.unwrap();
        head.verify(&bytes, local.key(), &none).unwrap();
        let unseen = head.verify(&bytes, local.key(), &policy).unwrap_err();
        assert_eq!(unseen.kind(), ErrorKind::Refused);
        let said = unseen.to_string();
        let name = format!("proof of entry {index} of log `kaizen.test/log`: checkpoint of");
        assert!(said.starts_with(&name) && said.contains("with 705 entries"), "{said}");
    }
    ObjectLog::verify(store, "log", object.key()).await.unwrap();
    // Of what is beyond it, or of another log, there is no proof.
    let beyond = local.proof_at(702, &published[0]).await.unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Invalid);
    let other = LocalLog::open(dir.path().join("other"), signer(1)).await.unwrap();
    other.append(&(9..709).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let other = other.checkpoint().await.unwrap();
    for error in [
        local.proof_at(3, &other).await.unwrap_err(),
        object.proof_at(3, &other).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
