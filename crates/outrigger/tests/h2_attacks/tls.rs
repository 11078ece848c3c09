//! The same through TLS, where ALPN has agreed on HTTP/2: what is sealed is counted as what is not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use outrigger_testkit::certificates::Authority;
use outrigger_testkit::h2::{Connection, Wire, settings};
use outrigger_testkit::{PATIENCE, free_address};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::case::Cases;
use crate::site::{Site, judge_all};
use crate::{assert_none, assert_unharmed, floods, frames, messages};

/// A connection of TLS.
struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Read for Tls {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Wire for Tls {
    fn socket(&self) -> &TcpStream {
        &self.0.sock
    }
}

/// What clients have in common: they trust the authority, and speak HTTP/2 alone.
fn clients(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.made.certificate.as_bytes()).expect("a certificate");
    roots.add(root).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Shakes hands, and sends the preface and SETTINGS.
fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<Connection> {
    let name = ServerName::try_from("app.default").expect("a name");
    let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(b"h2".as_slice()));
    Connection::client(Tls(stream), &settings(&[]))
}

/// A gateway that terminates TLS, and a route to the backend.
fn gateway(authority: &Authority, port: u16) -> String {
    let made = authority.issue(&["app.default"]);
    let lines = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: web, namespace: default}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web, namespace: default}}
spec:
  gatewayClassName: outrigger
  listeners: [{{name: tls, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: web}}]}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: default}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: app, port: 80}}]}}]
",
        lines(&made.certificate),
        lines(&made.key)
    )
}

#[test]
fn attacks_through_tls_have_the_same_outcome() {
    let authority = Authority::new("attacks");
    let mut site = Site::start(&[], &gateway(&authority, free_address().port()));
    site.assert_healthy();
    let told = &site.process.ready()["gateways"][0]["listeners"][0]["bound"];
    let address: SocketAddr = told.as_str().and_then(|bound| bound.parse().ok()).expect("a bound address");
    let config = clients(&authority);
    let mut cases = Cases::default();
    frames::add_to(&mut cases);
    messages::add_to(&mut cases);
    floods::add_to(&mut cases);
    // A subset: of each row its first variants. What is no preface is for ports without ALPN.
    let mut seen = std::collections::BTreeMap::<_, usize>::new();
    cases.0.retain(|case| {
        let number = seen.entry(case.id).or_default();
        *number += 1;
        *number <= 3 && case.id != "H2-30"
    });
    let descriptors = site.descriptors();
    let failures = judge_all(&site, &cases.0, |_, case| {
        let outcome = case.run(&site, |_| connect(&config, address));
        outcome.map_err(|why| format!("{} [{}], TLS: {why}", case.id, case.variant))
    });
    assert_none(&failures, cases.0.len());
    assert_unharmed(&mut site, descriptors);
}
