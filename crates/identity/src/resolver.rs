//! Which of several certificates a client is shown.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::key_pair::Loaded;

/// Certificates by the names they are for. Several for one name differ in the kind of their key: the first that the
/// client can verify is shown.
#[derive(Debug)]
pub(crate) struct ByServerName {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the first label.
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// All, for clients that name none or an unknown one.
    all: Vec<Arc<CertifiedKey>>,
}

impl ByServerName {
    pub(crate) fn new(pairs: Vec<Loaded>) -> Self {
        let (mut exact, mut wildcards): (HashMap<_, Vec<_>>, HashMap<_, Vec<_>>) = Default::default();
        let mut all = Vec::new();
        for Loaded { key, names } in pairs {
            for name in names {
                match name.strip_prefix("*.") {
                    Some(rest) => wildcards.entry(rest.to_owned()).or_default().push(key.clone()),
                    None => exact.entry(name).or_default().push(key.clone()),
                }
            }
            all.push(key);
        }
        Self { exact, wildcards, all }
    }

    /// Those for a name: exact, else of a wildcard, which stands for one label (RFC 9525 §6.3), else all.
    fn candidates(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else { return &self.all };
        if let Some(found) = self.exact.get(name) {
            return found;
        }
        name.split_once('.').and_then(|(_, rest)| self.wildcards.get(rest)).unwrap_or(&self.all)
    }
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(usable).or(candidates.first()).cloned()
    }
}
