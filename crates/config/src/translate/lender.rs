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
    clusters: Lent<ClusterName, (u64, Weak<Cluster>)>,
    vhosts: Lent<Arc<str>, Weak<VirtualHost>>,
    listeners: Lent<u64, Weak<Listener>>,
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
        let all = clusters.of(cluster.name.clone(), |(_, cluster)| cluster.strong_count() > 0);
        let known = all.iter().find_map(|(fingerprint, known)| {
            known.upgrade().filter(|known| **known == cluster).map(|known| (known, *fingerprint))
        });
        known.unwrap_or_else(|| {
            let fingerprint = fingerprint::cluster(&cluster);
            let cluster = Arc::new(cluster);
            all.push((fingerprint, Arc::downgrade(&cluster)));
            (cluster, fingerprint)
        })
    }

    /// What others have under the name of a virtual host.
    pub(crate) fn vhosts(&mut self, name: &Arc<str>) -> Vec<Arc<VirtualHost>> {
        let Some(Parts { vhosts, .. }) = &mut self.parts else { return Vec::new() };
        let all = vhosts.of(name.clone(), |vhost| vhost.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Has a virtual host to lend.
    pub(crate) fn keep_vhost(&mut self, vhost: &Arc<VirtualHost>) {
        if let Some(Parts { vhosts, .. }) = &mut self.parts {
            vhosts.of(vhost.name.clone(), |vhost| vhost.strong_count() > 0).push(Arc::downgrade(vhost));
        }
    }

    /// The listener, or an equal one that somebody has.
    pub(crate) fn listener(&mut self, listener: Listener) -> Arc<Listener> {
        let Some(Parts { listeners, .. }) = &mut self.parts else { return Arc::new(listener) };
        let all = listeners.of(fingerprint::listener(&listener), |listener| listener.strong_count() > 0);
        let known = all.iter().find_map(|known| known.upgrade().filter(|known| **known == listener));
        known.unwrap_or_else(|| {
            let listener = Arc::new(listener);
            all.push(Arc::downgrade(&listener));
            listener
        })
    }
}

/// Different parts of one name.
#[derive(Debug)]
struct Lent<K, T> {
    by_name: HashMap<K, Vec<T>, foldhash::fast::RandomState>,
    /// How many names there were when those without parts were last taken out.
    swept: usize,
}

impl<K, T> Default for Lent<K, T> {
    fn default() -> Self {
        Self { by_name: HashMap::default(), swept: 0 }
    }
}

/// Below this many names nothing is swept.
const NAMES_MIN: usize = 64;

impl<K: Hash + Eq, T> Lent<K, T> {
    /// The parts of a name that somebody still has.
    fn of(&mut self, name: K, is_alive: impl Fn(&T) -> bool) -> &mut Vec<T> {
        // Twice as many names as at the last time: a sweep then costs as much as the insertions since did.
        if self.by_name.len() > 2 * self.swept.max(NAMES_MIN) {
            self.by_name.retain(|_, parts| parts.iter().any(&is_alive));
            self.swept = self.by_name.len();
        }
        let parts = self.by_name.entry(name).or_default();
        parts.retain(is_alive);
        parts
    }
}
