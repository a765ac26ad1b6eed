//! Wake-ups: one watch of the store per slot of partitions, shared by all that wait for something new in it.
//!
//! A watch is armed in the transaction that reads the slot's feed, and re-armed after every wake-up and every error.
//! A subscriber that subscribes *before* it looks at the log misses nothing: what is committed after its look changes
//! the feed, and the watcher tells every value that it reads. A lost watch costs latency, never a hang: it is armed
//! anew after [`REARM`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::{Versionstamp, own, pause};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::keys::Keyspace;
use crate::keys::feed::{self, Slot};
use crate::kv::{Isolation, Priority, SharedStore, StoreError, Watch};

/// How long a slot nobody waits for stays watched: long polls come back.
const LINGER: Duration = Duration::from_secs(5);
/// A watch that has not fired for so long is armed anew.
const REARM: Duration = Duration::from_secs(10);
/// The pause after the first error of the store; each further one doubles it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause after an error of the store.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tells when a slot has changed.
pub type Subscription = watch::Receiver<Versionstamp>;

/// The slots that are watched.
#[derive(Debug)]
pub struct FeedWatch {
    store: SharedStore,
    keyspace: Keyspace,
    slots: Mutex<HashMap<Slot, Arc<watch::Sender<Versionstamp>>>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl FeedWatch {
    /// Watches nothing yet.
    pub fn new(store: SharedStore, keyspace: Keyspace) -> Arc<Self> {
        let (slots, tasks) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { store, keyspace, slots, tasks, stopping: CancellationToken::new() })
    }

    /// From now on, tells when `slot` changes (or seems to). Everything so far counts as seen.
    pub fn subscribe(self: &Arc<Self>, slot: Slot) -> Subscription {
        let mut slots = self.slots.lock();
        if let Some(sender) = slots.get(&slot) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Versionstamp::ZERO);
        let sender = Arc::new(sender);
        slots.insert(slot, Arc::clone(&sender));
        if !self.stopping.is_cancelled() {
            self.tasks.spawn(own(Arc::clone(self).follow(slot, sender)));
        }
        receiver
    }

    /// How many slots are watched.
    pub fn watched(&self) -> usize {
        self.slots.lock().len()
    }

    /// Ends all watching.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn follow(self: Arc<Self>, slot: Slot, sender: Arc<watch::Sender<Versionstamp>>) {
        let mut wait = SHORTEST_PAUSE;
        loop {
            let armed = self.arm(slot).await;
            let fired = match armed {
                Ok((stamp, watch)) => {
                    // Also tells when nothing is new: the subscriber looks for itself.
                    sender.send_if_modified(|last| std::mem::replace(last, stamp) != stamp);
                    watch
                }
                Err(error) => Box::pin(std::future::ready(Err(error))),
            };
            let idle = async {
                sender.closed().await;
                pause(LINGER).await;
            };
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                fired = fired => match fired {
                    Ok(()) => wait = SHORTEST_PAUSE,
                    // A store that can't be read, or has too many watches, is asked again, but not at once.
                    Err(error) => {
                        tracing::debug!(%error, slot = slot.get(), "a feed can't be watched now");
                        tokio::select! {
                            biased;
                            () = self.stopping.cancelled() => return,
                            () = pause(wait) => wait = (wait * 2).min(LONGEST_PAUSE),
                        }
                    }
                },
                () = pause(REARM) => wait = SHORTEST_PAUSE,
                () = idle => {
                    let mut slots = self.slots.lock();
                    if sender.receiver_count() == 0 {
                        slots.remove(&slot);
                        return;
                    }
                }
            }
        }
    }

    async fn arm(&self, slot: Slot) -> Result<(Versionstamp, Watch), StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        let key = feed::key(&self.keyspace, slot);
        let value = transaction.get(&key, Isolation::Snapshot).await?;
        let stamp = feed::decode(value.as_deref())?.stamp;
        let watch = transaction.watch(&key);
        transaction.commit().await?;
        Ok((stamp, watch))
    }
}
