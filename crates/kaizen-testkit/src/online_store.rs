//! The conformance suite of the port [`OnlineStore`].
#![allow(clippy::panic, reason = "a suite fails by panicking")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use kaizen_core::{Bytes, Result};
use kaizen_table::{OnlineEntry, OnlineStore};

/// Checks an empty store.
pub async fn suite(store: &dyn OnlineStore) {
    keys_and_spaces(store).await;
    last_write_wins(store).await;
    any_bytes(store).await;
    all_or_none(store).await;
    a_put_that_returned_is_read(store).await;
    removal(store).await;
    pages(store).await;
}

/// Checks that two stores, one of which may only be read, hold the same in the spaces of the first.
pub async fn same(store: &dyn OnlineStore, other: &dyn OnlineStore) {
    for space in spaces(store).await {
        let entries = whole(store, &space).await;
        assert_eq!(whole(other, &space).await, entries, "space {space}");
        let keys: Vec<&[u8]> = entries.iter().map(|(key, _)| &key[..]).collect();
        let values: Vec<Option<Bytes>> =
            entries.iter().map(|(_, value)| Some(value.clone())).collect();
        assert_eq!(get(other, &space, &keys).await, values, "space {space}");
    }
}

/// All entries of a space in the order of their keys.
async fn whole(store: &dyn OnlineStore, space: &str) -> Vec<(Bytes, Bytes)> {
    let (mut found, mut after, mut calls) = (Vec::new(), None, 0);
    loop {
        let page = store.page(space, after.as_ref(), 100).await;
        let page = page.unwrap_or_else(|error| panic!("page: {error:?}"));
        found.extend(page.entries);
        after = page.next;
        calls += 1;
        assert!(calls < 100_000, "pages end");
        if after.is_none() {
            break;
        }
    }
    found.sort();
    found
}

async fn keys_and_spaces(store: &dyn OnlineStore) {
    assert_eq!(get(store, "a", &[b"1"]).await, [None], "nothing is in an empty store");
    assert!(get(store, "a", &[]).await.is_empty(), "no keys, no values");
    ok(store.put(Vec::new()).await);
    ok(store.put(vec![entry("a", b"1", b"one"), entry("a", b"2", b"two")]).await);
    let found = get(store, "a", &[b"2", b"9", b"1", b"2"]).await;
    let expected = [Some("two"), None, Some("one"), Some("two")];
    assert_eq!(found, expected.map(|text| text.map(Bytes::from)), "values in the order of keys");
    assert_eq!(get(store, "b", &[b"1"]).await, [None], "another space has other keys");
    // Space and key together spell the same in each of these.
    ok(store.put(vec![entry("ab", b"c", b"1"), entry("a", b"bc", b"2")]).await);
    let apart = [get(store, "ab", &[b"c"]).await, get(store, "a", &[b"bc"]).await].concat();
    assert_eq!(apart, [Some(Bytes::from("1")), Some(Bytes::from("2"))], "spaces do not run over");
}

async fn last_write_wins(store: &dyn OnlineStore) {
    ok(store.put(vec![entry("w", b"k", b"old"), entry("w", b"other", b"stays")]).await);
    ok(store.put(vec![entry("w", b"k", b"longer than before")]).await);
    let found = get(store, "w", &[b"k", b"other"]).await;
    let expected = ["longer than before", "stays"].map(|text| Some(Bytes::from(text)));
    assert_eq!(found, expected, "a value replaces the one before, and no other");
    ok(store.put(vec![entry("w", b"k", b"1"), entry("w", b"k", b"2")]).await);
    assert_eq!(get(store, "w", &[b"k"]).await, [Some(Bytes::from("2"))], "the later entry wins");
}

async fn any_bytes(store: &dyn OnlineStore) {
    let large = vec![7; 1 << 20];
    let entries = vec![
        entry("bytes", b"", b"empty key"),
        entry("bytes", b"\0", b"\0"),
        entry("bytes", b"\xff\xfe", b""),
        entry("bytes", b"large", &large),
    ];
    ok(store.put(entries).await);
    let found = get(store, "bytes", &[b"", b"\0", b"\xff\xfe", b"large"]).await;
    let expected: [&[u8]; 4] = [b"empty key", b"\0", b"", &large];
    let expected = expected.map(|value| Some(Bytes::copy_from_slice(value)));
    assert_eq!(found, expected, "keys and values are any bytes, empty ones too");
}

/// Writers and readers at the same time: a reader sees both entries of a write, or neither.
async fn all_or_none(store: &dyn OnlineStore) {
    const ROUNDS: u32 = 40;
    let writer = |name: &'static str| async move {
        for round in 0..ROUNDS {
            let value = format!("{name} {round}");
            let both = [b"left", &b"right"[..]].map(|key| entry("pair", key, value.as_bytes()));
            ok(store.put(both.to_vec()).await);
        }
    };
    let reader = || async move {
        for _ in 0..4 * ROUNDS {
            let found = get(store, "pair", &[b"left", b"right"]).await;
            assert_eq!(found[0], found[1], "a reader sees all entries of a write, or none");
        }
    };
    let work: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> =
        vec![Box::pin(writer("a")), Box::pin(reader()), Box::pin(writer("b")), Box::pin(reader())];
    together(work).await;
}

/// Writers at the same time: each reads what it has just written, and so does everyone at the end.
async fn a_put_that_returned_is_read(store: &dyn OnlineStore) {
    const ROUNDS: u32 = 40;
    const WRITERS: u32 = 8;
    let key = |writer: u32| writer.to_le_bytes();
    let writer = |writer: u32| async move {
        for round in 0..ROUNDS {
            let value = round.to_le_bytes();
            ok(store.put(vec![entry("returned", &key(writer), &value)]).await);
            let found = get(store, "returned", &[&key(writer)]).await;
            let written = Some(Bytes::copy_from_slice(&value));
            assert_eq!(found, [written], "writer {writer}: a put that returned is read");
        }
    };
    let work: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> =
        (0..WRITERS).map(|number| Box::pin(writer(number)) as _).collect();
    together(work).await;
    for number in 0..WRITERS {
        let found = get(store, "returned", &[&key(number)]).await;
        let last = Some(Bytes::copy_from_slice(&(ROUNDS - 1).to_le_bytes()));
        assert_eq!(found, [last], "writer {number}: what was written last is there");
    }
}

async fn removal(store: &dyn OnlineStore) {
    let remove = |key: &[u8]| OnlineEntry { value: None, ..entry("gone", key, b"") };
    ok(store.put(vec![entry("gone", b"1", b"a"), entry("gone", b"2", b"b")]).await);
    ok(store.put(vec![remove(b"1"), remove(b"never there"), entry("gone", b"3", b"c")]).await);
    let found = get(store, "gone", &[b"1", b"2", b"3"]).await;
    let expected = [None, Some("b"), Some("c")].map(|text| text.map(Bytes::from));
    assert_eq!(found, expected, "an entry without a value removes its key, and no other");
    ok(store.put(vec![remove(b"2"), entry("gone", b"2", b"back"), remove(b"3")]).await);
    let found = get(store, "gone", &[b"2", b"3"]).await;
    assert_eq!(found, [Some(Bytes::from("back")), None], "of several entries the last counts");
    ok(store.put(vec![remove(b"2")]).await);
    assert!(!spaces(store).await.contains(&"gone".to_owned()), "an empty space is not listed");
}

async fn pages(store: &dyn OnlineStore) {
    let mut written: Vec<(Bytes, Bytes)> = (0..250_u32)
        .map(|number| (number.to_le_bytes().to_vec().into(), number.to_string().into()))
        .collect();
    written.push((Bytes::new(), Bytes::from("of the empty key")));
    let entries = written.iter().map(|(key, value)| entry("pages", key, value)).collect();
    ok(store.put(entries).await);
    ok(store.put(vec![entry("page", b"k", b"before"), entry("pages2", b"k", b"after")]).await);
    let found = whole(store, "pages").await;
    written.sort();
    assert_eq!(found, written, "the pages of a space hold each of its keys once");
    let empty = store.page("no such space", None, 100).await;
    let empty = empty.unwrap_or_else(|error| panic!("page: {error:?}"));
    assert!(empty.entries.is_empty() && empty.next.is_none(), "nothing is in no space");
    let listed = spaces(store).await;
    assert!(listed.is_sorted(), "spaces come in the order of their names");
    for space in ["page", "pages", "pages2"] {
        assert_eq!(listed.iter().filter(|name| *name == space).count(), 1, "{space} in {listed:?}");
    }
}

async fn spaces(store: &dyn OnlineStore) -> Vec<String> {
    store.spaces().await.unwrap_or_else(|error| panic!("spaces: {error:?}"))
}

/// Runs futures at the same time to their ends.
async fn together(mut work: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    poll_fn(|context| {
        work.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if work.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn get(store: &dyn OnlineStore, space: &str, keys: &[&[u8]]) -> Vec<Option<Bytes>> {
    let keys: Vec<Bytes> = keys.iter().map(|key| Bytes::copy_from_slice(key)).collect();
    let found = store.get(space, &keys).await;
    let found = found.unwrap_or_else(|error| panic!("get: {error:?}"));
    assert_eq!(found.len(), keys.len(), "one answer for each key");
    found
}

fn ok(done: Result<()>) {
    if let Err(error) = done {
        panic!("put: {error:?}");
    }
}

fn entry(space: &str, key: &[u8], value: &[u8]) -> OnlineEntry {
    let (key, value) = (Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
    OnlineEntry { space: space.to_owned(), key, value }
}
