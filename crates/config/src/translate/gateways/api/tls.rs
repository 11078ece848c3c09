//! The certificates a listener shows, and the authorities its clients' certificates must be of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_identity::{check_authorities, check_key_pair};
use outrigger_model::{Diagnostic, KeyPair};

use super::fault::Fault;
use crate::codes::{self, CodeInfo};
use crate::kind::gateway_api::{ClientValidation, GROUP, SecretRef};
use crate::kind::secret::Secret;
use crate::node::Pos;
use crate::object::Metadata;
use crate::resources::Resources;
use crate::translate::gateways::grants::{Grants, Referent, Referrer};

/// Finds and judges key pairs and authorities.
pub(super) struct Vault<'r> {
    resources: &'r Resources,
    grants: Grants<'r>,
    now: SystemTime,
    /// Secrets that were looked at, by name: several listeners share one.
    judged: RefCell<HashMap<SecretName, Judged>>,
    /// What clients may dislike about certificates that are served.
    pub(super) doubts: RefCell<Vec<Diagnostic>>,
}

/// Namespace and name.
type SecretName = (Arc<str>, Arc<str>);

/// What became of a Secret.
type Judged = Result<Arc<KeyPair>, Refusal>;

/// Why a reference leads to nothing usable.
#[derive(Clone, Debug)]
struct Refusal {
    code: &'static CodeInfo,
    message: String,
    hint: String,
}

/// A reference with the object and place that it stands in.
#[derive(Clone, Copy)]
struct Reference<'a, 'r> {
    meta: &'r Metadata,
    pos: Pos,
    group: &'a str,
    kind: &'a str,
    namespace: &'a Arc<str>,
    name: &'a Arc<str>,
}

impl<'r> Vault<'r> {
    /// That of an input, at a time that decides on nothing but the doubts.
    pub(super) fn new(resources: &'r Resources, now: SystemTime) -> Self {
        let grants = Grants::new(resources);
        Self { resources, grants, now, judged: RefCell::default(), doubts: RefCell::default() }
    }

    /// The key pair that a `certificateRef` in an object of kind `meta.kind` names. `reason` is that of a reference which
    /// leads to nothing usable.
    pub(super) fn key_pair(
        &self,
        meta: &'r Metadata,
        pos: Pos,
        reference: &SecretRef,
        reason: &'static str,
    ) -> Result<Arc<KeyPair>, Fault<'r>> {
        let namespace = reference.namespace.as_ref().unwrap_or(&meta.namespace);
        let (group, kind, name) = (&*reference.group, &*reference.kind, &reference.name);
        let reference = Reference { meta, pos, group, kind, namespace, name };
        self.permitted(reference)?;
        let refused = |refusal: Refusal| {
            let Refusal { code, message, hint } = refusal;
            Fault { meta, pos, code, reason, message, hint }
        };
        if !group.is_empty() || kind != "Secret" {
            let message = format!("certificates are read from Secrets, found a {kind} of the group {group:?}");
            let hint = "name a Secret of type kubernetes.io/tls".to_owned();
            return Err(refused(Refusal { code: codes::BAD_CREDENTIAL, message, hint }));
        }
        let key = (namespace.clone(), name.clone());
        let known = self.judged.borrow().get(&key).cloned();
        let judged = known.unwrap_or_else(|| {
            let judged = self.judge(namespace, name);
            self.judged.borrow_mut().insert(key, judged.clone());
            judged
        });
        judged.map_err(refused)
    }

    fn judge(&self, namespace: &str, name: &str) -> Judged {
        let object: Arc<str> = format!("Secret {namespace}/{name}").into();
        let Some(secret) = self.resources.secrets.get(namespace, name) else {
            let message = format!("{object} does not exist");
            let hint = "add it to the input, or fix its errors; it holds tls.crt and tls.key".to_owned();
            return Err(Refusal { code: codes::REFERENCE_NOT_FOUND, message, hint });
        };
        let value = |key: &str| {
            secret.value(key).ok_or_else(|| Refusal {
                code: codes::BAD_CREDENTIAL,
                message: format!("{object} has no value under {key}"),
                hint: "a Secret of type kubernetes.io/tls has tls.crt and tls.key".to_owned(),
            })
        };
        let (certificate, key) = (value(Secret::TLS_CERTIFICATE)?, value(Secret::TLS_KEY)?);
        let certificates = certificate.bytes.reveal().into();
        let pair = KeyPair { name: object, certificates, private_key: key.bytes.clone() };
        match check_key_pair(&pair, self.now) {
            Ok(doubts) => {
                let about = |doubt: outrigger_identity::Finding| {
                    codes::CERTIFICATE_DOUBT.about(&secret.meta, certificate.pos, doubt.message, doubt.hint)
                };
                self.doubts.borrow_mut().extend(doubts.into_iter().map(about));
                Ok(Arc::new(pair))
            }
            Err(finding) => {
                let message = format!("{}: {}", finding.object, finding.message);
                Err(Refusal { code: codes::BAD_CREDENTIAL, message, hint: finding.hint.to_owned() })
            }
        }
    }

    /// The authorities of `validation` in the Gateway `meta`, and why references fail that do.
    pub(super) fn authorities(
        &self,
        meta: &'r Metadata,
        validation: &ClientValidation,
    ) -> (Option<Arc<[u8]>>, Vec<Fault<'r>>) {
        let mut bundle: Vec<u8> = Vec::new();
        let mut faults = Vec::new();
        for reference in &validation.authorities {
            let namespace = reference.namespace.as_ref().unwrap_or(&meta.namespace);
            let (group, kind, name) = (&*reference.group, &*reference.kind, &reference.name);
            match self.authority(Reference { meta, pos: reference.pos, group, kind, namespace, name }) {
                Ok(text) => {
                    bundle.extend_from_slice(&text);
                    bundle.push(b'\n');
                }
                Err(fault) => faults.push(fault),
            }
        }
        ((!bundle.is_empty()).then(|| bundle.into()), faults)
    }

    fn authority(&self, reference: Reference<'_, 'r>) -> Result<Vec<u8>, Fault<'r>> {
        let Reference { meta, pos, group, kind, namespace, name } = reference;
        let fault = |code, reason, message: String, hint: &str| Fault {
            meta,
            pos,
            code,
            reason,
            message,
            hint: hint.to_owned(),
        };
        let is_known = group.is_empty() && matches!(kind, "ConfigMap" | "Secret");
        if !is_known {
            let message = format!("authorities are read from ConfigMaps, found a {kind} of the group {group:?}");
            let hint = "name a ConfigMap with the key ca.crt";
            return Err(fault(codes::BAD_CREDENTIAL, "InvalidCACertificateKind", message, hint));
        }
        self.permitted(reference)?;
        const REASON: &str = "InvalidCACertificateRef";
        let object: Arc<str> = format!("{kind} {namespace}/{name}").into();
        let found = if kind == "Secret" {
            let secret = self.resources.secrets.get(namespace, name);
            secret.map(|s| s.value(Secret::TLS_AUTHORITIES).map(|v| v.bytes.reveal().to_vec()))
        } else {
            let map = self.resources.config_maps.get(namespace, name);
            map.map(|m| m.data.get(Secret::TLS_AUTHORITIES).map(|text| text.text.as_bytes().to_vec()))
        };
        let Some(text) = found else {
            let message = format!("{object} does not exist");
            return Err(fault(codes::REFERENCE_NOT_FOUND, REASON, message, "add it to the input, with the key ca.crt"));
        };
        let Some(text) = text else {
            let message = format!("{object} has no value under ca.crt");
            return Err(fault(codes::BAD_CREDENTIAL, REASON, message, "put the authorities there, as PEM"));
        };
        check_authorities(&text, &object).map_err(|finding| {
            fault(codes::BAD_CREDENTIAL, REASON, format!("{}: {}", finding.object, finding.message), finding.hint)
        })?;
        Ok(text)
    }

    /// Whether an object may refer to another.
    fn permitted(&self, reference: Reference<'_, 'r>) -> Result<(), Fault<'r>> {
        let Reference { meta, pos, group, kind, namespace, name } = reference;
        let from = Referrer { group: GROUP, kind: meta.kind, namespace: &meta.namespace };
        if self.grants.permits(from, Referent { group, kind, namespace, name }) {
            return Ok(());
        }
        let message = format!(
            "{kind} {namespace}/{name} is in another namespace, and no ReferenceGrant there lets a {} of {} refer to it",
            meta.kind, meta.namespace
        );
        let hint = format!("add a ReferenceGrant to {namespace}, or copy the {kind} to {}", meta.namespace);
        let (code, reason) = (codes::NOT_PERMITTED, "RefNotPermitted");
        Err(Fault { meta, pos, code, reason, message, hint })
    }
}
