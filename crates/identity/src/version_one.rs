//! Clients whose certificate is of X.509 version 1.
//!
//! The commands in the documentation of Istio make such certificates, and Envoy takes them. What they lack are extensions:
//! nothing says that one is an authority, or what it is for. So one is taken only for a client that shows it, directly
//! issued by an authority that is trusted for clients; it never vouches for another. Everything else is the verifier's
//! that this one stands before.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::RawPublicKeyEntity;

use crate::der::{Fields, Signed};

/// Judges certificates of version 1, and leaves all others to `verifier`.
#[derive(Debug)]
pub(crate) struct VersionOne {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl VersionOne {
    /// Before `verifier`, with the same authorities, PEM.
    pub(crate) fn new(
        verifier: Arc<dyn ClientCertVerifier>,
        authorities: &[u8],
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let may_vouch = |certificate: &CertificateDer<'_>| {
            // Of names that a certificate of version 1 bears, no constraint says anything.
            webpki::anchor_from_trusted_cert(certificate).is_ok_and(|anchor| anchor.name_constraints.is_none())
        };
        let authorities = CertificateDer::pem_slice_iter(authorities).flatten().filter(may_vouch).collect();
        Self { verifier, authorities, algorithms }
    }

    fn is_issued_by(&self, signed: &Signed<'_>, authority: &[u8]) -> bool {
        let Some(fields) = Fields::read(authority) else { return false };
        let key = SubjectPublicKeyInfoDer::from(fields.public_key);
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
        let fitting = self.algorithms.all.iter().filter(|of| *of.signature_alg_id() == *signed.algorithm);
        fitting.into_iter().any(|of| key.verify_signature(*of, signed.message, signed.signature).is_ok())
    }

    fn verify(&self, certificate: &[u8], fields: &Fields<'_>, now: UnixTime) -> Result<(), CertificateError> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < fields.not_before {
            return Err(CertificateError::NotValidYet);
        }
        if now > fields.not_after {
            return Err(CertificateError::Expired);
        }
        let signed = Signed::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let mut named = self
            .authorities
            .iter()
            .filter(|authority| Fields::read(authority).is_some_and(|of| of.subject == fields.issuer))
            .peekable();
        if named.peek().is_none() {
            return Err(CertificateError::UnknownIssuer);
        }
        if named.any(|authority| self.is_issued_by(&signed, authority)) {
            Ok(())
        } else {
            Err(CertificateError::BadSignature)
        }
    }
}

/// The fields of a certificate of version 1.
fn version_one<'c>(certificate: &'c CertificateDer<'_>) -> Option<Fields<'c>> {
    Fields::read(certificate).filter(|fields| fields.version == 0)
}

impl ClientCertVerifier for VersionOne {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match version_one(end_entity) {
            None => self.verifier.verify_client_cert(end_entity, intermediates, now),
            Some(fields) => {
                self.verify(end_entity, &fields, now)?;
                Ok(ClientCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(fields) = version_one(certificate) else {
            return self.verifier.verify_tls12_signature(message, certificate, signature);
        };
        let key = SubjectPublicKeyInfoDer::from(fields.public_key);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let mut fitting = self.algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
        let algorithms = fitting.next().map_or(&[][..], |(_, algorithms)| *algorithms);
        if algorithms.iter().any(|of| key.verify_signature(*of, message, signature.signature()).is_ok()) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match version_one(certificate) {
            None => self.verifier.verify_tls13_signature(message, certificate, signature),
            Some(fields) => {
                let key = SubjectPublicKeyInfoDer::from(fields.public_key);
                verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
            }
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
