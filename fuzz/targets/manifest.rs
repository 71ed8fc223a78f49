//! Bytes as an OCI manifest.
#![no_main]

use kaizen_core::{Digest, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let written = manifest.to_bytes().expect("what was read can be written");
    let again = Manifest::parse(&written).expect("what was written can be read");
    assert_eq!(again, manifest);
    for blob in manifest.blobs() {
        assert_eq!(blob.digest.to_string().parse::<Digest>().ok(), Some(blob.digest));
    }
});
