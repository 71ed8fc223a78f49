//! Bytes as a signed envelope.
#![no_main]

use kaizen_store::Ed25519Signer;
use kaizen_views::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    let key = Ed25519Signer::from_seed("example.com", [7; 32]).expect("a key").verifier();
    assert!(envelope.open(&[key]).is_err(), "nobody signed it");
    let written = envelope.to_bytes().expect("it was read");
    assert_eq!(Envelope::parse(&written).expect("it was written"), envelope);
});
