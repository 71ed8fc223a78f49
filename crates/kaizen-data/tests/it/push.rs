//! Rows that are pushed: durable, whole, in offsets that never change.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use kaizen_core::{Digest, ErrorKind};
use kaizen_data::PushSource;
use kaizen_table::{During, Query, Source};
use kaizen_testkit::source::suite;

use crate::cases::instants;

fn rows(from: i64, count: i64) -> RecordBatch {
    let at = (from..from + count).map(|n| Some(n * 10)).collect();
    let names = (from..from + count).map(|n| (n % 5 != 4).then(|| format!("n{}", n % 3)));
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(Int64Array::from_iter_values((from..from + count).map(|n| n % 4)))),
        ("at", instants(at)),
        ("name", Arc::new(names.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .unwrap()
}

async fn open(folder: &Path) -> PushSource {
    PushSource::open("p", folder, rows(0, 0).schema()).await.unwrap()
}

async fn all(source: &PushSource) -> RecordBatch {
    let scan = source.read(&["k", "at", "name"]).await.unwrap();
    concat_batches(scan.batches[0].schema_ref(), &scan.batches).unwrap()
}

fn parts(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".parquet"));
    names.sort();
    names
}

#[tokio::test]
async fn a_push_source_conforms_in_memory_and_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for source in
        [open(folder.path()).await, PushSource::in_memory("p", rows(0, 0).schema()).unwrap()]
    {
        suite(&source, &rows(0, 0)).await;
        for n in 0..4 {
            assert_eq!(
                source.push(&rows(n * 25, 25)).await.unwrap(),
                n as u64 * 25..n as u64 * 25 + 25
            );
        }
        assert_eq!(source.push(&rows(100, 0)).await.unwrap(), 100..100);
        assert_eq!(source.rows(), 100);
        suite(&source, &rows(0, 100)).await;
    }
    let again = open_after_drop(folder.path()).await;
    assert_eq!(again.rows(), 100);
    suite(&again, &rows(0, 100)).await;
}

async fn open_after_drop(folder: &Path) -> PushSource {
    open(folder).await
}

#[tokio::test]
async fn the_files_of_a_scan_are_its_parts_and_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(folder.path()).await;
    source.push(&rows(0, 10)).await.unwrap();
    let first = source.read(&["k"]).await.unwrap();
    let bytes = std::fs::read(folder.path().join(&first.files[0].path)).unwrap();
    assert_eq!((first.files[0].size, first.digest), (bytes.len() as u64, Digest::of(&bytes)));
    source.push(&rows(10, 10)).await.unwrap();
    assert_ne!(source.read(&["k"]).await.unwrap().digest, first.digest);
    let pinned = Query { files: Some(&first.files), ..Query::columns(&["k"]) };
    let again = source.scan(&pinned).await.unwrap();
    assert_eq!((again.digest, &again.batches), (first.digest, &first.batches));
    source.compact().await.unwrap();
    let gone = source.scan(&pinned).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.to_string().contains(&first.files[0].path), "{gone}");
}

#[tokio::test]
async fn rows_of_other_columns_are_refused_by_name() {
    let source = PushSource::in_memory("p", rows(0, 0).schema()).unwrap();
    let whole = rows(0, 3);
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let cases = [
        (whole.project(&[0, 2]).unwrap(), "column `at` is missing"),
        (
            kaizen_table::with_column(&whole, "k", narrow.clone()).unwrap(),
            "column `k`: holds Int32",
        ),
        (kaizen_table::with_column(&whole, "extra", narrow).unwrap(), "column `extra`"),
    ];
    for (batch, part) in cases {
        let error = source.push(&batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part) && error.to_string().contains("`p`"), "{error}");
    }
    assert_eq!(source.rows(), 0);
    // The order of columns does not matter.
    source.push(&whole.project(&[2, 0, 1]).unwrap()).await.unwrap();
    assert_eq!(all(&source).await, whole);
    let error = source.read_from(4, &["k"]).await.unwrap_err();
    assert!(error.to_string().contains("offset 4"), "{error}");
}

#[tokio::test]
async fn compaction_keeps_rows_and_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(folder.path()).await;
    for n in 0..20 {
        source.push(&rows(n * 3, 3)).await.unwrap();
    }
    assert_eq!(source.compact().await.unwrap(), 19);
    assert_eq!(parts(folder.path()).len(), 1);
    assert_eq!((source.rows(), all(&source).await), (60, rows(0, 60)));
    source.push(&rows(60, 1)).await.unwrap();
    assert_eq!(source.read_from(59, &["k", "at", "name"]).await.unwrap().rows, rows(59, 2));
    assert_eq!(source.compact().await.unwrap(), 1);
    assert_eq!(source.compact().await.unwrap(), 0);
    drop(source);
    assert_eq!(all(&open(folder.path()).await).await, rows(0, 61));
}

#[tokio::test]
async fn what_is_forgotten_leaves_a_gap_and_offsets_stay() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |from: i64, count: i64| {
        let whole = rows(from, count);
        let mask = (from..from + count).map(|n| Some(n % 4 != 1)).collect();
        arrow::compute::filter_record_batch(&whole, &mask).unwrap()
    };
    // Keys are compared as the join compares them: whatever their width.
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let entities = RecordBatch::try_from_iter([("k", one)]).unwrap();
    for source in
        [open(folder.path()).await, PushSource::in_memory("p", rows(0, 0).schema()).unwrap()]
    {
        for n in 0..10 {
            source.push(&rows(n * 5, 5)).await.unwrap();
        }
        assert_eq!(source.forget(&entities.slice(0, 0)).await.unwrap(), 0);
        assert_eq!(all(&source).await, rows(0, 50));
        assert_eq!(source.forget(&entities).await.unwrap(), 13);
        assert_eq!(source.forget(&entities).await.unwrap(), 0);
        for _ in 0..2 {
            assert_eq!((source.rows(), all(&source).await), (50, kept(0, 50)));
            for from in [0, 1, 2, 17, 49, 50] {
                let pushed = source.read_from(from, &["k", "at", "name"]).await.unwrap();
                assert_eq!(
                    (pushed.offsets.clone(), pushed.rows),
                    (from..50, kept(from as i64, 50 - from as i64))
                );
            }
            source.compact().await.unwrap();
        }
    }
    for name in parts(folder.path()) {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        assert!(!bytes.is_empty());
    }
    let again = open(folder.path()).await;
    assert_eq!((again.rows(), all(&again).await), (50, kept(0, 50)));
    assert_eq!(again.push(&rows(50, 5)).await.unwrap(), 50..55);
}

#[tokio::test]
async fn spans_hold_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(folder.path()).await;
    for n in 0..10 {
        source.push(&rows(n * 10, 10)).await.unwrap();
    }
    let spans = source.spans("at", 25).await.unwrap();
    assert!(spans.len() > 3, "{spans:?}");
    let mut found = 0;
    for span in spans {
        let during = Some(During { column: "at", span });
        let scan = source.scan(&Query { during, ..Query::columns(&["k"]) }).await.unwrap();
        let rows: usize = scan.batches.iter().map(RecordBatch::num_rows).sum();
        assert!(rows <= 25);
        found += rows;
        assert_eq!(scan.files.len(), 10, "the digest is of all, whatever is asked for");
    }
    assert_eq!(found, 100);
}

#[tokio::test]
async fn a_folder_is_open_once_and_of_one_schema() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(folder.path()).await;
    source.push(&rows(0, 5)).await.unwrap();
    let error = PushSource::open("q", folder.path(), rows(0, 0).schema()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(source);
    let other =
        RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let error = PushSource::open("q", folder.path(), other.unwrap().schema()).await.unwrap_err();
    assert!(error.to_string().contains("`at`"), "{error}");
}

#[tokio::test]
async fn a_part_that_is_gone_or_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(folder.path()).await;
    for n in 0..3 {
        source.push(&rows(n * 5, 5)).await.unwrap();
    }
    let names = parts(folder.path());
    let path = folder.path().join(&names[1]);
    let bytes = std::fs::read(&path).unwrap();
    let mut damaged = bytes.clone();
    damaged[30] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = source.read(&["k"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&names[1]), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = source.read(&["k"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&names[1]), "{error}");
    drop(source);
    let error = PushSource::open("p", folder.path(), rows(0, 0).schema()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&names[2]), "{error}");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(all(&open(folder.path()).await).await, rows(0, 15));
}

/// The folder to which this program pushes until it is killed, if it was started for that.
const VICTIM: &str = "KAIZEN_TEST_PUSH_UNTIL_KILLED";

/// Started again by the test after it: pushes, and says of each push that it was acknowledged.
#[tokio::test]
async fn pushes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let source = open(Path::new(&folder)).await;
    let mut out = std::io::stdout();
    for n in source.rows() as i64 / 7.. {
        if n % 5 == 4 {
            source.compact().await.unwrap();
        }
        let offsets = source.push(&rows(n * 7, 7)).await.unwrap();
        writeln!(out, "\nacknowledged {}", offsets.end).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn a_program_that_is_killed_leaves_whole_pushes_and_every_one_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "push::pushes_until_it_is_killed", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ends = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        // Killed at another moment each time, whatever it is doing then; what it had said before is
        // still in the pipe.
        let mut ends = ends.inspect(|end| last = *end);
        assert_eq!(ends.by_ref().take(3 + round).count(), 3 + round);
        std::thread::sleep(std::time::Duration::from_micros(700 * round as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        ends.for_each(drop);
        let source = open(folder.path()).await;
        let (held, found) = (source.rows(), all(&source).await);
        assert!(held >= last && held % 7 == 0, "{held} rows of {last} acknowledged");
        assert_eq!(found, rows(0, held as i64));
        assert!(parts(folder.path()).iter().all(|name| !name.starts_with('.')));
    }
    assert!(last >= 6 * 3 * 7);
}

#[tokio::test]
async fn a_log_keeps_its_identity_and_no_other_has_it() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let source = open(folders[0].path()).await;
    let identity = source.identity().to_owned();
    source.push(&rows(0, 5)).await.unwrap();
    drop(source);
    assert_eq!(open(folders[0].path()).await.identity(), identity);
    assert_ne!(open(folders[1].path()).await.identity(), identity);
    let memory = || PushSource::in_memory("p", rows(0, 0).schema()).unwrap();
    assert_ne!(memory().identity(), memory().identity());
    std::fs::write(folders[0].path().join("identity"), "x").unwrap();
    let error = PushSource::open("p", folders[0].path(), rows(0, 0).schema()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("identity"), "{error}");
}
