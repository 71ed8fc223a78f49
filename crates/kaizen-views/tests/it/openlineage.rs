use std::collections::BTreeMap;

use kaizen_core::record::Run;
use kaizen_core::{
    ArtifactStore as _, AuditLog as _, Entry, ErrorKind, Event, Records as _, media_type,
};
use kaizen_views::{OpenLineage, RunEvent, RunState};

use crate::World;
use crate::judges::judge;

fn view() -> OpenLineage {
    OpenLineage::new("example.com/models", "https://example.com/trainer")
}

async fn all(world: &World) -> Vec<RunEvent> {
    let size = world.log.size().await.unwrap();
    view().events(&*world.store, &*world.log, 0..size).await.unwrap()
}

fn of_job<'a>(events: &'a [RunEvent], job: &str, state: RunState) -> Vec<&'a RunEvent> {
    events.iter().filter(|e| e.job.name == job && e.event_type == state).collect()
}

#[tokio::test]
async fn a_retraining_is_a_run_with_a_run_for_each_of_its_steps() {
    let world = World::new().await;
    let events = all(&world).await;
    let started = of_job(&events, "late-retrain", RunState::Start);
    assert_eq!(started.len(), 3);
    assert_eq!(of_job(&events, "late-retrain", RunState::Complete).len(), 2);
    let failed = of_job(&events, "late-retrain", RunState::Fail);
    assert_eq!(
        failed[0].run.facets["errorMessage"]["message"],
        "column `late`: no label by the cut-off"
    );
    assert_eq!(failed[0].run.run_id, started[2].run.run_id);

    let trained = of_job(&events, "late-retrain.train", RunState::Complete);
    assert_eq!(trained.len(), 2, "the step of the pipeline is not told twice");
    let [_, second] = trained[..] else { panic!() };
    assert_eq!(second.run.facets["parent"]["run"]["runId"], *started[1].run.run_id);
    let input = &second.inputs[0];
    assert_eq!(input.facets["version"]["datasetVersion"], world.story.sets[1].to_string());
    assert_eq!(input.facets["schema"]["fields"][1]["name"], "carrier");
    let metrics = &input.input_facets["dataQualityMetrics"];
    assert_eq!(metrics["columnMetrics"]["distance"]["nullCount"], 3);
    assert_eq!(metrics["columnMetrics"]["carrier"]["distinctCount"], 16);
    let output = &second.outputs[0];
    assert_eq!(output.facets["version"]["datasetVersion"], world.story.models[1].to_string());
    assert_eq!(output.name, "late");

    let snapshot = of_job(&events, "late-retrain.snapshot", RunState::Complete)[0];
    assert_eq!(snapshot.inputs[0].facets["dataSource"]["name"], "flights");
    assert_eq!(snapshot.inputs[0].input_facets["dataQualityMetrics"]["fileCount"], 2);
    assert_eq!(snapshot.outputs[0].output_facets["outputStatistics"]["rowCount"], 26_001);
}

#[tokio::test]
async fn a_step_may_read_large_blobs_and_manifests_of_others() {
    let world = World::new().await;
    let size = world.log.size().await.unwrap();
    let large = world.store.put_blob(vec![7; 5 << 20].into()).await.unwrap();
    let kind = media_type::INDEX;
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[]}}"#);
    let index = world.store.put_blob(index.into()).await.unwrap();
    let output = world.store.put_blob("small".into()).await.unwrap();
    let entries = world.log.read(0..size).await.unwrap();
    let ran = entries.into_iter().find(|entry| matches!(entry.event, Event::Ran { .. })).unwrap();
    let run = world.store.get::<Run>(&ran.subject).await.unwrap().record;
    let run = Run { step: "convert".into(), inputs: vec![large, index], output, ..run };
    let subject = world.store.put(&run, &[]).await.unwrap();
    world.log.append(&[Entry { subject, ..ran }], None).await.unwrap();

    let events = view().events(&*world.store, &*world.log, size..size + 1).await.unwrap();
    let names: Vec<_> = events[0].inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["blob", "image"]);
    assert_eq!(events[1].outputs[0].name, "blob");
}

#[tokio::test]
async fn gates_overrides_and_drift_are_facets() {
    let world = World::new().await;
    let events = all(&world).await;
    let gates = of_job(&events, "late-retrain.gate", RunState::Complete);
    let facet = &gates[0].run.facets["kaizen_gate"];
    assert_eq!(facet["overridden"]["reason"], kaizen_testkit::Story::REASON);
    assert_eq!(facet["gates"][0]["passed"], false);
    assert!(gates[1].run.facets["kaizen_gate"]["overridden"].is_null());
    let assertions = &gates[0].inputs[1].input_facets["dataQualityAssertions"]["assertions"];
    assert_eq!(
        (&assertions[0]["success"], &assertions[1]["success"]),
        (&false.into(), &true.into())
    );
    let moved = of_job(&events, "late-retrain.alias", RunState::Complete);
    assert_eq!(moved[0].run.facets["kaizen_alias"]["overridden"], true);
    assert_eq!(
        moved[0].run.facets["kaizen_entry"]["actor"]["person"],
        kaizen_testkit::Story::PERSON
    );
    assert_eq!(moved[1].run.facets["kaizen_alias"]["change"], "promotion");
    let alarm = of_job(&events, "late-watch.watch", RunState::Complete)[0];
    assert_eq!(alarm.run.facets["kaizen_drift"]["features"][0]["name"], "distance");
    assert_eq!(alarm.inputs[0].name, "late/predictions");
    assert!(!alarm.run.facets.contains_key("parent"), "nobody asked for it");
}

#[tokio::test]
async fn every_run_starts_once_and_ends_once_and_part_by_part_the_events_are_the_same() {
    let world = World::new().await;
    let events = all(&world).await;
    let mut states: BTreeMap<&str, Vec<RunState>> = BTreeMap::new();
    for event in &events {
        states.entry(&event.run.run_id).or_default().push(event.event_type);
    }
    for (run, states) in &states {
        assert!(states[0] == RunState::Start && states.len() == 2, "{run}: {states:?}");
    }
    let (mut parts, size) = (Vec::new(), world.log.size().await.unwrap());
    for start in 0..size {
        parts.extend(view().events(&*world.store, &*world.log, start..start + 1).await.unwrap());
    }
    assert_eq!(parts, events);
    assert_eq!(all(&World::new().await).await, events, "equal histories, equal events");
    let far = view().events(&*world.store, &*world.log, 0..1 << 30).await.unwrap_err();
    assert_eq!(far.kind(), ErrorKind::Limit);
}

#[tokio::test]
async fn two_steps_of_one_operation_about_one_record_are_two_runs() {
    let world = World::new().await;
    let mut moved = world.log.read(0..22).await.unwrap();
    moved.retain(|entry| matches!(entry.event, Event::AliasMoved { .. }));
    let mut other = moved.remove(1);
    if let Event::AliasMoved { alias, from, .. } = &mut other.event {
        (*alias, *from) = ("challenger".to_owned(), None);
    }
    world.log.append(&[other], None).await.unwrap();
    let events = all(&world).await;
    let moved = of_job(&events, "late-retrain.alias", RunState::Complete);
    let runs: std::collections::BTreeSet<_> = moved.iter().map(|e| &e.run.run_id).collect();
    assert_eq!((moved.len(), runs.len()), (3, 3));
}

#[tokio::test]
async fn a_training_set_that_is_gone_is_left_out_and_gets_no_other_name() {
    let world = World::new().await;
    let before = all(&world).await;
    world.store.remove_manifest(&world.story.sets[1]).await.unwrap();
    let names: std::collections::BTreeSet<_> =
        before.iter().flat_map(|e| e.inputs.iter().chain(&e.outputs)).map(|d| &d.name).collect();
    let events = all(&world).await;
    let trained = of_job(&events, "late-retrain.train", RunState::Complete);
    assert_eq!((trained[0].inputs.len(), trained[1].inputs.len()), (1, 0));
    for dataset in events.iter().flat_map(|e| e.inputs.iter().chain(&e.outputs)) {
        assert!(names.contains(&dataset.name), "{}", dataset.name);
    }
}

#[tokio::test]
async fn every_event_and_every_facet_is_valid_by_its_schema() {
    let world = World::new().await;
    let lines = OpenLineage::to_lines(&all(&world).await).unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openlineage");
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
    let Some(said) = judge("openlineage.py", &[folder, own], lines.as_bytes()) else { return };
    println!("{said}");
    let mut words = said.split_whitespace();
    assert_eq!(words.next(), Some(lines.lines().count().to_string().as_str()));
    for facet in ["schema", "dataSource", "version", "parent", "kaizen_gate", "kaizen_drift"] {
        assert!(said.contains(facet), "{facet}: {said}");
    }
}
