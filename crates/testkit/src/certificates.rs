//! Certificates of every kind, made on the spot.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SigningKey,
};

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Made {
    /// The certificate alone.
    pub certificate: String,
    /// Its key, PKCS#8.
    pub key: String,
}

impl Made {
    /// Signed with its own key.
    pub fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.self_signed(&key).expect("parameters are usable").pem();
        Self { certificate, key: key.serialize_pem() }
    }

    /// For these host names, of nobody but itself.
    pub fn for_names(names: &[&str]) -> Self {
        Self::self_signed(params(names))
    }
}

/// An authority that issues certificates.
pub struct Authority {
    /// Its own.
    pub made: Made,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A root of this name.
    pub fn new(name: &str) -> Self {
        let mut params = params(&[]);
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.self_signed(&key).expect("parameters are usable").pem();
        let made = Made { certificate, key: key.serialize_pem() };
        Self { made, name: name.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Whoever holds this certificate of this name, and takes itself for an authority.
    pub fn usurped(name: &str, made: &Made) -> Self {
        let mut params = params(&[]);
        params.distinguished_name = common_name(name);
        let key = KeyPair::from_pem(&made.key).expect("a key");
        Self { made: made.clone(), name: name.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for these host names.
    pub fn issue(&self, names: &[&str]) -> Made {
        self.issue_as(params(names))
    }

    /// A certificate with these parameters.
    pub fn issue_as(&self, params: CertificateParams) -> Made {
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.signed_by(&key, &self.issuer).expect("parameters are usable").pem();
        Made { certificate, key: key.serialize_pem() }
    }

    /// A certificate of X.509 version 1 with a common name, as `openssl x509 -req` makes it without extensions.
    pub fn issue_version_one(&self, name: &str) -> Made {
        let key = KeyPair::generate().expect("random bytes");
        let algorithm = der(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]); // ecdsa-with-SHA256
        let body = der(
            0x30,
            &[
                &[0x02, 1, 1], // Serial number.
                &algorithm,
                &named(&self.name),
                &der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x17, &[b"491231235959Z"])]),
                &named(name),
                &key.subject_public_key_info(),
            ],
        );
        let signature = self.issuer.key().sign(&body).expect("the key signs");
        let whole = der(0x30, &[&body, &algorithm, &der(0x03, &[&[0], &signature])]);
        Made { certificate: pem("CERTIFICATE", &whole), key: key.serialize_pem() }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names are host names or addresses")
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// A Name of X.509 with a common name only, as [`common_name`] is written.
fn named(name: &str) -> Vec<u8> {
    let attribute = der(0x30, &[&[0x06, 3, 0x55, 4, 3], &der(0x0c, &[name.as_bytes()])]);
    der(0x30, &[&der(0x31, &[&attribute])])
}

/// One element of DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let [high, low] = u16::try_from(length).expect("certificates of tests are small").to_be_bytes();
    let mut element = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    parts.iter().for_each(|part| element.extend_from_slice(part));
    element
}

fn pem(label: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, three) in bytes.chunks(3).enumerate() {
        if at > 0 && at % 16 == 0 {
            text.push('\n');
        }
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 0x3f;
            text.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
