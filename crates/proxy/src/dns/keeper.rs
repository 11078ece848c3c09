//! The thread that looks names up: what is due, at most so many at once, and the proxies told when something changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::known::{Answer, Failure};
use super::lookup::Lookups;
use super::{Desk, Name};

/// Rest between two times that proxies are told of changes: many names that are answered together are taken in together.
const PUBLISH_PAUSE: Duration = Duration::from_millis(20);

/// Starts the thread. It ends when the sender is dropped.
pub(super) fn start(desk: Arc<Desk>) -> mpsc::UnboundedSender<Weak<Name>> {
    let (orders, wire) = mpsc::unbounded_channel();
    let started = std::thread::Builder::new().name("dns".to_owned()).spawn(move || match Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(Keeper::new(desk).run(wire)),
        Err(error) => tracing::error!(%error, "names cannot be looked up: there is no event loop"),
    });
    if let Err(error) = started {
        tracing::error!(%error, "names cannot be looked up: there is no thread");
    }
    orders
}

struct Keeper {
    desk: Arc<Desk>,
    lookups: Lookups,
    /// Names by when they are to be looked up; the number tells those of one moment apart.
    due: BTreeMap<(Instant, u64), Weak<Name>>,
    sequence: u64,
    running: JoinSet<Result<Answer, Failure>>,
    /// The names that are being looked up, and since when.
    asked: HashMap<Id, (Weak<Name>, Instant)>,
    /// When the proxies may be told again.
    publish_at: Instant,
    changed: bool,
    /// Names whose first lookup is over, and nobody has been told.
    fresh: Vec<Arc<Name>>,
    rng: fastrand::Rng,
}

impl Keeper {
    fn new(desk: Arc<Desk>) -> Self {
        Self {
            lookups: Lookups::new(desk.servers.clone(), desk.settings),
            desk,
            due: BTreeMap::new(),
            sequence: 0,
            running: JoinSet::new(),
            asked: HashMap::new(),
            publish_at: Instant::now(),
            changed: false,
            fresh: Vec::new(),
            rng: fastrand::Rng::new(),
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Weak<Name>>) {
        loop {
            let has_room = self.running.len() < self.desk.settings.dns_lookups_max;
            let first = self.due.first_key_value().map(|((at, _), _)| *at).filter(|_| has_room);
            tokio::select! {
                order = orders.recv() => match order {
                    Some(name) => self.ask_at(Instant::now(), name),
                    None => return,
                },
                Some(ended) = self.running.join_next_with_id() => self.settle(ended),
                () = sleep_until(first.unwrap_or(self.publish_at)), if first.is_some() => self.ask_first(),
                () = sleep_until(self.publish_at), if self.changed => {
                    self.changed = false;
                    self.desk.publish();
                    self.fresh.drain(..).for_each(|name| name.told());
                    self.publish_at = Instant::now() + PUBLISH_PAUSE;
                }
            }
        }
    }

    fn ask_at(&mut self, when: Instant, name: Weak<Name>) {
        self.sequence += 1;
        self.due.insert((when, self.sequence), name);
    }

    /// Looks up the name that is due first, unless nobody holds it any more.
    fn ask_first(&mut self) {
        let Some((_, name)) = self.due.pop_first() else { return };
        let Some(host) = name.upgrade().map(|name| name.host.clone()) else { return };
        let asker = self.lookups.asker();
        let task = self.running.spawn(async move { asker.look_up(&host).await });
        self.asked.insert(task.id(), (name, Instant::now()));
    }

    fn settle(&mut self, ended: Result<(Id, Result<Answer, Failure>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            // A panic has said so already.
            Err(error) => (error.id(), Err(Failure::Broken)),
        };
        let Some((weak, began)) = self.asked.remove(&id) else { return };
        let now = Instant::now();
        self.desk.tallies.took(now - began);
        let Some(name) = weak.upgrade() else { return };
        let taken = name.settle(result, now.into_std(), &self.desk, &mut self.rng);
        self.changed |= taken.changed;
        if !name.is_answered() {
            self.fresh.push(name);
            self.changed = true;
        }
        self.ask_at(taken.next.into(), weak);
    }
}
