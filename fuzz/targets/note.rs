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
    // Nobody signs what is fed in.
    assert!(open_note(text, &KEY).is_err());
    assert!(open_checkpoint(text, &KEY).is_err());
    // So that the signatures are looked at too.
    let hint = KEY.to_string();
    assert!(open_checkpoint(&format!("{text}\n\n— {} {hint}\n", KEY.name()), &KEY).is_err());
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse::<VerifierKey>().ok(), Some(key));
    }
});
