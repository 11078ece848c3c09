//! Which key pairs can serve, and what is said of those that cannot.

use std::time::SystemTime;

use outrigger_identity::{check_authorities, check_key_pair};
use outrigger_model::{KeyPair, Secret};
use outrigger_testkit::certificates::{Authority, Made};
use rcgen::{CertificateParams, date_time_ymd};

/// 2026-06-15.
fn now() -> SystemTime {
    date_time_ymd(2026, 6, 15).into()
}

fn pair(certificates: &str, key: &str) -> KeyPair {
    KeyPair {
        name: "Secret shop/web-tls".into(),
        certificates: certificates.as_bytes().into(),
        private_key: Secret::new(key.as_bytes().into()),
    }
}

/// What is said of a pair of texts: the error, else the doubts, a line each.
fn said(certificates: &str, key: &str) -> String {
    match check_key_pair(&pair(certificates, key), now()) {
        Ok(doubts) => doubts.iter().map(|doubt| format!("doubt: {doubt}\n")).collect(),
        Err(error) => format!("error: {error}\n"),
    }
}

#[track_caller]
fn check(certificates: &str, key: &str, expected: &str) {
    let said = said(certificates, key);
    for line in key.lines().filter(|line| !line.starts_with("-----") && line.len() > 8) {
        assert!(!said.contains(line), "a message shows a line of the key");
    }
    assert_eq!(said, expected);
}

#[test]
fn a_good_pair_and_a_good_chain_raise_no_doubt() {
    let Made { certificate, key } = Made::for_names(&["web.example"]);
    check(&certificate, &key, "");
    let authority = Authority::new("issuer");
    let Made { certificate, key } = authority.issue(&["web.example"]);
    check(&format!("{certificate}{}", authority.made.certificate), &key, "");
    check(&format!("Subject: web\r\n{}", certificate.replace('\n', "\r\n")), &format!("comment\n{key}"), "");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, other) = (Made::for_names(&["web.example"]), Made::for_names(&["web.example"]));
    check(
        &one.certificate,
        &other.key,
        "error: Secret shop/web-tls: the private key does not belong to the certificate; was one of the two renewed \
         without the other? store both of one issue\n",
    );
}

#[test]
fn a_chain_in_the_wrong_order_is_told_from_a_foreign_key() {
    let authority = Authority::new("issuer");
    let made = authority.issue(&["web.example"]);
    check(
        &format!("{}{}", authority.made.certificate, made.certificate),
        &made.key,
        "error: Secret shop/web-tls: the private key belongs to certificate 2 of the chain, not the first; put the \
         certificate of the server first, then its issuers\n",
    );
}

#[test]
fn exactly_one_key_is_expected() {
    let made = Made::for_names(&["web.example"]);
    check(
        &made.certificate,
        &format!("{}{}", made.key, Made::for_names(&["web.example"]).key),
        "error: Secret shop/web-tls: 2 private keys where one is expected; leave the key of the certificate only\n",
    );
    check(
        &made.certificate,
        "",
        "error: Secret shop/web-tls: the private key is empty; fill it in; a tool may have been interrupted while it \
         wrote\n",
    );
    check(
        &made.certificate,
        "password",
        "error: Secret shop/web-tls: the private key holds no block BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC \
         PRIVATE KEY; expected is one key as PEM, PKCS#8 or the older forms of RSA and EC\n",
    );
}

#[test]
fn an_encrypted_key_is_told_as_such() {
    let made = Made::for_names(&["web.example"]);
    let expected = "error: Secret shop/web-tls: the private key is encrypted; store it decrypted (openssl pkey -in key.pem \
                    -out plain.pem): nobody is there to type a passphrase\n";
    check(&made.certificate, &made.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), expected);
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    check(&made.certificate, old, expected);
}

#[test]
fn exchanged_texts_are_told() {
    let made = Made::for_names(&["web.example"]);
    check(
        &made.key,
        &made.certificate,
        "error: Secret shop/web-tls: the certificate is a private key, not a certificate; certificate and key look \
         exchanged: put the certificate under tls.crt and the key under tls.key\n",
    );
    check(
        &made.certificate,
        &made.certificate,
        "error: Secret shop/web-tls: the private key is a certificate; certificate and key look exchanged: put the \
         certificate under tls.crt and the key under tls.key\n",
    );
}

#[test]
fn a_text_that_was_cut_is_refused_wherever() {
    let made = Made::for_names(&["web.example"]);
    for end in 0..made.certificate.len() - 2 {
        assert!(said(&made.certificate[..end], &made.key).starts_with("error: "), "certificate cut after {end}");
    }
    for end in 0..made.key.len() - 2 {
        check_cut(&made.certificate, &made.key, end);
    }
}

fn check_cut(certificate: &str, key: &str, end: usize) {
    assert!(said(certificate, &key[..end]).starts_with("error: "), "key cut after {end}");
}

#[test]
fn garbage_is_refused() {
    let made = Made::for_names(&["web.example"]);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
    check(
        garbage,
        &made.key,
        "error: Secret shop/web-tls: certificate 1 of the chain is no X.509; was the file cut off?\n",
    );
    check(
        &made.certificate,
        &garbage.replace("CERTIFICATE", "PRIVATE KEY"),
        "error: Secret shop/web-tls: the private key is damaged, too short or of a kind that TLS has no use for; usable \
         are RSA from 2048 bits, ECDSA P-256, P-384 and P-521, and Ed25519 in PKCS#8\n",
    );
    check(
        &"x".repeat(2 << 20),
        &made.key,
        "error: Secret shop/web-tls: the certificate has 2097152 bytes, more than 1 MiB; leave out what is no part of \
         the chain\n",
    );
}

#[test]
fn what_no_client_would_take_as_a_chain_is_refused() {
    let made = Made::for_names(&["web.example"]);
    assert_eq!(
        said(&made.certificate.repeat(300), &made.key).split(" has ").next(),
        Some("error: Secret shop/web-tls: the chain of 300 certificates")
    );
}

#[test]
fn a_certificate_out_of_its_time_serves_with_a_doubt() {
    let mut params = CertificateParams::new(vec!["web.example".into()]).expect("names");
    params.not_after = date_time_ymd(2026, 6, 14);
    let made = Made::self_signed(params.clone());
    check(
        &made.certificate,
        &made.key,
        "doubt: Secret shop/web-tls: the certificate expired at 2026-06-14T00:00:00Z; clients that check will refuse it: \
         issue it again\n",
    );
    params.not_before = date_time_ymd(2027, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    let made = Made::self_signed(params.clone());
    check(
        &made.certificate,
        &made.key,
        "doubt: Secret shop/web-tls: the certificate is valid from 2027-01-01T00:00:00Z only; clients that check will \
         refuse it: issue it again\n",
    );
    params.not_after = date_time_ymd(2026, 1, 1);
    let made = Made::self_signed(params);
    check(
        &made.certificate,
        &made.key,
        "error: Secret shop/web-tls: certificate 1 of the chain ends before it begins; issue it again; no client would \
         take it\n",
    );
}

#[test]
fn what_strict_clients_refuse_is_a_doubt() {
    let made = Authority::new("issuer").made;
    check(
        &made.certificate,
        &made.key,
        "doubt: Secret shop/web-tls: the certificate has no host name among its subjectAltName; clients that check names \
         refuse it\n\
         doubt: Secret shop/web-tls: the certificate is that of an authority (CA:TRUE); strict clients refuse it: issue \
         one for the server\n",
    );
    let mut params = CertificateParams::new(vec!["web.example".into()]).expect("names");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let made = Made::self_signed(params);
    check(
        &made.certificate,
        &made.key,
        "doubt: Secret shop/web-tls: the certificate is not meant for servers (extendedKeyUsage); issue it with \
         serverAuth\n",
    );
}

#[test]
fn version_one_serves_with_a_doubt() {
    // As the commands in the documentation of Istio make them.
    let made = Authority::new("issuer").issue_version_one("web.example");
    check(
        &made.certificate,
        &made.key,
        "doubt: Secret shop/web-tls: the certificate is of X.509 version 1, which names no hosts; clients in Go, Rust and \
         browsers refuse it: issue it with subjectAltName (openssl x509 -extfile)\n",
    );
    let other = Authority::new("issuer").issue_version_one("web.example");
    assert!(said(&made.certificate, &other.key).contains("does not belong"));
}

#[test]
fn authorities_are_judged() {
    let object = "Secret shop/web-tls-cacert".into();
    let said = |text: &str| check_authorities(text.as_bytes(), &object).map_err(|error| error.to_string());
    let made = Authority::new("issuer").made;
    assert_eq!(said(&made.certificate), Ok(()));
    assert_eq!(
        said("").unwrap_err(),
        "Secret shop/web-tls-cacert: the bundle of authorities is empty; fill it in; a tool may have been interrupted \
         while it wrote"
    );
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        said(&format!("{}{garbage}", made.certificate)).unwrap_err(),
        "Secret shop/web-tls-cacert: authority 2 of the bundle cannot be read as X.509; issue it again with \
         basicConstraints, or take it out of the bundle"
    );
}

#[test]
fn a_pair_of_every_kind_of_key_serves() {
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256]
    {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("key");
        let params = CertificateParams::new(vec!["web.example".into()]).expect("names");
        let certificate = params.self_signed(&key).expect("certificate").pem();
        assert_eq!(check_key_pair(&pair(&certificate, &key.serialize_pem()), now()), Ok(vec![]));
    }
}
