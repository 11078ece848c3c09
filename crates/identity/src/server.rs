//! TLS as a server.

use std::sync::Arc;

use outrigger_model::{ClientCertificate, ServerTls, TlsVersion};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::authorities::authorities;
use crate::finding::Finding;
use crate::key_pair::Loaded;
use crate::provider;
use crate::resolver::ByServerName;
use crate::version_one::VersionOne;

/// Sessions of clients of TLS 1.2 that know no tickets, kept per configuration; what rustls keeps by itself.
const SESSIONS_MAX: usize = 256;

/// What serves TLS so. `alpn` are the protocols of the application in order of preference; where there are some, a client
/// that offers only others is refused.
///
/// Tickets are sealed by keys of this configuration alone, so that a session of one policy is never resumed under another:
/// keep the value for as long as the policy stays the same. There is no early data, because it can be replayed.
pub fn server_config(tls: &ServerTls, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Finding> {
    let pairs = tls.certificates.iter().map(|pair| Loaded::load(pair)).collect::<Result<Vec<_>, _>>()?;
    let object = tls.certificates.first().map_or_else(|| "TLS settings".into(), |pair| pair.name.clone());
    let fail = |message: &str, hint| Finding::new(&object, message, hint);
    if pairs.is_empty() {
        return Err(fail("no certificate to show to clients", "name one"));
    }
    let versions: Vec<&'static SupportedProtocolVersion> = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)]
        .into_iter()
        .filter(|(version, _)| (tls.version_min..=tls.version_max).contains(version))
        .map(|(_, version)| version)
        .collect();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions).map_err(|_| {
        fail("the oldest version of TLS allowed is newer than the newest", "allow at least one version")
    })?;
    let mut config = builder
        .with_client_cert_verifier(client_verifier(&tls.client, &object)?)
        .with_cert_resolver(Arc::new(ByServerName::new(pairs)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.ticketer = Ticketer::new().map_err(|_| fail("no random bytes for session tickets", "look at the system"))?;
    Ok(Arc::new(config))
}

fn client_verifier(client: &ClientCertificate, object: &Arc<str>) -> Result<Arc<dyn ClientCertVerifier>, Finding> {
    let (text, optional) = match client {
        ClientCertificate::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientCertificate::Optional(text) => (text, true),
        ClientCertificate::Required(text) => (text, false),
    };
    let object: Arc<str> = format!("{object}, authorities of clients").into();
    let roots = Arc::new(authorities(text, &object)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    let verifier =
        builder.build().map_err(|error| Finding::new(&object, error.to_string(), "name at least one authority"))?;
    Ok(Arc::new(VersionOne::new(verifier, text, provider().signature_verification_algorithms)))
}
