//! A client and a server of HTTP/2, scripted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A request as a server saw it, or an answer as a client did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Method and target, or the status.
    pub line: String,
    /// Fields but for those that every message has.
    pub fields: Vec<String>,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: Vec<String>,
}

/// A stream that a server answers.
pub struct Stream {
    pub head: http::request::Parts,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
}

/// What a server does with a stream.
pub type Serve = Arc<dyn Fn(Stream) + Send + Sync>;

/// A server on a port of loopback.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<Message>>>,
}

impl Server {
    /// One whose streams are each served by a task of the current runtime.
    pub async fn start(builder: h2::server::Builder, serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (builder, serve) = (builder.clone(), serve.clone());
                // Else each window that opens waits for an acknowledgement that is delayed.
                socket.set_nodelay(true).expect("an open socket");
                tokio::spawn(async move {
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (head, body) = request.into_parts();
                        serve(Stream { head, body, respond });
                    }
                });
            }
        });
        Self { address, connections, seen: Arc::default() }
    }

    /// One that reads each request whole and answers as `script` says: a head, a body and trailers.
    pub async fn scripted(
        script: impl Fn(&Message) -> (Response<()>, Bytes, Option<HeaderMap>) + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let log = seen.clone();
        let serve: Serve = Arc::new(move |stream| {
            let (log, script) = (log.clone(), script.clone());
            tokio::spawn(async move {
                let Stream { head, mut body, mut respond } = stream;
                let request = read(format!("{} {}", head.method, head.uri), &head.headers, &mut body).await;
                let Ok(request) = request else { return };
                let (answer, body, trailers) = script(&request);
                log.lock().expect("no test panics with it").push(request);
                let ends = body.is_empty() && trailers.is_none();
                let Ok(mut stream) = respond.send_response(answer, ends) else { return };
                if !ends {
                    send(&mut stream, body, trailers).await;
                }
            });
        });
        let server = Self::start(h2::server::Builder::new(), serve).await;
        Self { seen, ..server }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().expect("no test panics with it").clone()
    }
}

/// Opens a connection.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    connect_with(h2::client::Builder::new(), address).await
}

/// Opens a connection with settings of one's own.
pub async fn connect_with(builder: h2::client::Builder, address: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.expect("the proxy listens");
    socket.set_nodelay(true).expect("an open socket");
    let (client, connection) = builder.handshake(socket).await.expect("a client begins by itself");
    tokio::spawn(async move { drop(connection.await) });
    client.ready().await.expect("a connection that is open")
}

/// A request whose target has an authority.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a legal request")
}

/// Trailers.
pub fn trailers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
}

/// Sends a request with its body and trailers, and reads the answer.
pub async fn exchange(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
    trailers: Option<HeaderMap>,
) -> Result<Message, h2::Error> {
    let ends = body.is_empty() && trailers.is_none();
    let (answer, mut stream) = client.send_request(request, ends)?;
    let (body, sending) = (Bytes::copy_from_slice(body), !ends);
    let upload = async {
        if sending {
            send(&mut stream, body, trailers).await;
        }
    };
    let download = async {
        let (head, mut body) = answer.await?.into_parts();
        read(head.status.as_str().to_owned(), &head.headers, &mut body).await
    };
    tokio::join!(upload, download).1
}

/// A plain GET.
pub async fn get(client: &mut SendRequest<Bytes>, target: &str) -> Result<Message, h2::Error> {
    exchange(client, request("GET", target, &[]), b"", None).await
}

/// Sends a body as the windows allow.
pub async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes, trailers: Option<HeaderMap>) {
    stream.reserve_capacity(body.len());
    while !body.is_empty() {
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        let part = body.split_to(room.min(body.len()));
        if stream.send_data(part, body.is_empty() && trailers.is_none()).is_err() {
            return;
        }
    }
    if let Some(trailers) = trailers {
        // Who does not want them any more has said so otherwise.
        let _ = stream.send_trailers(trailers);
    }
}

/// Reads a message to its end.
pub async fn read(line: String, headers: &HeaderMap, body: &mut RecvStream) -> Result<Message, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        all.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let trailers = body.trailers().await?.map(|trailers| shown(&trailers)).unwrap_or_default();
    Ok(Message { line, fields: shown(headers), body: all.into(), trailers })
}

/// Fields in the order of their names, but for those that the proxy adds to everything.
fn shown(headers: &HeaderMap) -> Vec<String> {
    const USUAL: [&str; 6] = [
        "date",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-envoy-attempt-count",
        "x-envoy-upstream-service-time",
    ];
    let mut all: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !USUAL.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    all.sort();
    all
}
