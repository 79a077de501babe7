//! Connections: how many there may be, of all and of one client, for how long each may be silent, and how much
//! may stand in a head. What is refused here costs little, for nothing of it is read.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::{counter, gauge};
use poem::{
    Addr, Endpoint,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;

use crate::{
    bounds as requests,
    limits::client_of,
    tls::{Certified, HTTP2, Tls},
};

/// From the beginning of a connection, or from the last answer on it, to the end of a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// For the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a client may take nothing of an answer.
const UNREAD: Duration = Duration::from_secs(10);
/// In a head; GitLab sends a webhook with about 15, and 20 more that its owner may add.
const MOST_HEADERS: usize = 100;
/// Bytes of a head: twice the longest token.
const LARGEST_HEAD: usize = 16 * 1024;
/// After this a connection takes no further requests, so that nobody keeps places for ever.
const AGE: Duration = Duration::from_mins(1);
/// What was begun on it by then is ended within this.
const END: Duration = Duration::from_secs(10);
/// Bytes of bodies that such a connection sends before they are read.
const HTTP2_WINDOW: u32 = 64 * 1024;
/// Requests at the same time on one connection of HTTP/2.
const HTTP2_STREAMS: u32 = 16;
/// After an error of the system's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
pub(crate) struct Bounds {
    all: Arc<Semaphore>,
    client: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of them; dropped, it makes room for another.
struct Place {
    client: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _of_all: OwnedSemaphorePermit,
}

impl Bounds {
    /// So many of all clients, and of each.
    pub(crate) fn new(all: usize, client: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            client,
            open: Arc::default(),
        }
    }

    /// The next connection that has a place. While there is none for anybody, those that come wait in the
    /// system's queue; those of a client that has its own are closed.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr, Place) {
        let all = self.all.clone();
        let of_all = all.acquire_owned().await;
        let of_all = of_all.expect("nobody closes the semaphore");
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let client = client_of(address.ip());
                    if self.admit(client) {
                        let open = self.open.clone();
                        let place = Place {
                            client,
                            open,
                            _of_all: of_all,
                        };
                        return (stream, address, place);
                    }
                    refused("client");
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, client: IpAddr) -> bool {
        let mut open = lock(&self.open);
        let count = open.entry(client).or_default();
        let is_room = *count < self.client;
        *count += usize::from(is_room);
        is_room
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

fn lock(open: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the signal, and then for as long as the grace what is open. `Err` where the signal failed.
pub(crate) async fn serve<E: Endpoint + 'static>(
    listener: TcpListener,
    tls: Option<Tls>,
    bounds: Bounds,
    (bounds_of_requests, endpoint): (requests::Bounds, E),
    signal: impl Future<Output = std::io::Result<()>>,
    grace: Duration,
) -> std::io::Result<()> {
    let endpoint = Arc::new((bounds_of_requests, endpoint));
    let tls = tls.map(Arc::new);
    let (stop, stopping) = watch::channel(false);
    let mut signal = pin!(signal);
    let mut open = JoinSet::new();
    let ended = loop {
        tokio::select! {
            ended = &mut signal => break ended,
            (stream, address, place) = bounds.accept(&listener) => {
                let connection = Connection {
                    address,
                    endpoint: endpoint.clone(),
                    stopping: stopping.clone(),
                };
                let tls = tls.clone();
                open.spawn(async move {
                    gauge!("joblogs_connections").increment(1.0);
                    connection.carry(stream, tls.as_deref()).await;
                    gauge!("joblogs_connections").decrement(1.0);
                    drop(place);
                });
            }
            Some(_) = open.join_next() => {}
        }
    };
    drop(listener);
    stop.send_replace(true);
    let all = async { while open.join_next().await.is_some() {} };
    // Those that are left after the grace end with the set.
    let _ = timeout(grace, all).await;
    ended
}

struct Connection<E> {
    address: SocketAddr,
    endpoint: Arc<(requests::Bounds, E)>,
    stopping: watch::Receiver<bool>,
}

/// Who is at the other end, and how it is reached.
#[derive(Clone)]
struct Peer {
    local: LocalAddr,
    remote: RemoteAddr,
    scheme: Scheme,
    certified: Certified,
}

impl<E: Endpoint + 'static> Connection<E> {
    async fn carry(self, stream: TcpStream, tls: Option<&Tls>) {
        // Answers are small, and shall go at once.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let mut peer = Peer {
            local: LocalAddr(Addr::SocketAddr(local)),
            remote: RemoteAddr(Addr::SocketAddr(self.address)),
            scheme: Scheme::HTTP,
            certified: Certified(false),
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(UNREAD));
        let stream = Box::pin(stream);
        let Some(tls) = tls else {
            return self.http1(stream, peer).await;
        };
        let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else {
            refused("tls");
            return;
        };
        let (_, session) = stream.get_ref();
        peer.scheme = Scheme::HTTPS;
        peer.certified = Certified(session.peer_certificates().is_some());
        if session.alpn_protocol() == Some(HTTP2) {
            Box::pin(self.http2(stream, peer)).await;
        } else {
            Box::pin(self.http1(stream, peer)).await;
        }
    }

    async fn http1<S: AsyncRead + AsyncWrite + Unpin>(mut self, stream: S, peer: Peer) {
        let endpoint = self.endpoint.clone();
        let service = service_fn(|request| answer(endpoint.clone(), peer.clone(), request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            // To find out that a client has gone, hyper would keep a second buffer; and its notice is taken.
            .half_close(true)
            .max_headers(MOST_HEADERS)
            .max_buf_size(LARGEST_HEAD);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = self.stopped() => None,
            () = sleep(AGE) => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            timeout(END, connection).await.unwrap_or(Ok(()))
        };
        match ended {
            Err(error) if error.is_timeout() => refused("head_time"),
            Err(error) if error.is_parse() => refused("head"),
            // The others are clients that go away.
            _ => {}
        }
    }

    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send>(mut self, stream: S, peer: Peer) {
        let endpoint = self.endpoint.clone();
        let service = service_fn(|request| answer(endpoint.clone(), peer.clone(), request));
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(HEAD)
            .keep_alive_timeout(HEAD)
            .max_concurrent_streams(HTTP2_STREAMS)
            // What has come of bodies that nobody reads yet is kept.
            .initial_connection_window_size(HTTP2_WINDOW)
            .initial_stream_window_size(HTTP2_WINDOW)
            .max_header_list_size(16 * 1024);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = &mut connection => return,
            () = self.stopped() => {}
            () = sleep(AGE) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(END, connection).await;
    }

    async fn stopped(&mut self) {
        // An error is that the one who stops us is gone, which means the same.
        let _ = self.stopping.wait_for(|stop| *stop).await;
    }
}

/// A connection keeps room for this future also while it has no request: it is a pointer.
type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

fn answer<E: Endpoint + 'static>(
    endpoint: Arc<(requests::Bounds, E)>,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Answer<impl Body<Data = Bytes, Error = std::io::Error> + Send> {
    request.extensions_mut().insert(peer.certified);
    let request = poem::Request::from((request, peer.local, peer.remote, peer.scheme));
    Box::pin(async move {
        let (bounds, endpoint) = &*endpoint;
        Ok(Response::from(bounds.answer(endpoint, request).await))
    })
}

fn refused(reason: &'static str) {
    counter!("joblogs_connections_refused_total", "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_places_and_one_more_for_each_that_it_leaves() {
        let bounds = Bounds::new(10, 2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().unwrap());
        let place = |client| Place {
            client,
            open: bounds.open.clone(),
            _of_all: bounds.all.clone().try_acquire_owned().unwrap(),
        };
        assert!(bounds.admit(one) && bounds.admit(one));
        assert!(!bounds.admit(one));
        assert!(bounds.admit(other));
        drop(place(one));
        assert!(bounds.admit(one));
        assert!(!bounds.admit(one));
        for client in [one, one, other] {
            drop(place(client));
        }
        assert!(lock(&bounds.open).is_empty(), "nobody is remembered");
    }
}
