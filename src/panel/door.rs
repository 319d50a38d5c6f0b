//! The door: connections in, within limits.
//!
//! ```text
//!  accept ─► place? ─no─► 503, closed
//!              │yes
//!              ▼
//!         TLS (bounded wait) ─► HTTP/1.1 (bounded head, bounded wait for it) ─► routes
//! ```
//!
//! A place is held by a connection until its end. One that sends nothing loses it after
//! [`HEAD_PATIENCE`]; one that takes nothing, after [`STALL`]. So slow and idle clients cannot keep
//! others out for long, however many there are.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Connections at a time: the page's streams, what it fetches, and those who scrape.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Lines of it.
const MAX_HEADERS: usize = 64;
/// How long a head may take, and a connection may say nothing between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a handshake may take.
const TLS_PATIENCE: Duration = Duration::from_secs(5);
/// A client that takes nothing of what it is sent for this long is left.
const STALL: Duration = Duration::from_secs(10);
/// Pause after the system gave no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What came to the door.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that found no place.
    pub crowded: AtomicU64,
    /// Event streams that found no place.
    pub streams_full: AtomicU64,
    /// Requests that the guard turned away.
    pub denied: AtomicU64,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer(pub SocketAddr);

/// The door.
pub(super) struct Door {
    routes: Router,
    tls: Option<TlsAcceptor>,
    traffic: Arc<Traffic>,
    places: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(
        routes: Router,
        tls: Option<Arc<ServerConfig>>,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            routes,
            tls: tls.map(TlsAcceptor::from),
            traffic,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// For ever.
    pub(super) async fn serve(self, listener: TcpListener) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the panel did not accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.traffic.crowded.fetch_add(1, Ordering::Relaxed);
                turn_away(stream);
                continue;
            };
            let _ = stream.set_nodelay(true); // a matter of milliseconds
            let routes = self.routes.clone().layer(Extension(Peer(peer)));
            let (tls, traffic) = (self.tls.clone(), Arc::clone(&self.traffic));
            tokio::spawn(async move {
                traffic.open.fetch_add(1, Ordering::Relaxed);
                match tls {
                    None => converse(stream, routes).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = timeout(TLS_PATIENCE, tls.accept(stream)).await {
                            converse(stream, routes).await;
                        }
                    }
                }
                traffic.open.fetch_sub(1, Ordering::Relaxed);
                drop(place);
            });
        }
    }
}

/// Says that there is no place, if that can be said without waiting.
fn turn_away(mut stream: TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    tokio::spawn(async move {
        let said = timeout(PAUSE, stream.write_all(FULL));
        let _ = said.await; // whoever does not listen learns it by the end of the connection
    });
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Send + Unpin, routes: Router) {
    let stream = TokioIo::new(Patient::new(stream));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(stream, TowerToHyperService::new(routes))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the panel ended early");
    }
}

/// A stream that gives up when the other side takes nothing for [`STALL`].
struct Patient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            stalled: None,
        }
    }

    /// What a write came to, unless it has been coming to nothing for too long.
    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(shut, cx)
    }
}
