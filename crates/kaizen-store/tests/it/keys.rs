use std::os::unix::fs::PermissionsExt as _;

use kaizen_core::{ErrorKind, Signer};
use kaizen_store::Ed25519Signer;

#[tokio::test]
async fn a_generated_key_is_its_owners_only_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made = Ed25519Signer::generate("example.com/log", &path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let opened = Ed25519Signer::open(&path).await.unwrap();
    assert_eq!(opened.verifier(), made.verifier());
    let signature = opened.sign(b"message").await.unwrap();
    made.verifier().verify(b"message", &signature).unwrap();
    made.verifier().verify(b"massage", &signature).unwrap_err();

    let other = Ed25519Signer::generate("example.com/log", dir.path().join("other")).await.unwrap();
    assert_ne!(other.public_key(), made.public_key());
    let again = Ed25519Signer::generate("example.com/log", &path).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    Ed25519Signer::generate("k", &path).await.unwrap();
    for mode in [0o640, 0o604, 0o620, 0o644, 0o601] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Ed25519Signer::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{mode:o}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    Ed25519Signer::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_damaged_key_file_is_corrupt_and_a_missing_one_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    assert_eq!(Ed25519Signer::open(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
    Ed25519Signer::generate("k", &path).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for bad in [String::new(), text[..30].to_owned(), text.replacen("+k+", "+j+", 1)] {
        std::fs::write(&path, &bad).unwrap();
        let error = Ed25519Signer::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad}");
    }
}

#[tokio::test]
async fn debug_and_errors_do_not_show_the_private_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let signer = Ed25519Signer::generate("k", &path).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = text.trim_end().rsplit('+').next().unwrap();
    assert!(!format!("{signer:?}").contains(secret));
    std::fs::write(&path, format!("x{text}")).unwrap();
    let error = Ed25519Signer::open(&path).await.unwrap_err();
    assert!(!format!("{error:?}").contains(secret));
}

#[test]
fn a_name_that_the_note_format_cannot_hold_is_invalid() {
    for name in ["", "a b", "a+b", "a\nb"] {
        let error = Ed25519Signer::from_seed(name, [0; 32]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}");
    }
}
