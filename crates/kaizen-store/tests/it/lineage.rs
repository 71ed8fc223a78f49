use std::collections::BTreeMap;

use kaizen_core::record::{Release, TrainingSet};
use kaizen_core::{
    ArtifactStore, Digest, ErrorKind, Payload, Record, Records, Timestamp, media_type,
};
use kaizen_store::{children, lineage};
use kaizen_testkit::MemoryStore;
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
    let set = TrainingSet {
        service: Digest::of("service"),
        label_view: Digest::of("labels"),
        sources: BTreeMap::new(),
        cutoff: Timestamp::from_micros(0),
        rows: 1,
        unlabelled: 0,
        features: Vec::new(),
        label: "late".into(),
        time: "at".into(),
        coverage: BTreeMap::new(),
    };
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
