use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::{AuditLog, ErrorKind, Signer};
use kaizen_store::{Ed25519Signer, LocalLog, LogSigners, ObjectLog};
use kaizen_testkit::audit_log::entry;
use object_store::ObjectStore;
use object_store::memory::InMemory;

#[tokio::test]
async fn a_generated_key_is_its_owners_only_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made = Ed25519Signer::generate("example.com/log", &path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let public = std::fs::read_to_string(dir.path().join("key.pub")).unwrap();
    assert_eq!(public.trim_end(), made.verifier().to_string());

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
    // The key itself may hold a `+`.
    let secret = text.trim_end().splitn(5, '+').last().unwrap();
    assert!(!format!("{signer:?}").contains(secret));
    std::fs::write(&path, format!("x{text}")).unwrap();
    let error = Ed25519Signer::open(&path).await.unwrap_err();
    assert!(!format!("{error:?}").contains(secret));
}

#[test]
fn a_key_comes_from_the_environment_and_no_error_shows_it() {
    // Set by the test below, in a process of its own: the environment is that of all tests here.
    let Some(wanted) = std::env::var_os("KAIZEN_TEST_WANTED") else { return };
    let signer = Ed25519Signer::from_env("KAIZEN_TEST_KEY").unwrap();
    assert_eq!(signer.verifier().to_string(), wanted.to_str().unwrap());
    let missing = Ed25519Signer::from_env("KAIZEN_TEST_MISSING").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("KAIZEN_TEST_MISSING"));
    let bad = Ed25519Signer::from_env("KAIZEN_TEST_BAD").unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Corrupt);
    let bad = format!("{bad:?}");
    assert!(bad.contains("KAIZEN_TEST_BAD") && !bad.contains("PRIVATE"), "{bad}");
}

#[tokio::test]
async fn a_key_in_the_environment_of_a_process_signs_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let signer = Ed25519Signer::generate("kaizen.test/log", &path).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "keys::a_key_comes_from_the_environment_and_no_error_shows_it"])
        .env("KAIZEN_TEST_WANTED", signer.verifier().to_string())
        .env("KAIZEN_TEST_KEY", &text)
        .env("KAIZEN_TEST_BAD", text.replace("+A", "+B"))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Traces(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Traces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_shows_a_private_key() {
    let traces = Traces::default();
    let writer = traces.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For all threads, as file work is done on others.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let signer = Arc::new(Ed25519Signer::generate("k", &path).await.unwrap());
    let log = LocalLog::open(dir.path().join("log"), signer.clone()).await.unwrap();
    log.append(&[entry(1)], None).await.unwrap();
    // A commit that was never finished, which is worth a line.
    let journal = dir.path().join("log/journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    std::fs::remove_file(dir.path().join("log/checkpoint.lock")).unwrap();
    let log = LocalLog::open(dir.path().join("log"), signer.clone()).await.unwrap();
    tracing::info!(?signer, ?log, "everything that there is");
    let shown = String::from_utf8(traces.0.lock().unwrap().clone()).unwrap();
    assert!(shown.contains("never finished") && shown.contains("everything"), "{shown}");
    let text = std::fs::read_to_string(&path).unwrap();
    let encoded = text.trim_end().splitn(5, '+').nth(4).unwrap();
    let seed = &STANDARD.decode(encoded).unwrap()[1..];
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [encoded, &STANDARD.encode(seed), &hex, &format!("{seed:?}"), "PRIVATE"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!format!("{signer:?} {log:?}").contains(secret));
    }
}

#[test]
fn a_name_that_the_note_format_cannot_hold_is_invalid() {
    for name in ["", "a b", "a+b", "a\nb"] {
        let error = Ed25519Signer::from_seed(name, [0; 32]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}");
    }
}

/// A key that is kept elsewhere.
#[derive(Debug)]
struct Remote {
    key: Ed25519Signer,
    does: Mutex<Does>,
    asked: AtomicU64,
}

impl Remote {
    fn new(key: Ed25519Signer) -> Self {
        Self { key, does: Mutex::new(Does::Sign), asked: AtomicU64::default() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Sign,
    Hang,
    Panic,
    SignWithAnother,
}

#[kaizen_core::async_trait]
impl Signer for Remote {
    fn name(&self) -> &str {
        self.key.name()
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }

    async fn sign(&self, message: &[u8]) -> kaizen_core::Result<[u8; 64]> {
        // It takes more than one turn of the executor.
        tokio::task::yield_now().await;
        let does = *self.does.lock().unwrap();
        self.asked.fetch_add(1, Ordering::SeqCst);
        match does {
            Does::Sign => self.key.sign(message).await,
            Does::Hang => std::future::pending().await,
            Does::Panic => panic!("the signer of the test panics"),
            Does::SignWithAnother => {
                Ed25519Signer::from_seed(self.key.name(), [66; 32])?.sign(message).await
            }
        }
    }
}

#[tokio::test]
async fn a_signer_that_panics_is_not_said_to_be_slow() {
    let dir = tempfile::tempdir().unwrap();
    let key = Ed25519Signer::from_seed("example.com/log", [5; 32]).unwrap();
    let signer = Arc::new(Remote { key, does: Mutex::new(Does::Sign), asked: Default::default() });
    let log = LocalLog::open(dir.path(), signer.clone()).await.unwrap();
    *signer.does.lock().unwrap() = Does::Panic;
    let error = log.append(&[entry(0)], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("it was cut off while it signed"), "{error}");
    *signer.does.lock().unwrap() = Does::Sign;
    assert_eq!(log.append(&[entry(0)], None).await.unwrap(), 0..1);
}

#[tokio::test]
async fn a_signer_that_hangs_or_changes_its_key_stops_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let key = || Ed25519Signer::from_seed("example.com/log", [5; 32]).unwrap();
    let signer = Arc::new(Remote::new(key()));
    let limit = Duration::from_millis(100);
    let signers = LogSigners::from(signer.clone()).within(limit);
    let log = LocalLog::open(dir.path(), signers).await.unwrap();
    let other = LocalLog::open(dir.path(), Arc::new(key())).await.unwrap();
    log.append(&[entry(0)], None).await.unwrap();
    for (does, kind, says) in [
        (Does::Hang, ErrorKind::Unavailable, "signer `example.com/log`: no signature within 0.1 s"),
        (Does::SignWithAnother, ErrorKind::Corrupt, "example.com/log"),
    ] {
        *signer.does.lock().unwrap() = does;
        let size = other.size().await.unwrap();
        let error = log.append(&[entry(1)], None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(log.size().await.unwrap(), size);
        assert_eq!(other.append(&[entry(2)], None).await.unwrap(), size..size + 1);
    }
    *signer.does.lock().unwrap() = Does::Sign;
    assert_eq!(log.append(&[entry(3)], None).await.unwrap(), 3..4);
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
}

#[tokio::test]
async fn a_signer_that_hangs_stops_nobody_who_reads_an_object_log() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let key = Ed25519Signer::from_seed("example.com/log", [5; 32]).unwrap();
    let signer = Arc::new(Remote::new(key));
    let limit = Duration::from_secs(2);
    let signers = LogSigners::from(signer.clone()).within(limit);
    let log = ObjectLog::open(store, "audit", signers).await.unwrap();
    log.append(&[entry(0)], None).await.unwrap();
    *signer.does.lock().unwrap() = Does::Hang;
    let asked = signer.asked.load(Ordering::SeqCst);
    let appending = tokio::spawn({
        let log = log.clone();
        async move { log.append(&[entry(1)], None).await }
    });
    while signer.asked.load(Ordering::SeqCst) == asked {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.read(0..1).await.unwrap(), [entry(0)]);
    assert!(!appending.is_finished());
    let error = appending.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("signer `example.com/log`: no signature"), "{error}");
    *signer.does.lock().unwrap() = Does::Sign;
    assert_eq!(log.append(&[entry(2)], None).await.unwrap(), 1..2);
}
