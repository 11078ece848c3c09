//! Names of the DNS whose addresses are endpoints: each is looked up once for the whole process, on a thread of its own.
//!
//! A policy that has a name holds its [`Name`] and reads the addresses that are known now; it never waits. The thread
//! ([`keeper`]) asks again before an answer expires and tells the proxies when addresses came or went, which then join their
//! clusters with them as they do with a new snapshot (`in_force`). A name that no policy holds any more is forgotten.
//!
//! An answer is believed when it comes: what it lacks is gone, what it has is there. No answer is no news: while servers
//! fail, or say that the name does not exist, the addresses of the last good answer stay, for five minutes after it has
//! expired ([`known`]).

mod keeper;
mod known;
mod lookup;
mod tally;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{mpsc, watch};

pub(crate) use known::{Age, Failure};
use known::{Answer, Known, Taken};
pub(crate) use tally::{NameTally, Tallies};

use crate::in_force::InForce;
use crate::settings::Settings;

/// Which servers are asked for the addresses of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NameServers {
    /// Those of `/etc/resolv.conf`, after `/etc/hosts`; both are read again when they have changed.
    #[default]
    System,
    /// These, over UDP, and over TCP where an answer is too long. No file is read.
    At(Vec<SocketAddr>),
}

/// All names of a process. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Names(Arc<Inner>);

struct Inner {
    desk: Arc<Desk>,
    table: Mutex<Table>,
    /// Where the thread learns of new names; it starts with the first, and ends when this is dropped.
    thread: OnceLock<mpsc::UnboundedSender<Weak<Name>>>,
}

#[derive(Default)]
struct Table {
    by_host: HashMap<Arc<str>, Weak<Name>, foldhash::fast::RandomState>,
    /// How many names were held when those that nobody holds were last taken out.
    swept: usize,
}

/// What the thread works with.
struct Desk {
    servers: NameServers,
    settings: Settings,
    followers: Mutex<Vec<Weak<InForce>>>,
    tallies: Tallies,
}

/// One name.
pub(crate) struct Name {
    pub(crate) host: Arc<str>,
    pub(crate) tally: NameTally,
    known: Mutex<Known>,
    /// Whether its first lookup is over, and the proxies have what it brought.
    answered: watch::Sender<bool>,
}

/// Below this many names nothing is swept.
const SWEEP_MIN: usize = 64;

impl Names {
    /// Names that these servers know. No thread starts before a name is wanted.
    pub(crate) fn new(servers: NameServers, settings: Settings) -> Self {
        let desk = Desk { servers, settings, followers: Mutex::default(), tallies: Tallies::default() };
        Self(Arc::new(Inner { desk: Arc::new(desk), table: Mutex::default(), thread: OnceLock::new() }))
    }

    /// The name, which is looked up for as long as somebody holds it; `None` when there are too many.
    pub(crate) fn hold(&self, host: &Arc<str>) -> Option<Arc<Name>> {
        let Inner { desk, table, thread } = &*self.0;
        let mut table = lock(table);
        if let Some(name) = table.by_host.get(host).and_then(Weak::upgrade) {
            return Some(name);
        }
        if table.by_host.len() > 2 * table.swept.max(SWEEP_MIN) || table.by_host.len() >= desk.settings.dns_names_max {
            table.by_host.retain(|_, name| name.strong_count() > 0);
            table.swept = table.by_host.len();
        }
        if table.by_host.len() >= desk.settings.dns_names_max {
            if desk.tallies.name_refused() {
                let names_max = desk.settings.dns_names_max;
                tracing::warn!(host = %host, names_max, "too many names: this one and more are not looked up");
            }
            return None;
        }
        let name = Arc::new(Name::new(host.clone()));
        table.by_host.insert(host.clone(), Arc::downgrade(&name));
        let orders = thread.get_or_init(|| keeper::start(desk.clone()));
        // The thread could not start, which was told: the name stays unanswered.
        let _ = orders.send(Arc::downgrade(&name));
        Some(name)
    }

    /// Tells a proxy from now on when addresses of any name have changed.
    pub(crate) fn tell(&self, follower: Weak<InForce>) {
        let mut followers = lock(&self.0.desk.followers);
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(follower);
    }

    /// What was counted over all names.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.0.desk.tallies
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("servers", &self.0.desk.servers).finish_non_exhaustive()
    }
}

impl Desk {
    /// Has every proxy look at the addresses that names have now.
    fn publish(&self) {
        let followers: Vec<Arc<InForce>> = lock(&self.followers).iter().filter_map(Weak::upgrade).collect();
        followers.iter().for_each(|follower| follower.names_changed());
    }
}

impl Name {
    fn new(host: Arc<str>) -> Self {
        let answered = watch::Sender::new(false);
        Self { host, tally: NameTally::default(), known: Mutex::default(), answered }
    }

    /// The addresses it has now. The same list until they change.
    pub(crate) fn addresses(&self) -> Arc<[IpAddr]> {
        lock(&self.known).addresses()
    }

    /// Why the last lookup brought no addresses.
    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.known).failure()
    }

    /// Time since the last good answer, and whether that has expired.
    pub(crate) fn age(&self, now: Instant) -> Option<Age> {
        lock(&self.known).age(now)
    }

    /// Whether its first lookup is over, and the proxies have what it brought.
    pub(crate) fn is_answered(&self) -> bool {
        *self.answered.borrow()
    }

    /// Notes that the proxies have what its first lookup brought.
    fn told(&self) {
        self.answered.send_replace(true);
    }

    /// Done when its first lookup is over, and the proxies have what it brought.
    pub(crate) async fn answered(&self) {
        // The sender is a part of this very name.
        let _ = self.answered.subscribe().wait_for(|answered| *answered).await;
    }

    /// Takes the result of a lookup in, and tells of it where that changes something.
    fn settle(&self, result: Result<Answer, Failure>, now: Instant, desk: &Desk, rng: &mut fastrand::Rng) -> Taken {
        self.tally.count(result.as_ref().err().copied());
        let taken = lock(&self.known).take(result, now, &desk.settings, rng);
        desk.tallies.addresses_dropped(taken.dropped);
        let host = &*self.host;
        match taken.news {
            Some(known::News::Found(count)) => tracing::info!(host, addresses = count, "a name has addresses"),
            Some(known::News::Failing(why)) => {
                tracing::warn!(host, %why, "a name cannot be looked up; its last addresses stay for a while");
            }
            Some(known::News::Lost(why)) => tracing::warn!(host, %why, "a name has no addresses"),
            None => {}
        }
        taken
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Name").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A panic elsewhere while a lock was held leaves what is known at worst one lookup old.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
