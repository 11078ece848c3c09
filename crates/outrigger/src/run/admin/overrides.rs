//! Who has forced what by hand. Whether it still holds is for the data plane to say: this only remembers the name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The names of those who acted. There are as many as there are circuits and drains at most, and none outlives its time.
#[derive(Debug, Default)]
pub(in crate::run) struct Overrides(Mutex<HashMap<(String, What), Who>>);

/// What was acted on, in a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// A circuit, by name.
    Circuit(String),
    /// An endpoint, by cluster and address.
    Endpoint(String, SocketAddr),
}

#[derive(Debug)]
struct Who {
    by: String,
    until: Instant,
}

impl Overrides {
    /// Remembers who acted.
    pub(super) fn note(&self, proxy: &str, what: What, by: &str, until: Instant, now: Instant) {
        let mut all = self.all();
        all.retain(|_, who| who.until > now);
        all.insert((proxy.to_owned(), what), Who { by: by.to_owned(), until });
    }

    /// Who acted.
    pub(super) fn by(&self, proxy: &str, what: What) -> Option<String> {
        self.all().get(&(proxy.to_owned(), what)).map(|who| who.by.clone())
    }

    /// Forgets who acted.
    pub(super) fn forget(&self, proxy: &str, what: What) {
        self.all().remove(&(proxy.to_owned(), what));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(String, What), Who>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_kept_for_as_long_as_the_act_lasts() {
        let (overrides, now) = (Overrides::default(), Instant::now());
        let what = |name: &str| What::Circuit(name.to_owned());
        overrides.note("main", what("a"), "ann", now + Duration::from_secs(1), now);
        overrides.note("shop/cart-0", what("a"), "bob", now + Duration::from_secs(9), now);
        assert_eq!(overrides.by("main", what("a")).as_deref(), Some("ann"));
        assert_eq!(overrides.by("main", what("b")), None);
        let later = now + Duration::from_secs(2);
        overrides.note("main", what("b"), "eve", later + Duration::from_secs(1), later);
        assert_eq!(overrides.by("main", what("a")), None, "its time is over");
        assert_eq!(overrides.by("shop/cart-0", what("a")).as_deref(), Some("bob"));
        overrides.forget("shop/cart-0", what("a"));
        assert_eq!(overrides.by("shop/cart-0", what("a")), None);
    }
}
