//! Text as a signed note, a checkpoint and a public key.
#![no_main]

use std::sync::LazyLock;

use kaizen_store::{Ed25519Signer, VerifierKey, open_checkpoint, open_note};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<VerifierKey> = LazyLock::new(|| {
    let signer = Ed25519Signer::from_seed("example.com/fuzz", [7; 32]);
    signer.expect("a key of a good name").verifier()
});

fuzz_target!(|text: &str| {
    let key: &VerifierKey = &KEY;
    // Nobody signs what is fed in.
    assert!(open_note(text, key).is_err());
    assert!(open_checkpoint(text, key).is_err());
    // So that a line of a signature is read too, up to the signature.
    let (text, signature) = text.split_once('\0').unwrap_or((text, text));
    let note = format!("{text}\n\n— {} {signature}\n", key.name());
    assert!(open_checkpoint(&note, key).is_err());
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse::<VerifierKey>().ok(), Some(key));
    }
});
