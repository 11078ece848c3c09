//! Keys, certificates and what TLS is made of.
//!
//! The check of a manifest and the proxy judge a key pair by the same code, so that what `check` passes is what `run`
//! serves. Nothing here does I/O or reads a clock. No message contains bytes of a key.
//!
//! The cryptography is aws-lc-rs, always named explicitly: a process-wide default would depend on what else is linked.

mod authorities;
mod der;
mod finding;
mod key_pair;
mod pem;
mod resolver;
mod server;
mod version_one;

pub use authorities::check_authorities;
pub use finding::Finding;
pub use key_pair::check_key_pair;
pub use server::server_config;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The only cryptography in use. Its defaults are the suites that Mozilla calls intermediate: AEAD with forward secrecy.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}
