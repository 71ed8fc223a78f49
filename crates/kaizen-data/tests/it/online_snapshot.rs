//! Snapshots of online views, and stores that are opened by URL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use kaizen_core::{Bytes, DataType, ErrorKind, Result, Silent, async_trait};
use kaizen_data::{
    MemoryOnlineStore, MemorySource, Online, RedbOnlineStore, SnapshotOnlineStore, open_online,
};
use kaizen_table::{FeatureView, OnlineEntry, OnlinePage, OnlineStore, numbers};
use kaizen_testkit::online_store::same;

use crate::online::{S, events, request, second, service, view};

async fn filled(store: Arc<dyn OnlineStore>) -> Online {
    let online = Online::new(store);
    let source = MemorySource::new("s", events(50));
    online.materialize(&view(), &source, second(40), &Silent).await.unwrap();
    online
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_answers_like_the_store_and_only_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.kz");
    let store = Arc::new(MemoryOnlineStore::default());
    let online = filled(Arc::clone(&store) as Arc<dyn OnlineStore>).await;
    let digest = online.export(&[view()], &path).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();

    let snapshot = SnapshotOnlineStore::open(&path).await.unwrap();
    same(store.as_ref(), &snapshot).await;
    same(&snapshot, store.as_ref()).await;
    let asked = request(vec![7, 8], 40 * S);
    let expected = online.features(&service(view()), &asked, "at").await.unwrap();
    let reader = Online::new(Arc::new(snapshot));
    assert_eq!(reader.features(&service(view()), &asked, "at").await.unwrap(), expected);
    let source = MemorySource::new("s", events(50));
    let error = reader.materialize(&view(), &source, second(45), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.to_string().contains("features.kz"), "{error}");

    // The same content has the same bytes, whatever store it was in; a snapshot has it too.
    let redb = Arc::new(RedbOnlineStore::open(folder.path().join("redb")).await.unwrap());
    let (second_path, third_path) = (folder.path().join("2"), folder.path().join("3"));
    assert_eq!(filled(redb).await.export(&[view()], &second_path).await.unwrap(), digest);
    assert_eq!(std::fs::read(&second_path).unwrap(), bytes);
    assert_eq!(reader.export(&[view(), view()], &third_path).await.unwrap(), digest);
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(names.len(), 4, "no unfinished file: {names:?}");

    // A later one takes its place; readers keep what they have.
    online.materialize(&view(), &source, second(45), &Silent).await.unwrap();
    assert_ne!(online.export(&[view()], &path).await.unwrap(), digest);
    assert_eq!(reader.features(&service(view()), &asked, "at").await.unwrap(), expected);
    let later = Online::new(open_online(&format!("snapshot:{}", path.display())).await.unwrap());
    let found = later.features(&service(view()), &request(vec![7], 45 * S), "at").await.unwrap();
    assert_eq!(numbers(&found, "x").unwrap().value(0), 4.5);
}

#[tokio::test]
async fn what_cannot_be_exported_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    let error = online.export(&[view()], folder.path().join("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("view `v`: it was never materialised"), "{error}");
    let online = filled(Arc::new(MemoryOnlineStore::default())).await;
    let error = online.export(&[view()], folder.path().join("no/such")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.to_string().contains("no/such"), "{error}");
    // A folder of that name: the file cannot take its place.
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    online.export(&[view()], folder.path().join("taken")).await.unwrap_err();
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let error = SnapshotOnlineStore::open(folder.path().join("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    std::fs::write(folder.path().join("x"), "something else").unwrap();
    let error = SnapshotOnlineStore::open(folder.path().join("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains("it is no snapshot"), "{error}");
}

/// Another program forgets an entity of the view `v` meanwhile.
#[derive(Debug)]
struct Forgetting {
    store: Arc<MemoryOnlineStore>,
    gone: RecordBatch,
    /// After each page that is read of spaces whose names begin so.
    after_pages_of: &'static str,
    /// Before this `get` is answered, counted down to 0.
    before_get: AtomicUsize,
}

impl Forgetting {
    async fn forget(&self) -> Result<u64> {
        let other = Online::new(Arc::clone(&self.store) as Arc<dyn OnlineStore>);
        other.forget("v", &self.gone).await
    }
}

#[async_trait]
impl OnlineStore for Forgetting {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        if self.before_get.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.forget().await?;
        }
        self.store.get(space, keys).await
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        self.store.put(entries).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        self.store.spaces().await
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let page = self.store.page(space, after, most).await;
        if space.starts_with(self.after_pages_of) {
            self.forget().await?;
        }
        page
    }
}

fn gone(key: i64) -> RecordBatch {
    request(vec![key], 0).project(&[0]).unwrap()
}

/// A store with the views `v` and `w`, of which an entity is forgotten while it is exported.
async fn forgetting(after_pages_of: &'static str, before_get: usize) -> Online {
    let store = Arc::new(MemoryOnlineStore::default());
    let online = filled(Arc::clone(&store) as Arc<dyn OnlineStore>).await;
    let source = MemorySource::new("s", events(50));
    online.materialize(&second_view(), &source, second(40), &Silent).await.unwrap();
    online.forget("v", &gone(99)).await.unwrap();
    let (gone, before_get) = (gone(7), AtomicUsize::new(before_get));
    Online::new(Arc::new(Forgetting { store, gone, after_pages_of, before_get }))
}

fn second_view() -> FeatureView {
    let view = FeatureView::builder("w").source("s").key("k");
    view.column("x", DataType::Float64).build().unwrap()
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[tokio::test]
async fn what_is_forgotten_during_an_export_is_noticed_the_second_time_too() {
    let folder = tempfile::tempdir().unwrap();
    let online = forgetting("v@", 0).await;
    for _ in 0..2 {
        let error = online.export(&[view()], folder.path().join("x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    }
    assert_eq!(names(&folder), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_forgotten_while_another_view_is_read_or_the_file_is_written_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let views = [view(), second_view()];
    let error = forgetting("w@", 0).await.export(&views, &path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.to_string().contains("view `v`: it was written"), "{error}");
    // How far each view goes is read before, after the last one, and when the file is on disk.
    for get in [3, 5] {
        let error = forgetting("none", get).await.export(&views, &path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "before get {get}: {error:?}");
    }
    assert_eq!(names(&folder), Vec::<String>::new());
    forgetting("none", 0).await.export(&views, &path).await.unwrap();
}

#[tokio::test]
async fn what_an_export_that_was_cut_off_has_left_is_cleared_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    for left in [".x.12-3.tmp", ".y.12-3.tmp"] {
        std::fs::write(folder.path().join(left), "half").unwrap();
    }
    let online = filled(Arc::new(MemoryOnlineStore::default())).await;
    online.export(&[view()], folder.path().join("x")).await.unwrap();
    let mut names = names(&folder);
    names.sort();
    assert_eq!(names, [".y.12-3.tmp", "x"], "that of another file stays");
}

#[tokio::test]
async fn stores_are_opened_by_url() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("online.redb");
    for url in ["memory:".to_owned(), format!("redb:{}", path.display())] {
        let store = open_online(&url).await.unwrap();
        assert_eq!(store.get("s", &[Bytes::new()]).await.unwrap(), [None]);
    }
    let cases = [
        ("", ErrorKind::Invalid, "without a scheme"),
        ("memory:x", ErrorKind::Invalid, "nothing follows"),
        ("redb:", ErrorKind::Invalid, "a path follows"),
        ("mongodb://me:secret@host", ErrorKind::Unsupported, "there are `memory:`"),
        ("snapshot:/no/such/file", ErrorKind::NotFound, "/no/such/file"),
        ("redis://me:secret@127.0.0.1:1/3", ErrorKind::Unavailable, "`redis://127.0.0.1:1/3`"),
    ];
    for (url, kind, part) in cases {
        let error = open_online(url).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error:?}");
        assert!(error.to_string().contains(part), "{url}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
