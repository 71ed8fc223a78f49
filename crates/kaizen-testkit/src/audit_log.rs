//! The conformance suite of [`AuditLog`]: one function per rule, which panics if the log breaks
//! it.
//!
//! The log may have other entries already. Nobody else may append to it meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a suite fails by panicking")]

use kaizen_core::record::Occurrence;
use kaizen_core::{
    Actor, AliasChange, AuditLog, Digest, Entry, ErrorKind, Event, OperationId, Timestamp,
};

/// Checks every rule.
pub async fn suite(log: &dyn AuditLog) {
    entries_come_back_in_order(log).await;
    appending_nothing_changes_nothing(log).await;
    a_wrong_expectation_is_a_conflict(log).await;
    an_append_is_whole_or_not_at_all(log).await;
    reading_beyond_the_end_is_not_found(log).await;
    the_checkpoint_covers_every_entry(log).await;
    many_entries_at_once_and_one_by_one(log).await;
}

/// An entry of the suite: the `number`-th, with something of everything in it.
pub fn entry(number: u64) -> Entry {
    let at = Timestamp::from_micros(1_356_998_400_000_000).plus_seconds(number as i64);
    let actor = if number.is_multiple_of(2) { Actor::system("suite") } else { Actor::person("Æ") };
    let event = match number % 3 {
        0 => Event::Trained,
        1 => Event::Registered { name: format!("model {number}"), version: 1 },
        _ => Event::AliasMoved {
            name: "late".to_owned(),
            alias: "champion".to_owned(),
            from: None,
            to: 1,
            change: AliasChange::Override { reason: "\"why\"\nnot".to_owned() },
        },
    };
    Entry {
        at,
        actor,
        operation: OperationId::new("suite", at),
        event,
        subject: Digest::of(number.to_be_bytes()),
        evidence: (0..number % 4).map(|i| Digest::of(i.to_be_bytes())).collect(),
    }
}

/// What was appended comes back at the indices that the append gave.
pub async fn entries_come_back_in_order(log: &dyn AuditLog) {
    let start = log.size().await.unwrap();
    let entries: Vec<_> = (0..5).map(entry).collect();
    assert_eq!(log.append(&entries[..2], None).await.unwrap(), start..start + 2);
    assert_eq!(log.append(&entries[2..], None).await.unwrap(), start + 2..start + 5);
    assert_eq!(log.size().await.unwrap(), start + 5, "the size counts every entry");
    assert_eq!(log.read(start..start + 5).await.unwrap(), entries);
    assert_eq!(log.read(start + 1..start + 4).await.unwrap(), entries[1..4]);
    assert_eq!(log.read(start + 3..start + 3).await.unwrap(), [], "no indices, no entries");
}

/// An append of no entries gives an empty range; its expectation counts all the same.
pub async fn appending_nothing_changes_nothing(log: &dyn AuditLog) {
    let before = log.checkpoint().await.unwrap();
    let size = before.size;
    assert_eq!(log.append(&[], None).await.unwrap(), size..size);
    assert_eq!(log.append(&[], Some(size)).await.unwrap(), size..size);
    let error = log.append(&[], Some(size + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(log.checkpoint().await.unwrap(), before);
}

/// Compare-and-set: of two appends that expect the same size, the second is a conflict and leaves
/// no trace.
pub async fn a_wrong_expectation_is_a_conflict(log: &dyn AuditLog) {
    let size = log.size().await.unwrap();
    assert_eq!(log.append(&[entry(10)], Some(size)).await.unwrap(), size..size + 1);
    for expected in [size, size + 2] {
        let error = log.append(&[entry(11)], Some(expected)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert_eq!(log.size().await.unwrap(), size + 1, "a conflict leaves no trace");
    assert_eq!(log.read(size..size + 1).await.unwrap(), [entry(10)]);
}

/// An entry that is too large refuses the whole append.
pub async fn an_append_is_whole_or_not_at_all(log: &dyn AuditLog) {
    let before = log.checkpoint().await.unwrap();
    let mut large = entry(0);
    large.event = Event::Ran { step: "x".repeat(Entry::MAX_BYTES) };
    let error = log.append(&[entry(1), large, entry(2)], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(log.checkpoint().await.unwrap(), before, "a refused append leaves no trace");
}

/// Reading what is not there is `NotFound`.
pub async fn reading_beyond_the_end_is_not_found(log: &dyn AuditLog) {
    log.append(&[entry(20)], None).await.unwrap();
    let size = log.size().await.unwrap();
    for range in [size..size + 1, size - 1..size + 1, size + 5..size + 6] {
        let error = log.read(range.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{range:?}: {error}");
    }
}

/// The checkpoint states the present size, stays as it is while nothing is appended, and has
/// another root after an append.
pub async fn the_checkpoint_covers_every_entry(log: &dyn AuditLog) {
    let before = log.checkpoint().await.unwrap();
    assert_eq!(before.size, log.size().await.unwrap());
    assert_eq!(log.checkpoint().await.unwrap(), before, "reading changes nothing");
    log.append(&[entry(30)], None).await.unwrap();
    let after = log.checkpoint().await.unwrap();
    assert_eq!((after.size, &after.origin), (before.size + 1, &before.origin));
    assert_ne!(after.root, before.root, "another log has another root");
}

/// Several hundred entries, in appends of every size.
pub async fn many_entries_at_once_and_one_by_one(log: &dyn AuditLog) {
    let start = log.size().await.unwrap();
    let entries: Vec<_> = (0..700).map(entry).collect();
    let mut done = 0;
    for length in [1, 250, 3, 1, 1, 300, 144] {
        let next = done + length;
        let range = log.append(&entries[done..next], Some(start + done as u64)).await.unwrap();
        assert_eq!(range, start + done as u64..start + next as u64);
        done = next;
    }
    assert_eq!(log.read(start..start + 700).await.unwrap(), entries);
    assert_eq!(log.read(start + 255..start + 257).await.unwrap(), entries[255..257]);
}

/// The rules of a log that can be pruned. It must have no entries yet: they go.
pub async fn pruning_suite(log: &dyn AuditLog) {
    let at = entry(0).at;
    let occurrence = |turn: i64| {
        let at = at.plus_seconds(100_000 + turn);
        Occurrence::new(at, Actor::person("ada"), OperationId::new("prune", at))
    };
    assert_eq!((log.size().await.unwrap(), log.first().await.unwrap()), (0, 0));
    let entries: Vec<_> = (0..1_000).map(entry).collect();
    log.append(&entries, None).await.unwrap();
    assert_eq!(log.prune(1_001, &occurrence(0)).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!((log.size().await.unwrap(), log.first().await.unwrap()), (1_000, 0));
    for (turn, first) in [(1, 256), (2, 256), (3, 700), (4, 512)] {
        log.prune(first, &occurrence(turn)).await.unwrap();
        let first = log.first().await.unwrap();
        assert_eq!(first, if turn < 3 { 256 } else { 700 }, "what is gone stays gone");
        let size = 1_001 + u64::from(turn > 2);
        assert_eq!(log.size().await.unwrap(), size, "an entry says so, once");
        let said = log.read(size - 1..size).await.unwrap().remove(0);
        assert_eq!(said.event, Event::Pruned { first });
        let kept = log.read(first..1_000).await.unwrap();
        assert_eq!(kept, entries[first as usize..]);
        for gone in [0..1, first - 1..first, 0..first, first - 1..size] {
            let error = log.read(gone.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{gone:?}: {error}");
            assert!(error.to_string().contains("pruned"), "{gone:?}: {error}");
        }
    }
    let size = log.size().await.unwrap();
    assert_eq!(log.append(&[entry(9)], Some(size)).await.unwrap(), size..size + 1);
}
