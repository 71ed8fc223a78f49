//! What the entry point of a container calls.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use kaizen_core::{Clock, Result};
use kaizen_package::Bundle;
use kaizen_table::{Formats, PredictionSink};
use tokio::net::ToSocketAddrs;

use crate::{Router, Servable, Server, app};

/// Serves the release that lies in a folder, `/model` of an image, with all traffic.
///
/// The host goes on with [`Server::serve_until`] and the signal that stops it.
pub async fn serve_bundle(
    folder: impl Into<PathBuf>,
    addr: impl ToSocketAddrs + fmt::Debug,
    formats: &Formats,
    sink: Arc<dyn PredictionSink>,
    clock: Arc<dyn Clock>,
) -> Result<Server> {
    let bundle = Bundle::open(folder).await?;
    let servable = Servable::load(&bundle, &bundle.release(), formats).await?;
    let router = Router::new(&servable.release().name);
    router.set("model", Arc::new(servable))?;
    router.shift(&BTreeMap::from([("model".to_owned(), 100)]))?;
    Server::bind(addr, app(Arc::new(router), sink, clock)).await
}
