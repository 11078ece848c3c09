//! Whether a certificate chain and a private key can serve.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use outrigger_model::KeyPair;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};

use crate::der::Fields;
use crate::finding::Finding;
use crate::{pem, provider};

/// The certificate message of a handshake has a length of 24 bits, but clients bound it; this is what rustls takes.
const CHAIN_BYTES_MAX: usize = 0xffff;

/// Whether `pair` can serve: an error if not; else what clients may dislike about it at the time `now`. A certificate that
/// is expired serves all the same: a client that does not check lives on, and those that do say why they refuse.
pub fn check_key_pair(pair: &KeyPair, now: SystemTime) -> Result<Vec<Finding>, Finding> {
    let loaded = Loaded::load(pair)?;
    Ok(loaded.doubts(&pair.name, now))
}

/// A key pair that can serve.
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    /// DNS names of the leaf in lower case, some perhaps with a wildcard as first label.
    pub(crate) names: Vec<String>,
}

impl Loaded {
    /// Loads it, or says why it cannot serve.
    pub(crate) fn load(pair: &KeyPair) -> Result<Self, Finding> {
        let complain = |(message, hint): pem::Complaint| Finding::new(&pair.name, message, hint);
        let chain = pem::certificates(&pair.certificates, "the certificate").map_err(complain)?;
        let key = pem::private_key(pair.private_key.reveal()).map_err(complain)?;
        let fail = |message: String, hint| Err(Finding::new(&pair.name, message, hint));
        let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
        if bytes > CHAIN_BYTES_MAX {
            let message = format!("the chain of {} certificates has {bytes} bytes; clients take 65,535", chain.len());
            return fail(
                message,
                "leave the certificate and its issuers, without the root and without a bundle of others",
            );
        }
        let mut public_keys = Vec::new();
        for (index, certificate) in chain.iter().enumerate() {
            let Some(fields) = Fields::read(certificate) else {
                return fail(format!("certificate {} of the chain is no X.509", index + 1), "was the file cut off?");
            };
            if fields.not_before > fields.not_after {
                let message = format!("certificate {} of the chain ends before it begins", index + 1);
                return fail(message, "issue it again; no client would take it");
            }
            public_keys.push(fields.public_key);
        }
        let Ok(key) = provider().key_provider.load_private_key(key) else {
            const HINT: &str = "usable are RSA from 2048 bits, ECDSA P-256, P-384 and P-521, and Ed25519 in PKCS#8";
            return fail("the private key is damaged, too short or of a kind that TLS has no use for".into(), HINT);
        };
        if let Some(own) = key.public_key() {
            match public_keys.iter().position(|public| **public == *own.as_ref()) {
                Some(0) => {}
                Some(place) => {
                    let message =
                        format!("the private key belongs to certificate {} of the chain, not the first", place + 1);
                    return fail(message, "put the certificate of the server first, then its issuers");
                }
                None => {
                    let message = "the private key does not belong to the certificate".to_owned();
                    return fail(message, "was one of the two renewed without the other? store both of one issue");
                }
            }
        }
        let names = names(&chain[0]);
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, key)), names })
    }

    /// What clients may dislike.
    fn doubts(&self, name: &Arc<str>, now: SystemTime) -> Vec<Finding> {
        const CLIENTS: &str = "clients that check will refuse it: issue it again";
        let mut doubts = Vec::new();
        let mut doubt = |message: String, hint| doubts.push(Finding::new(name, message, hint));
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for (index, certificate) in self.key.cert.iter().enumerate() {
            let Some(fields) = Fields::read(certificate) else { continue };
            let which =
                if index == 0 { "the certificate".into() } else { format!("certificate {} of the chain", index + 1) };
            if second > fields.not_after {
                doubt(format!("{which} expired at {}", shown(fields.not_after)), CLIENTS);
            } else if second < fields.not_before {
                doubt(format!("{which} is valid from {} only", shown(fields.not_before)), CLIENTS);
            }
            if index == 0 && fields.version < 2 {
                let message = format!("{which} is of X.509 version {}, which names no hosts", fields.version + 1);
                doubt(
                    message,
                    "clients in Go, Rust and browsers refuse it: issue it with subjectAltName (openssl x509 -extfile)",
                );
                return doubts;
            }
        }
        let Ok(leaf) = EndEntityCert::try_from(&self.key.cert[0]) else {
            doubt("the certificate has extensions that cannot be read".into(), CLIENTS);
            return doubts;
        };
        if self.names.is_empty() && leaf.valid_uri_names().next().is_none() {
            doubt(
                "the certificate has no host name among its subjectAltName".into(),
                "clients that check names refuse it",
            );
        }
        match unfit(&leaf, now) {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                doubt(
                    "the certificate is that of an authority (CA:TRUE)".into(),
                    "strict clients refuse it: issue one for the server",
                );
            }
            Some(webpki::Error::RequiredEkuNotFoundContext(_)) => {
                doubt("the certificate is not meant for servers (extendedKeyUsage)".into(), "issue it with serverAuth");
            }
            _ => {}
        }
        doubts
    }
}

/// What a verifier says of the leaf alone: without anchors it comes as far as what does not depend on issuers.
fn unfit(leaf: &EndEntityCert<'_>, now: std::time::Duration) -> Option<webpki::Error> {
    let algorithms = provider().signature_verification_algorithms.all;
    let time = UnixTime::since_unix_epoch(now);
    leaf.verify_for_usage(algorithms, &[], &[], time, KeyUsage::server_auth(), None, None).err()
}

fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok(leaf) = EndEntityCert::try_from(leaf) else { return Vec::new() };
    leaf.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

fn shown(second: i64) -> String {
    jiff::Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}
