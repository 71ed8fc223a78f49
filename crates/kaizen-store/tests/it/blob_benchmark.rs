//! A blob of 1 GB, against `openssl dgst -sha256`, `cp` and `fsync` on the same disk.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use kaizen_core::{ArtifactStore, ByteStream, Bytes, Digest, stream};
use kaizen_store::LocalStore;

const SIZE: usize = 1_000_000_000;

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn openssl_and_cp(source: &Path, target: &Path) -> f64 {
    let _ = fs::remove_file(target);
    seconds(|| {
        let hashed =
            Command::new("openssl").args(["dgst", "-sha256"]).arg(source).output().unwrap();
        assert!(hashed.status.success());
        assert!(Command::new("cp").arg(source).arg(target).status().unwrap().success());
        fs::File::open(target).unwrap().sync_all().unwrap();
    })
}

fn file(path: &Path) -> ByteStream {
    use std::io::Read as _;
    let mut file = fs::File::open(path).unwrap();
    let pieces = std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(1 << 20);
        let read = file.by_ref().take(1 << 20).read_to_end(&mut piece).unwrap();
        (read > 0).then(|| Ok(Bytes::from(piece)))
    });
    Box::pin(futures_util::stream::iter(pieces))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: run it with --release, on a machine that does nothing else"]
async fn a_blob_of_1_gb() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let source = dir.path().join("source");
    let mut state = 1_u64;
    let bytes: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        })
        .collect();
    fs::write(&source, &bytes).unwrap();
    fs::File::open(&source).unwrap().sync_all().unwrap();
    let digest = Digest::of(&bytes);
    drop(bytes);
    for round in 0..3 {
        let rival = openssl_and_cp(&source, &dir.path().join("copy"));
        fs::remove_file(dir.path().join("copy")).unwrap();
        let store = LocalStore::open(dir.path().join(format!("store-{round}"))).await.unwrap();
        let start = Instant::now();
        assert_eq!(store.put_stream(file(&source), None).await.unwrap(), digest);
        let put = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut pieces = store.get_stream(&digest).await.unwrap();
        let mut out = fs::File::create(dir.path().join("out")).unwrap();
        while let Some(piece) = stream::next(&mut pieces).await {
            std::io::Write::write_all(&mut out, &piece.unwrap()).unwrap();
        }
        out.sync_all().unwrap();
        let get = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut pieces = store.get_stream(&digest).await.unwrap();
        while let Some(piece) = stream::next(&mut pieces).await {
            piece.unwrap();
        }
        let read = start.elapsed().as_secs_f64();
        println!(
            "store/blob_1gb put={put:.2}s get_to_file={get:.2}s get={read:.2}s \
             openssl_cp={rival:.2}s put/openssl_cp={:.2} get/openssl_cp={:.2}",
            put / rival,
            get / rival
        );
        fs::remove_file(dir.path().join("out")).unwrap();
        fs::remove_dir_all(dir.path().join(format!("store-{round}"))).unwrap();
    }
}
