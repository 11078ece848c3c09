//! Kubernetes `Secret`: the certificates, keys and authorities of TLS. Whatever else a Secret holds is judged and dropped.
//!
//! No message quotes a value: what stands under a key may be the private key, also when it is not valid there.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use outrigger_model::Secret as SecretBytes;

use crate::codes;
use crate::decode::Cx;
use crate::node::{Node, Pos, Value};

crate::object! {
    /// Bytes by name.
    pub resource struct Secret {
        /// `type`, e.g. `kubernetes.io/tls`; `Opaque` when not given.
        pub secret_type: Option<Arc<str>> = optional "type",
        /// `data`.
        pub data: SecretData = or_default_with(encoded) "data",
        /// `stringData`, which wins over `data`.
        pub string_data: SecretData = or_default_with(plain) "stringData",
    }
    ignore ["immutable"]
    check check
}

/// The values of the keys that TLS needs, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretData {
    values: Vec<(&'static str, SecretValue)>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretValue {
    /// Its bytes.
    pub bytes: SecretBytes,
    /// Where it stands.
    pub pos: Pos,
}

impl Secret {
    /// The certificate chain of `kubernetes.io/tls`.
    pub const TLS_CERTIFICATE: &'static str = "tls.crt";
    /// The private key of `kubernetes.io/tls`.
    pub const TLS_KEY: &'static str = "tls.key";
    /// The certificate authorities, by the name that cert-manager and Gateway API use.
    pub const TLS_AUTHORITIES: &'static str = "ca.crt";
    /// The revocation list, by the same manner of naming.
    pub const TLS_REVOCATIONS: &'static str = "ca.crl";
    /// The certificate chain, by Istio's own name.
    pub const ISTIO_CERTIFICATE: &'static str = "cert";
    /// The private key, by Istio's own name.
    pub const ISTIO_KEY: &'static str = "key";
    /// The certificate authorities, by Istio's own name.
    pub const ISTIO_AUTHORITIES: &'static str = "cacert";
    /// The revocation list, by Istio's own name.
    pub const ISTIO_REVOCATIONS: &'static str = "crl";

    /// The keys whose values are kept.
    const KEPT: [&'static str; 8] = [
        Self::TLS_CERTIFICATE,
        Self::TLS_KEY,
        Self::TLS_AUTHORITIES,
        Self::TLS_REVOCATIONS,
        Self::ISTIO_CERTIFICATE,
        Self::ISTIO_KEY,
        Self::ISTIO_AUTHORITIES,
        Self::ISTIO_REVOCATIONS,
    ];

    /// The value of one of the keys above; an empty one counts as not given.
    pub fn value(&self, key: &str) -> Option<&SecretValue> {
        self.any(key).filter(|value| !value.bytes.reveal().is_empty())
    }

    fn any(&self, key: &str) -> Option<&SecretValue> {
        self.string_data.get(key).or_else(|| self.data.get(key))
    }
}

impl SecretData {
    fn get(&self, key: &str) -> Option<&SecretValue> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// `data`: base64 as the API server reads it, by the standard alphabet with padding; line breaks are allowed.
fn encoded(node: &Node<'_>, cx: &mut Cx) -> Option<SecretData> {
    const BASE64: GeneralPurpose =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    read(node, cx, |text, pos, cx| {
        let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let decoded = BASE64.decode(joined);
        if decoded.is_err() {
            let hint = "encode it with `base64 -w0`, or move the plain text to `stringData`";
            cx.report(codes::SCHEMA, pos, "the value is no base64", hint);
        }
        decoded.ok()
    })
}

/// `stringData`: plain text.
fn plain(node: &Node<'_>, cx: &mut Cx) -> Option<SecretData> {
    read(node, cx, |text, _, _| Some(text.as_bytes().to_vec()))
}

fn read(
    node: &Node<'_>,
    cx: &mut Cx,
    mut bytes: impl FnMut(&str, Pos, &mut Cx) -> Option<Vec<u8>>,
) -> Option<SecretData> {
    let Some(entries) = node.entries() else {
        // The value may be the secret itself, so it is not described.
        cx.report(codes::SCHEMA, node.pos, "expected a mapping of names to values", "");
        return None;
    };
    let mut values = Vec::new();
    for (key, node) in entries {
        let kept = Secret::KEPT.into_iter().find(|known| *known == key.text);
        let name = cx.text(&key.text);
        let value = cx.at_key(name, |cx| match &node.value {
            Value::Null => Some(Vec::new()),
            Value::Scalar(_) => bytes(string(node, cx)?, node.pos, cx),
            Value::List(_) | Value::Map(_) => string(node, cx).map(|_| Vec::new()),
        });
        if let (Some(kept), Some(value)) = (kept, value) {
            values.push((kept, SecretValue { bytes: SecretBytes::new(value.into()), pos: node.pos }));
        }
    }
    Some(SecretData { values })
}

/// A string, as [`crate::scalar::string`] judges it, in words that do not quote it.
fn string<'n>(node: &'n Node<'_>, cx: &mut Cx) -> Option<&'n str> {
    let mut aside = Cx::default();
    let text = crate::scalar::string(node, &mut aside);
    if text.is_none() {
        cx.report(codes::SCHEMA, node.pos, "expected a string", "put the value in quotes");
    }
    text
}

/// The API server refuses a Secret of type `kubernetes.io/tls` without both.
fn check(secret: &Secret, _pos: Pos, cx: &mut Cx) {
    if secret.secret_type.as_deref() != Some("kubernetes.io/tls") {
        return;
    }
    for key in [Secret::TLS_CERTIFICATE, Secret::TLS_KEY] {
        if secret.any(key).is_none() {
            let message =
                format!("`{key}` is missing, a Secret of type `kubernetes.io/tls` has `tls.crt` and `tls.key`");
            cx.report(codes::SCHEMA, secret.meta.pos, message, "");
        }
    }
}
