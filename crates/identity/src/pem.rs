//! PEM with bounds, and with messages that say what is there instead of what was looked for.

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// More is refused unread: Kubernetes keeps no Secret and no ConfigMap above 1 MiB.
const BYTES_MAX: usize = 1024 * 1024;

/// A message and what to do.
pub(crate) type Complaint = (String, &'static str);

/// The certificates of a text, at least one, in their order. `what` it is begins every message: "the certificate".
pub(crate) fn certificates(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let sections = sections(text, what)?;
    let keys = sections.iter().any(|(kind, _)| is_key(*kind));
    let found: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    match (found.is_empty(), keys) {
        (false, _) => Ok(found),
        (true, true) => Err((
            format!("{what} is a private key, not a certificate"),
            "certificate and key look exchanged: put the certificate under tls.crt and the key under tls.key",
        )),
        (true, false) => Err((
            format!("{what} holds no block BEGIN CERTIFICATE"),
            "expected is PEM, from a line BEGIN CERTIFICATE to a line END CERTIFICATE",
        )),
    }
}

/// The only private key of a text.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Complaint> {
    const DECRYPT: &str =
        "store it decrypted (openssl pkey -in key.pem -out plain.pem): nobody is there to type a passphrase";
    let what = "the private key";
    let contains = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    if text.len() <= BYTES_MAX && (contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED")) {
        return Err((format!("{what} is encrypted"), DECRYPT));
    }
    let sections = sections(text, what)?;
    let certificates = sections.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    let mut keys = sections.into_iter().filter(|(kind, _)| is_key(*kind));
    let Some((kind, der)) = keys.next() else {
        return Err(if certificates {
            (
                format!("{what} is a certificate"),
                "certificate and key look exchanged: put the certificate under tls.crt and the key under tls.key",
            )
        } else {
            (
                format!("{what} holds no block BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY"),
                "expected is one key as PEM, PKCS#8 or the older forms of RSA and EC",
            )
        });
    };
    match keys.count() {
        0 => PrivateKeyDer::from_pem(kind, der).ok_or_else(|| (format!("{what} is of an unknown kind"), "use PKCS#8")),
        more => {
            Err((format!("{} private keys where one is expected", more + 1), "leave the key of the certificate only"))
        }
    }
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

fn sections(text: &[u8], what: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, Complaint> {
    if text.is_empty() {
        return Err((format!("{what} is empty"), "fill it in; a tool may have been interrupted while it wrote"));
    }
    if text.len() > BYTES_MAX {
        return Err((
            format!("{what} has {} bytes, more than 1 MiB", text.len()),
            "leave out what is no part of the chain",
        ));
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        // What the parser says may quote the text, which may be of a key.
        let Ok(section) = section else {
            return Err((
                format!("{what} is broken PEM after {} whole blocks", found.len()),
                "a line BEGIN without its END, or characters that are not base64: was the file cut off?",
            ));
        };
        found.push(section);
    }
    Ok(found)
}
