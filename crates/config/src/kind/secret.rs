//! Kubernetes `Secret`: the certificates, keys and authorities of TLS. Whatever else a Secret holds is judged and dropped.
//!
//! No message quotes a value: what stands under a key may be the private key, also when it is not valid there. Whether a
//! key pair can serve is judged when something first asks for it, and once: it takes long, and the Secret does not change.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use outrigger_identity::{Finding, check_authorities, check_key_pair};
use outrigger_model::{KeyPair, Secret as SecretBytes};

use crate::codes;
use crate::decode::{Cx, Fields};
use crate::node::{Node, Pos, Value};
use crate::object::{Metadata, Resource};

/// Bytes by name.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Name, namespace, labels, and where it stands.
    pub meta: Metadata,
    /// `type`, e.g. `kubernetes.io/tls`; `Opaque` when not given.
    pub secret_type: Option<Arc<str>>,
    /// `data`.
    data: SecretData,
    /// `stringData`, which wins over `data`.
    string_data: SecretData,
    /// What was found of the key pairs, by the place in [`Secret::PAIRS`].
    judged: [OnceLock<Result<Usable, Unusable>>; 2],
}

/// The values of the keys that TLS needs, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SecretData {
    values: Vec<(&'static str, SecretValue)>,
}

/// A key pair that can serve.
#[derive(Clone, Debug)]
pub struct Usable {
    /// The pair.
    pub pair: Arc<KeyPair>,
    /// Where the certificate stands.
    pub pos: Pos,
    /// What clients may dislike about it.
    pub doubts: Vec<Finding>,
}

/// Why a Secret has not what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// What was found and what was expected, the Secret's name in front.
    pub message: String,
    /// What to do.
    pub hint: String,
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

    /// The keys of certificates and private keys that belong together.
    const PAIRS: [(&'static str, &'static str); 2] =
        [(Self::TLS_CERTIFICATE, Self::TLS_KEY), (Self::ISTIO_CERTIFICATE, Self::ISTIO_KEY)];

    /// The value of one of the keys above; an empty one counts as not given.
    pub fn value(&self, key: &str) -> Option<&SecretValue> {
        self.any(key).filter(|value| !value.bytes.reveal().is_empty())
    }

    /// The key pair under `tls.crt` and `tls.key`. What clients may dislike is judged at the time of the first call.
    pub fn tls_pair(&self, now: SystemTime) -> Result<&Usable, &Unusable> {
        self.pair(0, now)
    }

    /// The key pair for Istio: that under `cert` and `key` wins over that under `tls.crt` and `tls.key`.
    pub fn istio_pair(&self, now: SystemTime) -> Result<&Usable, &Unusable> {
        let generic = self.value(Self::ISTIO_CERTIFICATE).is_some() && self.value(Self::ISTIO_KEY).is_some();
        self.pair(usize::from(generic), now)
    }

    fn pair(&self, which: usize, now: SystemTime) -> Result<&Usable, &Unusable> {
        self.judged[which].get_or_init(|| self.judge(Self::PAIRS[which], now)).as_ref()
    }

    fn judge(&self, (certificate, key): (&str, &str), now: SystemTime) -> Result<Usable, Unusable> {
        let (chain, private) = match (self.value(certificate), self.value(key)) {
            (Some(chain), Some(private)) => (chain, private),
            (chain, private) => {
                let missing = match (chain, private) {
                    (None, None) => format!("neither `{certificate}` nor `{key}`"),
                    (None, _) => format!("no `{certificate}`"),
                    (_, _) => format!("no `{key}`"),
                };
                return Err(Unusable {
                    message: format!("{} has {missing}", self.name()),
                    hint: format!("store the certificate chain as `{certificate}` and its private key as `{key}`"),
                });
            }
        };
        let pair = KeyPair {
            name: self.name(),
            certificates: chain.bytes.reveal().into(),
            private_key: private.bytes.clone(),
        };
        match check_key_pair(&pair, now) {
            Ok(doubts) => Ok(Usable { pair: Arc::new(pair), pos: chain.pos, doubts }),
            Err(finding) => Err(Unusable::of(&finding)),
        }
    }

    /// The certificate authorities under the first of some keys that has a value, as PEM.
    pub fn authorities(&self, keys: &[&str]) -> Result<Arc<[u8]>, Unusable> {
        let Some(found) = keys.iter().find_map(|key| self.value(key)) else {
            let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            return Err(Unusable {
                message: format!("{} has no {}", self.name(), quoted.join(" and no ")),
                hint: "store the authorities that sign the certificates of clients there, as PEM".to_owned(),
            });
        };
        check_authorities(found.bytes.reveal(), &self.name()).map_err(|finding| Unusable::of(&finding))?;
        Ok(found.bytes.reveal().into())
    }

    /// `Secret shop/web-tls`.
    fn name(&self) -> Arc<str> {
        format!("Secret {}/{}", self.meta.namespace, self.meta.name).into()
    }

    fn any(&self, key: &str) -> Option<&SecretValue> {
        self.string_data.get(key).or_else(|| self.data.get(key))
    }
}

impl Unusable {
    fn of(finding: &Finding) -> Self {
        Self { message: format!("{}: {}", finding.object, finding.message), hint: finding.hint.to_owned() }
    }
}

impl Resource for Secret {
    fn decode_body(meta: Metadata, fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<Self> {
        let errors = cx.errors();
        let secret_type = fields.optional("type", cx);
        let data = fields.or_default_with("data", cx, encoded);
        let string_data = fields.or_default_with("stringData", cx, plain);
        fields.ignore(&["immutable"]);
        let secret = Self { meta, secret_type, data, string_data, judged: Default::default() };
        if cx.errors() == errors {
            check(&secret, cx);
        }
        Some(secret)
    }

    fn meta(&self) -> &Metadata {
        &self.meta
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
fn check(secret: &Secret, cx: &mut Cx) {
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
