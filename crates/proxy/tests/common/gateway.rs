//! A gateway in this process, and clients of TLS for it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use outrigger_model as model;
use outrigger_proxy::{Options, Proxy, Settings, Threads};
use outrigger_telemetry::Registry;
use outrigger_testkit::PATIENCE;
use outrigger_testkit::certificates::{Authority, Made};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::{World, snapshot};

/// The name of the listener.
pub const LISTENER: &str = "gateway|443";

/// The clusters of a gateway: a name and its endpoints each.
pub type Clusters<'c> = [(&'c str, &'c [SocketAddr])];

/// A snapshot with one listener.
pub fn gateway(chains: Vec<model::Chain>, clusters: &Clusters<'_>) -> model::Snapshot {
    let listener = model::Listener {
        name: LISTENER.into(),
        direction: model::Direction::Gateway,
        port: 443,
        proxy_protocol: None,
        chains,
    };
    let clusters = clusters.iter().map(|(name, endpoints)| cluster(name, endpoints)).collect::<HashMap<_, _>>();
    model::Snapshot { listeners: vec![Arc::new(listener)], clusters, ..snapshot(&[], |_| {}) }
}

/// A cluster `outbound|443||NAME.example`.
fn cluster(name: &str, endpoints: &[SocketAddr]) -> (model::ClusterName, Arc<model::Cluster>) {
    let of = snapshot(endpoints, |_| {});
    let mut cluster = model::Cluster::clone(of.clusters.values().next().expect("one"));
    cluster.name = cluster_name(name);
    cluster.service.name = name.into();
    (cluster.name.clone(), Arc::new(cluster))
}

pub fn cluster_name(name: &str) -> model::ClusterName {
    model::ClusterName::new(&format!("outbound|443||{name}.example"))
}

fn destination(name: &str, weight: u32) -> model::Destination {
    model::Destination {
        cluster: cluster_name(name),
        missing: None,
        weight,
        authority: None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}

/// Sends bytes to clusters by weight.
pub fn to_tcp(shares: &[(&str, u32)]) -> model::Serve {
    let destinations = shares.iter().map(|(name, weight)| destination(name, *weight)).collect();
    model::Serve::Tcp(Arc::new(model::TcpRoute { origin: None, destinations }))
}

/// Sends requests of every host to a cluster.
pub fn to_http(name: &str) -> model::Serve {
    let of = snapshot(&[], |route| {
        let model::Action::Forward(forward) = &mut route.action else { unreachable!("it forwards") };
        forward.destinations = vec![destination(name, 1)];
    });
    let routes = of.listeners[0].route_tables().next().expect("one").clone();
    model::Serve::Http(routes)
}

/// A chain for these server names.
pub fn chain(names: &[&str], tls: Option<model::ServerTls>, serve: model::Serve) -> model::Chain {
    let pattern = |name: &&str| match name.strip_prefix('*') {
        Some(suffix) => model::HostPattern::Suffix(suffix.into()),
        None => model::HostPattern::Exact((*name).into()),
    };
    model::Chain { server_names: names.iter().map(pattern).collect(), tls: tls.map(Arc::new), serve }
}

/// TLS with these certificates.
pub fn tls(certificates: &[&Made]) -> model::ServerTls {
    let pair = |made: &&Made| {
        Arc::new(model::KeyPair {
            name: "Secret shop/web-tls".into(),
            certificates: made.certificate.as_bytes().into(),
            private_key: model::Secret::new(made.key.as_bytes().into()),
        })
    };
    model::ServerTls {
        certificates: certificates.iter().map(pair).collect(),
        client: model::ClientCertificate::None,
        version_min: model::TlsVersion::V1_2,
        version_max: model::TlsVersion::V1_3,
    }
}

/// Starts a gateway.
pub fn start(settings: Settings, snapshot: model::Snapshot) -> World {
    let registry = Registry::new(Default::default());
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let threads = Threads::start(2).expect("threads");
    let options = Options { settings, seed: 1, ..Options::default() };
    let proxy = Proxy::start(&threads, options, &registry, Arc::new(snapshot)).expect("a proxy starts");
    proxy.listen(LISTENER, &socket).expect("the socket is shared");
    let address = socket.local_addr().expect("bound");
    World { proxy, _threads: threads, address, registry }
}

/// What clients of TLS have in common: whom they trust, what they show.
#[derive(Clone)]
pub struct Clients(pub Arc<ClientConfig>);

impl Clients {
    /// Clients that trust the authority.
    pub fn of(authority: &Authority) -> Self {
        Self::with(authority, rustls::ALL_VERSIONS, None)
    }

    /// Clients that trust the authority, speak these versions and may show a certificate.
    pub fn with(authority: &Authority, versions: &[&'static SupportedProtocolVersion], own: Option<&Made>) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.made.certificate.as_bytes()).expect("certificate");
        roots.add(root).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        Self(Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(made) => {
                let chain = CertificateDer::pem_slice_iter(made.certificate.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).expect("key");
                builder.with_client_auth_cert(chain, key).expect("client certificate")
            }
        }))
    }

    /// A connection on which nothing was sent yet.
    pub fn open(&self, address: SocketAddr, name: &str) -> TlsClient {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
        socket.set_nodelay(true).expect("option");
        socket.set_read_timeout(Some(PATIENCE)).expect("option");
        socket.set_write_timeout(Some(PATIENCE)).expect("option");
        let name = ServerName::try_from(name.to_owned()).expect("name");
        let connection = ClientConnection::new(self.0.clone(), name).expect("client");
        TlsClient { stream: StreamOwned::new(connection, socket), unread: Vec::new() }
    }

    /// A connection whose handshake is done.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsClient> {
        let mut client = self.open(address, name);
        while client.stream.conn.is_handshaking() {
            client.stream.conn.complete_io(&mut client.stream.sock)?;
        }
        Ok(client)
    }
}

/// One connection of TLS.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl TlsClient {
    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request)?;
        self.read_answer()
    }

    /// A GET and its answer.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n\r\n").as_bytes())
    }

    /// Reads one answer, with a length, in chunks or up to the end.
    pub fn read_answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            match self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        self.unread.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let body = match length {
            Some(length) => self.take(length)?,
            None if head.contains("transfer-encoding: chunked") => self.chunks()?,
            None => self.until_end()?,
        };
        Ok(Answer { status, head, body })
    }

    /// Reads up to the end, which the server must announce.
    pub fn until_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.unread.windows(2).position(|window| window == b"\r\n") {
                    Some(end) => break end,
                    None => self.more()?,
                }
            };
            let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
            self.unread.drain(..end + 2);
            let size = usize::from_str_radix(&line, 16).expect("a chunk's size");
            let chunk = self.take(size + 2)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.more()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Reads more; an end here is too early.
    fn more(&mut self) -> io::Result<()> {
        let mut block = [0; 16 * 1024];
        let count = self.stream.read(&mut block)?;
        self.unread.extend_from_slice(&block[..count]);
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
