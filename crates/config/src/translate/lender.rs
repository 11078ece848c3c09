//! Equal parts of the snapshots of different clients, lent from one to the other.
//!
//! Two hundred sidecars of one mesh mostly know the same clusters and virtual hosts. Each part is held weakly here, so that
//! it lives as long as some snapshot has it. A client on its own has nobody to borrow from, and its lender does nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use outrigger_model::{Cluster, ClusterName, Listener, VirtualHost};

use super::fingerprint;

/// Lends parts of snapshots.
#[derive(Debug, Default)]
pub(crate) struct Lender {
    /// `None` for a client on its own.
    parts: Option<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    clusters: Lent<ClusterName, Cluster>,
    vhosts: Lent<Arc<str>, VirtualHost>,
    listeners: Lent<u64, Listener>,
}

impl Lender {
    /// A lender between many clients.
    pub(crate) fn for_many() -> Self {
        Self { parts: Some(Parts::default()) }
    }

    /// The cluster, or an equal one that somebody has, with its fingerprint.
    pub(crate) fn cluster(&mut self, cluster: Cluster) -> (Arc<Cluster>, u64) {
        let Some(Parts { clusters, .. }) = &mut self.parts else {
            let fingerprint = fingerprint::cluster(&cluster);
            return (Arc::new(cluster), fingerprint);
        };
        let all = clusters.of(cluster.name.clone());
        all.find(|known| *known == cluster).unwrap_or_else(|| {
            let fingerprint = fingerprint::cluster(&cluster);
            all.keep(Arc::new(cluster), fingerprint)
        })
    }

    /// What others have under the name of a virtual host.
    pub(crate) fn vhosts(&mut self, name: &Arc<str>) -> Vec<Arc<VirtualHost>> {
        let Some(Parts { vhosts, .. }) = &mut self.parts else { return Vec::new() };
        vhosts.of(name.clone()).0.iter().filter_map(|(vhost, _)| vhost.upgrade()).collect()
    }

    /// Has a virtual host to lend.
    pub(crate) fn keep_vhost(&mut self, vhost: &Arc<VirtualHost>) {
        if let Some(Parts { vhosts, .. }) = &mut self.parts {
            vhosts.of(vhost.name.clone()).keep(vhost.clone(), fingerprint::virtual_host(vhost));
        }
    }

    /// The listener, or an equal one that somebody has, with its fingerprint.
    pub(crate) fn listener(&mut self, listener: Listener) -> (Arc<Listener>, u64) {
        let fingerprint = self.fingerprint(&listener);
        let Some(Parts { listeners, .. }) = &mut self.parts else { return (Arc::new(listener), fingerprint) };
        let all = listeners.of(fingerprint);
        all.find(|known| *known == listener).unwrap_or_else(|| all.keep(Arc::new(listener), fingerprint))
    }

    /// The fingerprint of a listener.
    pub(crate) fn fingerprint(&self, listener: &Listener) -> u64 {
        fingerprint::listener(listener, |vhost| {
            let known = self.parts.as_ref().and_then(|parts| parts.vhosts.by_name.get(&vhost.name));
            let same = known.and_then(|all| all.0.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(vhost)));
            same.map_or_else(|| fingerprint::virtual_host(vhost), |(_, fingerprint)| *fingerprint)
        })
    }
}

/// Parts by name.
#[derive(Debug)]
struct Lent<K, T> {
    by_name: HashMap<K, Copies<T>, foldhash::fast::RandomState>,
    /// How many names there were when those without parts were last taken out.
    swept: usize,
}

/// Different parts of one name, with their fingerprints.
#[derive(Debug)]
struct Copies<T>(Vec<(Weak<T>, u64)>);

impl<K, T> Default for Lent<K, T> {
    fn default() -> Self {
        Self { by_name: HashMap::default(), swept: 0 }
    }
}

/// Below this many names nothing is swept.
const NAMES_MIN: usize = 64;

impl<K: Hash + Eq, T> Lent<K, T> {
    /// The parts of a name that somebody still has.
    fn of(&mut self, name: K) -> &mut Copies<T> {
        // Twice as many names as at the last time: a sweep then costs as much as the insertions since did.
        if self.by_name.len() > 2 * self.swept.max(NAMES_MIN) {
            self.by_name.retain(|_, copies| copies.0.iter().any(|(part, _)| part.strong_count() > 0));
            self.swept = self.by_name.len();
        }
        let copies = self.by_name.entry(name).or_insert_with(|| Copies(Vec::new()));
        copies.0.retain(|(part, _)| part.strong_count() > 0);
        copies
    }
}

impl<T> Copies<T> {
    fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<(Arc<T>, u64)> {
        let known = |(part, fingerprint): &(Weak<T>, u64)| Some((part.upgrade()?, *fingerprint));
        self.0.iter().filter_map(known).find(|(part, _)| is_it(part))
    }

    fn keep(&mut self, part: Arc<T>, fingerprint: u64) -> (Arc<T>, u64) {
        self.0.push((Arc::downgrade(&part), fingerprint));
        (part, fingerprint)
    }
}
