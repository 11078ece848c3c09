//! What a server with TLS shows to clients and asks of them: from Secrets of the input.
//!
//! A restriction that cannot be kept leaves the server out: serving without it would let in whom it is meant to keep out.

use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::{ClientCertificate, Diagnostic, KeyPair, ServerTls, TlsVersion};

use super::servers::{Refusal, Wanted};
use crate::codes::{self, CodeInfo};
use crate::decode::clip;
use crate::kind::istio_gateway::{Mode, ServerTls as Settings, Version};
use crate::kind::secret::{Secret, Unusable};
use crate::node::{Pos, Spanned};
use crate::resources::Resources;

/// Where Secrets are found.
pub(super) struct Credentials<'r> {
    /// All objects.
    pub(super) resources: &'r Resources,
    /// The namespace of the proxy, where Istio looks for Secrets.
    pub(super) namespace: &'r str,
    /// Whether the proxy's pods are known; where they are not, the Gateway's own namespace counts, too.
    pub(super) deployed: bool,
    /// The time by which certificates are judged.
    pub(super) now: SystemTime,
}

impl<'r> Credentials<'r> {
    /// The TLS settings of a server that ends TLS, or why it cannot be served.
    pub(super) fn server_tls(
        &self,
        wanted: Wanted<'_>,
        settings: &Settings,
        findings: &mut Vec<Diagnostic>,
    ) -> Result<Arc<ServerTls>, Refusal> {
        Judge { credentials: self, wanted, settings }.server_tls(findings).map(Arc::new)
    }
}

/// One server under judgement.
struct Judge<'j, 'r> {
    credentials: &'j Credentials<'r>,
    wanted: Wanted<'j>,
    settings: &'j Settings,
}

impl<'r> Judge<'_, 'r> {
    fn server_tls(&self, findings: &mut Vec<Diagnostic>) -> Result<ServerTls, Refusal> {
        self.unsupported(findings)?;
        let (version_min, version_max) = self.versions(findings)?;
        if let Some(suites) = self.settings.cipher_suites.first() {
            let hint = "the suites in use are AEAD with forward secrecy";
            let message = "has `tls.cipherSuites`, which is understood, but not enforced";
            findings.push(self.wanted.finding(codes::NOT_ENFORCED, suites.pos, message, hint));
        }
        let mut certificates = Vec::new();
        for name in self.settings.credentials() {
            certificates.push(self.key_pair(name, findings)?);
        }
        Ok(ServerTls { certificates, client: self.client()?, version_min, version_max })
    }

    /// Refuses what cannot be kept.
    fn unsupported(&self, findings: &mut Vec<Diagnostic>) -> Result<(), Refusal> {
        let settings = self.settings;
        let mode = settings.mode();
        let mode_pos = settings.mode.as_ref().map_or(self.wanted.server().pos, |mode| mode.pos);
        if mode == Mode::IstioMutual {
            let message = "mode ISTIO_MUTUAL needs certificates of the mesh, which there are none of yet";
            return Err(self.left_out(mode_pos, message, "use mode MUTUAL with a Secret"));
        }
        if settings.credentials().next().is_none() {
            let files = &settings.tls_certificates;
            let pos = settings.server_certificate.as_ref().map(|file| file.pos).or(files.first().map(|f| f.pos));
            let hint = "store them in a Secret and name it in `credentialName`";
            return Err(self.left_out(pos.unwrap_or(mode_pos), "certificates are not read from files", hint));
        }
        let first = |list: &[Spanned<Arc<str>>]| list.first().map(|item| item.pos);
        let restrictions = [
            ("subjectAltNames", first(&settings.subject_alt_names)),
            ("verifyCertificateSpki", first(&settings.verify_spki)),
            ("verifyCertificateHash", first(&settings.verify_hash)),
            ("caCrl", settings.ca_crl.as_ref().map(|file| file.pos)),
            ("insecureSkipVerify", settings.skip_verify.as_ref().filter(|skip| skip.value).map(|skip| skip.pos)),
        ];
        for (field, pos) in restrictions.into_iter().filter_map(|(field, pos)| Some((field, pos?))) {
            if mode.asks_clients() {
                let message = format!("`tls.{field}` is not supported");
                return Err(self.left_out(pos, &message, "remove it; clients are judged by their authority alone"));
            }
            let message = format!("has `tls.{field}`, which mode {} does not use", mode.as_str());
            findings.push(self.wanted.finding(
                codes::NO_EFFECT,
                pos,
                &message,
                "clients are not asked for a certificate",
            ));
        }
        Ok(())
    }

    fn versions(&self, findings: &mut Vec<Diagnostic>) -> Result<(TlsVersion, TlsVersion), Refusal> {
        let old = |version: &&Spanned<Version>| matches!(version.value, Version::V1_0 | Version::V1_1);
        if let Some(min) = self.settings.version_min.as_ref().filter(old) {
            let message = format!("speaks TLS from 1.2 on: {} is refused by everybody (RFC 8996)", min.as_str());
            let hint = "remove `minProtocolVersion`, or set TLSV1_2";
            findings.push(self.wanted.finding(codes::NO_EFFECT, min.pos, &message, hint));
        }
        if let Some(max) = self.settings.version_max.as_ref().filter(old) {
            let message = format!("{} is not spoken (RFC 8996), and newer versions are not allowed", max.as_str());
            return Err(self.left_out(max.pos, &message, "remove `maxProtocolVersion`"));
        }
        let is_1_3 = |version: &Option<Spanned<Version>>| version.as_ref().is_some_and(|v| v.value == Version::V1_3);
        let is_1_2 = |version: &Option<Spanned<Version>>| version.as_ref().is_some_and(|v| v.value == Version::V1_2);
        let min = if is_1_3(&self.settings.version_min) { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
        let max = if is_1_2(&self.settings.version_max) { TlsVersion::V1_2 } else { TlsVersion::V1_3 };
        Ok((min, max))
    }

    fn key_pair(&self, name: &Spanned<Arc<str>>, findings: &mut Vec<Diagnostic>) -> Result<Arc<KeyPair>, Refusal> {
        let secret = self.secret(name, "")?;
        let usable = secret.istio_pair(self.credentials.now).map_err(|unusable| self.bad(name.pos, unusable))?;
        for doubt in &usable.doubts {
            let message = format!("clients may refuse it: {}", doubt.message);
            findings.push(codes::CERTIFICATE_DOUBT.about(&secret.meta, usable.pos, message, doubt.hint));
        }
        Ok(usable.pair.clone())
    }

    /// What clients must show.
    fn client(&self) -> Result<ClientCertificate, Refusal> {
        let mode = self.settings.mode();
        if !mode.asks_clients() {
            return Ok(ClientCertificate::None);
        }
        let (secret, pos) = self.secret_of_authorities()?;
        let lists = [Secret::ISTIO_REVOCATIONS, Secret::TLS_REVOCATIONS];
        if let Some(list) = lists.into_iter().find(|key| secret.value(key).is_some()) {
            let meta = &secret.meta;
            let message =
                format!("`{list}` of {} is not supported: clients that it revokes would get in", meta.object_ref());
            return Err(self.left_out(pos, &message, "remove the list from the Secret"));
        }
        let keys = [Secret::ISTIO_AUTHORITIES, Secret::TLS_AUTHORITIES];
        let authorities = secret.authorities(&keys).map_err(|unusable| self.bad(pos, &unusable))?;
        Ok(match mode {
            Mode::OptionalMutual => ClientCertificate::Optional(authorities),
            _ => ClientCertificate::Required(authorities),
        })
    }

    /// The Secret of the clients' authorities: the one that is named for them, `NAME-cacert`, else that of the server.
    fn secret_of_authorities(&self) -> Result<(&'r Arc<Secret>, Pos), Refusal> {
        if let Some(name) = &self.settings.authorities_name {
            return Ok((self.secret(name, "")?, name.pos));
        }
        let Some(name) = self.settings.credentials().next() else {
            return Err(self.left_out(self.wanted.server().pos, "it names no Secret", "add `credentialName`"));
        };
        let found = self.secret(name, "-cacert").or_else(|_| self.secret(name, ""))?;
        Ok((found, name.pos))
    }

    /// The Secret of a name with `suffix`: `name`, `namespace/name`, perhaps with `kubernetes://` in front.
    fn secret(&self, name: &Spanned<Arc<str>>, suffix: &str) -> Result<&'r Arc<Secret>, Refusal> {
        let credentials = self.credentials;
        let plain = name.strip_prefix("kubernetes://").unwrap_or(name);
        if plain.contains("://") {
            let message = format!("{:?} names no Secret", clip(plain));
            return Err(self.left_out(name.pos, &message, "name a Secret that holds the certificate and its key"));
        }
        let own = &*self.wanted.gateway.meta.namespace;
        let mut namespaces = vec![credentials.namespace];
        if !credentials.deployed && own != credentials.namespace {
            namespaces.push(own);
        }
        let (namespaces, short) = match plain.split_once('/') {
            None => (namespaces, plain),
            Some((namespace, short)) if namespaces.contains(&namespace) => (vec![namespace], short),
            Some((namespace, short)) => {
                let message = format!(
                    "Secret {}/{} is not in the proxy's namespace, which is {}",
                    clip(namespace),
                    clip(short),
                    credentials.namespace
                );
                let hint = format!("store it in {}", credentials.namespace);
                return Err(self.refuse(codes::NOT_PERMITTED, name.pos, &message, hint));
            }
        };
        let short = format!("{short}{suffix}");
        let secrets = &credentials.resources.secrets;
        let found = namespaces.iter().find_map(|namespace| secrets.get(namespace, &short));
        found.ok_or_else(|| self.missing(name.pos, &namespaces, &short))
    }

    fn missing(&self, pos: Pos, namespaces: &[&str], name: &str) -> Refusal {
        let places: Vec<String> = namespaces.iter().map(|namespace| format!("{namespace}/{}", clip(name))).collect();
        let message = match &*places {
            [only] => format!("Secret {only} does not exist"),
            _ => format!("there is neither a Secret {}", places.join(" nor ")),
        };
        let elsewhere = self.credentials.resources.secrets.iter().find(|secret| *secret.meta.name == *name);
        let hint = match elsewhere {
            Some(secret) => format!(
                "Secrets are looked for where the gateway's pods are: move {} to namespace {}",
                secret.meta.object_ref(),
                namespaces[0]
            ),
            None => {
                "define it with `tls.crt` and `tls.key` (kubectl create secret tls), or correct the name".to_owned()
            }
        };
        self.refuse(codes::REFERENCE_NOT_FOUND, pos, &message, hint)
    }

    fn bad(&self, pos: Pos, unusable: &Unusable) -> Refusal {
        self.refuse(codes::BAD_CREDENTIAL, pos, &unusable.message, unusable.hint.clone())
    }

    fn left_out(&self, pos: Pos, message: &str, hint: &str) -> Refusal {
        self.refuse(codes::SERVER_LEFT_OUT, pos, message, hint.to_owned())
    }

    fn refuse(&self, code: &CodeInfo, pos: Pos, message: &str, hint: String) -> Refusal {
        self.wanted.refusal(code, pos, &format!("is left out: {message}"), hint)
    }
}
