//! A session against a client, both without a socket.

use outrigger_model::{ClientCertificate, KeyPair, Secret, ServerTls, TlsVersion};
use outrigger_testkit::certificates::Authority;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// Both ends of a connection, without one.
struct Pair {
    client: ClientConnection,
    server: Session,
    /// What the client has read.
    heard: Vec<u8>,
}

impl Pair {
    /// After the handshake, of which the server saw `step` bytes at a time.
    fn met(version: &'static rustls::SupportedProtocolVersion, step: usize) -> Self {
        let authority = Authority::new("test");
        let made = authority.issue(&["web.example"]);
        let pair = KeyPair {
            name: "Secret shop/web".into(),
            certificates: made.certificate.as_bytes().into(),
            private_key: Secret::new(made.key.as_bytes().into()),
        };
        let tls = ServerTls {
            certificates: vec![Arc::new(pair)],
            client: ClientCertificate::None,
            version_min: TlsVersion::V1_2,
            version_max: TlsVersion::V1_3,
        };
        let config = outrigger_identity::server_config(&tls, &[]).expect("a good key pair");
        let server = Session::new(config, &Rc::default(), Buffer::default()).expect("a session");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.made.certificate.as_bytes()).expect("a certificate");
        roots.add(root).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let config = builder.expect("a version").with_root_certificates(roots).with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "web.example".try_into().expect("a name"));
        let mut met = Self { client: client.expect("a client"), server, heard: Vec::new() };
        let mut done = Handshake::Blocked;
        while met.client.is_handshaking() || done == Handshake::Blocked {
            for mut bytes in met.take_from_client().chunks(step) {
                met.give(&mut bytes);
                done = met.server.handshake().expect("a handshake");
            }
            met.pass_to_client();
        }
        met
    }

    fn take_from_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    /// As much as there is room for.
    fn give(&mut self, bytes: &mut &[u8]) {
        let room = self.server.room();
        let (now, later) = bytes.split_at(bytes.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.server.fill(now.len());
        *bytes = later;
    }

    fn pass_to_client(&mut self) {
        let outgoing = self.server.take_outgoing();
        let mut bytes = outgoing.bytes();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).expect("memory");
            let state = self.client.process_new_packets().expect("what a client takes");
            let heard = self.heard.len();
            self.heard.resize(heard + state.plaintext_bytes_to_read(), 0);
            std::io::Read::read_exact(&mut self.client.reader(), &mut self.heard[heard..]).expect("it is there");
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        std::io::Write::write_all(&mut self.client.writer(), bytes).expect("memory");
        self.take_from_client()
    }

    /// Reads all there is, `room` bytes at a time.
    fn read(&mut self, room: usize) -> (Vec<u8>, Read) {
        let (mut all, mut block) = (Vec::new(), vec![0; room]);
        loop {
            match self.server.read(&mut block).expect("good records") {
                Read::Bytes(count) => all.extend_from_slice(&block[..count]),
                end => return (all, end),
            }
        }
    }
}

#[test]
fn plaintext_comes_whole_whatever_the_room_and_the_cuts() {
    let text: Vec<u8> = (0..50_000_u32).map(|n| (n % 251) as u8).collect();
    for version in rustls::ALL_VERSIONS {
        for (step, room) in [(1, 100_000), (7, 1), (17_000, 333), (60_000, 20_000), (60_000, 100_000)] {
            let mut pair = Pair::met(version, step.min(900));
            let wire = pair.say(&text);
            let mut all = Vec::new();
            for mut bytes in wire.chunks(step) {
                while !bytes.is_empty() {
                    pair.give(&mut bytes);
                    all.extend(pair.read(room).0);
                }
            }
            assert!(all == text, "{step} {room}");
            assert!(!pair.server.has_unread());
        }
    }
}

#[test]
fn what_came_before_the_end_is_read_before_the_end() {
    let mut pair = Pair::met(&rustls::version::TLS13, 900);
    let mut wire = pair.say(b"last words");
    pair.client.send_close_notify();
    wire.extend(pair.take_from_client());
    wire.extend(b"what nobody reads");
    pair.give(&mut &wire[..]);
    assert_eq!(pair.read(4), (b"last words".to_vec(), Read::Closed));
    // The other direction is open still.
    let (mut first, mut second) = (&b"yours"[..], &b""[..]);
    pair.server.encrypt(&mut first, &mut second).expect("it is open");
    pair.pass_to_client();
    assert_eq!(pair.heard, b"yours");
}

#[test]
fn a_broken_record_fails_the_session_once_what_came_before_is_read() {
    let mut pair = Pair::met(&rustls::version::TLS13, 900);
    let mut wire = pair.say(b"good");
    let mut bad = pair.say(b"bad");
    *bad.last_mut().expect("a record") ^= 1;
    wire.extend(bad);
    pair.give(&mut &wire[..]);
    let mut room = [0; 100];
    assert_eq!(pair.server.read(&mut room), Ok(Read::Bytes(4)));
    assert!(pair.server.read(&mut room).is_err());
    let alert = pair.server.take_outgoing();
    assert_eq!(alert.bytes().first(), Some(&23), "an alert, encrypted");
    assert!(pair.server.read(&mut room).is_err() && pair.server.take_outgoing().is_empty(), "told once");
    let (mut first, mut second) = (&b"x"[..], &b""[..]);
    assert!(pair.server.encrypt(&mut first, &mut second).is_err());
}

#[test]
fn writing_leaves_what_was_read_meanwhile_to_the_reader() {
    let mut pair = Pair::met(&rustls::version::TLS12, 900);
    let wire = pair.say(b"question");
    pair.give(&mut &wire[..]);
    let data = vec![7; 100_000];
    let (mut first, mut second) = (&b"head"[..], &data[..]);
    let mut batches = 0;
    while !first.is_empty() || !second.is_empty() {
        pair.server.encrypt(&mut first, &mut second).expect("it is open");
        batches += 1;
        pair.pass_to_client();
    }
    assert_eq!(batches, 2, "a batch is bounded");
    assert!(pair.heard == [&b"head"[..], &data].concat());
    assert_eq!(pair.read(100), (b"question".to_vec(), Read::Blocked));
}

#[test]
fn new_keys_without_end_cost_bounded_memory_and_are_refused_at_last() {
    let mut pair = Pair::met(&rustls::version::TLS13, 900);
    let mut refused = false;
    for _ in 0..10_000 {
        pair.client.refresh_traffic_keys().expect("TLS 1.3 has new keys");
        let wire = pair.take_from_client();
        pair.give(&mut &wire[..]);
        match pair.server.read(&mut [0; 10]) {
            Ok(read) => assert_eq!(read, Read::Blocked),
            Err(_) => {
                refused = true;
                break;
            }
        }
        assert!(!pair.server.has_unread());
    }
    let outgoing = pair.server.take_outgoing();
    assert!(refused || outgoing.len() < 1000, "{}", outgoing.len());
}

#[test]
fn a_session_that_waits_holds_no_block() {
    let mut pair = Pair::met(&rustls::version::TLS13, 900);
    let wire = pair.say(b"x");
    pair.give(&mut &wire[..]);
    assert_eq!(pair.read(10).0, b"x");
    pair.server.release();
    for buffer in [&pair.server.incoming, &pair.server.queues.plaintext, &pair.server.queues.outgoing] {
        assert!(!buffer.has_block());
    }
}
