//! The weighted router: sticky, monotone, and unmoved by what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaizen_core::ErrorKind;
use kaizen_serve::Router;
use kaizen_table::prediction;
use proptest::prelude::*;
use serde_json::json;

use crate::linear::servable;
use crate::running::{Running, request, score};

fn weights(blue: u32, green: u32) -> BTreeMap<String, u32> {
    BTreeMap::from([("blue".to_owned(), blue), ("green".to_owned(), green)])
}

fn router() -> Router {
    let router = Router::new("late");
    router.set("blue", servable(1, 0.0)).unwrap();
    router.set("green", servable(2, 1.0)).unwrap();
    router
}

/// The ids that meet green.
fn cohort(router: &Router, blue: u32, green: u32) -> BTreeSet<u32> {
    router.shift(&weights(blue, green)).unwrap();
    let met = |id: &u32| router.pick(&id.to_string()).unwrap().release().version == 2;
    (0..4_000).filter(met).collect()
}

#[test]
fn who_was_in_at_five_percent_stays_in() {
    let router = router();
    let mut before = BTreeSet::new();
    for percent in [0, 5, 25, 50, 100] {
        let cohort = cohort(&router, 100 - percent, percent);
        assert!(before.is_subset(&cohort), "somebody left at {percent} %");
        let expected = 40.0 * f64::from(percent);
        let spread = 4.0 * (expected * (1.0 - f64::from(percent) / 100.0)).sqrt();
        let off = (cohort.len() as f64 - expected).abs();
        assert!(off <= spread, "{percent} % of 4000 became {}", cohort.len());
        before = cohort;
    }
    // Another router of the same name divides alike, as every replica must.
    assert_eq!(cohort(&router, 3, 1), cohort(&self::router(), 75, 25));
    let salted = self::router().with_salt("another experiment");
    assert_ne!(cohort(&router, 1, 1), cohort(&salted, 1, 1));
}

#[test]
fn the_division_never_changes_by_itself() {
    let router = router();
    router.shift(&weights(75, 25)).unwrap();
    let versions: Vec<_> =
        (0..20).map(|id| router.pick(&format!("flight-{id}")).unwrap().release().version).collect();
    assert_eq!(versions, PINNED);
}

/// Worked out with Python's `hashlib` by the rule that `Router` states. If this changes, every running
/// experiment is dealt anew.
const PINNED: [u32; 20] = [1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 1, 2, 2, 1, 1, 1];

#[test]
fn a_refused_change_changes_nothing() {
    let router = router();
    let nowhere = router.pick("x").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Unavailable);
    assert!(nowhere.to_string().contains("`late`"), "{nowhere}");
    router.shift(&weights(9, 1)).unwrap();
    let before = router.status();

    let other = BTreeMap::from([("red".to_owned(), 1)]);
    for refused in [
        router.shift(&other),
        router.shift(&BTreeMap::new()),
        router.shift(&weights(0, 0)),
        router.remove("blue"),
        router.set("green", servable(3, 0.0)),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    }
    let error = Router::new("early").set("blue", servable(1, 0.0)).unwrap_err();
    assert_eq!(error.to_string().matches("`late`, not `early`").count(), 1, "{error}");
    assert_eq!(router.status(), before);

    router.shift(&weights(1, 0)).unwrap();
    router.remove("green").unwrap();
    router.remove("green").unwrap();
    assert_eq!(router.status().keys().collect::<Vec<_>>(), ["blue"]);
}

proptest! {
    #[test]
    fn a_growing_share_keeps_its_ids(
        (blue, green) in (0..1_000_u32, 0..1_000_u32),
        (fewer, more) in (0..1_000_u32, 0..1_000_u32),
        ids in prop::collection::vec(".{0,12}", 50),
    ) {
        prop_assume!(blue + green > 0);
        let (after_blue, after_green) = (blue.saturating_sub(fewer), green + more);
        prop_assume!(after_blue + after_green > 0);
        let router = router();
        let versions = |blue, green| {
            router.shift(&weights(blue, green)).unwrap();
            ids.iter().map(|id| router.pick(id).unwrap().release().version).collect::<Vec<_>>()
        };
        let before = versions(blue, green);
        let after = versions(after_blue, after_green);
        prop_assert!(before.iter().zip(&after).all(|(before, after)| *before == 1 || *after == 2));
        prop_assert!(after_blue > 0 || after.iter().all(|version| *version == 2));
    }
}

#[tokio::test]
async fn rows_of_one_request_meet_their_own_releases() {
    let running = Running::of(&[("blue", 1, 0.0, 1), ("green", 2, 1.0, 1)]).await;
    let wind: Vec<f64> = (0..64).map(f64::from).map(|row| row / 32.0).collect();
    let mut body = request(&wind);
    body["id"] = json!("split");
    let (status, answer) = running.infer(&body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["parameters"]["versions"], "1,2");
    assert_eq!(answer.get("model_version"), None);

    let version =
        |row: usize| running.router.pick(&format!("split/{row}")).unwrap().release().version;
    let bias = |row| if version(row) == 1 { 0.0 } else { 1.0 };
    let expected: Vec<f64> = wind.iter().enumerate().map(|(row, w)| score(bias(row), *w)).collect();
    assert_eq!(answer["outputs"][0]["data"], json!(expected));

    // Each release's rows are logged under its own model, in their order.
    let logged = running.sink.take();
    assert_eq!(logged.len(), 2);
    for (table, slot) in logged.iter().zip(["blue", "green"]) {
        let wanted = if slot == "blue" { 1 } else { 2 };
        let rows: Vec<_> = (0..64).filter(|row| version(*row) == wanted).collect();
        let ids = kaizen_table::texts(table, prediction::ID).unwrap();
        let expected: Vec<_> = rows.iter().map(|row| format!("split/{row}")).collect();
        assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), expected);
        let models = kaizen_table::texts(table, prediction::MODEL).unwrap();
        let model = servable(wanted, f64::from(wanted - 1)).scorer().id().to_string();
        assert!(models.iter().all(|found| found == Some(model.as_str())));
        let winds = kaizen_table::numbers(table, "wind").unwrap();
        assert!(winds.values().iter().zip(rows).all(|(found, row)| *found == wind[row]));
    }
}

#[tokio::test]
async fn a_sticky_id_meets_one_release_in_every_request() {
    let running = Running::of(&[("blue", 1, 0.0, 3), ("green", 2, 1.0, 1)]).await;
    let expected = running.router.pick("N14228/EWR").unwrap().release().version.to_string();
    for _ in 0..3 {
        let mut body = request(&[1.0]);
        body["inputs"].as_array_mut().unwrap().push(json!(
            {"name": "prediction_id", "shape": [1, 1], "datatype": "BYTES", "data": ["N14228/EWR"]}
        ));
        assert_eq!(running.infer(&body).await.1["model_version"], json!(expected));
    }
    let router = Arc::clone(&running.router);
    drop(running);
    assert_eq!(router.status().len(), 2, "the router outlives its server");
}
