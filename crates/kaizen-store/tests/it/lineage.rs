use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kaizen_core::record::{Algorithm, Model, Predictions, Release, TrainingSet, artifact_type};
use kaizen_core::{
    ArtifactStore, Clock as _, DataType, Descriptor, Digest, ErrorKind, Event, Field, Manifest,
    Payload, Record, Records, Signature, SystemClock, Timestamp, media_type,
};
use kaizen_store::{LineageIndex, LocalStore, ancestors, children, descendants, lineage};
use kaizen_testkit::{MemoryLog, MemoryStore, story};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A record with parents in odd places of its body.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mix {
    name: String,
    parents: BTreeMap<String, Vec<Digest>>,
}

impl Record for Mix {
    const KIND: &'static str = "mix";
}

async fn mix(store: &MemoryStore, name: &str, parents: &[Digest]) -> Digest {
    let parents = BTreeMap::from([("nested".to_owned(), parents.to_vec())]);
    store.put(&Mix { name: name.to_owned(), parents }, &[]).await.unwrap()
}

#[tokio::test]
async fn every_parent_in_the_body_is_followed_and_shown_once() {
    let store = MemoryStore::default();
    let elsewhere = Digest::of("a feature service, which is no manifest");
    let data = mix(&store, "data", &[elsewhere]).await;
    let left = mix(&store, "left", &[data]).await;
    let right = mix(&store, "right", &[data, data]).await;
    let model = mix(&store, "model", &[left, right]).await;
    let release = Release {
        name: "late".into(),
        version: 1,
        model,
        service: elsewhere,
        functions: Vec::new(),
    };
    let release = store.put(&release, &[]).await.unwrap();

    let lineage = lineage(&store, &release).await.unwrap();
    let [d, l, r, m, top] = [data, left, right, model, release].map(|id| id.short());
    assert_eq!(
        lineage.to_string(),
        format!(
            "release {top}\n  mix {m}\n    mix {l}\n      mix {d}\n    mix {r}\n      mix {d} (see above)\n"
        )
    );
    let of_data = children(&store, &data).await.unwrap();
    let mut expected = vec![(left, "mix".to_owned()), (right, "mix".to_owned())];
    expected.sort_unstable();
    assert_eq!(of_data, expected);
}

#[tokio::test]
async fn a_long_chain_is_no_trouble_and_a_missing_record_is_not_found() {
    let store = MemoryStore::default();
    let mut last = mix(&store, "first", &[]).await;
    for number in 0..3000 {
        last = mix(&store, &number.to_string(), &[last]).await;
    }
    let lineage_of_last = lineage(&store, &last).await.unwrap();
    assert_eq!(lineage_of_last.steps().len(), 3001);
    assert_eq!(lineage_of_last.steps()[3000].depth, 3000);

    let blob = store.put_blob("no record".into()).await.unwrap();
    assert_eq!(lineage(&store, &blob).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_training_set_whose_rows_were_removed_still_has_its_lineage() {
    let store = MemoryStore::default();
    let set = training_set(BTreeMap::new());
    let rows = Payload::new(TrainingSet::ROWS, media_type::PARQUET, "rows of a person");
    let id = store.put(&set, std::slice::from_ref(&rows)).await.unwrap();
    let after = mix(&store, "after", &[id]).await;
    assert!(store.remove_blob(&Digest::of(&rows.bytes)).await.unwrap());

    let shown = lineage(&store, &after).await.unwrap().to_string();
    assert_eq!(shown, format!("mix {}\n  training-set {}\n", after.short(), id.short()));
    assert_eq!(children(&store, &id).await.unwrap(), [(after, "mix".to_owned())]);
    let stored = store.get::<TrainingSet>(&id).await.unwrap();
    assert_eq!(stored.record, set, "what it was can still be read");
    let gone = stored.payload(&store, TrainingSet::ROWS).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

fn training_set(sources: BTreeMap<String, Digest>) -> TrainingSet {
    TrainingSet {
        service: Digest::of("service"),
        label_view: Digest::of("labels"),
        sources,
        cutoff: Timestamp::from_micros(0),
        rows: 1,
        unlabelled: 0,
        features: Vec::new(),
        label: "late".into(),
        time: "at".into(),
        coverage: BTreeMap::new(),
    }
}

#[tokio::test]
async fn the_walk_leads_from_a_prediction_to_the_source_file_and_back() {
    let store = MemoryStore::default();
    let (january, february) = (Digest::of("january"), Digest::of("february"));
    let (flights, weather) = (Digest::of("both months"), Digest::of("rows that were pushed"));
    let sources = BTreeMap::from([("flights".into(), flights), ("weather".into(), weather)]);
    let files = format!(
        r#"{{"flights":[{{"path":"2013/01.parquet","size":"7","digest":"{january}"}},
            {{"path":"2013/02.parquet","size":"8","digest":"{february}"}}],"weather":[]}}"#
    );
    let files = Payload::new(TrainingSet::SOURCES, media_type::JSON, files);
    let set = store.put(&training_set(sources), &[files]).await.unwrap();
    let weights = mix(&store, "weights", &[]).await;
    let inputs = vec![Field::new("distance", DataType::Float64)];
    let model = Model {
        name: "late".into(),
        training_set: set,
        algorithm: Algorithm { name: "test".into(), settings: BTreeMap::new() },
        seed: 1,
        signature: Signature::new(inputs, vec![]).unwrap(),
        service: Digest::of("service"),
        format: "test".into(),
        weights,
    };
    let model = store.put(&model, &[]).await.unwrap();
    let answered = |from| Predictions {
        models: vec![model],
        from: Timestamp::from_micros(from),
        to: Timestamp::from_micros(from + 1),
        rows: 1,
    };
    let first = store.put(&answered(0), &[]).await.unwrap();
    let second = store.put(&answered(1), &[]).await.unwrap();

    let [p, m, s, w] = [first, model, set, weights].map(|id| id.short());
    let up = lineage(&store, &first).await.unwrap();
    assert_eq!(
        up.to_string(),
        format!(
            "predictions {p}\n  model {m}\n    training-set {s}\n      source {} flights\n        \
             file {} 2013/01.parquet\n        file {} 2013/02.parquet\n      source {} weather\n    \
             mix {w}\n",
            flights.short(),
            january.short(),
            february.short(),
            weather.short()
        )
    );
    let file = up.steps().iter().find(|step| step.name.as_deref() == Some("2013/01.parquet"));
    let down = lineage(&store, &file.unwrap().id).await.unwrap();
    assert_eq!(down.steps().len(), 1, "nothing is above a file");
    let kinds: Vec<_> = down.descendants().iter().map(|s| (s.depth, s.kind.as_str())).collect();
    let expected = [(0, "file"), (1, "source"), (2, "training-set"), (3, "model")];
    assert_eq!(kinds[..4], expected);
    let batches: Vec<_> = down.descendants()[4..].iter().map(|step| step.id).collect();
    assert!(batches.len() == 2 && batches.contains(&first) && batches.contains(&second));
    assert!(down.to_string().contains("made of it:\n  source"), "{down}");

    let index = LineageIndex::read(&store).await.unwrap();
    let paths: Vec<_> = index.files().into_iter().map(|(_, path)| path).collect();
    assert!(paths.contains(&"2013/02.parquet") && paths.len() == 2, "{paths:?}");
    assert_eq!(index.beginning_with(&model.hex()[..16]), [model]);
    let unknown = descendants(&store, &Digest::of("nothing")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_lineage_tells_what_the_log_first_says_of_each_step() {
    let (store, log) = (MemoryStore::default(), MemoryLog::default());
    let story = story(&store, &log).await.unwrap();
    let told = lineage(&store, &story.predictions).await.unwrap().with_log(&log).await.unwrap();
    assert!(told.steps()[0].said.is_none(), "the log has no entry about the batch");
    let said = told.steps()[1].said.clone().unwrap();
    assert_eq!((said.index, said.event), (11, Event::Trained));
    assert!(told.to_string().contains(", 2013-03-03T00:00:00.000000Z by cycle\n"), "{told}");
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["ancestors"][1]["said"]["actor"]["system"], "cycle");
    assert_eq!(json["ancestors"][4]["name"], "2012.parquet");
}

#[tokio::test]
async fn a_list_of_files_that_leads_in_a_circle_or_is_no_list_does_no_harm() {
    let store = MemoryStore::default();
    let data = Digest::of("data");
    let sources = BTreeMap::from([("flights".to_owned(), data)]);
    // The one file has the digest of the source itself, and of a record made of the set.
    let list = |id: Digest| {
        let text = format!(r#"{{"flights":[{{"path":"x","size":"1","digest":"{id}"}}]}}"#);
        Payload::new(TrainingSet::SOURCES, media_type::JSON, text)
    };
    let own = store.put(&training_set(sources.clone()), &[list(data)]).await.unwrap();
    let child = mix(&store, "child", &[own]).await;
    let circle = store.put(&training_set(sources.clone()), &[list(child)]).await.unwrap();
    for id in [own, child, circle, data] {
        let both = lineage(&store, &id).await.unwrap();
        assert!(both.steps().len() < 12 && both.descendants().len() < 12, "{both}");
    }
    let broken = Payload::new(TrainingSet::SOURCES, media_type::JSON, "[");
    let broken = store.put(&training_set(sources), &[broken]).await.unwrap();
    let error = ancestors(&store, &broken).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(&broken.hex()));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_does_not_stop_other_questions() {
    let store = MemoryStore::default();
    let data = mix(&store, "data", &[]).await;
    let model = mix(&store, "model", &[data]).await;
    // What others push may call itself anything.
    let body = store.put_blob("no JSON".into()).await.unwrap();
    let mut bad = Vec::new();
    for kind in [TrainingSet::KIND, Mix::KIND] {
        let config = Descriptor::new(media_type::JSON, body, 7);
        let mut manifest = Manifest::new(config, Vec::new());
        manifest.artifact_type = Some(artifact_type(kind));
        manifest.subject = Some(store.describe(&model).await.unwrap());
        bad.push(store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap());
    }
    // The body of this one was removed for good. It still is what it was about.
    let forgotten = mix(&store, "forgotten", &[model]).await;
    let config = store.manifest(&forgotten).await.unwrap().config.digest;
    store.remove_blob(&config).await.unwrap();

    let index = LineageIndex::read(&store).await.unwrap();
    assert_eq!(
        index.unreadable().keys().copied().collect::<BTreeSet<_>>(),
        bad.iter().copied().collect()
    );
    let both = index.lineage(&model).unwrap();
    assert_eq!(both.steps().len(), 2);
    assert!(both.to_string().contains(&format!("not read: body of mix {}", bad[1])), "{both}");
    assert_eq!(index.ancestors(&forgotten).unwrap().steps().len(), 1);
    for id in &bad {
        let error = index.lineage(id).unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(&id.hex()));
    }
    assert!(ancestors(&store, &model).await.unwrap().unreadable().is_empty());
}

#[tokio::test]
async fn a_path_with_control_characters_stays_on_its_line() {
    let store = MemoryStore::default();
    let path = "x\\n```\\n<img src=x>\\u001b[2J";
    let text =
        format!(r#"{{"flights":[{{"path":"{path}","size":"1","digest":"{}"}}]}}"#, Digest::of("f"));
    let files = Payload::new(TrainingSet::SOURCES, media_type::JSON, text);
    let sources = BTreeMap::from([("flights".to_owned(), Digest::of("data"))]);
    let set = store.put(&training_set(sources), &[files]).await.unwrap();
    let shown = lineage(&store, &set).await.unwrap().to_string();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(shown.contains("x ``` <img src=x> [2J"), "{shown}");
}

fn files(listed: &[(&str, &str, Digest)]) -> Payload {
    let mut files: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
    for (source, path, digest) in listed {
        let file = serde_json::json!({"path": path, "size": "1", "digest": digest});
        files.entry(source).or_default().push(file);
    }
    let bytes = serde_json::to_vec(&files).unwrap();
    Payload::new(TrainingSet::SOURCES, media_type::JSON, bytes)
}

#[tokio::test]
async fn what_a_training_set_lists_counts_for_no_other_record_and_no_other_set() {
    let store = MemoryStore::default();
    let (flights, january, evil) = (Digest::of("flights"), Digest::of("january"), "evil");
    let sources = BTreeMap::from([("flights".to_owned(), flights)]);
    let honest = files(&[("flights", "january", january)]);
    let set = store.put(&training_set(sources.clone()), &[honest]).await.unwrap();
    let champion = mix(&store, "champion", &[set]).await;
    let before = lineage(&store, &champion).await.unwrap();
    // It comes along with what is said about the champion, and calls it, and what that was made
    // from, its sources.
    let (one, two) = (Digest::of("evil 1"), Digest::of("evil 2"));
    let sources = BTreeMap::from([("x".to_owned(), champion), ("flights".to_owned(), flights)]);
    let listed = files(&[("x", evil, one), ("flights", evil, two), ("flights", "y", january)]);
    let stranger = TrainingSet { rows: 2, ..training_set(sources) };
    let stranger = store.put(&stranger, &[listed]).await.unwrap();

    let after = lineage(&store, &champion).await.unwrap();
    assert_eq!(after.steps(), before.steps());
    assert_eq!(ancestors(&store, &champion).await.unwrap().steps(), before.steps());
    let index = LineageIndex::read(&store).await.unwrap();
    let below = |id: &Digest| {
        let below = index.descendants(id).unwrap();
        below.descendants().iter().map(|step| step.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(below(&two), BTreeSet::from([two, flights, stranger]));
    assert_eq!(below(&january), BTreeSet::from([january, flights, set, champion, stranger]));
    assert!(index.descendants(&one).is_err(), "what a record was made from it says itself");
    let own = index.ancestors(&stranger).unwrap().to_string();
    assert!(own.contains(&format!(
        "source {} flights\n    file {} evil",
        flights.short(),
        two.short()
    )));
    assert!(own.contains(&format!("  mix {} x\n", champion.short())), "{own}");
    // Whoever asks for the source by itself hears of all that anybody lists of it.
    let paths = index.ancestors(&flights).unwrap().to_string();
    assert!(paths.contains(" january\n") && paths.contains(" evil\n"), "{paths}");
    assert_eq!(index.children(&january), [(flights, "source".to_owned())]);
}

#[tokio::test]
async fn sets_that_list_the_same_files_share_them_and_others_show_their_own() {
    let store = MemoryStore::default();
    let data = Digest::of("data");
    let sources = BTreeMap::from([("flights".to_owned(), data)]);
    let mut ids = Vec::new();
    for (rows, paths) in [(1, &["a", "b"][..]), (2, &["a", "b"]), (3, &["a"]), (4, &[])] {
        let set = TrainingSet { rows, ..training_set(sources.clone()) };
        let listed: Vec<_> =
            paths.iter().map(|path| ("flights", *path, Digest::of(path))).collect();
        ids.push(store.put(&set, &[files(&listed)]).await.unwrap());
    }
    let all = mix(&store, "all", &ids).await;
    let shown = lineage(&store, &all).await.unwrap().to_string();
    let line = |text: &str| shown.lines().filter(|line| line.contains(text)).count();
    assert_eq!((line("training-set"), line("source "), line("flights (see above)")), (4, 4, 1));
    assert_eq!((line("file "), line(" a (see above)"), line(" b")), (3, 1, 1), "{shown}");
}

#[tokio::test]
async fn a_file_that_is_a_record_leads_on_to_what_that_was_made_from() {
    let store = MemoryStore::default();
    let first = mix(&store, "first", &[]).await;
    let second = mix(&store, "second", &[first]).await;
    let sources = BTreeMap::from([("a".to_owned(), Digest::of("a")), ("b".to_owned(), second)]);
    let listed = files(&[("a", "x", second), ("a", "y", first)]);
    let set = store.put(&training_set(sources), &[listed]).await.unwrap();
    let above = ancestors(&store, &set).await.unwrap();
    assert_eq!(above.steps(), lineage(&store, &set).await.unwrap().steps());
    let kinds: Vec<_> = above.steps().iter().map(|s| (s.depth, s.kind.as_str())).collect();
    let expected =
        [(0, "training-set"), (1, "source"), (2, "mix"), (3, "mix"), (2, "mix"), (1, "mix")];
    assert_eq!(kinds, expected, "{above}");
    let index = LineageIndex::read(&store).await.unwrap();
    assert_eq!(index.children(&first).len(), 2, "by its body, and as a file of `a`");
}

#[tokio::test]
async fn a_body_that_names_very_many_digests_is_read_in_time() {
    let store = MemoryStore::default();
    let many = |number: u32| Digest::of(number.to_le_bytes());
    let named: Vec<Digest> = (0..800_000).map(many).collect();
    let id = mix(&store, "many", &named).await;
    let started = SystemClock.now();
    assert_eq!(lineage(&store, &id).await.unwrap().steps().len(), 1);
    let ended = SystemClock.now();
    // Seconds; to look through all that were named before at each would take minutes.
    assert!(ended < started.plus_seconds(60), "{started} to {ended}");
}

#[tokio::test]
async fn a_manifest_of_another_tool_stops_no_lineage() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let id = store.put(&training_set(BTreeMap::new()), &[]).await.unwrap();
    let blob = format!(r#"{{"mediaType":"a/b","digest":"sha512:{}","size":2}}"#, "0".repeat(128));
    let kind = media_type::MANIFEST;
    let other =
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{blob},"layers":[{blob}]}}"#);
    let other = store.put_blob(other.into()).await.unwrap();
    let path = dir.path().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = serde_json::json!({
        "mediaType": kind, "digest": other, "size": store.size_of(&other).await.unwrap()
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    assert!(store.manifests().await.unwrap().contains(&other), "it is listed");

    let after = lineage(&store, &id).await.unwrap();
    assert!(after.steps().len() == 1 && after.unreadable().is_empty(), "{after}");
    assert_eq!(lineage(&store, &other).await.unwrap().steps()[0].kind, "container image");
}

#[tokio::test]
async fn a_list_of_files_without_measure_is_not_read() {
    let store = MemoryStore::default();
    let set = training_set(BTreeMap::from([("flights".to_owned(), Digest::of("data"))]));
    let list = files(&[("flights", "x", Digest::of("x"))]);
    let fine = store.put(&set, &[list]).await.unwrap();
    // A manifest may say anything of its layers.
    for (size, kind) in [((256 << 20) + 1, ErrorKind::Limit), (9, ErrorKind::Corrupt)] {
        let mut manifest = store.manifest(&fine).await.unwrap();
        manifest.layers[0].size = size;
        let id = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
        let listed = TrainingSet::files(&store, &manifest).await.unwrap_err();
        assert_eq!(listed.kind(), kind, "{listed}");
        let index = LineageIndex::read(&store).await.unwrap();
        assert!(index.unreadable().contains_key(&id) && index.lineage(&fine).is_ok());
    }
}

/// A list of this many entries, one file as often as that.
fn long_list(entries: usize) -> Payload {
    let entry = format!(r#"{{"path":"","digest":"{}"}}"#, Digest::of("x"));
    let text = format!(r#"{{"flights":[{}]}}"#, vec![entry; entries].join(","));
    Payload::new(TrainingSet::SOURCES, media_type::JSON, text)
}

#[tokio::test]
async fn a_training_set_with_a_file_too_many_takes_the_files_of_no_other_away() {
    let store = MemoryStore::default();
    let set = training_set(BTreeMap::from([("flights".to_owned(), Digest::of("data"))]));
    let bad = store.put(&set, &[long_list(1_000_000)]).await.unwrap();
    // It is read before the sound one.
    let mut sound = None;
    for rows in 2.. {
        let set = TrainingSet { rows, ..set.clone() };
        let list = files(&[("flights", "y", Digest::of("y"))]);
        let id = store.put(&set, &[list]).await.unwrap();
        if id > bad {
            sound = Some(id);
            break;
        }
    }
    let index = LineageIndex::read(&store).await.unwrap();
    assert_eq!(index.unreadable().keys().copied().collect::<Vec<_>>(), [bad]);
    assert!(index.unreadable()[&bad].contains("over 1000000"), "{:?}", index.unreadable());
    assert_eq!(index.lineage(&sound.unwrap()).unwrap().steps().len(), 3);
    assert!(index.files().iter().all(|(_, path)| *path == "y"), "of its list nothing is left");
}

#[tokio::test]
async fn a_file_that_a_stranger_calls_his_source_stays_a_file() {
    let store = MemoryStore::default();
    let (flights, january) = (Digest::of("flights"), Digest::of("january"));
    let sources = BTreeMap::from([("flights".to_owned(), flights)]);
    let list = files(&[("flights", "january", january)]);
    let set = store.put(&training_set(sources), &[list]).await.unwrap();
    let sources = BTreeMap::from([("evil".to_owned(), january)]);
    let list = files(&[("evil", "theirs", Digest::of("theirs"))]);
    let stranger = TrainingSet { rows: 2, ..training_set(sources) };
    let stranger = store.put(&stranger, &[list]).await.unwrap();

    let shown = lineage(&store, &january).await.unwrap();
    let [f, j, t] = [flights, january, Digest::of("theirs")].map(|id| id.short());
    let (set, stranger) = (set.short(), stranger.short());
    assert_eq!(
        shown.to_string(),
        format!(
            "file {j} january\n  source {j} evil\n    file {t} theirs\nmade of it:\n  source {f} \
             flights\n    training-set {set}\n  source {j} evil\n    training-set {stranger}\n"
        )
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Against the plain definition, on any graph: above is the closure of "names", below that of
    /// "is named by".
    #[test]
    fn above_and_below_are_the_closures_of_what_bodies_name(
        edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = MemoryStore::default();
            let (mut ids, mut above): (Vec<Digest>, Vec<BTreeSet<usize>>) = Default::default();
            for (number, parents) in edges.iter().enumerate() {
                let parents: Vec<usize> = match number {
                    0 => vec![],
                    _ => parents.iter().map(|parent| parent.index(number)).collect(),
                };
                let named: Vec<_> = parents.iter().map(|parent| ids[*parent]).collect();
                ids.push(mix(&store, &number.to_string(), &named).await);
                let closure = parents.iter().flat_map(|p| above[*p].iter().copied().chain([*p]));
                let closure = closure.collect();
                above.push(closure);
            }
            let index = LineageIndex::read(&store).await.unwrap();
            for (number, id) in ids.iter().enumerate() {
                let both = index.lineage(id).unwrap();
                let reached = |steps: &[kaizen_store::LineageStep]| {
                    let mut found: Vec<_> = steps[1..].iter().filter(|s| !s.repeated)
                        .map(|s| ids.iter().position(|id| *id == s.id).unwrap()).collect();
                    found.sort_unstable();
                    found
                };
                let expected: Vec<_> = above[number].iter().copied().collect();
                assert_eq!(reached(both.steps()), expected);
                let below: Vec<_> = (0..ids.len()).filter(|other| above[*other].contains(&number)).collect();
                assert_eq!(reached(both.descendants()), below);
                assert_eq!(ancestors(&store, id).await.unwrap().steps(), both.steps());
            }
        });
    }
}
