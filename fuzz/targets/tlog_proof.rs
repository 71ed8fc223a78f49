//! Text as a `.tlog-proof` file, and as cosignature lines.
#![no_main]

use std::sync::LazyLock;

use kaizen_store::{Ed25519Signer, TlogProof, VerifierKey, WitnessKey, WitnessPolicy};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<VerifierKey> = LazyLock::new(|| {
    let signer = Ed25519Signer::from_seed("example.com/fuzz", [7; 32]);
    signer.expect("a key of a good name").verifier()
});

static POLICY: LazyLock<WitnessPolicy> = LazyLock::new(|| {
    let witness = WitnessKey::new("example.com/witness", KEY.public_key());
    let witness = witness.expect("a key of a good name");
    WitnessPolicy::new(vec![witness], 1).expect("one of one")
});

fuzz_target!(|text: &str| {
    if let Ok(proof) = text.parse::<TlogProof>() {
        assert_eq!(proof.to_string().parse::<TlogProof>().ok(), Some(proof.clone()));
        // Nobody signs what is fed in.
        assert!(proof.verify(b"entry", &*KEY, &WitnessPolicy::none()).is_err());
    }
    // So that lines are read too, up to the signature.
    let (root, lines) = text.split_once('\0').unwrap_or((text, text));
    let note = format!("example.com/fuzz\n1\n{root}\n\n— example.com/witness {lines}\n");
    assert!(POLICY.check(&note).is_err());
    assert!(POLICY.check(text).is_err());
    if let Ok(key) = text.parse::<WitnessKey>() {
        assert_eq!(key.to_string().parse::<WitnessKey>().ok(), Some(key));
    }
});
