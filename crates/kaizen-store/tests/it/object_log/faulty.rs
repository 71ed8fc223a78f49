//! An object store whose calls fail, are late, or are done without being heard of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream::BoxStream;
use kaizen_core::async_trait;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A store that fails once, or heeds no conditions.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) inner: InMemory,
    pub(super) calls: AtomicU64,
    /// How many calls succeed before one fails; all, if there are that many.
    pub(super) left: AtomicU64,
    pub(super) fault: Mutex<Fault>,
    late: Mutex<Option<Late>>,
    pub(super) slow: Slow,
}

/// When a write was done whose answer is lost, and when it is lost.
#[derive(Debug, Default)]
pub(super) struct Slow {
    pub(super) done: tokio::sync::Notify,
    pub(super) lost: tokio::sync::Notify,
}

/// A write that is still under way, and how many calls are done before it is.
#[derive(Debug)]
struct Late {
    calls: u64,
    path: Path,
    bytes: PutPayload,
    options: PutOptions,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// The call does nothing.
    Before,
    /// The call does its work, and nobody hears of it.
    After,
    /// A write is given up, and done only after so many more calls.
    Late(u64),
    /// The call does its work, its client tries again, and finds the object changed.
    Retried,
    /// The call does its work, and its answer is lost long after.
    Slow,
    /// Conditions are not heeded.
    NoConditions,
    /// Conditional writes are refused.
    Refused,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

impl Faulty {
    pub(super) fn new(fault: Fault) -> Arc<Self> {
        let (inner, left) = (InMemory::new(), AtomicU64::new(u64::MAX));
        let calls = AtomicU64::new(0);
        Arc::new(Self {
            inner,
            calls,
            left,
            fault: Mutex::new(fault),
            late: Mutex::default(),
            slow: Slow::default(),
        })
    }

    /// Counts a call. What is late and due is done before it.
    async fn arrive(&self) {
        // So that calls of several mix, in one order after the other.
        let turn = self.calls.fetch_add(1, Ordering::SeqCst);
        for _ in 0..turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 {
            tokio::task::yield_now().await;
        }
        let due = {
            let mut late = self.late.lock().unwrap();
            match late.as_mut() {
                Some(Late { calls: 0, .. }) => late.take(),
                Some(Late { calls, .. }) => {
                    *calls -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(Late { path, bytes, options, .. }) = due {
            // Nobody hears of it, whatever it comes to.
            let _ = self.inner.put_opts(&path, bytes, options).await;
        }
    }

    fn fails(&self) -> Option<Fault> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        (left == 0).then(|| *self.fault.lock().unwrap())
    }
}

fn broken() -> Error {
    Error::Generic { store: "faulty", source: "the store of the test is broken".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        bytes: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let conditional = options.mode != PutMode::Overwrite;
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::NoConditions {
            options.mode = PutMode::Overwrite;
        }
        if fault == Fault::Refused && conditional {
            return Err(Error::NotImplemented {
                operation: "put".into(),
                implementer: "faulty".into(),
            });
        }
        self.arrive().await;
        match self.fails() {
            None => self.inner.put_opts(path, bytes, options).await,
            Some(Fault::Before) => Err(broken()),
            Some(Fault::Late(calls)) => {
                let path = path.clone();
                *self.late.lock().unwrap() = Some(Late { calls, path, bytes, options });
                Err(broken())
            }
            Some(Fault::Slow) => {
                self.inner.put_opts(path, bytes, options).await?;
                self.slow.done.notify_one();
                self.slow.lost.notified().await;
                Err(broken())
            }
            Some(Fault::Retried) if conditional => {
                self.inner.put_opts(path, bytes.clone(), options.clone()).await?;
                self.inner.put_opts(path, bytes, options).await
            }
            Some(_) => {
                self.inner.put_opts(path, bytes, options).await?;
                Err(broken())
            }
        }
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.arrive().await;
        match self.fails() {
            None | Some(Fault::Retried) => self.inner.get_opts(path, options).await,
            Some(_) => Err(broken()),
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
