//! The conformance suite of [`ArtifactStore`]: one function per rule, which panics if the store
//! breaks it.
//!
//! The store may hold other things already, and is not emptied.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a suite fails by panicking")]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use kaizen_core::record::Release;
use kaizen_core::{
    ArtifactStore, Bytes, Descriptor, Digest, Error, ErrorKind, Manifest, Payload, Records, Result,
    media_type, stream,
};

/// Checks every rule.
pub async fn suite(store: &dyn ArtifactStore) {
    blobs_come_back_under_their_digest(store).await;
    putting_a_blob_again_changes_nothing(store).await;
    a_missing_blob_is_not_found(store).await;
    streams_of_any_pieces_give_the_same_blob(store).await;
    bytes_of_another_digest_are_refused(store).await;
    a_stream_that_fails_leaves_nothing(store).await;
    a_put_that_is_dropped_leaves_nothing(store).await;
    a_stream_gives_the_whole_blob(store).await;
    manifests_are_kept_byte_for_byte(store).await;
    a_manifest_needs_its_blobs(store).await;
    what_is_no_manifest_is_refused(store).await;
    a_subject_need_not_be_there(store).await;
    a_subject_may_be_a_large_blob(store).await;
    referrers_are_all_and_in_order(store).await;
    manifests_are_listed_once_and_in_order(store).await;
    records_come_back_with_their_payloads(store).await;
    a_record_of_another_kind_is_invalid(store).await;
    blobs_are_all_listed_with_their_sizes(store).await;
    payloads_may_come_as_streams(store).await;
    payloads_have_names_of_their_own(store).await;
    what_is_read_is_bounded(store).await;
    ages_of_blobs_are_told_if_they_are_known(store).await;
    a_removed_blob_is_gone_and_nothing_else(store).await;
    a_removed_manifest_is_gone_and_nothing_else(store).await;
}

/// What was put comes back under the digest of its bytes, an empty blob too.
pub async fn blobs_come_back_under_their_digest(store: &dyn ArtifactStore) {
    let large: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    for bytes in [Bytes::new(), Bytes::from_static(b"\0\xff\n"), Bytes::from(large)] {
        let digest = store.put_blob(bytes.clone()).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes), "the id of a blob is the digest of its bytes");
        assert!(store.contains(&digest).await.unwrap(), "a blob that was put is contained");
        assert_eq!(store.get_blob(&digest).await.unwrap(), bytes, "a blob comes back unchanged");
    }
}

/// Putting a blob twice gives the same digest and leaves the blob as it is.
pub async fn putting_a_blob_again_changes_nothing(store: &dyn ArtifactStore) {
    let bytes = Bytes::from_static(b"kaizen testkit: put twice");
    let first = store.put_blob(bytes.clone()).await.unwrap();
    let second = store.put_blob(bytes.clone()).await.unwrap();
    assert_eq!(first, second, "equal bytes have one digest");
    assert_eq!(store.get_blob(&first).await.unwrap(), bytes);
}

/// A blob that is not there is `NotFound`, by its name.
pub async fn a_missing_blob_is_not_found(store: &dyn ArtifactStore) {
    let missing = Digest::of("kaizen testkit: never put");
    assert!(!store.contains(&missing).await.unwrap(), "a missing blob is not contained");
    let error = store.get_blob(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains(&missing.hex()), "the error names the digest: {error}");
}

/// However the bytes are cut, the same blob comes of them: with the digest given, or not.
pub async fn streams_of_any_pieces_give_the_same_blob(store: &dyn ArtifactStore) {
    for (text, most) in [("", 1), ("one byte at a time", 1), ("in pieces of seven", 7)] {
        let digest = Digest::of(text);
        for expected in [None, Some(&digest), None] {
            let pieces = stream::chunked(Bytes::copy_from_slice(text.as_bytes()), most);
            assert_eq!(store.put_stream(pieces, expected).await.unwrap(), digest, "`{text}`");
            assert_eq!(store.get_blob(&digest).await.unwrap(), text);
        }
    }
    // Larger than any part that a store may cut it into.
    let large: Vec<u8> = (0..17_u32 << 20).map(|i| (i % 249) as u8).collect();
    let large = Bytes::from(large);
    let digest = Digest::of(&large);
    let pieces = stream::chunked(large.clone(), 100_003);
    assert_eq!(store.put_stream(pieces, None).await.unwrap(), digest);
    assert_eq!(store.size_of(&digest).await.unwrap(), Some(large.len() as u64));
    assert!(store.get_blob(&digest).await.unwrap() == large, "a large blob comes back unchanged");
    let mut other = Vec::from(large);
    other.push(7);
    let digest = Digest::of(&other);
    let pieces = stream::chunked(other.into(), 3 << 20);
    assert_eq!(store.put_stream(pieces, Some(&digest)).await.unwrap(), digest);
    assert_eq!(store.size_of(&digest).await.unwrap(), Some((17 << 20) + 1));
}

/// If other bytes come than were expected, the put is `Corrupt`, and neither blob is there.
pub async fn bytes_of_another_digest_are_refused(store: &dyn ArtifactStore) {
    let large = Bytes::from(vec![3; 9 << 20]);
    for bytes in [Bytes::from_static(b"kaizen testkit: not what was announced"), large] {
        let digest = Digest::of(&bytes);
        let expected = Digest::of("kaizen testkit: what was announced and never came");
        let pieces = stream::chunked(bytes, 1 << 20);
        let error = store.put_stream(pieces, Some(&expected)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let named = error.to_string().contains(&expected.hex());
        assert!(named, "the error names the expected digest: {error}");
        for absent in [expected, digest] {
            assert_eq!(store.size_of(&absent).await.unwrap(), None, "nothing is kept");
        }
    }
}

/// A stream that fails in the middle fails the put, and nothing is there.
pub async fn a_stream_that_fails_leaves_nothing(store: &dyn ArtifactStore) {
    let before = store.blobs().await.unwrap();
    for size in [10, 12 << 20] {
        let begun = Bytes::from(vec![5; size]);
        let digest = Digest::of(&begun);
        for expected in [None, Some(&digest)] {
            let pieces = Interrupted { begun: Some(begun.clone()), then_fails: true };
            let error = store.put_stream(Box::pin(pieces), expected).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "the stream's own error: {error}");
            assert!(!store.contains(&digest).await.unwrap(), "nothing is kept");
        }
    }
    assert_eq!(store.blobs().await.unwrap(), before, "nothing is listed");
}

/// If the caller goes away before the stream has ended, nothing is there.
pub async fn a_put_that_is_dropped_leaves_nothing(store: &dyn ArtifactStore) {
    let before = store.blobs().await.unwrap();
    for size in [10, 12 << 20] {
        let begun = Bytes::from(vec![9; size]);
        let digest = Digest::of(&begun);
        for expected in [None, Some(&digest)] {
            let pieces = Interrupted { begun: Some(begun.clone()), then_fails: false };
            let mut put = store.put_stream(Box::pin(pieces), expected);
            for _ in 0..50 {
                // What happens beside it gets its turn.
                let turn = poll_fn(|context| {
                    let done = put.as_mut().poll(context).is_ready();
                    context.waker().wake_by_ref();
                    Poll::Ready(done)
                });
                assert!(!turn.await, "the stream has not ended");
                store.size_of(&digest).await.unwrap();
            }
            drop(put);
            assert!(!store.contains(&digest).await.unwrap(), "nothing can be seen");
        }
    }
    assert_eq!(store.blobs().await.unwrap(), before, "nothing is listed");
}

/// A stream gives the bytes of the blob; of a missing one it is `NotFound`.
pub async fn a_stream_gives_the_whole_blob(store: &dyn ArtifactStore) {
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 241) as u8).collect();
    for bytes in [Bytes::new(), Bytes::from_static(b"streamed"), Bytes::from(large)] {
        let digest = store.put_blob(bytes.clone()).await.unwrap();
        let pieces = store.get_stream(&digest).await.unwrap();
        let read = stream::whole(pieces, bytes.len() as u64, "a blob").await.unwrap();
        assert!(read == bytes, "a stream gives what was put");
    }
    let missing = Digest::of("kaizen testkit: never put, never streamed");
    let error = match store.get_stream(&missing).await {
        Ok(pieces) => stream::whole(pieces, 0, "a blob").await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// Damage to a stored blob shows when it is read: whole, and as a stream at its end at the latest.
/// `damage` changes the stored bytes behind the store's back; not in [`suite`], for only the
/// author of a store can write it.
pub async fn damage_shows_at_the_end_of_a_stream(
    store: &dyn ArtifactStore,
    damage: impl Fn(&Digest, Bytes),
) {
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|i| (i % 239) as u8).collect();
    let digest = store.put_blob(bytes.clone().into()).await.unwrap();
    let altered = |at: usize| {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        altered
    };
    let longer = [&bytes[..], b"!"].concat();
    let shorter = bytes[..bytes.len() - 1].to_vec();
    for bad in [altered(0), altered(bytes.len() - 1), longer, shorter, Vec::new()] {
        damage(&digest, bad.into());
        let whole = store.get_blob(&digest).await.unwrap_err();
        assert_eq!(whole.kind(), ErrorKind::Corrupt, "{whole}");
        let streamed = match store.get_stream(&digest).await {
            Ok(pieces) => stream::whole(pieces, u64::MAX, "a blob").await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(streamed.kind(), ErrorKind::Corrupt, "{streamed}");
        assert!(streamed.to_string().contains(&digest.hex()), "it names the blob: {streamed}");
    }
    // Whoever puts the right bytes again heals it: in memory, as a stream that is announced, and as
    // one that is not.
    let bytes = Bytes::from(bytes.clone());
    for (at, expected) in [(0, None), (1, Some(&digest)), (2, None)] {
        damage(&digest, altered(at).into());
        let pieces = stream::chunked(bytes.clone(), 100_000);
        match at {
            0 => store.put_blob(bytes.clone()).await.unwrap(),
            _ => store.put_stream(pieces, expected).await.unwrap(),
        };
        assert!(store.get_blob(&digest).await.unwrap() == bytes, "a put heals what is damaged");
    }
}

/// A blob of more bytes than the reader allows is `Limit`, by its name.
pub async fn what_is_read_is_bounded(store: &dyn ArtifactStore) {
    let bytes = Bytes::from_static(b"kaizen testkit: thirty-nine bytes to read");
    let digest = store.put_blob(bytes.clone()).await.unwrap();
    let size = bytes.len() as u64;
    for most in [size, size + 1, u64::MAX] {
        assert_eq!(store.get_bounded(&digest, most).await.unwrap(), bytes);
    }
    for most in [0, size - 1] {
        let error = store.get_bounded(&digest, most).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }
    let missing = Digest::of("kaizen testkit: never put, never read");
    let error = store.get_bounded(&missing, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// Two payloads of one name are refused when a record is put, and when it is read.
pub async fn payloads_have_names_of_their_own(store: &dyn ArtifactStore) {
    let release = release(1);
    let payloads = ["first", "second"].map(|text| Payload::new("rows", "text/plain", text));
    let error = store.put(&release, &payloads).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("`rows`"), "{error}");
    let id = store.put(&release, &payloads[..1]).await.unwrap();
    let mut manifest = store.manifest(&id).await.unwrap();
    manifest.layers.push(payloads[1].descriptor());
    let id = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
    let error = store.get::<Release>(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// A store that knows when a blob was put says the same of all of them, and by the clock that it
/// calls its own.
pub async fn ages_of_blobs_are_told_if_they_are_known(store: &dyn ArtifactStore) {
    let Ok(before) = store.now().await else { return };
    let digest = store.put_blob(Bytes::from_static(b"kaizen testkit: dated")).await.unwrap();
    let put = store.stored_at(&digest).await.unwrap().unwrap();
    let dated = store.dated_blobs().await.unwrap();
    assert!(dated.contains(&(digest, 21, put)), "it is listed with its instant");
    let sizes: Vec<_> = dated.iter().map(|(digest, size, _)| (*digest, *size)).collect();
    assert_eq!(sizes, store.blobs().await.unwrap(), "each is listed once, in order");
    // Object stores tell whole seconds.
    assert!(before.plus_seconds(-1) <= put, "{before} is before {put}");
    assert!(put <= store.now().await.unwrap().plus_seconds(1));
}

/// Every blob is listed once with its size, by digest, manifests too.
pub async fn blobs_are_all_listed_with_their_sizes(store: &dyn ArtifactStore) {
    let blob = store.put_blob(Bytes::from_static(b"kaizen testkit: listed")).await.unwrap();
    let empty = store.put_blob(Bytes::new()).await.unwrap();
    let bytes = manifest_of(store, "listed among blobs").await.to_bytes().unwrap();
    let manifest = store.put_manifest(bytes.clone().into()).await.unwrap();
    let listed = store.blobs().await.unwrap();
    assert!(listed.is_sorted(), "blobs come ordered by digest");
    for (digest, size) in [(blob, 22), (empty, 0), (manifest, bytes.len() as u64)] {
        let found: Vec<_> = listed.iter().filter(|(other, _)| *other == digest).collect();
        assert_eq!(found, [&(digest, size)], "each once, with its size");
    }
    for id in store.manifests().await.unwrap() {
        assert!(listed.iter().any(|(other, _)| *other == id), "every manifest is a blob");
    }
}

/// A payload that was put as a stream makes the same record as one that was in memory.
pub async fn payloads_may_come_as_streams(store: &dyn ArtifactStore) {
    let release = release(2);
    let bytes = Bytes::from_static(b"kaizen testkit: rows, in pieces");
    let pieces = stream::chunked(bytes.clone(), 4);
    let layer = store.put_payload("rows.csv", "text/csv", pieces).await.unwrap();
    let streamed = store.put_with(&release, vec![layer]).await.unwrap();
    let payload = Payload::new("rows.csv", "text/csv", bytes.clone());
    assert_eq!(store.put(&release, &[payload]).await.unwrap(), streamed);
    let stored = store.get::<Release>(&streamed).await.unwrap();
    let pieces = stored.payload_stream(store, "rows.csv").await.unwrap();
    assert_eq!(stream::whole(pieces, 100, "rows").await.unwrap(), bytes);
}

/// A manifest is stored as it was given, white space included.
pub async fn manifests_are_kept_byte_for_byte(store: &dyn ArtifactStore) {
    let manifest = manifest_of(store, "kept byte for byte").await;
    let spaced = with_spaces(&manifest);
    assert_ne!(spaced, manifest.to_bytes().unwrap(), "the test needs unusual white space");
    let id = store.put_manifest(spaced.clone().into()).await.unwrap();
    assert_eq!(id, Digest::of(&spaced), "the id of a manifest is the digest of its bytes");
    assert_eq!(store.get_blob(&id).await.unwrap(), spaced, "a manifest is never written anew");
}

/// A manifest whose body or payload is missing is refused, and leaves nothing behind.
pub async fn a_manifest_needs_its_blobs(store: &dyn ArtifactStore) {
    let here = describe(store, "a blob that is here").await;
    let missing = Descriptor::of(media_type::JSON, b"kaizen testkit: a blob that is not here");
    let without_body = Manifest::new(missing.clone(), vec![here.clone()]);
    let without_payload = Manifest::new(here.clone(), vec![here, missing.clone()]);
    for manifest in [without_body, without_payload] {
        let bytes = manifest.to_bytes().unwrap();
        let error = store.put_manifest(bytes.clone().into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let named = error.to_string().contains(&missing.digest.hex());
        assert!(named, "the error names the missing blob: {error}");
        let listed = store.manifests().await.unwrap().contains(&Digest::of(&bytes));
        assert!(!listed, "a refused manifest is not listed");
    }
}

/// Bytes that are no manifest are refused.
pub async fn what_is_no_manifest_is_refused(store: &dyn ArtifactStore) {
    for bytes in ["", "{}", "a,b\n1,2\n", "{\"schemaVersion\":2}"] {
        let refused = store.put_manifest(Bytes::from_static(bytes.as_bytes())).await;
        assert!(refused.is_err(), "`{bytes}` is no manifest");
        let listed = store.manifests().await.unwrap().contains(&Digest::of(bytes));
        assert!(!listed, "`{bytes}` is not listed");
    }
}

/// A statement may come before the thing that it is about.
pub async fn a_subject_need_not_be_there(store: &dyn ArtifactStore) {
    let mut manifest = manifest_of(store, "about nothing").await;
    let subject = Descriptor::of(media_type::MANIFEST, b"kaizen testkit: a subject to come");
    manifest.subject = Some(subject.clone());
    let id = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
    assert_eq!(store.referrers(&subject.digest).await.unwrap(), [id]);
}

/// A statement may be about a blob that is no manifest, and of any size.
pub async fn a_subject_may_be_a_large_blob(store: &dyn ArtifactStore) {
    let blob = store.put_blob(vec![11; Manifest::MAX_BYTES + 7].into()).await.unwrap();
    let image =
        kaizen_core::record::Image { release: blob, platform: String::new(), manifest: blob };
    let id = store.put(&image, &[]).await.unwrap();
    assert_eq!(store.referrers(&blob).await.unwrap(), [id]);
    let subject = store.manifest(&id).await.unwrap().subject.unwrap();
    assert_eq!(subject.size, Manifest::MAX_BYTES as u64 + 7);
}

/// The referrers of a digest are all manifests about it, by digest, and no others.
pub async fn referrers_are_all_and_in_order(store: &dyn ArtifactStore) {
    let subject = manifest_of(store, "a subject").await.to_bytes().unwrap();
    let subject_id = store.put_manifest(subject.clone().into()).await.unwrap();
    assert_eq!(store.referrers(&subject_id).await.unwrap(), [], "nothing is said of it yet");
    let mut expected = Vec::new();
    for text in ["one", "two", "three", "four"] {
        let mut manifest = manifest_of(store, text).await;
        manifest.subject = Some(Descriptor::of(media_type::MANIFEST, &subject));
        let bytes = manifest.to_bytes().unwrap();
        expected.push(store.put_manifest(bytes.clone().into()).await.unwrap());
        store.put_manifest(bytes.into()).await.unwrap();
    }
    expected.sort_unstable();
    assert_eq!(store.referrers(&subject_id).await.unwrap(), expected, "each once, by digest");
    let about_body = store.referrers(&Digest::of("one")).await.unwrap();
    assert_eq!(about_body, [], "a body is not a subject");
}

/// Every manifest is listed once, by digest, and other blobs are not.
pub async fn manifests_are_listed_once_and_in_order(store: &dyn ArtifactStore) {
    let blob = store.put_blob(Bytes::from_static(b"kaizen testkit: no manifest")).await.unwrap();
    let mut put = Vec::new();
    for text in ["listed 1", "listed 2", "listed 1"] {
        let bytes = manifest_of(store, text).await.to_bytes().unwrap();
        put.push(store.put_manifest(bytes.into()).await.unwrap());
    }
    let listed = store.manifests().await.unwrap();
    assert!(listed.is_sorted(), "manifests come ordered by digest");
    for id in put {
        assert_eq!(listed.iter().filter(|other| **other == id).count(), 1, "each once");
    }
    assert!(!listed.contains(&blob), "a plain blob is no manifest");
}

/// A record comes back with its body and its payloads; an equal one has the same id.
pub async fn records_come_back_with_their_payloads(store: &dyn ArtifactStore) {
    let release = release(3);
    let payloads = [
        Payload::new("a.bin", "application/octet-stream", "first"),
        Payload::new("b.json", media_type::JSON, "{}"),
    ];
    let id = store.put(&release, &payloads).await.unwrap();
    assert_eq!(store.put(&release, &payloads).await.unwrap(), id, "equal records have one id");
    let stored = store.get::<Release>(&id).await.unwrap();
    assert_eq!((stored.id, &stored.record), (id, &release));
    assert_eq!(stored.payload(store, "a.bin").await.unwrap(), "first");
    assert_eq!(stored.payload(store, "b.json").await.unwrap(), "{}");
    let missing = stored.payload(store, "c.bin").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
}

/// Reading a record as another kind is `Invalid`.
pub async fn a_record_of_another_kind_is_invalid(store: &dyn ArtifactStore) {
    let id = store.put(&release(4), &[]).await.unwrap();
    let error = store.get::<kaizen_core::record::Image>(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// A blob can be taken out: then it alone is gone, until it is put again. Manifests stay, those
/// that name it too. A store that removes nothing refuses each removal, and keeps what it has.
pub async fn a_removed_blob_is_gone_and_nothing_else(store: &dyn ArtifactStore) {
    let mut manifest = manifest_of(store, "names a blob that is removed").await;
    let subject = Descriptor::of(media_type::MANIFEST, b"kaizen testkit: what it is about");
    manifest.subject = Some(subject.clone());
    let doomed = describe(store, "kaizen testkit: to be removed").await.digest;
    manifest.layers.push(describe(store, "kaizen testkit: to be removed").await);
    let id = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
    let listed = store.manifests().await.unwrap();

    let refuses = match store.remove_blob(&doomed).await {
        Ok(was_there) => {
            assert!(was_there, "it was there");
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            true
        }
    };
    assert_eq!(store.contains(&doomed).await.unwrap(), refuses, "gone, unless it was refused");
    let of_manifest = store.remove_blob(&id).await.unwrap_err();
    let kind = if refuses { ErrorKind::Refused } else { ErrorKind::Invalid };
    assert_eq!(of_manifest.kind(), kind, "no manifest is removed: {of_manifest}");
    if !refuses {
        let error = store.get_blob(&doomed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(!store.remove_blob(&doomed).await.unwrap(), "it is not there any more");
    }
    assert_eq!(store.manifests().await.unwrap(), listed, "manifests stay");
    assert_eq!(store.referrers(&subject.digest).await.unwrap(), [id], "referrers stay");
    assert_eq!(store.manifest(&id).await.unwrap(), manifest, "its manifest can be read");
    for other in manifest.blobs().filter(|blob| blob.digest != doomed) {
        assert!(store.contains(&other.digest).await.unwrap(), "no other blob is touched");
    }
    describe(store, "kaizen testkit: put after a removal").await;
    describe(store, "kaizen testkit: to be removed").await;
    assert!(store.contains(&doomed).await.unwrap(), "what is put again is there again");
}

/// A manifest can be taken out: then it is not listed, is nobody's referrer and cannot be read;
/// its blobs stay. What is no manifest is not taken. A store that removes nothing refuses.
pub async fn a_removed_manifest_is_gone_and_nothing_else(store: &dyn ArtifactStore) {
    let mut manifest = manifest_of(store, "a manifest that is removed").await;
    let subject = Descriptor::of(media_type::MANIFEST, b"kaizen testkit: what it was about");
    manifest.subject = Some(subject.clone());
    let bytes = Bytes::from(manifest.to_bytes().unwrap());
    let id = store.put_manifest(bytes.clone()).await.unwrap();
    let others: Vec<_> =
        store.manifests().await.unwrap().into_iter().filter(|m| *m != id).collect();
    match store.remove_manifest(&id).await {
        Ok(was_there) => assert!(was_there, "it was there"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(store.contains(&id).await.unwrap(), "a refusal changes nothing");
            return;
        }
    }
    assert_eq!(store.manifests().await.unwrap(), others, "it alone is gone");
    assert_eq!(store.referrers(&subject.digest).await.unwrap(), []);
    assert_eq!(store.get_blob(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!store.remove_manifest(&id).await.unwrap(), "it is not there any more");
    let blob = manifest.config.digest;
    assert!(!store.remove_manifest(&blob).await.unwrap(), "a plain blob is no manifest");
    for blob in manifest.blobs() {
        assert!(store.contains(&blob.digest).await.unwrap(), "its blobs stay");
    }
    assert_eq!(store.put_manifest(bytes).await.unwrap(), id, "it can come back");
    assert_eq!(store.referrers(&subject.digest).await.unwrap(), [id]);
}

/// A stream that begins and then fails, or never goes on.
struct Interrupted {
    begun: Option<Bytes>,
    then_fails: bool,
}

impl Stream for Interrupted {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if let Some(begun) = &mut self.begun {
            let piece = begun.split_to(begun.len().min(1 << 20));
            if piece.is_empty() {
                self.begun = None;
            } else {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
        if self.then_fails {
            let message = "a stream of the testkit was cut off";
            return Poll::Ready(Some(Err(Error::new(ErrorKind::Unavailable, message))));
        }
        Poll::Pending
    }
}

/// A small record: that of another version has another digest.
pub fn release(version: u32) -> Release {
    Release {
        name: "kaizen testkit".to_owned(),
        version,
        model: Digest::of("kaizen testkit: a model"),
        service: Digest::of("kaizen testkit: a service"),
        functions: Vec::new(),
    }
}

async fn describe(store: &dyn ArtifactStore, text: &str) -> Descriptor {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    store.put_blob(bytes.clone()).await.unwrap();
    Descriptor::of("text/plain", &bytes)
}

/// A manifest whose body and payload are in the store.
async fn manifest_of(store: &dyn ArtifactStore, text: &str) -> Manifest {
    let payload = describe(store, "kaizen testkit: a payload").await;
    Manifest::new(describe(store, text).await, vec![payload])
}

/// The manifest with a space before each of its fields: the same JSON, other bytes.
fn with_spaces(manifest: &Manifest) -> Vec<u8> {
    let text = String::from_utf8(manifest.to_bytes().unwrap()).unwrap();
    text.replace(",\"", ",\n \"").into_bytes()
}
