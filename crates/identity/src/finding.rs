//! What is wrong with a key, a certificate or an authority, in words for whoever has to mend it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Something wrong: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it came from: `Secret shop/web-tls`.
    pub object: Arc<str>,
    /// What was found and what was expected. Never bytes of a key.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl Finding {
    pub(crate) fn new(object: &Arc<str>, message: impl Into<String>, hint: &'static str) -> Self {
        Self { object: object.clone(), message: message.into(), hint }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.message, self.hint)
    }
}

impl Error for Finding {}
