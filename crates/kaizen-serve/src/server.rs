//! A bound socket with an app behind it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use kaizen_core::{Context, Error, ErrorKind, Result};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// An HTTP/1.1 server that runs until it is shut down.
///
/// Dropping it stops it too, without waiting: it takes no more connections, and what it has begun
/// goes on for as long as the runtime does.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// How long [`shutdown`](Self::shutdown) waits for requests in flight. Cloud Run, the most
    /// impatient host, kills after ten seconds.
    pub const DRAIN: Duration = Duration::from_secs(8);

    /// Binds an address and serves `app` there. Port 0 takes a free one.
    pub async fn bind(addr: impl ToSocketAddrs + fmt::Debug, app: axum::Router) -> Result<Self> {
        let what = format!("address {addr:?}");
        let listener = TcpListener::bind(addr).await.context(ErrorKind::Unavailable, &what)?;
        let addr = listener.local_addr().context(ErrorKind::Unavailable, &what)?;
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
        });
        let (stop, stopped) = oneshot::channel();
        let serve = axum::serve(listener, app).with_graceful_shutdown(async move {
            // A server that was dropped stops as well.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move { serve.await });
        tracing::info!(%addr, "serving");
        Ok(Self { addr, stop, task })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more connections and waits until every request in flight is answered, at most
    /// [`DRAIN`](Self::DRAIN): [`ErrorKind::Unavailable`] if some were not.
    pub async fn shutdown(mut self) -> Result<()> {
        // The receiver is gone if the server has ended by itself.
        let _ = self.stop.send(());
        let Ok(ended) = tokio::time::timeout(Self::DRAIN, &mut self.task).await else {
            self.task.abort();
            let (addr, limit) = (self.addr, Self::DRAIN);
            let message = format!("server {addr}: requests in flight after {limit:?}");
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        ended
            .context(ErrorKind::Internal, format!("server {}", self.addr))?
            .context(ErrorKind::Unavailable, format!("server {}", self.addr))
    }

    /// Serves until `signal` comes, then shuts down.
    pub async fn serve_until(self, signal: impl Future<Output = ()>) -> Result<()> {
        signal.await;
        self.shutdown().await
    }
}
