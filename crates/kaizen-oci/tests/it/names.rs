//! References, and what is none.

use kaizen_core::{Digest, ErrorKind};
use kaizen_oci::{Options, Reference, RemoteRegistry, Transport};
use proptest::prelude::*;

#[test]
fn references_are_read_as_people_write_them() {
    let digest = Digest::of("x");
    let with_digest = format!("localhost:5000/a/b-c.d__e:v1.0@{digest}");
    for text in
        ["docker.io/library/late", "r.example/a:b", "[::1]:5000/a", "10.0.0.1/a", &with_digest]
    {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
    }
    let reference: Reference = with_digest.parse().unwrap();
    assert_eq!(reference.host(), "localhost:5000");
    assert_eq!(reference.repository(), "a/b-c.d__e");
    assert_eq!((reference.tag(), reference.digest()), (Some("v1.0"), Some(&digest)));
}

#[test]
fn what_is_no_reference_is_refused_by_its_name() {
    let long = format!("r.example/{}", "a".repeat(250));
    let bad = [
        "",
        "late",
        "/a",
        "r.example/",
        "r.example//a",
        "r.example/a/",
        "r.example/../a",
        "r.example/a/../b",
        "r.example/A",
        "r.example/a:",
        "r.example/a:-x",
        "r.example/a@",
        "r.example/a@sha256:00",
        "r.example/a@md5:00",
        "r.example/a:b:c",
        "-r/a",
        "r:0/a",
        "r:99999/a",
        "r:/a",
        "r:+5/a",
        "[::1/a",
        "[x]/a",
        "u@r.example/a",
        "https://r.example/a",
        "r.example/a b",
        "r.example/a?x",
        "r.example/a#x",
        "r.example/a%2e",
        "r.example/a._b",
        "r.example/a___b",
        "r example/a",
        "r..example/a",
        &long,
    ];
    for text in bad {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(error.to_string().starts_with("reference `"), "{error}");
    }
}

#[test]
fn a_registry_is_opened_by_the_name_of_a_repository_alone() {
    let open = |name: &str, options| RemoteRegistry::open(name, options).map(|_| ());
    open("r.example/a", Options::default()).unwrap();
    for name in ["r.example/a:b", "r.example", &format!("r.example/a@{}", Digest::of("x"))] {
        assert_eq!(open(name, Options::default()).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let mut options = Options::default();
    options.mount_from = vec!["../other".into()];
    options.transport = Transport::Http;
    assert_eq!(open("r.example/a", options).unwrap_err().kind(), ErrorKind::Invalid);
    let mut options = Options::default();
    options.trusted_certificates =
        vec![b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()];
    assert_eq!(open("r.example/a", options).unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    /// What is read is written the same, and then read the same.
    #[test]
    fn any_text_is_a_reference_or_refused(
        text in "(localhost|r\\.example|\\[::1\\]|[a-z:@./A-Z0-9_ -]{0,9})(:[0-9]{1,6})?/[a-z0-9._/:@-]{0,30}",
    ) {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string(), text.clone());
            prop_assert_eq!(text.parse::<Reference>().unwrap(), reference.clone());
            prop_assert!(!reference.repository().contains(".."));
        }
    }

    #[test]
    fn any_characters_are_read_without_a_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<Reference>();
    }
}

#[test]
fn a_single_word_is_no_host() {
    let error = "late/model:v3".parse::<Reference>().unwrap_err().to_string();
    assert!(error.contains("did you mean `docker.io/late/model:v3`?"), "{error}");
    for good in ["localhost/late", "late:5000/model", "[::1]/late", "r.example/late"] {
        assert!(good.parse::<Reference>().is_ok(), "{good}");
    }
}
