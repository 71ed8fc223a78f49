mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{AuditLog, ErrorKind, Timestamp};
use kaizen_store::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use kaizen_store::{Ed25519Signer, LocalLog, LogRetention, verify_tiles};
use kaizen_testkit::audit_log::entry;

fn signer(seed: u8) -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [seed; 32]).unwrap())
}

async fn append(log: &LocalLog, numbers: std::ops::Range<u64>) {
    let entries: Vec<_> = numbers.map(entry).collect();
    log.append(&entries, None).await.unwrap();
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if !path.to_str().unwrap().ends_with(".lock") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_noticed_and_its_file_named() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(1);
    let log = LocalLog::builder(dir.path(), signer.clone()).journal_bytes(16 << 10);
    let log = log.open().await.unwrap();
    append(&log, 0..1).await;
    log.publish().await.unwrap();
    append(&log, 1..3).await;
    log.publish().await.unwrap();
    append(&log, 3..5).await;
    append(&log, 5..6).await;
    let key = signer.verifier();
    let files = all_files(dir.path());
    let names: Vec<_> = files.iter().map(|f| f.strip_prefix(dir.path()).unwrap()).collect();
    let expected = [
        "checkpoint",
        "journal",
        "tile/0/000.p/1",
        "tile/0/000.p/3",
        "tile/entries/000.p/1",
        "tile/entries/000.p/3",
    ];
    assert_eq!(names, expected.map(Path::new));
    for path in files {
        let whole = fs::read(&path).unwrap();
        let journal = path.ends_with("journal");
        // Two commits of a page each. What lies beyond belongs to nobody.
        let end = if journal { 2 * 4096 } else { whole.len() };
        for at in (0..end).step_by(if journal { 7 } else { 1 }) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{} byte {at}", path.display());
            let named = error.to_string().contains(path.to_str().unwrap());
            assert!(named, "{} byte {at}: {error}", path.display());
        }
        for bytes in [&whole[..end - 1], &[&whole[..], b"\n"].concat()] {
            if journal && bytes.len() > end {
                continue;
            }
            fs::write(&path, bytes).unwrap();
            let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        fs::write(&path, whole).unwrap();
        LocalLog::verify(dir.path(), &key).await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_or_missing_file_of_a_larger_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(1);
    let log = LocalLog::builder(dir.path(), signer.clone()).journal_bytes(16 << 10);
    let log = log.open().await.unwrap();
    for range in [0..250, 250..600, 600..601] {
        append(&log, range).await;
        log.publish().await.unwrap();
    }
    append(&log, 601..603).await;
    let key = signer.verifier();
    LocalLog::verify(dir.path(), &key).await.unwrap();
    let files = all_files(dir.path());
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let whole = fs::read(&path).unwrap();
        let end = if path.ends_with("journal") { 4096 } else { whole.len() };
        for at in [0, end / 3, end - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
            let named = error.to_string().contains(path.to_str().unwrap());
            assert!(named, "{} byte {at}: {error}", path.display());
        }
        let shown = path.to_str().unwrap().to_owned();
        fs::remove_file(&path).unwrap();
        match LocalLog::verify(dir.path(), &key).await {
            Err(error) => assert!(error.to_string().contains(&shown), "{shown}: {error}"),
            // An older partial form may go.
            Ok(_) => assert!(shown.contains(".p/"), "{shown}"),
        }
        fs::write(&path, whole).unwrap();
    }
}

#[tokio::test]
async fn reading_an_altered_entry_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..4).await;
    log.publish().await.unwrap();
    let path = dir.path().join("tile/entries/000.p/4");
    let text = fs::read(&path).unwrap();
    let at = text.windows(6).position(|w| w == b"champi").unwrap();
    let mut altered = text.clone();
    altered[at] = b'k';
    fs::write(&path, altered).unwrap();
    let error = log.read(0..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let reopened = LocalLog::open(dir.path(), signer(1)).await.unwrap_err();
    assert_eq!(reopened.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn another_key_a_missing_checkpoint_and_an_older_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..2).await;
    log.publish().await.unwrap();
    let checkpoint = dir.path().join("checkpoint");
    let old = fs::read(&checkpoint).unwrap();
    for range in [2..3, 3..4] {
        append(&log, range).await;
        log.publish().await.unwrap();
    }

    let error = LocalLog::open(dir.path(), signer(2)).await.unwrap_err();
    assert!(error.to_string().contains("checkpoint"), "{error}");
    assert!(LocalLog::verify(dir.path(), &signer(2).verifier()).await.is_err());

    // An older checkpoint is a shorter log. Whoever has seen the longer one does not follow, nor
    // does who comes later and finds what was said of it.
    let new = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, old).unwrap();
    let error = LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("the log had 4 entries, and has 2"), "{error}");
    let refused = [
        log.size().await.unwrap_err(),
        log.append(&[entry(9)], None).await.unwrap_err(),
        log.publish().await.unwrap_err(),
        LocalLog::open(dir.path(), signer(1)).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(checkpoint.to_str().unwrap()), "{error}");
    }
    let lock = dir.path().join("checkpoint.lock");
    fs::remove_file(&lock).unwrap();
    assert_eq!(log.append(&[entry(9)], None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    // By itself it verifies: that there was more can only be said by who has seen it.
    LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap();
    fs::write(&checkpoint, new).unwrap();
    assert_eq!(log.append(&[entry(4)], None).await.unwrap(), 4..5);

    fs::remove_file(&checkpoint).unwrap();
    let error = LocalLog::open(dir.path(), signer(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "a log that lost its head does not start anew");
    let error = LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn proofs_from_tiles_hold_for_every_entry_and_every_earlier_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let mut heads = vec![log.checkpoint().await.unwrap()];
    let mut done = 0;
    for length in [1, 2, 252, 1, 1, 255, 90] {
        append(&log, done..done + length).await;
        done += length;
        heads.push(log.checkpoint().await.unwrap());
    }
    let entries = log.read(0..done).await.unwrap();
    for head in &heads[1..] {
        let steps = [0, 1, head.size / 2, 254, 255, 256, 257, head.size - 1];
        for index in steps.into_iter().filter(|index| *index < head.size) {
            let proof = log.inclusion_proof(index, head.size).await.unwrap();
            let leaf = leaf_hash(entries[index as usize].to_bytes().unwrap());
            verify_inclusion(&leaf, index, head.size, &proof, &head.root).unwrap();
        }
        for old in heads.iter().filter(|old| old.size <= head.size) {
            let proof = log.consistency_proof(old.size, head.size).await.unwrap();
            verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
        }
    }
    assert_eq!(log.inclusion_proof(0, done + 1).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(log.inclusion_proof(9, 9).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appenders_at_once_lose_nothing_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = Vec::new();
    for task in 0..6_u64 {
        // Three logs on one directory, as three processes would have, with two tasks each.
        let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
        let logs = [log.clone(), log];
        tasks.extend(logs.into_iter().enumerate().map(|(half, log)| {
            tokio::spawn(async move {
                let first = 1_000 * task + 500 * half as u64;
                for number in (first..first + 24).step_by(3) {
                    append(&log, number..number + 3).await;
                }
            })
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let verified = LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap();
    assert_eq!(verified.size, 12 * 24);
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let entries = log.read(0..verified.size).await.unwrap();
    for task in 0..6_u64 {
        for half in 0..2 {
            let first = 1_000 * task + 500 * half;
            let expected: Vec<_> = (first..first + 24).map(entry).collect();
            let found: Vec<_> = entries.iter().filter(|e| expected.contains(e)).collect();
            assert_eq!(found, expected.iter().collect::<Vec<_>>());
        }
    }
    for three in entries.chunks(3) {
        let first = (0..6000).map(entry).position(|e| e == three[0]).unwrap() as u64;
        assert_eq!(three, (first..first + 3).map(entry).collect::<Vec<_>>(), "appends are whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_appends_that_expect_the_same_size_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Vec::new();
    for _ in 0..2 {
        let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
        logs.extend([log.clone(), log]);
    }
    for size in 0..12 {
        let mut tasks = Vec::new();
        for (number, log) in logs.iter().cloned().enumerate() {
            let entries = [entry(size * 10 + number as u64)];
            tasks.push(tokio::spawn(async move { log.append(&entries, Some(size)).await }));
        }
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(range) => {
                    assert_eq!(range, size..size + 1);
                    won += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn an_append_that_nobody_waits_for_still_happens() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let entries = [entry(1), entry(2)];
    let mut append = log.append(&entries, None);
    std::future::poll_fn(|context| {
        let _ = append.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(append);
    for _ in 0..500 {
        if log.size().await.unwrap() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    assert_eq!(log.read(0..2).await.unwrap(), entries);
}

#[tokio::test]
async fn a_last_commit_that_is_not_whole_is_named_and_then_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..2).await;
    append(&log, 2..3).await;
    let path = dir.path().join("journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = LocalLog::verify(dir.path(), log.key()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("not finished, or is damaged"), "{text}");
    // It is known that it was finished.
    let error = LocalLog::open(dir.path(), signer(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // After a power cut it may be known no more.
    drop(log);
    fs::remove_file(dir.path().join("checkpoint.lock")).unwrap();
    let torn = fs::read(&path).unwrap()[4096..8192].to_vec();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    assert_eq!(log.size().await.unwrap(), 2);
    assert!(fs::read(dir.path().join("journal.torn")).unwrap() == torn, "it is kept");
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
    append(&log, 2..3).await;
    assert_eq!(log.size().await.unwrap(), 3);

    // Of one that is followed by others, everybody knows that it was acknowledged.
    append(&log, 3..4).await;
    append(&log, 4..5).await;
    let whole = fs::read(&path).unwrap();
    for at in [0, 20, 60, 200] {
        let mut bytes = whole.clone();
        bytes[4096 + at] ^= 1;
        fs::write(&path, bytes).unwrap();
        for error in [
            LocalLog::open(dir.path(), signer(1)).await.unwrap_err(),
            LocalLog::verify(dir.path(), log.key()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{at}: {error}");
        }
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(LocalLog::open(dir.path(), signer(1)).await.unwrap().size().await.unwrap(), 5);
}

#[tokio::test]
async fn a_log_that_lacks_what_its_lock_file_tells_of_does_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..2).await;
    append(&log, 2..3).await;
    let (path, key) = (dir.path().join("journal"), signer(1).verifier());
    let whole = fs::read(&path).unwrap();
    let mut shorter = whole.clone();
    shorter[4096..].fill(0);
    for bytes in [shorter, vec![0; whole.len()]] {
        fs::write(&path, bytes).unwrap();
        let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("had 3 entries"), "{text}");
    }
    // Another log of as many entries, that the same key signed.
    let other = tempfile::tempdir().unwrap();
    let forked = LocalLog::open(other.path(), signer(1)).await.unwrap();
    append(&forked, 5..8).await;
    fs::copy(other.path().join("journal"), &path).unwrap();
    let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
    assert!(error.to_string().contains("not those that the log had"), "{error}");
    fs::write(&path, whole).unwrap();
    assert!(!LocalLog::verify(dir.path(), &key).await.unwrap().cut_off);
}

#[tokio::test]
async fn what_lies_in_the_folder_of_a_log_and_is_none_of_it_is_not_followed_or_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..300).await;
    log.publish().await.unwrap();
    // Folders without end.
    for name in ["a", "b", "x000", "x001", "001.p"] {
        let path = dir.path().join("tile/0").join(name);
        drop(fs::remove_dir_all(&path));
        std::os::unix::fs::symlink(".", path).unwrap();
    }
    fs::remove_file(dir.path().join("tile/0/001.p")).unwrap();
    fs::create_dir(dir.path().join("tile/0/001.p")).unwrap();
    log.publish().await.unwrap();
    append(&log, 300..301).await;
    log.publish().await.unwrap();
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
    // Files that have no end, or no other end.
    for name in ["tile/0/001.p/7", "journal", "checkpoint"] {
        let path = dir.path().join(name);
        drop(fs::remove_file(&path));
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = LocalLog::verify(dir.path(), log.key()).await.unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        drop(LocalLog::reader(dir.path(), signer(1).verifier()).await);
        if name != "checkpoint" {
            fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn a_proof_from_an_altered_tile_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..600).await;
    log.publish().await.unwrap();
    let path = dir.path().join("tile/0/000");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = log.inclusion_proof(200, 600).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    fs::write(&path, whole).unwrap();
    log.inclusion_proof(200, 600).await.unwrap();
    // It was checked, and is kept.
    fs::remove_file(&path).unwrap();
    let head = log.checkpoint().await.unwrap();
    for index in 0..256 {
        let proof = log.inclusion_proof(index, 600).await.unwrap();
        let leaf = leaf_hash(entry(index).to_bytes().unwrap());
        verify_inclusion(&leaf, index, 600, &proof, &head.root).unwrap();
    }
}

#[tokio::test]
async fn a_log_without_a_journal_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..300).await;
    log.publish().await.unwrap();
    drop(log);
    fs::remove_file(dir.path().join("journal")).unwrap();
    LocalLog::verify(dir.path(), signer(1).verifier()).await.unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 300..302).await;
    let verified = LocalLog::verify(dir.path(), log.key()).await.unwrap();
    assert_eq!((verified.published, verified.size), (300, 302));
}

#[tokio::test]
async fn others_see_a_commit_at_once_and_nobody_sees_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let second = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    for number in 0..40 {
        let (one, other) = if number % 2 == 0 { (&first, &second) } else { (&second, &first) };
        append(one, number..number + 1).await;
        assert_eq!(other.read(number..number + 1).await.unwrap(), [entry(number)]);
        assert_eq!(other.checkpoint().await.unwrap(), one.checkpoint().await.unwrap());
        if number % 7 == 0 {
            other.publish().await.unwrap();
        }
    }
    LocalLog::verify(dir.path(), first.key()).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_is_full_is_published_and_a_large_append_needs_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::builder(dir.path(), signer(1)).journal_bytes(8 << 10).open().await.unwrap();
    let published = |log: LocalLog| async move {
        LocalLog::verify(log.dir(), log.key()).await.unwrap().published
    };
    append(&log, 0..1).await;
    append(&log, 1..2).await;
    assert_eq!(published(log.clone()).await, 0);
    append(&log, 2..3).await;
    assert_eq!(published(log.clone()).await, 2);
    append(&log, 3..103).await;
    assert_eq!(published(log.clone()).await, 103);
    append(&log, 103..104).await;
    assert_eq!(published(log.clone()).await, 103);
    assert_eq!(log.read(0..104).await.unwrap(), (0..104).map(entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_export_is_a_log_that_others_check() {
    let scratch = tempfile::tempdir().unwrap();
    let log = LocalLog::open(scratch.path().join("log"), signer(1)).await.unwrap();
    append(&log, 0..700).await;
    log.publish().await.unwrap();
    append(&log, 700..703).await;
    let to = scratch.path().join("copy");
    let exported = log.export(&to).await.unwrap();
    assert_eq!(exported.size, 703);
    let verified = verify_tiles(&to, log.key(), |_, _| Ok(())).await.unwrap();
    assert_eq!(verified.root, log.checkpoint().await.unwrap().root);
    let names = all_files(&to).len();
    // The checkpoint, three bundles, three tiles above them, and one above these.
    assert_eq!(names, 1 + 3 + 3 + 1);
    assert_eq!(log.export(&to).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn what_is_older_than_is_to_be_kept_is_counted_and_nothing_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let retention = LogRetention::default();
    let empty = retention.report(&log, now).await.unwrap();
    assert_eq!((empty.oldest, empty.expired), (None, 0));
    // Of 3,000 entries, one every half hour, the last 1,000 are to be kept.
    let entries: Vec<_> = (0..3_000)
        .map(|number| {
            let at = empty.keep_from.plus_seconds(1_800 * (number - 2_000));
            kaizen_core::Entry { at, ..entry(number as u64) }
        })
        .collect();
    log.append(&entries, None).await.unwrap();
    let report = retention.report(&log, now).await.unwrap();
    assert_eq!((report.size, report.oldest), (3_000, Some(entries[0].at)));
    assert_eq!((report.expired, report.bundles), (2_000, 7));
    assert_eq!(log.size().await.unwrap(), 3_000);
    assert_eq!(LogRetention::days(183).unwrap_err().kind(), ErrorKind::Refused);
    LogRetention::days(184).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_locked_is_verified_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap());
    let builder = LocalLog::builder(dir.path(), signer).journal_bytes(64 << 10);
    let log = builder.open().await.unwrap();
    let (key, done) = (log.key().clone(), Arc::new(std::sync::atomic::AtomicBool::default()));
    let over = done.clone();
    let writer = tokio::spawn(async move {
        for number in 0.. {
            if over.load(std::sync::atomic::Ordering::SeqCst) {
                return log.size().await.unwrap();
            }
            if let Err(error) = log.append(&[entry(number)], None).await {
                // The lock went while it was written.
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            }
        }
        0
    });
    let mut size = 0;
    for _ in 0..200 {
        // Whoever locks it afterwards locks another file.
        let _ = fs::remove_file(dir.path().join("checkpoint.lock"));
        let found = LocalLog::verify(dir.path(), &key).await.unwrap();
        assert!(found.size >= size, "{} after {size}", found.size);
        size = found.size;
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(writer.await.unwrap() >= size);
}

#[tokio::test]
async fn a_tile_or_checkpoint_that_is_too_long_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap());
    let log = LocalLog::open(dir.path(), signer).await.unwrap();
    log.append(&(0..300).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    log.publish().await.unwrap();
    for name in ["tile/entries/000", "tile/0/000", "checkpoint", "tile/0/001.p/44"] {
        let path = dir.path().join(name);
        let bytes = fs::read(&path).unwrap();
        let sparse = fs::File::options().write(true).open(&path).unwrap();
        // More than this machine has.
        sparse.set_len(1 << 42).unwrap();
        let error = LocalLog::verify(dir.path(), log.key()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        fs::write(&path, bytes).unwrap();
    }
    // Folders that are no level of tiles, and files that are no tile, are strangers.
    for name in ["tile/4294967295/000.p/1", "tile/536870912/000", "tile/0/000.p/+1"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
    }
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
}
