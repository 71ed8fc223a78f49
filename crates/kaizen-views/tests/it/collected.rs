//! Views of a log that tells of more than the store still has.

use std::collections::BTreeSet;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, ArtifactStore as _, AuditLog as _, OperationId, Timestamp};
use kaizen_store::{Retention, Search, collect};
use kaizen_testkit::Story;
use kaizen_views::{CardOptions, ModelCard, OpenLineage, RunEvent};

use crate::World;

async fn card(world: &World, version: u32) -> ModelCard {
    let (store, log, options) = (&*world.store, &*world.log, CardOptions::default());
    ModelCard::read(store, log, &world.registry, Story::NAME, version, options).await.unwrap()
}

async fn events(world: &World) -> Vec<RunEvent> {
    let view = OpenLineage::new("example.com/models", "https://example.com/trainer");
    let size = world.log.size().await.unwrap();
    view.events(&*world.store, &*world.log, 0..size).await.unwrap()
}

/// Name and version of every dataset.
fn datasets(events: &[RunEvent]) -> BTreeSet<(&str, String)> {
    let all = events.iter().flat_map(|event| event.inputs.iter().chain(&event.outputs));
    all.map(|d| (d.name.as_str(), d.facets["version"]["datasetVersion"].to_string())).collect()
}

#[tokio::test]
async fn after_a_collection_every_view_is_made_of_what_is_left() {
    let world = World::new().await;
    let [first, second] = world.story.models;
    let before = events(&world).await;
    let mut retention = Retention::default();
    (retention.versions, retention.rollbacks) = (Some(1), Some(0));
    (retention.spoken_of_s, retention.grace_s) = (0, 1);
    let at = Timestamp::from_micros(1_362_096_000_000_000).plus_seconds(400 * 86_400);
    let by = Occurrence::new(at, Actor::system("collector"), OperationId::new("collect", at));
    world.clock.set(at);
    let (store, log) = (&*world.store, &*world.log);
    let collected = collect(store, log, &retention, &by, false).await.unwrap();
    assert!(collected.removed.iter().any(|(id, _)| *id == first), "{collected:?}");
    assert!(store.contains(&second).await.unwrap());

    let card = card(&world, 2).await;
    assert_eq!((card.evaluations.len(), card.decisions.len()), (1, 1));
    assert!(card.to_markdown().contains("| champion |") && !card.to_html().is_empty());
    let after = events(&world).await;
    assert!(after.len() < before.len());
    assert!(datasets(&after).is_subset(&datasets(&before)), "no dataset has another name now");
    let search = Search::new().algorithm("gradient_boosting").metric_at_least("auc", 0.1);
    let found = world.registry.search(&search).await.unwrap();
    assert_eq!(found.iter().map(|s| s.version.version).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_card_says_that_an_evaluation_is_not_there_any_more() {
    let world = World::new().await;
    let was = card(&world, 2).await;
    assert_eq!((was.evaluations.len(), was.lost_evaluations), (1, 0));
    world.store.remove_manifest(&world.story.evaluations[1]).await.unwrap();
    let is = card(&world, 2).await;
    assert_eq!((is.evaluations.len(), is.lost_evaluations), (0, 1));
    for text in [is.to_markdown(), is.to_html()] {
        assert!(text.contains("knows of 1 evaluations, and the store has none"), "{text}");
    }
}

#[tokio::test]
async fn no_record_that_is_gone_takes_the_views_of_others_away() {
    for gone in World::new().await.store.manifests().await.unwrap() {
        let world = World::new().await;
        assert!(world.store.remove_manifest(&gone).await.unwrap());
        events(&world).await;
        for (version, model) in (1..).zip(world.story.models) {
            if model != gone {
                card(&world, version).await;
            }
        }
        let search = Search::new().algorithm("gradient_boosting").metric_at_least("auc", 0.0);
        world.registry.search(&search).await.unwrap();
    }
}
