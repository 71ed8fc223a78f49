//! What a registry may do, and what is made of it.

use std::sync::Arc;
use std::time::Duration;

use kaizen_core::{ArtifactStore, Bytes, Digest, Error, ErrorKind, Records, stream};
use kaizen_testkit::artifact_store::{self as suite, release};

use crate::fake::{Choices, Fake};
use crate::proxy::{Cut, Proxy};
use crate::server::Reply;
use crate::support::Hands;
use crate::support::{bytes, noon, options, put_statement};

const KIB: usize = 1 << 10;

#[tokio::test]
async fn a_registry_keeps_every_rule_of_a_store_that_needs_no_listing() {
    for referrers in [true, false] {
        let fake = Fake::start(Choices { referrers, ..Choices::default() }).await;
        let store = fake.open(options().0);
        suite::blobs_come_back_under_their_digest(&store).await;
        suite::putting_a_blob_again_changes_nothing(&store).await;
        suite::a_missing_blob_is_not_found(&store).await;
        suite::manifests_are_kept_byte_for_byte(&store).await;
        suite::a_subject_need_not_be_there(&store).await;
        suite::referrers_are_all_and_in_order(&store).await;
        suite::records_come_back_with_their_payloads(&store).await;
        suite::a_record_of_another_kind_is_invalid(&store).await;
        suite::streams_of_any_pieces_give_the_same_blob(&store).await;
        suite::bytes_of_another_digest_are_refused(&store).await;
        suite::a_stream_gives_the_whole_blob(&store).await;
        suite::payloads_may_come_as_streams(&store).await;
        assert_eq!(store.manifests().await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(store.blobs().await.unwrap_err().kind(), ErrorKind::Unsupported);
        let digest = Digest::of("x");
        assert_eq!(store.remove_blob(&digest).await.unwrap_err().kind(), ErrorKind::Refused);
    }
}

#[tokio::test]
async fn a_blob_that_is_there_does_not_travel() {
    let fake = Fake::start(Choices::default()).await;
    let store = fake.open(options().0);
    let digest = store.put_blob("weights".into()).await.unwrap();
    let posts = fake.count("POST", "");
    let unread: kaizen_core::ByteStream =
        Box::pin(futures_util::stream::poll_fn(|_| panic!("nobody needs to read it")));
    assert_eq!(store.put_stream(unread, Some(&digest)).await.unwrap(), digest);
    assert_eq!(fake.count("POST", ""), posts);
}

#[tokio::test]
async fn a_large_blob_travels_in_chunks_and_a_small_one_whole() {
    let choices = Choices { min_chunk: Some(96 * KIB), ..Choices::default() };
    let fake = Fake::start(choices).await;
    let store = fake.open(options().0);
    let small = bytes(1, 64 * KIB - 1);
    store.put_blob(small).await.unwrap();
    assert_eq!((fake.count("PATCH", ""), fake.count("PUT", "")), (0, 1));
    let large = bytes(2, 300 * KIB);
    let pieces = stream::chunked(large.clone(), 7_001);
    let digest = store.put_stream(pieces, None).await.unwrap();
    let sizes: Vec<usize> = fake
        .server
        .requests()
        .iter()
        .filter(|r| r.method == "PATCH")
        .map(|r| r.body.len())
        .collect();
    assert_eq!(sizes, [96 * KIB, 96 * KIB, 96 * KIB, 12 * KIB], "as large as the registry wants");
    assert_eq!(store.get_blob(&digest).await.unwrap(), large);
    let exact = bytes(3, 192 * KIB);
    let digest = store.put_blob(exact.clone()).await.unwrap();
    assert_eq!(store.get_blob(&digest).await.unwrap(), exact);
}

#[tokio::test]
async fn a_chunk_whose_answer_is_lost_is_not_sent_again() {
    let fake = Fake::start(Choices::default()).await;
    let store = fake.open(options().0);
    fake.fault("PATCH", "", Reply::Raw(Vec::new()), true);
    fake.fault("PATCH", "", Reply::Raw(Vec::new()), false);
    fake.fault("PUT", "", Reply::Raw(Vec::new()), true);
    let large = bytes(4, 150 * KIB);
    let digest = store.put_blob(large.clone()).await.unwrap();
    assert_eq!(store.get_blob(&digest).await.unwrap(), large);
    // Three chunks, of which the second came twice: the first time nobody kept it.
    assert_eq!((fake.count("POST", ""), fake.count("PATCH", "")), (1, 4));
}

#[tokio::test]
async fn an_upload_of_which_the_registry_lost_bytes_is_an_error_to_try_again() {
    let fake = Fake::start(Choices::default()).await;
    let store = fake.open(options().0);
    fake.fault("PATCH", "", Reply::Raw(Vec::new()), false);
    fake.fault("GET", "/uploads/", Reply::status(404), false);
    let error = store.put_blob(bytes(5, 150 * KIB)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("the upload is lost"), "{error}");
    assert_eq!(fake.count("DELETE", "/uploads/"), 1, "and it is given up");
}

#[tokio::test]
async fn cut_connections_are_taken_up_where_they_were_cut() {
    // The fake registry forgets a request that it has not whole, so cuts upwards are whole chunks.
    for seed in 0..12_u64 {
        let fake = Fake::start(Choices::default()).await;
        let proxy = Proxy::start(fake.server.address, move |number| {
            let drawn = (seed * 7_919 + number as u64 * 104_729) % 200_000;
            match number % 3 {
                0 => Cut { up: Some(1_000 + drawn as usize), down: None },
                1 => Cut { up: None, down: Some(300 + drawn as usize) },
                _ => Cut::default(),
            }
        })
        .await;
        let (options, _) = options();
        let name = format!("{}/team/late", proxy.address);
        let store = kaizen_oci::RemoteRegistry::open(&name, options).unwrap();
        let large = bytes(seed, 500 * KIB);
        let digest = store.put_blob(large.clone()).await.unwrap();
        assert_eq!(store.get_blob(&digest).await.unwrap(), large, "seed {seed}");
        assert!(proxy.cuts() > 0, "seed {seed}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_ends_the_upload() {
    let fake = Fake::start(Choices::default()).await;
    let store = fake.open(options().0);
    for size in [10, 200 * KIB] {
        let begun = bytes(6, size);
        let digest = Digest::of(&begun);
        let broken = || Error::new(ErrorKind::Unavailable, "the disk is gone");
        let pieces = futures_util::stream::iter([Ok(begun), Err(broken())]);
        let error = store.put_stream(Box::pin(pieces), Some(&digest)).await.unwrap_err();
        assert_eq!(error.to_string(), "the disk is gone");
        assert!(!store.contains(&digest).await.unwrap());
    }
    assert_eq!(fake.state.lock().unwrap().uploads.len(), 0, "no upload is left open");
}

#[tokio::test]
async fn a_blob_is_mounted_where_the_registry_agrees_and_sent_where_not() {
    for mounts in [true, false] {
        let fake = Fake::start(Choices { mounts, ..Choices::default() }).await;
        let content = Bytes::from_static(b"weights");
        let digest = Digest::of(&content);
        let elsewhere = ("team/base".to_owned(), digest.to_string());
        fake.state.lock().unwrap().blobs.insert(elsewhere, content.to_vec());
        let (mut options, _) = options();
        options.mount_from = vec!["team/base".into()];
        let store = fake.open(options);
        store.put_blob(content.clone()).await.unwrap();
        assert_eq!(store.get_blob(&digest).await.unwrap(), content);
        let sent = fake.server.requests().iter().map(|one| one.body.len()).sum::<usize>();
        assert_eq!(sent, if mounts { 0 } else { content.len() });
        assert_eq!(fake.count("POST", ""), 1, "what was opened in place of a mount is used");
        assert!(!store.mount(&Digest::of("x"), "team/base").await.unwrap());
    }
}

#[tokio::test]
async fn statements_are_found_by_the_api_or_by_the_tag() {
    for choices in [
        Choices { referrers: true, page: Some(2), ..Choices::default() },
        Choices { conditional: true, ..Choices::default() },
        Choices::default(),
    ] {
        let fake = Fake::start(choices.clone()).await;
        let store = fake.open(options().0);
        let subject = store.put(&release(12), &[]).await.unwrap();
        assert_eq!(store.referrers(&subject).await.unwrap(), []);
        let mut expected = Vec::new();
        for text in ["a", "b", "c", "d", "e"] {
            expected.push(put_statement(&store, &subject, text).await);
        }
        expected.sort_unstable();
        assert_eq!(store.referrers(&subject).await.unwrap(), expected);
        let tag = format!("sha256-{}", subject.hex());
        assert_eq!(store.tags().await.unwrap().contains(&tag), !choices.referrers);
        assert_eq!(fake.count("PUT", &tag), if choices.referrers { 0 } else { 5 });
    }
}

#[tokio::test]
async fn many_that_say_something_at_once_are_all_found() {
    // Two clients, as two programs would be, where the registry knows conditions.
    let fake = Fake::start(Choices { conditional: true, ..Choices::default() }).await;
    let (mut patient, _) = options();
    patient.retry.attempts = 10;
    let stores = [fake.open(patient.clone()), fake.open(patient)];
    let subject = stores[0].put(&release(12), &[]).await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..12 {
        let store = stores[number % 2].clone();
        all.spawn(async move { put_statement(&store, &subject, &number.to_string()).await });
    }
    let mut expected = all.join_all().await;
    expected.sort_unstable();
    assert_eq!(stores[1].referrers(&subject).await.unwrap(), expected);
}

#[tokio::test]
async fn of_two_that_say_the_first_thing_at_once_neither_is_lost() {
    let fake = Fake::start(Choices { conditional: true, ..Choices::default() }).await;
    let stores = [fake.open(options().0), fake.open(options().0)];
    let subject = stores[0].put(&release(12), &[]).await.unwrap();
    let one = put_statement(&stores[0], &subject, "one").await;
    // The other has looked for the list just before it was there.
    let tag = format!("manifests/sha256-{}", subject.hex());
    fake.fault("GET", &tag, Reply::status(404), false);
    let two = put_statement(&stores[1], &subject, "two").await;
    let mut expected = vec![one, two];
    expected.sort_unstable();
    assert_eq!(stores[0].referrers(&subject).await.unwrap(), expected);
}

#[tokio::test]
async fn sessions_that_a_refused_mount_opened_are_not_left_behind() {
    let fake = Fake::start(Choices::default()).await;
    let (mut options, _) = options();
    options.mount_from = ["a", "b", "c"].map(str::to_owned).to_vec();
    let store = fake.open(options);
    let small = store.put_blob(bytes(1, 100)).await.unwrap();
    let large = store.put_blob(bytes(2, 200_000)).await.unwrap();
    assert!(store.contains(&small).await.unwrap() && store.contains(&large).await.unwrap());
    assert_eq!(fake.count("POST", "mount="), 6);
    assert_eq!(fake.state.lock().unwrap().uploads.len(), 0);
    // One that is refused at its end is given up too.
    fake.fault("PUT", "/blobs/uploads/", Reply::status(400), false);
    store.put_blob(bytes(3, 200_000)).await.unwrap_err();
    assert_eq!(fake.state.lock().unwrap().uploads.len(), 0);
}

#[tokio::test]
async fn tags_are_put_read_and_listed_page_by_page() {
    let fake = Fake::start(Choices { page: Some(3), ..Choices::default() }).await;
    let store = fake.open(options().0);
    assert_eq!(store.tags().await.unwrap(), Vec::<String>::new());
    assert_eq!(store.get_tag("v1").await.unwrap(), None);
    let first = store.put(&release(13), &[]).await.unwrap();
    let second = store.put(&release(14), &[]).await.unwrap();
    let names: Vec<String> = (0..10).map(|number| format!("v{number}")).collect();
    for name in &names {
        store.put_tag(name, &first).await.unwrap();
    }
    assert_eq!(store.tags().await.unwrap(), names);
    store.put_tag("v3", &second).await.unwrap();
    assert_eq!(store.get_tag("v3").await.unwrap(), Some(second));
    let reference = |end: &str| format!("{}{end}", store.reference()).parse().unwrap();
    assert_eq!(store.resolve(&reference(":v2")).await.unwrap(), first);
    assert_eq!(store.resolve(&reference(&format!(":v2@{second}"))).await.unwrap(), second);
    let error = store.resolve(&reference("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "there is no `latest`: {error}");
    let missing = store.put_tag("v1", &Digest::of("x")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    for bad in ["", "-x", "a/b", "../x", "a:b"] {
        assert_eq!(store.put_tag(bad, &first).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(store.get_tag(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_manifest_needs_its_blobs_whether_the_registry_looks_or_not() {
    let fake = Fake::start(Choices::default()).await;
    let store = fake.open(options().0);
    let missing = kaizen_core::Descriptor::of("text/plain", b"not here");
    let manifest = kaizen_core::Manifest::new(missing.clone(), Vec::new());
    let bytes = manifest.to_bytes().unwrap();
    let error = store.put_manifest(bytes.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&missing.digest.hex()), "{error}");
    assert_eq!(fake.count("PUT", "/manifests/"), 0);
}

#[tokio::test]
async fn a_registry_that_is_busy_is_asked_again_when_it_says() {
    let fake = Fake::start(Choices::default()).await;
    let (mut options, pace) = options();
    options.clock = Hands::at_noon();
    let store = fake.open(options);
    fake.fault("HEAD", "", Reply::status(429).header("retry-after", "7"), false);
    let date = "Mon, 23 Nov 2026 12:00:30 GMT";
    fake.fault("HEAD", "", Reply::status(503).header("retry-after", date), false);
    fake.fault("HEAD", "", Reply::status(500), false);
    assert!(!store.contains(&Digest::of("x")).await.unwrap());
    let half = |millis| Duration::from_millis(millis) / 2;
    let expected =
        [Duration::from_secs(7) + half(250), Duration::from_secs(30) + half(500), half(1_000)];
    assert_eq!(pace.waited(), expected, "at noon, {}", noon());

    fake.fault("HEAD", "", Reply::status(429).header("retry-after", "86400"), false);
    let error = store.contains(&Digest::of("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("86400 s"), "{error}");
    assert_eq!(pace.waited().len(), 3);

    for _ in 0..4 {
        fake.fault("HEAD", "", Reply::status(502), false);
    }
    let error = store.contains(&Digest::of("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "after four attempts: {error}");
}

#[tokio::test]
async fn a_put_of_a_statement_that_nobody_waits_for_is_found_all_the_same() {
    let fake = Fake::start(Choices::default()).await;
    let store = fake.open(options().0);
    let subject = store.put(&release(12), &[]).await.unwrap();
    let local = kaizen_testkit::MemoryStore::default();
    let own = local.put(&release(12), &[]).await.unwrap();
    assert_eq!(own, subject);
    let statement = put_statement(&local, &subject, "said").await;
    store.put_blob("said".into()).await.unwrap();
    let manifest = local.get_blob(&statement).await.unwrap();
    let mut put = store.put_manifest(manifest);
    // One poll starts the work; then the caller goes away.
    std::future::poll_fn(|context| {
        let _ = put.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(put);
    for _ in 0..500 {
        if store.referrers(&subject).await.unwrap() == [statement] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the statement is not found");
}

#[tokio::test]
async fn no_more_blobs_travel_at_once_than_is_said() {
    let fake = Fake::start(Choices::default()).await;
    let (mut options, _) = options();
    options.concurrency = 2;
    let store = Arc::new(fake.open(options));
    let mut all = tokio::task::JoinSet::new();
    for seed in 0..10 {
        let store = Arc::clone(&store);
        all.spawn(async move { store.put_blob(bytes(seed, 1_000)).await.unwrap() });
    }
    let digests = all.join_all().await;
    let open: Vec<_> = {
        let first = store.get_stream(&digests[0]).await.unwrap();
        let second = store.get_stream(&digests[1]).await.unwrap();
        vec![first, second]
    };
    let third = store.get_stream(&digests[2]);
    let waits = tokio::time::timeout(Duration::from_millis(100), third).await;
    assert!(waits.is_err(), "a third one waits");
    drop(open);
    drop(store.get_stream(&digests[2]).await.unwrap());
}
