//! Text as references, as Docker's configuration, as headers of a registry and as its list of
//! referrers.
#![no_main]

use kaizen_oci::{DockerConfig, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
        assert!(!reference.repository().contains(".."));
    }
    let _ = DockerConfig::parse(text.as_bytes());
    kaizen_oci::fuzzing::headers(text);
    kaizen_oci::fuzzing::referrers(text.as_bytes());
});
