//! Certificate authorities that vouch for clients.

use std::sync::Arc;

use rustls::RootCertStore;

use crate::finding::Finding;
use crate::pem;

/// Whether the authorities of a text, PEM, can be used; `object` is where it came from: `Secret shop/web-tls-cacert`.
pub fn check_authorities(text: &[u8], object: &Arc<str>) -> Result<(), Finding> {
    authorities(text, object).map(|_| ())
}

pub(crate) fn authorities(text: &[u8], object: &Arc<str>) -> Result<RootCertStore, Finding> {
    let complain = |(message, hint)| Finding::new(object, message, hint);
    let mut store = RootCertStore::empty();
    for (index, certificate) in
        pem::certificates(text, "the bundle of authorities").map_err(complain)?.into_iter().enumerate()
    {
        // One that cannot be used is an error: whoever listed it expects its clients to be let in.
        if store.add(certificate).is_err() {
            let message = format!("authority {} of the bundle cannot be read as X.509", index + 1);
            return Err(Finding::new(
                object,
                message,
                "issue it again with basicConstraints, or take it out of the bundle",
            ));
        }
    }
    Ok(store)
}
