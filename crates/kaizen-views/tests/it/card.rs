use kaizen_core::record::{Decision, Model, Occurrence, TrainingSet};
use kaizen_core::{
    Actor, AuditLog as _, Digest, Entry, ErrorKind, Event, OperationId, Records as _, Timestamp,
};
use kaizen_store::Registry;
use kaizen_testkit::Story;
use kaizen_views::{CardOptions, ModelCard, OpenLineage};

use crate::World;

async fn card(world: &World, version: u32) -> ModelCard {
    let options = CardOptions::default().currency("EUR").rows("flights");
    let (store, log) = (&*world.store, &*world.log);
    ModelCard::read(store, log, &world.registry, Story::NAME, version, options).await.unwrap()
}

#[tokio::test]
async fn a_card_shows_purpose_data_metrics_decision_value_alarms_and_lineage() {
    let world = World::new().await;
    let card = card(&world, 2).await;
    assert_eq!(card.alarms.len(), 1);
    assert_eq!(card.deployments[0].weight, 100);
    let markdown = card.to_markdown();
    for part in [
        "# late, version 2",
        "warns of late flights",
        "| aliases | champion |",
        "15 [11.9, 18.1] EUR per row, 126,000 over the 8,400 flights of the evaluation.",
        "| auc | 0.76 [0.74, 0.78] | 0.68 [0.66, 0.7] | 0.08 [0.07, 0.09] |",
        "**approved** on 2013-03-03T00:00:00.000000Z by cycle",
        "| auc at least 0.7 | passed | auc 0.76 |",
        "26,002 flights, labels as known on 2013-03-03",
        "| flights | 2 |",
        "on here: shifted, weight 100",
        "DRIFT ALARM: evidence 41.5 at α 0.05; strongest: distance, carrier",
        "      file ",
    ] {
        assert!(markdown.contains(part), "{part}\n{markdown}");
    }
    assert!(!markdown.contains("OVERR"), "nobody overrode the second");
    let html = card.to_html();
    for part in ["<svg", "warns of late flights", "15 <small>EUR</small>", "2013/day=2.parquet"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("http") && !html.contains("<script"), "it needs nothing else");
    assert_eq!(self::card(&World::new().await, 2).await.to_html(), html, "equal bytes");
}

#[tokio::test]
async fn an_override_is_marked_on_both_cards_and_texts_of_people_are_escaped() {
    let world = World::new().await;
    let card = card(&world, 1).await;
    let (markdown, html) = (card.to_markdown(), card.to_html());
    assert!(
        markdown.contains("> **OVERRIDDEN by ada \\<ada@example.com\\> for \\`champion\\`"),
        "{markdown}"
    );
    assert!(markdown.contains("**OVERRIDDEN** on"), "{markdown}");
    assert!(html.contains("A person set this model above its gates"));
    assert!(html.contains("<b>ada &lt;ada@example.com&gt;</b> overrode the gates"), "{html}");
    assert!(!html.contains("<ada@"));
    if let Ok(folder) = std::env::var("KAIZEN_CARDS") {
        for version in [1, 2] {
            let path = format!("{folder}/card{version}.html");
            std::fs::write(path, self::card(&world, version).await.to_html()).unwrap();
        }
    }
}

#[tokio::test]
async fn names_from_payloads_stay_in_their_places() {
    let world = World::new().await;
    let set = world.store.get::<TrainingSet>(&world.story.sets[1]).await.unwrap();
    let mut record = set.record;
    let evil = "x\n```\n<img src=x onerror=alert(1)>\u{1b}[2J\u{202e}";
    record.label = "dep_delay".into();
    record.features[0].name = "a`b_c".into();
    record.sources.insert(evil.into(), Digest::of("data"));
    let set = world.store.put(&record, &[]).await.unwrap();
    let mut model = world.store.get::<Model>(&world.story.models[1]).await.unwrap().record;
    model.training_set = set;
    let model = world.store.put(&model, &[]).await.unwrap();
    let at = Timestamp::from_micros(1_363_000_000_000_000);
    let by = Occurrence::new(at, Actor::person("eve\u{202e}"), OperationId::new("test", at));
    let version = world.registry.register(Story::NAME, &model, by).await.unwrap();
    let card = card(&world, version).await;
    let (markdown, html) = (card.to_markdown(), card.to_html());
    assert!(markdown.contains("Label `dep_delay`."), "{markdown}");
    assert!(markdown.contains("2 features: ``a`b_c``, `carrier`."), "{markdown}");
    // The lineage is fenced by more backticks than any of its lines has.
    let (_, lineage) = markdown.split_once("## Lineage\n\n````text\n").expect("a fence of four");
    assert!(lineage.contains("source") && lineage.contains("x ``` <img src=x"), "{lineage}");
    assert!(lineage.trim_end().ends_with("\n````"), "{lineage}");
    assert!(markdown.contains("| x \\`\\`\\` \\<img src=x onerror=alert(1)\\>"), "{markdown}");
    for page in [&markdown, &html] {
        assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page}");
    }
    assert!(!html.contains("<img"), "{html}");
}

#[tokio::test]
async fn two_overrides_for_the_same_reason_are_both_on_the_card() {
    let world = World::new().await;
    let mut decision = world.store.get::<Decision>(&world.story.decisions[0]).await.unwrap().record;
    // Somebody else overrode the gates with the same words; nothing came of it.
    let by = decision.overridden.as_mut().unwrap();
    by.person = "bob <bob@example.com>".into();
    decision.champion = Some(world.story.models[1]);
    let id = world.store.put(&decision, &[]).await.unwrap();
    let Occurrence { at, actor, operation } = decision.occurrence.clone();
    let event = Event::Decided { approved: true };
    let entry = Entry { at, actor, operation, event, subject: id, evidence: vec![] };
    // An evaluation that is entered twice is one.
    let again =
        Entry { event: Event::Evaluated, subject: world.story.evaluations[0], ..entry.clone() };
    world.log.append(&[entry, again], None).await.unwrap();
    let card = card(&world, 1).await;
    let marks = card.overrides();
    assert_eq!(marks.len(), 2, "{marks:?}");
    assert!(marks[1].contains("bob") && marks[0].contains("ada"), "{marks:?}");
    assert_eq!(card.evaluations.len(), 1);
}

#[tokio::test]
async fn a_version_that_is_not_registered_has_no_card() {
    let world = World::new().await;
    let options = CardOptions::default();
    let read =
        ModelCard::read(&*world.store, &*world.log, &world.registry, "late", 3, options).await;
    let error = read.unwrap_err();
    assert!(
        error.kind() == ErrorKind::NotFound && error.to_string().contains("version 3"),
        "{error}"
    );
}

#[tokio::test]
async fn a_card_and_events_are_made_from_a_log_that_was_pruned() {
    let world = World::new().await;
    let size = world.log.size().await.unwrap();
    let entries = world.log.read(0..size).await.unwrap();
    let at = entries[entries.len() - 1].at;
    let by = Occurrence::new(at, Actor::system("cycle"), OperationId::new("prune", at));
    world.registry.snapshot(by.clone()).await.unwrap();
    // What came before the second training goes.
    let second = |entry: &Entry| entry.subject == world.story.sets[1];
    let first = entries.iter().position(second).unwrap() as u64;
    world.log.prune(first, &by).await.unwrap();

    let registry = Registry::new(world.store.clone(), world.log.clone());
    let pruned = World { registry, ..world };
    let card = card(&pruned, 2).await;
    assert_eq!((card.alarms.len(), card.deployments.len()), (1, 1));
    let markdown = card.to_markdown();
    for part in ["| aliases | champion |", "**approved** on", "on here: shifted, weight 100"] {
        assert!(markdown.contains(part), "{part}\n{markdown}");
    }
    // Of the first there is what the registry remembers: the override too.
    let first = self::card(&pruned, 1).await;
    assert!(first.to_markdown().contains("OVERRIDDEN by ada"));
    let view = OpenLineage::new("example.com/models", "https://example.com/trainer");
    let (store, log) = (&*pruned.store, &*pruned.log);
    let events = view.events(store, log, 0..log.size().await.unwrap()).await.unwrap();
    assert!(!OpenLineage::to_lines(&events).unwrap().is_empty());
}
