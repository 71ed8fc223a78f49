//! Entities, views, services and labels: what is checked, what is written, what stays readable.

use kaizen_core::{DataType, Digest, Field};
use kaizen_table::{
    Aggregate, Entity, FeatureService, FeatureView, FeatureViewBuilder, Known, LabelView, Value,
    Window,
};

fn view() -> FeatureViewBuilder {
    FeatureView::builder("v").source("s").key("k").column("a", DataType::Float64)
}

fn assert_refused<T: std::fmt::Debug>(result: kaizen_core::Result<T>, part: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(part), "{error} lacks {part}");
}

#[test]
fn an_entity_has_a_name_for_each_of_its_keys() {
    let plane = Entity::new("plane", ["tailnum", "carrier"]).unwrap();
    assert_eq!((plane.name(), plane.keys()), ("plane", &["tailnum".into(), "carrier".into()][..]));
    assert_refused(Entity::new("plane", [""; 1]), "`plane`: a key's name is empty");
    assert_refused(Entity::new("plane", ["a", "a"]), "`plane`: key `a` stands twice");
    assert_refused(Entity::new("plane", [""; 0]), "`plane`: it has no key");
    let json = serde_json::to_string(&plane).unwrap();
    assert_eq!(serde_json::from_str::<Entity>(&json).unwrap(), plane);
}

#[test]
fn a_view_of_an_entity_has_its_keys_and_remembers_its_name() {
    let plane = Entity::new("plane", ["tailnum", "carrier"]).unwrap();
    let view = FeatureView::builder("v").source("s").entity(&plane).column("a", DataType::Bool);
    let view = view.build().unwrap();
    assert_eq!((view.keys(), &view.remarks().entity[..]), (plane.keys(), "plane"));
}

#[test]
fn remarks_change_no_digest_and_everything_else_does() {
    let plain = view().build().unwrap();
    let told = || view().description("what it is").owner("someone").tag("tier", "1");
    let told = told().build().unwrap();
    assert_eq!(told.digest().unwrap(), plain.digest().unwrap());
    assert_ne!(told, plain);
    let service = |view: &FeatureView| {
        FeatureService::new("s", 1, vec![], vec![view.clone()]).unwrap().digest().unwrap()
    };
    assert_eq!(service(&told), service(&plain));
    // They are written and read all the same.
    let json = serde_json::to_string(&told).unwrap();
    let read: FeatureView = serde_json::from_str(&json).unwrap();
    assert_eq!((&read, &read.remarks().tags["tier"][..]), (&told, "1"));

    let window = |window: Window| view().window_as("w", window);
    let base = || Window::new(Aggregate::Last, "a", 60);
    let others = [
        view().key("l"),
        view().event_time("t"),
        view().ttl_seconds(1),
        view().known(Known::After { seconds: 1 }),
        view().known(Known::Column("c".into())),
        view().known(Known::Backfilled { column: "c".into(), until: None }),
        view().known(Known::Backfilled {
            column: "c".into(),
            until: Some("2013-01-01T00:00:00Z".parse().unwrap()),
        }),
        window(base()),
        window(base().hop_seconds(30)),
        window(base().holds(DataType::Utf8)),
        window(Window::new(Aggregate::First, "a", 60)),
        window(Window::new(Aggregate::Quantile { per_mille: 500 }, "a", 60)),
        window(Window::new(Aggregate::Quantile { per_mille: 501 }, "a", 60)),
    ];
    let mut digests: Vec<Digest> =
        others.into_iter().map(|view| view.build().unwrap().digest().unwrap()).collect();
    digests.push(plain.digest().unwrap());
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn every_definition_survives_json() {
    let mut every = view().known(Known::Backfilled {
        column: "c".into(),
        until: Some("2013-01-01T00:00:00.000001Z".parse().unwrap()),
    });
    let aggregates = [
        Aggregate::Count,
        Aggregate::Sum,
        Aggregate::Mean,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::StandardDeviation,
        Aggregate::First,
        Aggregate::Last,
        Aggregate::Distinct,
        Aggregate::ApproximateDistinct,
        Aggregate::Quantile { per_mille: 950 },
    ];
    for (place, aggregate) in aggregates.into_iter().enumerate() {
        let mut window = Window::new(aggregate, "a", 60).hop_seconds(20);
        if aggregate.takes_any_type() {
            window = window.holds(DataType::Utf8);
        }
        every = every.window_as(&format!("w{place}"), window);
    }
    let every = every.ttl_seconds(60).build().unwrap();
    let json = serde_json::to_string(&every).unwrap();
    let read: FeatureView = serde_json::from_str(&json).unwrap();
    assert_eq!(read, every);
    assert_eq!(read.digest().unwrap(), every.digest().unwrap());
}

#[test]
fn a_window_that_makes_no_sense_is_refused_by_its_feature() {
    let window = |window: Window| view().window_as("w", window).build();
    let sum = || Window::new(Aggregate::Sum, "a", 60);
    for (window_as, part) in [
        (sum().hop_seconds(7), "window `w`: hops of 7 s do not divide 60 s"),
        (sum().hop_seconds(120), "hops of 120 s do not divide 60 s"),
        (sum().holds(DataType::Utf8), "window `w`: Sum is of numbers, not of Utf8"),
        (Window::new(Aggregate::Sum, "a", 0), "window `w`: it has a length of 0"),
        (Window::new(Aggregate::Quantile { per_mille: 1_001 }, "a", 60), "1001 per mille"),
    ] {
        assert_refused(window(window_as), part);
    }
}

#[test]
fn json_of_a_definition_that_says_something_unknown_is_refused() {
    let json = serde_json::to_string(&view().build().unwrap()).unwrap();
    let unknown = json.replacen('{', r#"{"ttl":60,"#, 1);
    let error = serde_json::from_str::<FeatureView>(&unknown).unwrap_err().to_string();
    assert!(error.contains("unknown field `ttl`"), "{error}");
}

#[test]
fn a_label_view_is_checked_and_its_maturity_is_part_of_it() {
    let view = || LabelView::new("l", "s", vec!["k".into()], "late", "known_at");
    let plain = view().unwrap();
    let ripe = plain.clone().with_maturity_seconds(60);
    assert_ne!(plain.digest().unwrap(), ripe.digest().unwrap());
    let json = serde_json::to_string(&ripe).unwrap();
    let read: LabelView = serde_json::from_str(&json).unwrap();
    assert_eq!((read.maturity_seconds(), read == ripe), (60, true));
    assert_refused(LabelView::new("l", "s", vec![], "late", "known_at"), "it has no key");
    assert_refused(LabelView::new("l", "", vec!["k".into()], "late", "t"), "an empty name");
}

/// Definitions as the version before entities, hops and functions wrote them, with the digests that
/// they had: the digest of the text itself.
#[test]
fn old_definitions_are_read_with_the_digests_that_they_had() {
    let view = include_str!("old/view.json");
    let read: FeatureView = serde_json::from_str(view).unwrap();
    assert_eq!(read.digest().unwrap(), VIEW.parse().unwrap());
    assert_eq!(serde_json::to_string(&read).unwrap(), view);
    let Value::Window(window) = &read.features()[1].value else { panic!("a window") };
    assert_eq!(*window, Window::new(Aggregate::Mean, "late", 10_800));

    let service = include_str!("old/service.json");
    let read: FeatureService = serde_json::from_str(service).unwrap();
    assert_eq!(read.digest().unwrap(), SERVICE.parse().unwrap());
    assert_eq!(read.request(), [Field::new("carrier", DataType::Utf8)]);

    let label = include_str!("old/label.json");
    let read: LabelView = serde_json::from_str(label).unwrap();
    assert_eq!(read.digest().unwrap(), LABEL.parse().unwrap());
    assert_eq!(read.maturity_seconds(), 0);
}

const VIEW: &str = "sha256:1119fc685a4edc6de56f4c6f1aee5440129017660ca6f17fe622a33c695b70fc";
const SERVICE: &str = "sha256:ac126295922eefac86a8525fd4a1c4fd4bc929a131cbcadf10795722ac0c8727";
const LABEL: &str = "sha256:f8ee22a02acd16ce4cf17cedbc3befee70de70da25a6cc367f423eecbb7fa782";
