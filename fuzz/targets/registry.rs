//! Text as references and as Docker's configuration.
#![no_main]

use kaizen_oci::{DockerConfig, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
        assert!(!reference.repository().contains(".."));
    }
    let _ = DockerConfig::parse(text.as_bytes());
});
