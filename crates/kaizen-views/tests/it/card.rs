use kaizen_core::ErrorKind;
use kaizen_testkit::Story;
use kaizen_views::{CardOptions, ModelCard};

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
    assert!(
        html.contains("ada &lt;ada@example.com&gt; overrode")
            || html.contains("<b>ada &lt;ada@example.com&gt;</b> overrode the gates")
    );
    assert!(!html.contains("<ada@"));
    if let Ok(folder) = std::env::var("KAIZEN_CARDS") {
        for version in [1, 2] {
            let path = format!("{folder}/card{version}.html");
            std::fs::write(path, self::card(&world, version).await.to_html()).unwrap();
        }
    }
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
