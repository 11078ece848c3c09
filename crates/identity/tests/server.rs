//! What clients meet: versions, certificates by name, who must show one. Handshakes in memory, with rustls as the client.

use std::sync::Arc;

use outrigger_identity::server_config;
use outrigger_model::{ClientCertificate, KeyPair, Secret, ServerTls, TlsVersion};
use outrigger_testkit::certificates::{Authority, Made};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};

fn pair(made: &Made) -> Arc<KeyPair> {
    Arc::new(KeyPair {
        name: "Secret shop/web-tls".into(),
        certificates: made.certificate.as_bytes().into(),
        private_key: Secret::new(made.key.as_bytes().into()),
    })
}

fn simple(certificates: &[&Made]) -> ServerTls {
    ServerTls {
        certificates: certificates.iter().map(|made| pair(made)).collect(),
        client: ClientCertificate::None,
        version_min: TlsVersion::V1_2,
        version_max: TlsVersion::V1_3,
    }
}

fn mutual(server: &Made, authority: &Authority) -> ServerTls {
    ServerTls { client: ClientCertificate::Required(authority.made.certificate.as_bytes().into()), ..simple(&[server]) }
}

/// Takes any certificate: what is shown is looked at afterwards.
#[derive(Debug)]
struct Anything(Vec<SignatureScheme>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// A client, with what it may show of itself.
fn client(versions: &[&'static SupportedProtocolVersion], own: Option<&Made>) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(schemes)));
    match own {
        None => builder.with_no_client_auth(),
        Some(made) => {
            let chain = CertificateDer::pem_slice_iter(made.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).expect("key");
            // Not `with_client_auth_cert`, which looks whether the two belong together.
            let key = aws_lc_rs::sign::any_supported_type(&key).expect("a key that signs");
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
        }
    }
}

fn any_version() -> ClientConfig {
    client(rustls::ALL_VERSIONS, None)
}

/// What became of a handshake.
struct Met {
    client: ClientConnection,
    server: ServerConnection,
    /// The first error, of whom it is.
    error: Option<String>,
}

impl Met {
    #[track_caller]
    fn well(self) -> Self {
        assert_eq!(self.error, None);
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        self
    }

    fn certificate(&self) -> &CertificateDer<'_> {
        &self.client.peer_certificates().expect("shown")[0]
    }
}

/// Moves bytes between the two until neither has any.
fn meet(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> Met {
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let mut client = ClientConnection::new(client.clone(), name).expect("client");
    let mut server = ServerConnection::new(server.clone()).expect("server");
    let mut error = None;
    while error.is_none() && (client.wants_write() || server.wants_write()) {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() && error.is_none() {
            server.read_tls(&mut rest).expect("memory");
            error = server.process_new_packets().err().map(|e| format!("server: {e}"));
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() && error.is_none() {
            client.read_tls(&mut rest).expect("memory");
            error = client.process_new_packets().err().map(|e| format!("client: {e}"));
        }
    }
    Met { client, server, error }
}

fn der(made: &Made) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(made.certificate.as_bytes()).expect("certificate")
}

#[test]
fn a_certificate_is_chosen_by_server_name() {
    let first = Made::for_names(&["first.example"]);
    let wild = Made::for_names(&["*.shop.example"]);
    let exact = Made::for_names(&["cart.shop.example", "Other.Example"]);
    let config = server_config(&simple(&[&first, &wild, &exact]), &[]).expect("usable");
    for (name, expected) in [
        ("first.example", &first),
        ("a.shop.example", &wild),
        ("cart.shop.example", &exact),
        ("CART.shop.example", &exact),
        ("other.example", &exact),
        ("a.b.shop.example", &first),
        ("shop.example", &first),
        ("unknown.example", &first),
        ("127.0.0.1", &first), // Sends no server name.
    ] {
        let met = meet(&config, &Arc::new(any_version()), name).well();
        assert!(*met.certificate() == der(expected), "{name}");
    }
}

#[test]
fn of_two_keys_for_a_name_the_client_gets_one_it_can_verify() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("key");
    let params = rcgen::CertificateParams::new(vec!["a.example".into()]).expect("names");
    let certificate = params.self_signed(&rsa).expect("certificate").pem();
    let rsa = Made { certificate, key: rsa.serialize_pem() };
    let ecdsa = Made::for_names(&["a.example"]);
    let config = server_config(&simple(&[&rsa, &ecdsa]), &[]).expect("usable");
    let meet_with = |schemes: &[SignatureScheme]| {
        let mut client = any_version();
        client.dangerous().set_certificate_verifier(Arc::new(Anything(schemes.to_vec())));
        meet(&config, &Arc::new(client), "a.example").well()
    };
    assert!(*meet_with(&[SignatureScheme::ECDSA_NISTP256_SHA256]).certificate() == der(&ecdsa));
    assert!(*meet_with(&[SignatureScheme::RSA_PSS_SHA256]).certificate() == der(&rsa));
}

#[test]
fn versions_are_bounded_on_both_ends() {
    let made = Made::for_names(&["a.example"]);
    let v12 = Arc::new(client(&[&rustls::version::TLS12], None));
    let v13 = Arc::new(client(&[&rustls::version::TLS13], None));
    let both = server_config(&simple(&[&made]), &[]).expect("usable");
    meet(&both, &v12, "a.example").well();
    meet(&both, &v13, "a.example").well();
    let newest = ServerTls { version_min: TlsVersion::V1_3, ..simple(&[&made]) };
    let newest = server_config(&newest, &[]).expect("usable");
    let refused = meet(&newest, &v12, "a.example").error.expect("refused");
    assert!(refused.starts_with("server: peer is incompatible"), "{refused}");
    let oldest = ServerTls { version_max: TlsVersion::V1_2, ..simple(&[&made]) };
    let oldest = server_config(&oldest, &[]).expect("usable");
    assert!(meet(&oldest, &v13, "a.example").error.is_some());
    let none = ServerTls { version_min: TlsVersion::V1_3, version_max: TlsVersion::V1_2, ..simple(&[&made]) };
    assert_eq!(
        server_config(&none, &[]).expect_err("no version").to_string(),
        "Secret shop/web-tls: the oldest version of TLS allowed is newer than the newest; allow at least one version"
    );
}

#[test]
fn tls_1_1_is_refused() {
    let made = Made::for_names(&["a.example"]);
    let mut server = ServerConnection::new(server_config(&simple(&[&made]), &[]).expect("usable")).expect("server");
    // A hello of TLS 1.1 with two suites of its time.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]].concat();
    let length = u8::try_from(body.len()).expect("short");
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    server.read_tls(&mut &hello[..]).expect("memory");
    let error = server.process_new_packets().expect_err("refused").to_string();
    assert!(error.starts_with("peer is incompatible"), "{error}");
    let mut alert = Vec::new();
    server.write_tls(&mut alert).expect("memory");
    assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert");
}

#[test]
fn mutual_refuses_all_but_certificates_of_its_authorities() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let config = server_config(&mutual(&Made::for_names(&["a.example"]), &authority), &[]).expect("usable");
    let mut expired = rcgen::CertificateParams::new(vec!["client".into()]).expect("names");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut for_servers = rcgen::CertificateParams::new(vec!["client".into()]).expect("names");
    for_servers.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    // Of the same name as the authority that is trusted, with another key.
    let impostor = Authority::new("ours");
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let meet = |own: Option<&Made>| meet(&config, &Arc::new(client(versions, own)), "a.example").error;
        assert_eq!(meet(Some(&authority.issue(&["client"]))), None);
        for (own, expected) in [
            (None, "server: peer sent no certificates"),
            (Some(other.issue(&["client"])), "UnknownIssuer"),
            (Some(impostor.issue(&["client"])), "BadSignature"),
            (Some(Made::for_names(&["client"])), "UnknownIssuer"),
            (Some(authority.issue_as(expired.clone())), "certificate expired"),
            (Some(authority.issue_as(for_servers.clone())), "certificate does not allow extended key usage"),
            (Some(authority.made.clone()), "CaUsedAsEndEntity"),
        ] {
            let error = meet(own.as_ref()).expect("refused");
            assert!(error.starts_with("server: ") && error.contains(expected), "{error}, expected {expected}");
        }
    }
}

#[test]
fn a_client_may_show_a_certificate_of_version_one_of_its_authority() {
    let (authority, other, impostor) = (Authority::new("ours"), Authority::new("theirs"), Authority::new("ours"));
    let config = server_config(&mutual(&Made::for_names(&["a.example"]), &authority), &[]).expect("usable");
    let own = authority.issue_version_one("client");
    let mut vouched = Authority::usurped("client", &own).issue(&["leaf"]);
    vouched.certificate.push_str(&own.certificate);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let meet = |own: &Made| meet(&config, &Arc::new(client(versions, Some(own))), "a.example").error;
        assert_eq!(meet(&own), None);
        for (own, expected) in [
            (other.issue_version_one("client"), "UnknownIssuer"),
            (impostor.issue_version_one("client"), "BadSignature"),
            // Of what it would vouch for, nothing is taken.
            (vouched.clone(), "UnsupportedCertVersion"),
        ] {
            let error = meet(&own).expect("refused");
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}

#[test]
fn a_certificate_of_version_one_is_no_proof_without_its_key() {
    let authority = Authority::new("ours");
    let config = server_config(&mutual(&Made::for_names(&["a.example"]), &authority), &[]).expect("usable");
    let stolen = Made { key: Made::for_names(&["client"]).key, ..authority.issue_version_one("client") };
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let error = meet(&config, &Arc::new(client(versions, Some(&stolen))), "a.example").error.expect("refused");
        assert!(error.starts_with("server: ") && error.contains("BadSignature"), "{error}");
    }
}

#[test]
fn optional_mutual_asks_without_insisting() {
    let authority = Authority::new("ours");
    let tls = ServerTls {
        client: ClientCertificate::Optional(authority.made.certificate.as_bytes().into()),
        ..simple(&[&Made::for_names(&["a.example"])])
    };
    let config = server_config(&tls, &[]).expect("usable");
    let meet = |own: Option<&Made>| meet(&config, &Arc::new(client(rustls::ALL_VERSIONS, own)), "a.example");
    assert!(meet(None).well().server.peer_certificates().is_none());
    assert!(meet(Some(&authority.issue(&["client"]))).well().server.peer_certificates().is_some());
    let stranger = Authority::new("theirs").issue(&["client"]);
    assert!(meet(Some(&stranger)).error.is_some_and(|error| error.contains("UnknownIssuer")));
}

#[test]
fn protocols_of_the_application() {
    let config = server_config(&simple(&[&Made::for_names(&["a.example"])]), &[b"http/1.1"]).expect("usable");
    let meet = |offered: &[&[u8]]| {
        let mut client = any_version();
        client.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        meet(&config, &Arc::new(client), "a.example")
    };
    assert_eq!(meet(&[]).well().server.alpn_protocol(), None);
    assert_eq!(meet(&[b"h2", b"http/1.1"]).well().server.alpn_protocol(), Some(&b"http/1.1"[..]));
    let many: Vec<&[u8]> = (0..100).map(|_| &b"x"[..]).chain([&b"http/1.1"[..]]).collect();
    assert_eq!(meet(&many).well().server.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = meet(&[b"ftp"]).error.expect("refused");
    assert_eq!(refused, "server: peer doesn't support any known protocol");
}

#[test]
fn sessions_are_resumed_under_their_policy_only_and_carry_no_early_data() {
    let tls = simple(&[&Made::for_names(&["a.example"])]);
    let config = server_config(&tls, &[]).expect("usable");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut own = client(&[version], None);
        own.enable_early_data = true;
        let own = Arc::new(own);
        let kind = |config| meet(config, &own, "a.example").well().server.handshake_kind();
        assert_eq!(kind(&config), Some(HandshakeKind::Full));
        let again = meet(&config, &own, "a.example").well();
        assert_eq!(again.server.handshake_kind(), Some(HandshakeKind::Resumed));
        let other = server_config(&tls, &[]).expect("usable");
        assert_ne!(kind(&other), Some(HandshakeKind::Resumed), "a replaced policy has keys of its own");
    }
    assert_eq!(config.max_early_data_size, 0);
}

#[test]
fn what_cannot_serve_is_told() {
    let made = Made::for_names(&["a.example"]);
    let none = ServerTls { certificates: vec![], ..simple(&[]) };
    assert_eq!(
        server_config(&none, &[]).expect_err("none").to_string(),
        "TLS settings: no certificate to show to clients; name one"
    );
    let broken = Made { key: Made::for_names(&["a.example"]).key, ..made.clone() };
    assert_eq!(
        server_config(&simple(&[&made, &broken]), &[]).expect_err("mismatch").message,
        "the private key does not belong to the certificate"
    );
    let garbage = ServerTls { client: ClientCertificate::Required(b"x".as_slice().into()), ..simple(&[&made]) };
    assert_eq!(
        server_config(&garbage, &[]).expect_err("no authority").to_string(),
        "Secret shop/web-tls, authorities of clients: the bundle of authorities holds no block BEGIN CERTIFICATE; \
         expected is PEM, from a line BEGIN CERTIFICATE to a line END CERTIFICATE"
    );
}

#[test]
fn no_message_and_no_dump_shows_a_key() {
    let made = Made::for_names(&["a.example"]);
    let tls = simple(&[&made]);
    let shown = format!("{tls:?} {:?}", server_config(&tls, &[]).expect("usable"));
    for line in made.key.lines().filter(|line| !line.starts_with("-----") && line.len() > 8) {
        assert!(!shown.contains(line));
    }
}
