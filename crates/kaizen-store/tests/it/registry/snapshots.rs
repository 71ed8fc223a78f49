//! What a registry writes down of what its log has come to.

use std::sync::Arc;

use kaizen_core::{Actor, ArtifactStore, AuditLog, Entry, ErrorKind, Event, OperationId};
use kaizen_store::{Registry, Search};
use kaizen_testkit::MemoryStore;

use super::{ALIAS, NAME, on, overridden};

#[tokio::test]
async fn a_registry_that_starts_from_a_snapshot_comes_to_the_same() {
    let (world, _) = overridden().await;
    world.registry.tag(NAME, Some(1), "k", "v", on(3)).await.unwrap();
    let blob = world.registry.snapshot(on(4)).await.unwrap();
    world.registry.tag(NAME, Some(2), "k", "w", on(5)).await.unwrap();
    let everything = |registry: Registry| async move {
        let versions = registry.search(&Search::new()).await.unwrap();
        let aliases = registry.history(NAME, ALIAS).await.unwrap();
        (versions, aliases, registry.tag_history(NAME, Some(1)).await.unwrap())
    };
    // Without the store the registry folds the whole log; with it, from the snapshot.
    let folded =
        everything(Registry::new(Arc::new(MemoryStore::default()), world.log.clone())).await;
    let quick = Registry::new(world.store.clone(), world.log.clone());
    assert_eq!(everything(quick).await, folded);
    assert_eq!(world.registry.check_snapshots().await.unwrap(), 1);

    // An entry that names another blob as what the log comes to is found out.
    let lie = String::from_utf8(world.store.get_blob(&blob).await.unwrap().to_vec()).unwrap();
    let lie =
        world.store.put_blob(lie.replace("the gate is wrong", "as agreed").into()).await.unwrap();
    let forged = Entry {
        at: on(6).at,
        actor: Actor::system("forger"),
        operation: OperationId::new("forgery", on(6).at),
        event: Event::Folded { size: 6 },
        subject: lie,
        evidence: vec![],
    };
    world.log.append(&[forged], None).await.unwrap();
    let error = world.registry.check_snapshots().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("entry 7"), "{error}");
}

/// The snapshot of this history as this version writes it. If this fails because a fold has other
/// fields now, raise `FORMAT` and keep the old file: it must still be read.
#[tokio::test]
async fn a_snapshot_of_this_format_is_read_and_one_of_another_is_passed_over() {
    let fixture = include_str!("../../fixtures/registry-snapshot-1.json").trim_end();
    let (world, _) = overridden().await;
    world.registry.tag(NAME, Some(1), "k", "v", on(3)).await.unwrap();
    let size = world.log.size().await.unwrap();
    let blob = world.registry.snapshot(on(4)).await.unwrap();
    let written = String::from_utf8(world.store.get_blob(&blob).await.unwrap().to_vec()).unwrap();
    assert_eq!(written, fixture);

    let other = fixture.replace("\"format\":1,", "\"format\":0,").replace(NAME, "early");
    let before_there_were_formats = r#"{"size":5,"names":{}}"#.to_owned();
    for text in [other, before_there_were_formats] {
        let subject = world.store.put_blob(text.into()).await.unwrap();
        let (actor, operation) = (Actor::system("old"), OperationId::new("old", on(5).at));
        let event = Event::Folded { size };
        let entry = Entry { at: on(5).at, actor, operation, event, subject, evidence: vec![] };
        world.log.append(&[entry], None).await.unwrap();
    }
    let anew = Registry::new(world.store.clone(), world.log.clone());
    assert_eq!(anew.names().await.unwrap(), [NAME]);
    assert_eq!(anew.check_snapshots().await.unwrap(), 1, "the others are no lies");
}
